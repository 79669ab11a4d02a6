"""The commands as a user runs them: the files they write, the lines they print, and their exit codes."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tinyalex import errors, randomness
from tinyalex.cli import main
from tinyalex.commands import summary
from tinyalex.recipes import recipe
from tinyalex.runs import checkpoint, run_folder
from tinyalex.system.ownership import MARKER

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
def workspace(tmp_path_factory):
    """A folder with a tiny recipe, a tiny data set and a finished run."""
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
    """The message of a failed command, which is one line."""
    output = capsys.readouterr().err
    assert output.startswith("tinyalex: error: ") and output.endswith("\n") and output.count("\n") == 1, output
    return output


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name not in (".lock", MARKER))


def test_train_writes_log_checkpoints_recipe_and_pictures(workspace):
    # 27 training images are 4 steps per epoch; there is one checkpoint for each of the 2 epochs.
    saved = ["checkpoint-00000004.safetensors", "checkpoint-00000008.safetensors"]
    assert names(workspace / "run") == [
        *saved,
        "curves.png",
        "kernels.png",
        "log.jsonl",
        "panel.png",
        "recipe.toml",
        "report.html",
    ]
    kept = recipe.load(workspace / "run" / "recipe.toml")
    assert kept.net == recipe.load(workspace / "tiny.toml").net
    assert kept.data.set == str(workspace / "data")
    records = [json.loads(line) for line in (workspace / "run" / "log.jsonl").read_text().splitlines()]
    for record in records:
        assert {"event", "epoch", "step"} <= record.keys()
    assert [record["epoch"] for record in records if record["event"] == "test"] == [1, 2]
    for name in ("curves", "kernels", "panel"):
        with Image.open(workspace / "run" / f"{name}.png") as picture:
            assert picture.size > (100, 100)


def test_train_prints_the_resolved_recipe_and_the_errors(workspace, tmp_path, capsys):
    options = ["--data", str(workspace / "data"), "--out", str(tmp_path), "--epochs", "1", "--set", "net.norm=2012"]
    assert main(["train", str(workspace / "tiny.toml"), *options]) == 0
    output = capsys.readouterr().out
    assert re.search(r"checkpoint-0000000\d.safetensors is kept: lowest test error, \d", output)
    for line in ('norm = "2012"', "epochs = 1", "1 epoch instead of 2", "27 training and 9 test images", "test error"):
        assert line in output
    assert recipe.load(tmp_path / "recipe.toml").net.norm == "2012"


def test_evaluate_prints_the_errors_of_the_last_test(workspace, capsys):
    assert main(["evaluate", str(workspace / "run"), "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    last = run_folder.read_log(workspace / "run")[-1]
    assert score["count"] == 9
    assert score["top1_error"] == pytest.approx(last["top1_error"], abs=1e-6)
    assert main(["evaluate", str(workspace / "run")]) == 0
    assert f"test error {score['top1_error']:.2%}" in capsys.readouterr().out


def average_of_ten_views(workspace, *steps):
    """Probabilities averaged over ten views and over the checkpoints of the given steps, computed here; and labels."""
    labels, total = [], 0
    for step in steps:
        run = run_folder.load(workspace / "run" / f"checkpoint-{step:08d}.safetensors")
        labels, rows = [], []
        for path in sorted((workspace / "data" / "test").glob("*/*.png")):
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


def test_a_damaged_checkpoint_is_skipped_with_a_warning(workspace, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(workspace / "run", run)
    newest = checkpoint.newest(run)
    os.truncate(newest, newest.stat().st_size - 100)
    for command in (["evaluate", run], ["export", run, tmp_path / "w.safetensors", "--last"]):
        capsys.readouterr()
        assert main([*map(str, command)]) == 0
        error = capsys.readouterr().err
        assert error.startswith(f"tinyalex: warning: {newest}: ") and error.endswith(
            "; checkpoint-00000004.safetensors is used\n"
        )


def test_evaluate_averages_views_and_nets(workspace, capsys):
    checkpoints = [str(workspace / "run" / f"checkpoint-{step:08d}.safetensors") for step in (4, 8)]
    command = ["evaluate", *checkpoints, "--views", "10", "--classes", "--threads", "1"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    average, labels = average_of_ten_views(workspace, 4, 8)
    right = average[np.arange(9), labels]
    assert found["loss"] == pytest.approx(-np.log(right).mean(), rel=1e-4) and found["views"] == 10
    assert found["top1_error"] == pytest.approx(np.mean(average.argmax(axis=1) != labels))
    for net, step in zip(found["nets"], (4, 8), strict=True):
        alone, _ = average_of_ten_views(workspace, step)
        assert net["step"] == step and net["loss"] == pytest.approx(
            -np.log(alone[np.arange(9), labels]).mean(), rel=1e-4
        )
    assert [row["class"] for row in found["classes"]] == ["a", "b", "c"]
    assert [row["count"] for row in found["classes"]] == [3, 3, 3]
    assert sum(row["top1_error"] for row in found["classes"]) / 3 == pytest.approx(found["top1_error"])
    wrong = sum(pair["first_as_second"] + pair["second_as_first"] for pair in found["confused"])
    assert wrong == round(9 * found["top1_error"]) > 0

    assert main(command) == 0
    output = capsys.readouterr().out
    assert "; 10 views; on the CPU\n" in output and "mean of these 2 errors: test error" in output
    assert f"average of these 2 nets: test error {found['top1_error']:.2%}" in output
    assert "most often mistaken for" in output and "most often confused" in output
    assert max(map(len, output.splitlines()[1:])) <= 160


def test_ten_views_of_a_net_trained_without_reflections_are_pointed_out(workspace, tmp_path, capsys):
    run = str(tmp_path / "run")
    options = ["--data", str(workspace / "data"), "--out", run, "--epochs", "1", "--set", "data.flip=false"]
    assert main(["train", str(workspace / "tiny.toml"), *options]) == 0
    for folders, views, named in (([str(workspace / "run"), run], 10, True), ([run], 9, False), ([run], 1, False)):
        capsys.readouterr()
        assert main(["evaluate", *folders, "--views", str(views)]) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if "without reflections" in line]
        assert [line.split(" was trained")[0] for line in lines] == ([run] if named else [])


def test_evaluate_gives_the_same_result_on_any_devices(workspace, capsys):
    results = []
    for devices in (["cpu", "cpu"], ["fake:0", "fake:1"]):
        assert main(["evaluate", str(workspace / "run"), "--json", "--views", "9", "--devices", *devices]) == 0
        results.append(json.loads(capsys.readouterr().out))
        assert results[-1].pop("devices") == devices
    assert results[0] == results[1] and results[0]["views"] == 9


def test_evaluate_takes_the_gpu_and_says_where_it_runs(workspace, capsys, monkeypatch):
    """A pretend device stands for the GPU with the most free memory, which is the second."""
    from tinyalex.commands import evaluate
    from tinyalex.devices import cuda

    run, where = str(workspace / "run"), []

    def load(path, devices, *rest):
        where.append(list(devices))
        return load_run(path, ["fake:0" if name.startswith("cuda") else name for name in devices], *rest)

    load_run = evaluate.load_run
    monkeypatch.setattr(evaluate, "load_run", load)
    nothing = {"cupy": None, "gpus": [], "missing": "CuPy is not installed"}
    two = [{"name": "NVIDIA A", "free": 1}, {"name": "NVIDIA H200", "free": 2}]
    for found, options, device, line in (
        (nothing, [], "cpu", "; on the CPU\n"),
        (nothing | {"cupy": "14.2", "missing": "this machine has none"}, [], "cpu", "; on the CPU (this machine has"),
        (nothing | {"cupy": "14.2", "gpus": two}, [], "cuda:1", "; on cuda:1, NVIDIA H200\n"),
        (nothing | {"cupy": "14.2", "gpus": two}, ["--devices", "cpu"], "cpu", "; on cpu\n"),
    ):
        monkeypatch.setattr(cuda, "look", lambda found=found: found)
        assert main(["evaluate", run, *options]) == 0
        assert line in capsys.readouterr().out and where[-1] == [device]
        assert main(["evaluate", run, "--json", *options]) == 0
        assert json.loads(capsys.readouterr().out)["devices"] == [device]


def test_evaluate_refuses_data_with_other_classes(workspace, tmp_path, capsys):
    for number, name in enumerate("xy"):
        for split in ("train", "test"):
            home = tmp_path / split / name
            home.mkdir(parents=True)
            Image.new("RGB", (28, 28), (number, 0, 0)).save(home / "1.png")
    assert main(["evaluate", str(workspace / "run"), "--data", str(tmp_path)]) == 3
    assert "classes" in one_line(capsys)


def test_predict_prints_and_draws_the_top_classes(workspace, tmp_path, capsys):
    image = tmp_path / "wide picture.jpg"
    Image.new("L", (90, 40), 77).save(image)
    picture = tmp_path / "top.png"
    command = ["predict", str(image), "--run", str(workspace / "run")]
    assert main([*command, "--json", "--picture", str(picture)]) == 0
    [answer] = json.loads(capsys.readouterr().out)
    assert answer["image"] == str(image)
    assert sorted(entry["class"] for entry in answer["classes"]) == ["a", "b", "c"]
    probabilities = [entry["probability"] for entry in answer["classes"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    assert picture.is_file()
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(image) and len(lines) == 4


def test_predict_reports_unreadable_images_after_the_others(workspace, tmp_path, capsys):
    broken, missing = tmp_path / "broken.jpg", tmp_path / "missing.png"
    broken.write_bytes(b"\xff\xd8 no picture")
    good = next((workspace / "data" / "test" / "a").iterdir())
    (tmp_path / "empty").mkdir()
    files = [str(broken), str(good), str(missing), str(tmp_path / "empty")]
    assert main(["predict", *files, "--run", str(workspace / "run"), "--json"]) == 3
    output = capsys.readouterr()
    answers = json.loads(output.out)
    assert [answer["image"] for answer in answers] == files
    assert ["error" in answer for answer in answers] == [True, False, True, True]
    assert output.err.count("tinyalex: error: ") == output.err.count("\n") == 3


def predict(workspace, *words):
    return main(["predict", *map(str, words), "--run", str(workspace / "run"), "--threads", "1"])


def test_predict_takes_a_folder_as_prepare_lists_it(workspace, tmp_path, capsys):
    shutil.copytree(workspace / "data" / "test", tmp_path / "pictures")
    good = sorted(str(path) for path in (tmp_path / "pictures").glob("*/*.png"))
    for name in ("notes.txt", ".hidden.png", "__MACOSX/1.png", "a/._1.png"):
        (tmp_path / "pictures" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "pictures" / name).write_bytes(b"no image")
    assert predict(workspace, tmp_path / "pictures", "--json") == 0
    answers = json.loads(capsys.readouterr().out)
    assert sorted(answer["image"] for answer in answers) == good
    (tmp_path / "empty").mkdir()
    assert predict(workspace, tmp_path / "empty", good[0], "--json") == 3
    output = capsys.readouterr()
    assert "empty: a folder without images; give an image file" in output.err and len(json.loads(output.out)) == 2


@pytest.mark.parametrize("form", ["--json", "--csv", None])
def test_predict_answers_a_file_as_often_as_it_is_given(workspace, form, capsys):
    [file] = pictures(workspace)
    assert predict(workspace, file, file, *([form] if form else [])) == 0
    output = capsys.readouterr().out
    assert output.count(file) == 2


def test_predict_prints_a_table_with_a_row_for_each_file(workspace, tmp_path, capsys):
    good, broken = tmp_path / 'a, "red" cat.png', tmp_path / "broken.png"
    shutil.copy(pictures(workspace)[0], good)
    broken.write_bytes(good.read_bytes()[:-30])
    assert predict(workspace, broken, good, good, "--csv") == 3
    output = capsys.readouterr()
    assert output.err.startswith(f"tinyalex: error: {broken}: ") and output.err.count("\n") == 1
    rows = list(csv.DictReader(io.StringIO(output.out)))
    assert list(rows[0]) == ["file", *(f"{key}_{n}" for n in (1, 2, 3) for key in ("class", "probability")), "error"]
    assert [row["file"] for row in rows] == [str(broken), str(good), str(good)]
    assert rows[0]["error"].startswith(f"{broken}: ") and rows[0]["class_1"] == rows[1]["error"] == ""
    assert rows[1] == rows[2] and {rows[1][f"class_{n}"] for n in (1, 2, 3)} == set("abc")
    found = [float(rows[1][f"probability_{n}"]) for n in (1, 2, 3)]
    assert found == sorted(found, reverse=True) and sum(found) == pytest.approx(1, abs=1e-5)


def test_predict_answers_in_parts_as_in_one(workspace, capsys, monkeypatch):
    folder, outputs = workspace / "data" / "train", []
    for count in (128, 5):
        monkeypatch.setattr("tinyalex.commands.predict._AT_ONCE", count)
        assert predict(workspace, folder, "--csv") == 0
        outputs.append(list(csv.reader(io.StringIO(capsys.readouterr().out))))
    assert [row[:2] for row in outputs[0]] == [row[:2] for row in outputs[1]] and len(outputs[0]) == 28


@pytest.mark.parametrize("name", ["p.jpg", "p", "p.png.jpeg"])
def test_predict_draws_only_into_names_of_png_files(workspace, tmp_path, name, capsys):
    assert predict(workspace, *pictures(workspace), "--picture", tmp_path / name) == 2
    assert "a PNG file is written; give a name that ends in .png" in one_line(capsys)
    assert names(tmp_path) == []


def test_predict_agrees_with_evaluate(workspace, capsys):
    files = sorted((workspace / "data" / "test").glob("*/*.png"))
    main(["predict", *map(str, files), "--run", str(workspace / "run"), "--json"])
    answers = json.loads(capsys.readouterr().out)
    wrong = sum(answer["classes"][0]["class"] != file.parent.name for file, answer in zip(files, answers, strict=True))
    main(["evaluate", str(workspace / "run"), "--json"])
    assert wrong / 9 == pytest.approx(json.loads(capsys.readouterr().out)["top1_error"])


def test_no_kernels_runs_the_readable_layers_and_says_so(workspace, tmp_path, capsys):
    command = [
        "train",
        str(workspace / "tiny.toml"),
        "--data",
        str(workspace / "data"),
        "--threads",
        "1",
        "--no-kernels",
    ]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    assert "cpu, readable layers (--no-kernels), seed 0" in capsys.readouterr().out
    without, usual = (
        weights_of(folder / "run" / "checkpoint-00000008.safetensors") for folder in (tmp_path, workspace)
    )
    for name, weights in usual.items():
        np.testing.assert_allclose(without[name], weights, rtol=1e-3, atol=1e-4 * np.abs(weights).max())
    metadata = run_folder.load(tmp_path / "run").metadata
    assert metadata["fingerprint"]["kernels"] == "off"
    assert "kernels" not in run_folder.load(workspace / "run").metadata["fingerprint"]
    for command in (
        ["evaluate", str(workspace / "run")],
        ["predict", "--run", str(workspace / "run"), *pictures(workspace)],
    ):
        outputs = []
        for extra in ([], ["--no-kernels"]):
            assert main([*command, "--threads", "1", *extra]) == 0
            outputs.append(capsys.readouterr().out)
        assert ", readable layers (--no-kernels)" in outputs[1] and "(--no-kernels)" not in outputs[0]
        assert outputs[1].splitlines()[-1] == outputs[0].splitlines()[-1]


def weights_of(path):
    run = run_folder.load(path)
    return {name: np.array(view) for name, view in run.network.state().items()}


def pictures(workspace):
    return [str(path) for path in sorted((workspace / "data" / "test").glob("*/*.png"))[:1]]


def test_figures_draws_missing_pictures_again(workspace):
    for name in ("curves", "kernels", "panel"):
        (workspace / "run" / f"{name}.png").unlink()
    assert main(["figures", str(workspace / "run")]) == 0
    assert {"curves.png", "kernels.png", "panel.png"} <= set(names(workspace / "run"))


def test_figures_of_a_file_of_weights(workspace, tmp_path, capsys):
    weights = tmp_path / "weights.safetensors"
    assert main(["export", str(workspace / "run"), str(weights)]) == 0
    assert main(["figures", str(weights), "--out", str(tmp_path / "drawn"), "--only", "architecture", "kernels"]) == 0
    assert names(tmp_path / "drawn") == ["architecture.png", "kernels.png"]
    assert main(["figures", str(weights), "--out", str(tmp_path / "drawn"), "--only", "curves"]) == 2
    assert "weights.safetensors: has no log to draw curves from; give the folder of a run" in one_line(capsys)


def test_summary_prints_the_counts_of_the_paper_net(capsys):
    assert main(["summary"]) == 0
    output = capsys.readouterr().out
    for number in ("60,965,224", "724,406,816", "60,030,976", "290,400", "253,440"):
        assert number in output


def test_summary_of_the_one_gpu_net(capsys):
    assert main(["summary", "--set", "net.columns=1", "--set", "net.maps=[48, 128, 192, 192, 256]"]) == 0
    assert "59,798,312" in capsys.readouterr().out


def test_gradcheck_passes_and_suggests_names(capsys):
    assert main(["gradcheck", "linear"]) == 0
    assert "no error" in capsys.readouterr().out
    assert main(["gradcheck", "conf"]) == 2
    assert '"conv"' in one_line(capsys)


def test_gradcheck_of_a_wrong_layer_fails(capsys, monkeypatch):
    from tinyalex import layers

    monkeypatch.setattr(
        layers.Linear, "backward", lambda self, dy, right=layers.Linear.backward: 1.01 * right(self, dy)
    )
    assert main(["gradcheck", "linear"]) == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.parametrize("options, code, message", [
    (["trian"], 2, "trian"),
    (["train", "shape"], 2, 'did you mean "shapes"?'),
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
    (["summary", "--set", "net.classes=-1"], 2, "net.classes"),
    (["figures", "/"], 4, "/: holds no run"),
])  # fmt: skip
def test_wrong_input_gives_one_line_and_its_exit_code(options, code, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(options) == code
    assert message in one_line(capsys)
    assert names(tmp_path) == []


def test_train_refuses_a_wrong_number_of_classes(workspace, tmp_path, capsys):
    tiny, data, out = str(workspace / "tiny.toml"), str(workspace / "data"), tmp_path / "run"
    assert main(["train", tiny, "--data", data, "--out", str(out), "--set", "net.classes=4"]) == 2
    assert "net.classes" in one_line(capsys)
    assert not out.exists()


def test_train_names_an_unreadable_image(workspace, tmp_path, capsys):
    for name in "ab":
        home = tmp_path / "data" / "train" / name
        home.mkdir(parents=True)
        (home / "1.png").write_bytes(b"\x89PNG nothing")
    out = tmp_path / "run"
    words = ["train", str(workspace / "tiny.toml"), "--data", str(tmp_path / "data"), "--out", str(out), "--no-prepare"]
    assert main(words) == 3
    assert "1.png" in one_line(capsys)
    assert not out.exists()


def test_train_refuses_an_out_folder_below_a_file(workspace, tmp_path, capsys):
    (tmp_path / "run").write_text("")
    command = [
        "train",
        str(workspace / "tiny.toml"),
        "--data",
        str(workspace / "data"),
        "--out",
        str(tmp_path / "run" / "x"),
    ]
    assert main(command) == 7
    one_line(capsys)


def test_train_refuses_a_file_as_out_folder(workspace, tmp_path, capsys):
    (tmp_path / "run").write_text("")
    command = ["train", str(workspace / "tiny.toml"), "--data", str(workspace / "data"), "--out", str(tmp_path / "run")]
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


def test_stopping_on_request_prints_its_line_without_the_word_error(capsys, monkeypatch):
    def stop(options):
        raise errors.Interrupted("stopped and saved; to resume, type ...")

    monkeypatch.setattr(summary, "run", stop)
    assert main(["summary"]) == 75
    assert capsys.readouterr().err == "tinyalex: stopped and saved; to resume, type ...\n"


def test_no_command_shows_help(capsys):
    assert main([]) == 2
    output = capsys.readouterr().out
    for command in ("train", "evaluate", "predict", "summary", "gradcheck", "figures", "verify", "doctor"):
        assert f"    {command}" in output


@pytest.mark.parametrize(
    "command",
    [[], ["train"], ["evaluate"], ["predict"], ["summary"], ["gradcheck"], ["figures"], ["verify"], ["doctor"]],
)
def test_help_of_every_command(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert main([*command, "--help"]) == 0
    assert "--help" in capsys.readouterr().out


HEAVY = ("matplotlib", "PIL", "cupy", "safetensors", "tqdm", "scipy", "torch")


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["summary"], ["summary", "shapes"]])
def test_start_imports_no_heavy_packages(arguments):
    code = (
        "import sys; from tinyalex.cli import main; code = main(sys.argv[1:]); "
        f"print(code, [name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.stderr == "0 []\n"


def test_import_tinyalex_imports_only_numpy():
    code = (
        "import sys; old = set(sys.modules); import tinyalex; print({m.split('.')[0] for m in set(sys.modules) - old})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    foreign = eval(done.stdout) - set(sys.stdlib_module_names) - {"tinyalex", "numpy"}
    assert foreign == set(), done.stderr


def test_a_closed_pipe_ends_without_a_message(tmp_path):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "tinyalex", "summary"], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("closed", ["", ">&-", "2>&-"])
@pytest.mark.parametrize("options", ["-c", "-OO -c"])
def test_closed_streams_and_ascii_encoding_do_not_end_a_command(closed, options):
    """Also with -OO, which removes docstrings."""
    run = f'{sys.executable} {options} "import sys; from tinyalex.cli import main; sys.exit(main())"'
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(["bash", "-c", f"{run} summary {closed}"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and done.stderr == ""
    assert ("\\xa71 says no convolution" in done.stdout) == (closed != ">&-")


def test_abbreviated_options_are_refused(capsys):
    """The command that resumes a run leaves out --fresh; it would not recognise an abbreviation of it."""
    assert main(["train", "--fres"]) == 2
    assert '--fres: no such option; did you mean "--fresh"?' in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in recipe.names() if not recipe.load(name).net.classes])
def test_summary_of_a_recipe_that_takes_its_classes_from_the_data(name, capsys):
    assert main(["summary", name]) == 0
    note, rest = capsys.readouterr().out.split("\n", 1)
    if name == "shapes":  # whose classes are known
        assert "12 classes out" in note
    else:
        assert note == f"{name}: for 1,000 classes, as it takes their number from the data; --set net.classes=N"
        assert "1,000 classes out" in rest
