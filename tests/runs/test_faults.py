"""Faults from outside: one line of error, the right exit code, nothing lost. `test_catalogue.py` lists all cases."""

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
def folder(tmp_path_factory):
    """Return a folder with a recipe, images and a run."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "tiny.toml").write_text(TINY)
    rng = np.random.default_rng(3)
    for number in range(36):
        class_folder = folder / "data" / ("test" if number < 9 else "train") / "abc"[number % 3]
        class_folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(class_folder / f"{number:02d}.png")
    assert main([*command(folder), "--out", str(folder / "run")]) == 0
    return folder


@pytest.fixture(scope="module")
def data():
    return stripes()


def command(folder, *more):
    return ["train", str(folder / "tiny.toml"), "--data", str(folder / "data"), "--threads", "1", *more]


def started(folder, *more):
    """Start the command in its own process."""
    words = [sys.executable, "-m", "tinyalex", *command(folder, *more)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def one_line(capsys):
    """Return what was printed to stderr, which must be an error of one line."""
    text = capsys.readouterr().err
    assert text.startswith("tinyalex: error: ") and text.count("\n") == 1 and "Traceback" not in text, text
    return text


# Signals, from outside.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_t5_t6_the_command_stops_and_says_how_to_resume(folder, tmp_path, number):
    process = started(folder, "--out", str(tmp_path / "a run"), "--epochs", "100000")
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


def test_the_command_in_the_message_resumes_the_run(folder, tmp_path, monkeypatch, capsys):
    import shlex

    with monkeypatch.context() as patch:
        after(patch, 3, lambda run: os.kill(os.getpid(), signal.SIGTERM))
        assert main([*command(folder), "--out", str(tmp_path), "--fresh"]) == 75
    words = shlex.split(capsys.readouterr().err.split("resume with: ")[1])
    assert words[0] == "tinyalex" and "--fresh" not in words
    assert main(words[1:]) == 0
    assert "resuming at step 3 of 8" in capsys.readouterr().out
    assert same(final(folder / "run"), final(tmp_path))


def test_t18_closed_pipe_does_not_end_training(folder, tmp_path):
    process = started(folder, "--out", str(tmp_path / "run"))
    process.stdout.close()
    process.stderr.close()
    process.wait(timeout=60)
    assert process.returncode == 0
    assert checkpoint.inspect(checkpoint.newest(tmp_path / "run"))["step"] == 8


def test_t14_second_process_in_a_folder_is_refused(folder, tmp_path, capsys):
    first = started(folder, "--out", str(tmp_path), "--epochs", "100000")
    while not list(tmp_path.glob("checkpoint-*")) and first.poll() is None:
        time.sleep(0.05)
    assert main([*command(folder), "--out", str(tmp_path)]) == 6
    assert f"process {first.pid} on " in one_line(capsys)
    first.kill()
    first.communicate()


def test_c1_killed_between_the_rename_and_the_pruning(tmp_path):
    script = (
        "import os, signal, sys\nimport numpy as np\nfrom tinyalex.runs import checkpoint\n"
        "from tinyalex.system import ownership\n"
        "for step in (1, 2): checkpoint.save(sys.argv[1], {'a': np.zeros(9)}, {'step': step})\n"
        "ownership.remove = lambda path: os.kill(os.getpid(), signal.SIGKILL)\n"
        "checkpoint.save(sys.argv[1], {'a': np.zeros(9)}, {'step': 3})"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path])
    assert done.returncode == -signal.SIGKILL
    assert [its["step"] for _, its in checkpoint.by_step(tmp_path)] == [3, 2, 1]
    checkpoint.save(tmp_path, {"a": np.zeros(9)}, {"step": 4})
    assert [its["step"] for _, its in checkpoint.by_step(tmp_path)] == [4, 3]


# Memory.


@pytest.mark.slow
def test_t15_out_of_memory(folder, tmp_path):
    words = [sys.executable, "-m", "tinyalex", *command(folder, "--out", str(tmp_path / "run"))]
    for hidden, message in (
        (26_000, r"Unable to allocate .*; use a smaller learning.batch or net"),
        (40_000_000, r"batches of 8 images take about .* GiB are free; use a smaller net"),
    ):
        limited = ["bash", "-c", 'ulimit -v 2500000; exec "$@"', "bash", *words, "--set", f"net.hidden={hidden}"]
        done = subprocess.run(limited, capture_output=True, text=True)
        assert done.returncode == 8, done.stderr
        assert re.fullmatch(rf"tinyalex: error: memory: {message}\n", done.stderr)


class OutOfMemoryError(MemoryError):
    """Named like CuPy's."""


OutOfMemoryError.__module__ = "cupy.cuda.memory"


class CUDARuntimeError(RuntimeError):
    """Named like CuPy's."""


CUDARuntimeError.__module__ = "cupy_backends.cuda.api.runtime"


