"""The commands as a person meets them: what they leave, what they say, and the exit codes."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import tinyalex
from tinyalex import errors, randomness
from tinyalex.cli import main
from tinyalex.commands import summary
from tinyalex.recipes import recipe
from tinyalex.runs import checkpoint, run_folder

TINY = """
[net]
input = 24
columns = 2
maps = [4, 4, 4, 4, 4]
kernels = [5, 3, 3, 3, 3]
stride = 1
hidden = 8
classes = 3

[learning]
batch = 8
epochs = 2
rate = 0.001
schedule = "phases"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny recipe, a tiny data set and a run."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.toml").write_text(TINY)
    pixels = randomness.bits(randomness.key(0, "test cli"), np.arange(3 * 12 * 28 * 28 * 3)).astype(np.uint8)
    for number, image in enumerate(pixels.reshape(36, 28, 28, 3)):
        home = folder / "data" / ("test" if number < 9 else "train") / "abc"[number % 3]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(home / f"{number:02d}.png")
    options = ["--data", str(folder / "data"), "--out", str(folder / "run"), "--threads", "1"]
    assert main(["train", str(folder / "tiny.toml"), *options]) == 0
    return folder


def one_line(capsys):
    """What a failed command said."""
    said = capsys.readouterr().err
    assert said.startswith("tinyalex: error: ") and said.endswith("\n") and said.count("\n") == 1, said
    return said


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_train_leaves_a_run(place):
    # 27 training images are 4 steps an epoch; the checkpoints are those of both epochs.
    saved = ["checkpoint-00000004.safetensors", "checkpoint-00000008.safetensors"]
    assert names(place / "run") == [*saved, "curves.png", "kernels.png", "log.jsonl", "panel.png", "recipe.toml"]
    kept = recipe.load(place / "run" / "recipe.toml")
    assert kept.net == recipe.load(place / "tiny.toml").net
    assert kept.data.set == str(place / "data")
    records = [json.loads(line) for line in (place / "run" / "log.jsonl").read_text().splitlines()]
    for record in records:
        assert {"event", "epoch", "step"} <= record.keys()
    assert [record["epoch"] for record in records if record["event"] == "test"] == [1, 2]
    for name in ("curves", "kernels", "panel"):
        with Image.open(place / "run" / f"{name}.png") as picture:
            assert picture.size > (100, 100)


def test_train_shows_the_resolved_recipe_and_the_errors(place, tmp_path, capsys):
    options = ["--data", str(place / "data"), "--out", str(tmp_path), "--epochs", "1", "--set", "net.norm=2012"]
    assert main(["train", str(place / "tiny.toml"), *options]) == 0
    said = capsys.readouterr().out
    assert re.search(r"checkpoint-0000000\d.safetensors is kept: lowest test error, \d", said)
    for line in ('norm = "2012"', "epochs = 1", "1 epochs instead of 2", "27 training and 9 test images", "test error"):
        assert line in said
    assert recipe.load(tmp_path / "recipe.toml").net.norm == "2012"


def test_evaluate(place, capsys):
    assert main(["evaluate", str(place / "run"), "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    last = run_folder.read_log(place / "run")[-1]
    assert score["count"] == 9
    assert score["top1_error"] == pytest.approx(last["top1_error"], abs=1e-6)
    assert main(["evaluate", str(place / "run")]) == 0
    assert f"test error {score['top1_error']:.2%}" in capsys.readouterr().out


def by_hand(place, *steps):
    """Average probabilities of ten views of the test images, and of the checkpoints of so many steps; the labels."""
    labels, total = [], 0
    for step in steps:
        run = run_folder.load(place / "run" / f"checkpoint-{step:08d}.safetensors")
        labels, rows = [], []
        for path in sorted((place / "data" / "test").glob("*/*.png")):
            image = np.asarray(Image.open(path)).astype(np.float32)
            crops = [
                (image - run.mean)[top : top + 24, left : left + 24][:, :: 1 - 2 * flip]
                for flip in (0, 1)
                for top, left in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))
            ]
            rows.append(run.network.predict(np.stack(crops)).mean(axis=0))
            labels.append("abc".index(path.parent.name))
        total = total + np.array(rows)
    return total / len(steps), np.array(labels)


