"""Faults as a person provokes them: one line, the right exit code, nothing lost. `test_catalogue.py` lists them all."""

import ast
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinyalex
from tests.support.small_runs import after, final, quiet, same, small, stripes
from tinyalex.cli import main
from tinyalex.datasets import ImageSet
from tinyalex.devices.device import Device
from tinyalex.network import alexnet
from tinyalex.randomness import Step
from tinyalex.recipes.settings import Init, Net
from tinyalex.runs import checkpoint, run_folder
from tinyalex.training import evaluation, loop

TINY = """
[net]
input = 20
columns = 2
maps = [4, 4, 4, 4, 4]
kernels = [5, 3, 3, 3, 3]
stride = 1
hidden = 8
classes = 3
[init]
weights = { default = "he" }
[data]
scale = 0.017
[learning]
batch = 8
epochs = 2
rate = 0.001
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a recipe, images and a run."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "tiny.toml").write_text(TINY)
    rng = np.random.default_rng(3)
    for number in range(36):
        home = folder / "data" / ("test" if number < 9 else "train") / "abc"[number % 3]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(home / f"{number:02d}.png")
    assert main([*command(folder), "--out", str(folder / "run")]) == 0
    return folder


@pytest.fixture(scope="module")
def data():
    return stripes()


def command(folder, *more):
    return ["train", str(folder / "tiny.toml"), "--data", str(folder / "data"), "--threads", "1", *more]


def started(folder, *more):
    """The command in a process of its own."""
    words = [sys.executable, "-m", "tinyalex", *command(folder, *more)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def one_line(capsys):
    said = capsys.readouterr().err
    assert said.startswith("tinyalex: error: ") and said.count("\n") == 1 and "Traceback" not in said, said
    return said


# Signals, from outside.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_t5_t6_the_command_stops_and_says_how_to_go_on(place, tmp_path, number):
    process = started(place, "--out", str(tmp_path / "a run"), "--epochs", "100000")
    while not list(tmp_path.glob("a run/checkpoint-*")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    error = process.communicate(timeout=30)[1]
    assert process.returncode == 75, error
    step, path, words = re.fullmatch(
        r"tinyalex: stopped at step (\d+), saved in (.*); resume with: (.*)\n", error
    ).groups()
    assert checkpoint.inspect(path)["step"] == int(step)
    assert words.startswith("tinyalex train ") and "'a run'" not in words and f"'{tmp_path}/a run'" in words
    assert not (tmp_path / "a run" / "curves.png").exists()


def test_what_it_says_goes_on(place, tmp_path, monkeypatch, capsys):
    import shlex

    with monkeypatch.context() as patch:
        after(patch, 3, lambda run: os.kill(os.getpid(), signal.SIGTERM))
        assert main([*command(place), "--out", str(tmp_path), "--fresh"]) == 75
    words = shlex.split(capsys.readouterr().err.split("resume with: ")[1])
    assert words[0] == "tinyalex" and "--fresh" not in words
    assert main(words[1:]) == 0
    assert "going on at step 3 of 8" in capsys.readouterr().out
    assert same(final(place / "run"), final(tmp_path))


def test_t18_a_pipe_that_closes_does_not_end_training(place, tmp_path):
    process = started(place, "--out", str(tmp_path / "run"))
    process.stdout.close()
    process.stderr.close()
    process.wait(timeout=60)
    assert process.returncode in (0, 141)  # the last lines found no reader
    assert checkpoint.inspect(checkpoint.newest(tmp_path / "run"))["step"] == 8


def test_t14_two_at_once(place, tmp_path, capsys):
    first = started(place, "--out", str(tmp_path), "--epochs", "100000")
    while not list(tmp_path.glob("checkpoint-*")) and first.poll() is None:
        time.sleep(0.05)
    assert main([*command(place), "--out", str(tmp_path)]) == 6
    assert f"process {first.pid} on " in one_line(capsys)
    first.kill()
    first.communicate()


def test_c1_killed_between_the_rename_and_the_pruning(tmp_path):
    script = (
        "import os, signal, sys\nimport numpy as np\nfrom tinyalex.runs import checkpoint\nfrom tinyalex.system import storage\n"
        "for step in (1, 2): checkpoint.save(sys.argv[1], {'a': np.zeros(9)}, {'step': step})\n"
        "storage.remove = lambda path: os.kill(os.getpid(), signal.SIGKILL)\n"
        "checkpoint.save(sys.argv[1], {'a': np.zeros(9)}, {'step': 3})"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path])
    assert done.returncode == -signal.SIGKILL
    assert [its["step"] for _, its in checkpoint.by_step(tmp_path)] == [3, 2, 1]
    checkpoint.save(tmp_path, {"a": np.zeros(9)}, {"step": 4})
    assert [its["step"] for _, its in checkpoint.by_step(tmp_path)] == [4, 3]


# Memory.


def test_t15_more_memory_than_there_is(place, tmp_path):
    words = [sys.executable, "-m", "tinyalex", *command(place, "--out", str(tmp_path / "run"))]
    limited = ["bash", "-c", 'ulimit -v 4000000; exec "$@"', "bash", *words, "--set", "net.hidden=40000000"]
    done = subprocess.run(limited, capture_output=True, text=True)
    assert done.returncode == 8, done.stderr
    assert re.fullmatch(
        r"tinyalex: error: memory: Unable to allocate .*; use a smaller learning.batch or net\n", done.stderr
    )


class OutOfMemoryError(MemoryError):
    """As CuPy has it."""


OutOfMemoryError.__module__ = "cupy.cuda.memory"


class CUDARuntimeError(RuntimeError):
    """As CuPy has it."""


CUDARuntimeError.__module__ = "cupy_backends.cuda.api.runtime"


@pytest.mark.parametrize("error, told", [
    (OutOfMemoryError("Out of memory allocating 512 bytes (allocated so far: 80,000 bytes)."),
     "memory: Out of memory allocating 512 bytes (allocated so far: 80,000 bytes).; use a smaller learning.batch"),
    (CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered"),
     "CUDARuntimeError: cudaErrorIllegalAddress: an illegal memory access was encountered; the operation that failed may "
     "have been started earlier: set CUDA_LAUNCH_BLOCKING=1 to see which; saved checkpoints are not affected"),
])  # fmt: skip
def test_t16_b6_what_a_card_says(place, tmp_path, monkeypatch, capsys, error, told):
    """Its memory is full, or a kernel failed and nobody hears of it before the next word with the card."""

    def fail(run):
        raise error

    after(monkeypatch, 7, fail)
    assert main([*command(place), "--out", str(tmp_path / "run")]) == 8
    assert told in one_line(capsys)
    assert checkpoint.inspect(checkpoint.newest(tmp_path / "run"))["step"] == 4


# Options and recipes.


@pytest.mark.parametrize("options, named", [
    (["--set", "learning.rate=0"], "learning.rate"),
    (["--set", "learning.weight_decay=-0.1"], "learning.weight_decay"),
    (["--set", "learning.momentum=1"], "learning.momentum"),
    (["--set", "net.dropout=1.0"], "net.dropout"),
    (["--epochs", "0"], "learning.epochs"),
    (["--set", "learning.phases=[{epoch=1, rate=1}]"], "learning.phases"),
    (["--set", "learning.rate=nan"], "learning.rate"),
    (["--set", "learning.weight_decya=1"], '"learning.weight_decay"'),
    (["--seed", "one"], "--seed"),
    (["--seed"], "--seed"),
    (["--save-every", "0"], "--save-every"),
    (["--save-every", "nan"], "--save-every"),
    (["--devices", "gpu"], "gpu"),
])  # fmt: skip
def test_t19_t20_t21_values_that_cannot_be_meant(place, tmp_path, capsys, options, named):
    assert main([*command(place), "--out", str(tmp_path / "run"), *options]) == 2
    assert named in one_line(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seed", [-1, 10**30])
def test_t20_any_whole_number_is_a_seed_and_is_kept(place, tmp_path, capsys, seed):
    assert main([*command(place), "--out", str(tmp_path), "--epochs", "1", "--seed", str(seed)]) == 0
    assert f"seed {seed}" in capsys.readouterr().out
    assert checkpoint.inspect(checkpoint.newest(tmp_path))["seed"] == seed


def test_t23_what_the_loader_gives_is_computed_in_float32(data):
    run = loop.Training(small(), data)
    images = run_folder.next_batch(run).images
    assert images.dtype == np.float32
    seen = set()
    run.network.forward(images, Step(0, 0), lambda layer, y: seen.add(str(y.dtype)))
    assert seen == {"float32"}


# Evaluation and prediction.


def test_e1_the_same_image_twice(place):
    run = run_folder.load(place / "run")
    image = np.random.default_rng(0).normal(0, 1, (4, 20, 20, 3)).astype(np.float32)
    np.testing.assert_array_equal(run.network.predict(image), run.network.predict(image))


@pytest.mark.parametrize("batch", [1, 3, 4, 64])
def test_e2_e3_every_image_counts_once_whatever_the_batch(data, batch):
    run = loop.Training(small(), data)
    run.network.state()["fc8/W"][...] *= 100
    test = ImageSet(data.test.images[:7], data.test.labels[:7])
    recipe = small(batch=batch)
    scored = evaluation.evaluate(run.network, test, data.mean, recipe)
    alone = [
        evaluation.evaluate(run.network, ImageSet(test.images[i : i + 1], test.labels[i : i + 1]), data.mean, recipe)
        for i in range(7)
    ]
    assert scored.count == 7
    assert scored.top1_error == pytest.approx(np.mean([each.top1_error for each in alone]))
    assert scored.loss == pytest.approx(np.mean([each.loss for each in alone]), rel=1e-5)


def _png(width, height):
    """The header of a picture of that size, and nothing in it."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + bytes(12)