@pytest.mark.parametrize("error, message", [
    (OutOfMemoryError("Out of memory allocating 512 bytes (allocated so far: 80,000 bytes)."),
     "memory: Out of memory allocating 512 bytes (allocated so far: 80,000 bytes).; use a smaller learning.batch"),
    (CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered"),
     "CUDARuntimeError: cudaErrorIllegalAddress: an illegal memory access was encountered; the operation that failed "
     "may have been started earlier: set CUDA_LAUNCH_BLOCKING=1 to see which; saved checkpoints are not affected"),
])  # fmt: skip
def test_t16_b6_gpu_errors_are_reported_in_one_line(folder, tmp_path, monkeypatch, capsys, error, message):
    """Its memory is full; or a kernel failed, which is reported only at a later call to the GPU."""

    def fail(run):
        raise error

    after(monkeypatch, 7, fail)
    assert main([*command(folder), "--out", str(tmp_path / "run")]) == 8
    assert message in one_line(capsys)
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
def test_t19_t20_t21_invalid_values_are_refused(folder, tmp_path, capsys, options, named):
    assert main([*command(folder), "--out", str(tmp_path / "run"), *options]) == 2
    assert named in one_line(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seed", [-1, 10**30])
def test_t20_any_whole_number_is_a_seed_and_is_saved(folder, tmp_path, capsys, seed):
    assert main([*command(folder), "--out", str(tmp_path), "--epochs", "1", "--seed", str(seed)]) == 0
    assert f"seed {seed}" in capsys.readouterr().out
    assert checkpoint.inspect(checkpoint.newest(tmp_path))["seed"] == seed


def test_t23_training_computes_in_float32(data):
    run = loop.Training(small(), data)
    images = run_folder.next_batch(run).images
    assert images.dtype == np.float32
    seen = set()
    run.network.forward(images, training=True, step=Step(0, 0), forward_hook=lambda layer, y: seen.add(str(y.dtype)))
    assert seen == {"float32"}


# Evaluation and prediction.


def test_e1_prediction_is_deterministic(folder):
    run = run_folder.load(folder / "run")
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
    """Return the header of a PNG file of that size, without the image."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + bytes(12)


def test_p1_files_that_are_not_images(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("no picture")
    (tmp_path / "nothing.png").write_bytes(b"")
    (tmp_path / "large.png").write_bytes(_png(10_000, 10_000))
    Image.new("P", (30, 30)).save(tmp_path / "moving.gif", save_all=True, append_images=[Image.new("P", (30, 30), 1)])
    Image.new("RGB", (30, 30)).save(tmp_path / "good.png")
    (tmp_path / "folder").mkdir()
    bad = ["missing.png", "folder", "text.txt", "nothing.png", "large.png", "http://nowhere/x.png", "./-"]
    order = [*bad[:4], "good.png", "moving.gif", *bad[4:]]  # of the GIF the first frame
    assert main(["predict", *order, "--run", str(folder / "run"), "--json"]) == 3
    printed = capsys.readouterr()
    results = json.loads(printed.out)
    assert [result["image"] for result in results] == order
    assert [result["image"] for result in results if "error" in result] == bad
    errors = printed.err
    assert errors.count("\n") == len(bad) == errors.count("tinyalex: error: ") and "Traceback" not in errors


# Devices.


def test_b1_missing_gpu(folder, tmp_path, capsys):
    code = main([*command(folder), "--out", str(tmp_path / "run"), "--devices", "cuda:97"])
    assert code == 8 and not (tmp_path / "run").exists()
    assert "cuda:97: " in one_line(capsys)


def test_b4_delayed_copies_between_columns_change_nothing(monkeypatch):
    """Copies between columns are delayed by random times; the gradients have the same bits."""
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
            built.loss_and_backward(images, labels, step=Step(0, 5))
        found.add(b"".join(device.get(view).tobytes() for _, device, view in built.tensors("grad")))
    assert len(found) == 1


ROOT = Path(tinyalex.__file__).parent
TREES = {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in ROOT.rglob("*.py")}


def test_b8_nothing_forks():
    """In a forked process the threads of the BLAS are missing."""
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            word = getattr(node, "attr", None) or getattr(node, "id", None)
            assert word not in ("fork", "forkpty", "Pool", "ProcessPoolExecutor"), f"{name}: {word}"
            assert not (isinstance(node, ast.Constant) and node.value in ("fork", "forkserver")), name


def test_b10_no_sum_in_an_undefined_order():
    """GPU functions that add to one element from several threads do so in another order each time."""
    folders = ("layers/", "kernels/", "network/", "training/optimizer", "datasets/loading/augment")
    assert sum(name.startswith(folders) for name in TREES) > 12
    for name in (name for name in TREES if name.startswith(folders)):
        for node in ast.walk(TREES[name]):
            assert getattr(node, "attr", "") not in ("scatter_add", "bincount", "put_along_axis"), name
            if isinstance(node, ast.Attribute) and node.attr == "at":
                owner = ast.unparse(node.value)
                assert not owner.endswith(("add", "subtract", "multiply", "maximum")), f"{name}: {owner}.at"


def test_l2_the_cpu_needs_no_cupy(folder):
    code = (
        "import sys; sys.modules['cupy'] = sys.modules['scipy'] = sys.modules['torch'] = None\n"
        "from tinyalex.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, "evaluate", folder / "run"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "test error" in done.stdout
    done = subprocess.run(
        [sys.executable, "-c", code, "evaluate", folder / "run", "--devices", "cuda:0"], capture_output=True, text=True
    )
    assert done.returncode == 8 and "pip install 'tinyalex[cuda13]'" in done.stderr


def test_copied_run_folder_evaluates_the_same(folder, tmp_path, capsys):
    """A copy of a run folder gives the same results."""
    shutil.copytree(folder / "run", tmp_path / "copy of run")
    assert main(["evaluate", str(tmp_path / "copy of run"), "--json"]) == 0
    copy = json.loads(capsys.readouterr().out)
    assert main(["evaluate", str(folder / "run"), "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert [net | {"run": ""} for net in one.pop("nets")] == [net | {"run": ""} for net in copy.pop("nets")]
    assert copy == one
    assert quiet() is None