def test_a_damaged_checkpoint_is_passed_over_aloud(place, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    newest = checkpoint.newest(run)
    os.truncate(newest, newest.stat().st_size - 100)
    for command in (["evaluate", run], ["export", run, tmp_path / "w.safetensors"]):
        capsys.readouterr()
        assert main([*map(str, command)]) == 0
        error = capsys.readouterr().err
        assert error.startswith(f"tinyalex: warning: {newest}: ") and error.endswith("; the one before it is taken\n")


def test_evaluate_averages_views_and_nets(place, capsys):
    checkpoints = [str(place / "run" / f"checkpoint-{step:08d}.safetensors") for step in (4, 8)]
    command = ["evaluate", *checkpoints, "--views", "10", "--classes", "--threads", "1"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    average, labels = by_hand(place, 4, 8)
    right = average[np.arange(9), labels]
    assert found["loss"] == pytest.approx(-np.log(right).mean(), rel=1e-4) and found["views"] == 10
    assert found["top1_error"] == pytest.approx(np.mean(average.argmax(axis=1) != labels))
    for net, step in zip(found["nets"], (4, 8), strict=True):
        alone, _ = by_hand(place, step)
        assert net["step"] == step and net["loss"] == pytest.approx(
            -np.log(alone[np.arange(9), labels]).mean(), rel=1e-4
        )
    assert [row["class"] for row in found["classes"]] == ["a", "b", "c"]
    assert [row["count"] for row in found["classes"]] == [3, 3, 3]
    assert sum(row["top1_error"] for row in found["classes"]) / 3 == pytest.approx(found["top1_error"])
    wrong = sum(pair["first_as_second"] + pair["second_as_first"] for pair in found["confused"])
    assert wrong == round(9 * found["top1_error"]) > 0

    assert main(command) == 0
    said = capsys.readouterr().out
    assert "; 10 views\n" in said and "mean of these 2: test error" in said
    assert f"their average as one net: test error {found['top1_error']:.2%}" in said
    assert "most often taken for" in said and "most confused" in said
    assert max(map(len, said.splitlines()[1:])) <= 160


def test_a_net_that_has_seen_no_reflections_is_named_beside_ten_views(place, tmp_path, capsys):
    run = str(tmp_path / "run")
    options = ["--data", str(place / "data"), "--out", run, "--epochs", "1", "--set", "data.flip=false"]
    assert main(["train", str(place / "tiny.toml"), *options]) == 0
    for folders, views, named in (([str(place / "run"), run], 10, True), ([run], 9, False), ([run], 1, False)):
        capsys.readouterr()
        assert main(["evaluate", *folders, "--views", str(views)]) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if "without reflections" in line]
        assert [line.split(" was trained")[0] for line in lines] == ([run] if named else [])


def test_evaluate_where_the_columns_are(place, capsys):
    results = []
    for devices in (["cpu", "cpu"], ["fake:0", "fake:1"]):
        assert main(["evaluate", str(place / "run"), "--json", "--views", "9", "--devices", *devices]) == 0
        results.append(json.loads(capsys.readouterr().out))
    assert results[0] == results[1] and results[0]["views"] == 9


def test_evaluate_on_other_classes(place, tmp_path, capsys):
    for number, name in enumerate("xy"):
        for split in ("train", "test"):
            home = tmp_path / split / name
            home.mkdir(parents=True)
            Image.new("RGB", (28, 28), (number, 0, 0)).save(home / "1.png")
    assert main(["evaluate", str(place / "run"), "--data", str(tmp_path)]) == 3
    assert "classes" in one_line(capsys)


def test_predict(place, tmp_path, capsys):
    image = tmp_path / "wide picture.jpg"
    Image.new("L", (90, 40), 77).save(image)
    picture = tmp_path / "top.png"
    command = ["predict", str(image), "--run", str(place / "run")]
    assert main([*command, "--json", "--picture", str(picture)]) == 0
    [answer] = json.loads(capsys.readouterr().out)
    assert answer["image"] == str(image)
    assert sorted(each["class"] for each in answer["top5"]) == ["a", "b", "c"]
    probabilities = [each["probability"] for each in answer["top5"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    assert picture.is_file()
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(image) and len(lines) == 4


def test_predict_goes_on_after_a_broken_image(place, tmp_path, capsys):
    broken, missing = tmp_path / "broken.jpg", tmp_path / "missing.png"
    broken.write_bytes(b"\xff\xd8 no picture")
    good = next((place / "data" / "test" / "a").iterdir())
    files = [str(broken), str(good), str(missing), str(tmp_path)]
    assert main(["predict", *files, "--run", str(place / "run"), "--json"]) == 3
    said = capsys.readouterr()
    answers = json.loads(said.out)
    assert [answer["image"] for answer in answers] == files
    assert ["error" in answer for answer in answers] == [True, False, True, True]
    assert said.err.count("tinyalex: error: ") == said.err.count("\n") == 3


def test_predict_equals_evaluate(place, capsys):
    files = sorted((place / "data" / "test").glob("*/*.png"))
    main(["predict", *map(str, files), "--run", str(place / "run"), "--json"])
    answers = json.loads(capsys.readouterr().out)
    wrong = sum(answer["top5"][0]["class"] != file.parent.name for file, answer in zip(files, answers, strict=True))
    main(["evaluate", str(place / "run"), "--json"])
    assert wrong / 9 == pytest.approx(json.loads(capsys.readouterr().out)["top1_error"])


def test_no_kernels_runs_the_readable_layers_and_says_so(place, tmp_path, capsys):
    command = ["train", str(place / "tiny.toml"), "--data", str(place / "data"), "--threads", "1", "--no-kernels"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    assert "cpu, readable layers (--no-kernels), seed 0" in capsys.readouterr().out
    there, usual = (tensorfile(folder / "run" / "checkpoint-00000008.safetensors") for folder in (tmp_path, place))
    for name, weights in usual.items():
        np.testing.assert_allclose(there[name], weights, rtol=1e-3, atol=1e-4 * np.abs(weights).max())
    metadata = run_folder.load(tmp_path / "run").metadata
    assert metadata["fingerprint"]["kernels"] == "off"
    assert "kernels" not in run_folder.load(place / "run").metadata["fingerprint"]
    for command in (["evaluate", str(place / "run")], ["predict", "--run", str(place / "run"), *pictures(place)]):
        outputs = []
        for extra in ([], ["--no-kernels"]):
            assert main([*command, "--threads", "1", *extra]) == 0
            outputs.append(capsys.readouterr().out)
        assert ", readable layers (--no-kernels)" in outputs[1] and "(--no-kernels)" not in outputs[0]
        assert outputs[1].splitlines()[-1] == outputs[0].splitlines()[-1]


def tensorfile(path):
    run = run_folder.load(path)
    return {name: np.array(view) for name, view in run.network.state().items()}


def pictures(place):
    return [str(path) for path in sorted((place / "data" / "test").glob("*/*.png"))[:1]]


def test_figures_are_drawn_again(place):
    for name in ("curves", "kernels", "panel"):
        (place / "run" / f"{name}.png").unlink()
    assert main(["figures", str(place / "run")]) == 0
    assert {"curves.png", "kernels.png", "panel.png"} <= set(names(place / "run"))


def test_summary_counts(capsys):
    assert main(["summary"]) == 0
    said = capsys.readouterr().out
    for number in ("60,965,224", "724,406,816", "60,030,976", "290,400", "253,440"):
        assert number in said


def test_summary_of_the_one_gpu_net(capsys):
    assert main(["summary", "--set", "net.columns=1", "--set", "net.maps=[48, 128, 192, 192, 256]"]) == 0
    assert "59,798,312" in capsys.readouterr().out


def test_gradcheck(capsys):
    assert main(["gradcheck", "linear"]) == 0
    assert "no error" in capsys.readouterr().out
    assert main(["gradcheck", "conf"]) == 2
    assert '"conv"' in one_line(capsys)


def test_gradcheck_of_a_wrong_layer(capsys, monkeypatch):
    from tinyalex import layers

    monkeypatch.setattr(
        layers.Linear, "backward", lambda self, dy, right=layers.Linear.backward: 1.01 * right(self, dy)
    )
    assert main(["gradcheck", "linear"]) == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.parametrize("options, code, said", [
    (["trian"], 2, "trian"),
    (["train", "nonsense"], 2, '"shapes"'),
    (["train", "--set", "learning.rat=1"], 2, '"learning.rate"'),
    (["train", "--set", "net.dropout=1"], 2, "net.dropout"),
    (["train", "--epochs", "0"], 2, "learning.epochs"),
    (["train", "--epochs", "many"], 2, "tinyalex train --help"),
    (["train", "--devices", "gpu"], 2, "gpu"),
    (["train", "--threads", "0"], 2, "threads"),
    (["train", "paper"], 2, "--data"),
    (["train", "--data", "/nowhere"], 3, "/nowhere"),
    (["evaluate", "/nowhere"], 4, "/nowhere"),
    (["predict", "a.jpg"], 2, "--run"),
    (["summary", "--set", "net.classes=0"], 2, "net.classes"),
    (["summary", "shapes", "--set", "data.set=cats"], 2, "net.classes"),
    (["figures", "/"], 4, "no checkpoint"),
])  # fmt: skip
def test_one_line_and_the_right_code(options, code, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(options) == code
    assert said in one_line(capsys)
    assert names(tmp_path) == []


def test_classes_that_do_not_match(place, tmp_path, capsys):
    tiny, data, out = str(place / "tiny.toml"), str(place / "data"), tmp_path / "run"
    assert main(["train", tiny, "--data", data, "--out", str(out), "--set", "net.classes=4"]) == 2
    assert "net.classes" in one_line(capsys)
    assert not out.exists()


def test_broken_image_in_the_data(place, tmp_path, capsys):
    home = tmp_path / "data" / "train" / "a"
    home.mkdir(parents=True)
    (home / "1.png").write_bytes(b"\x89PNG nothing")
    out = tmp_path / "run"
    assert main(["train", str(place / "tiny.toml"), "--data", str(tmp_path / "data"), "--out", str(out)]) == 3
    assert "1.png" in one_line(capsys)
    assert not out.exists()


def test_out_is_below_a_file(place, tmp_path, capsys):
    (tmp_path / "run").write_text("")
    command = ["train", str(place / "tiny.toml"), "--data", str(place / "data"), "--out", str(tmp_path / "run" / "x")]
    assert main(command) == 7
    one_line(capsys)


def test_out_is_a_file(place, tmp_path, capsys):
    (tmp_path / "run").write_text("")
    command = ["train", str(place / "tiny.toml"), "--data", str(place / "data"), "--out", str(tmp_path / "run")]
    assert main(command) == 7
    one_line(capsys)


@pytest.mark.parametrize("error, code", [
    (errors.DivergedError("conv1: NaN; use less"), 5),
    (errors.BusyError("run: in use; wait"), 6),
    (errors.DeviceError("cuda:0: not there; use cpu"), 8),
    (OSError(28, "No space left on device", "run/log.jsonl"), 7),
    (PermissionError(13, "Permission denied", "run"), 7),
    (MemoryError(), 8),
    (KeyboardInterrupt(), 130),
    (RuntimeError("two\nlines"), 1),
])  # fmt: skip
def test_every_error_is_one_line(error, code, capsys, monkeypatch):
    def fail(options):
        raise error

    monkeypatch.setattr(summary, "run", fail)
    assert main(["summary"]) == code
    one_line(capsys)
    if isinstance(error, Exception):
        assert main(["summary", "--debug"]) == code
        assert "Traceback" in capsys.readouterr().err


def test_stopping_on_request_is_no_error(capsys, monkeypatch):
    def stop(options):
        raise errors.Interrupted("stopped; go on")

    monkeypatch.setattr(summary, "run", stop)
    assert main(["summary"]) == 75
    assert capsys.readouterr().err == "tinyalex: stopped; go on\n"


def test_alone_shows_help(capsys):
    assert main([]) == 2
    said = capsys.readouterr().out
    for command in ("train", "evaluate", "predict", "summary", "gradcheck", "figures", "doctor"):
        assert f"    {command}" in said


@pytest.mark.parametrize(
    "command", [[], ["train"], ["evaluate"], ["predict"], ["summary"], ["gradcheck"], ["figures"], ["doctor"]]
)
def test_help_of_every_command(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert main([*command, "--help"]) == 0
    assert "--help" in capsys.readouterr().out


HEAVY = ("matplotlib", "PIL", "cupy", "safetensors", "tqdm", "scipy", "torch")


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["summary"], ["summary", "shapes"]])
def test_starts_without_what_it_does_not_need(arguments):
    code = (
        "import sys; from tinyalex.cli import main; code = main(sys.argv[1:]); "
        f"print(code, [name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.stderr == "0 []\n"


def test_package_imports_numpy_at_most():
    code = (
        "import sys; old = set(sys.modules); import tinyalex; print({m.split('.')[0] for m in set(sys.modules) - old})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    foreign = eval(done.stdout) - set(sys.stdlib_module_names) - {"tinyalex", "numpy"}
    assert foreign == set(), done.stderr


def test_a_reader_that_has_seen_enough(tmp_path):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "tinyalex", "summary"], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("closed", ["", ">&-", "2>&-"])
@pytest.mark.parametrize("options", ["-c", "-OO -c"])
def test_closed_streams_and_poor_encodings_end_nothing(closed, options):
    """And without docstrings."""
    run = f'{sys.executable} {options} "import sys; from tinyalex.cli import main; sys.exit(main())"'
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(["bash", "-c", f"{run} summary {closed}"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and done.stderr == ""
    assert ("\\xa71 says no convolution" in done.stdout) == (closed != ">&-")


def test_options_are_not_guessed(capsys):
    """What would be taken for --fresh would not be taken out of the line that says how to go on."""
    assert main(["train", "--fres"]) == 2
    assert "unrecognized arguments: --fres" in capsys.readouterr().err


def test_the_packages_own_example_runs():
    lines = [line.strip() for line in tinyalex.__doc__.splitlines() if line.startswith("    ")]
    found = {}
    exec("\n".join(lines), found)
    assert found["network"].classes == 12