def test_p1_pictures_that_are_none(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("no picture")
    (tmp_path / "nothing.png").write_bytes(b"")
    (tmp_path / "large.png").write_bytes(_png(10_000, 10_000))
    Image.new("P", (30, 30)).save(tmp_path / "moving.gif", save_all=True, append_images=[Image.new("P", (30, 30), 1)])
    Image.new("RGB", (30, 30)).save(tmp_path / "good.png")
    bad = ["missing.png", ".", "text.txt", "nothing.png", "large.png", "moving.gif", "http://nowhere/x.png", "-"]
    order = [*bad[:4], "good.png", *bad[4:]]
    assert main(["predict", *order, "--run", str(place / "run"), "--json"]) == 3
    said = capsys.readouterr()
    assert [each["image"] for each in json.loads(said.out)] == order
    assert [each["image"] for each in json.loads(said.out) if "error" in each] == bad
    assert said.err.count("\n") == len(bad) == said.err.count("tinyalex: error: ") and "Traceback" not in said.err


# Devices.


def test_b1_a_card_that_is_not_there(place, tmp_path, capsys):
    code = main([*command(place), "--out", str(tmp_path / "run"), "--devices", "cuda:97"])
    assert code == 8 and not (tmp_path / "run").exists()
    assert "cuda:97: " in one_line(capsys)


def test_b4_columns_that_are_late_change_nothing(monkeypatch):
    """Copies between columns take their time, another one each time; the sums are the same bits."""
    net = Net(input=67, maps=(6, 16, 24, 24, 16), hidden=16, classes=10)
    built = alexnet.build(net, Init({"default": "he"}), ["fake:0", "fake:1"], seed=2)
    rng, receive, found = np.random.default_rng(0), Device.receive, set()
    images, labels = rng.normal(0, 1, (2, 67, 67, 3)).astype(np.float32), np.array([3, 7])

    def late(device, array, source):
        time.sleep(rng.uniform(0, 0.002))
        return receive(device, array, source)

    monkeypatch.setattr(Device, "receive", late)
    for _ in range(20):
        with built.step():
            built.loss_and_backward(images, labels, Step(0, 5))
        found.add(b"".join(device.get(view).tobytes() for _, device, view in built.tensors("grad")))
    assert len(found) == 1


ROOT = Path(tinyalex.__file__).parent
TREES = {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in ROOT.rglob("*.py")}


def test_b8_nothing_forks():
    """A process that forks takes a BLAS with it whose threads are gone."""
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            word = getattr(node, "attr", None) or getattr(node, "id", None)
            assert word not in ("fork", "forkpty", "Pool", "ProcessPoolExecutor"), f"{name}: {word}"
            assert not (isinstance(node, ast.Constant) and node.value in ("fork", "forkserver")), name


def test_b10_no_sum_in_any_order():
    """What adds to the same place from several threads of a card adds in another order each time."""
    places = ("layers/", "kernels/", "network/", "training/optimizer", "datasets/loading/augment")
    assert sum(name.startswith(places) for name in TREES) > 12
    for name in (name for name in TREES if name.startswith(places)):
        for node in ast.walk(TREES[name]):
            assert getattr(node, "attr", "") not in ("scatter_add", "bincount", "put_along_axis"), name
            if isinstance(node, ast.Attribute) and node.attr == "at":
                owner = ast.unparse(node.value)
                assert not owner.endswith(("add", "subtract", "multiply", "maximum")), f"{name}: {owner}.at"


def test_l2_the_processor_needs_no_cupy(place):
    code = (
        "import sys; sys.modules['cupy'] = sys.modules['scipy'] = sys.modules['torch'] = None\n"
        "from tinyalex.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, "evaluate", place / "run"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "test error" in done.stdout
    done = subprocess.run(
        [sys.executable, "-c", code, "evaluate", place / "run", "--devices", "cuda:0"], capture_output=True, text=True
    )
    assert done.returncode == 8 and "pip install 'tinyalex[cuda13]'" in done.stderr


def test_the_lock_and_the_log_survive_a_copy(place, tmp_path, capsys):
    """A run folder that was copied, as people do, goes on and is evaluated as it was."""
    shutil.copytree(place / "run", tmp_path / "copy of run")
    assert main(["evaluate", str(tmp_path / "copy of run"), "--json"]) == 0
    copy = json.loads(capsys.readouterr().out)
    assert main(["evaluate", str(place / "run"), "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert [net | {"run": ""} for net in one.pop("nets")] == [net | {"run": ""} for net in copy.pop("nets")]
    assert copy == one
    assert quiet() is None
