"""Commands where something around them is missing: matplotlib, a folder for files, room on the disk, the terminal.

The result of a command does not depend on whether a picture of it can be drawn, and its last line and its exit code
reach the caller wherever that is possible.
"""

import errno
import os
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from tests.bench import test_bench
from tests.experiments import test_experiments
from tests.support import prepared_sets
from tests.support.small_runs import small
from tinyalex import figures
from tinyalex.bench import measure
from tinyalex.cli import main
from tinyalex.commands import common
from tinyalex.errors import PictureError
from tinyalex.figures import page
from tinyalex.recipes.recipe import to_toml
from tinyalex.runs import checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a recipe, a prepared set, image files, and a run without pictures."""
    folder = tmp_path_factory.mktemp("surroundings")
    (folder / "small.toml").write_text(to_toml(small(epochs=1)))
    prepared_sets.make(folder / "set", size=24)
    for name in ("a/1.png", "b/2.png", "b/3.png"):
        (folder / "images/train" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((24, 24), 90).convert("RGB").save(folder / "images/train" / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "save", lambda *_, **options: None)
        assert main(train(folder, folder / "run")) == 0
    return folder


def train(folder, out):
    options = ["--threads", "1", "--weak-signal"]
    return ["train", str(folder / "small.toml"), "--data", str(folder / "set"), "--out", str(out), *options]


def broken(*_, **options):
    raise ValueError("the first line\nand the second")


def no_memory(*_, **options):
    raise MemoryError


def full_disk(*_, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def missing(patch):
    patch.setitem(sys.modules, "matplotlib.figure", None)
    patch.setitem(sys.modules, "matplotlib.font_manager", None)
    patch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)


FIGURE, CANVAS = "matplotlib.figure.Figure.__init__", "matplotlib.backends.backend_agg.FigureCanvasAgg"
FAULTS = {  # how drawing fails, and what is said about it
    "matplotlib is missing": (missing, "matplotlib cannot be imported ("),
    "drawing fails": (
        lambda patch: patch.setattr(FIGURE, broken),
        "ValueError: the first",
    ),
    "no memory": (lambda patch: patch.setattr(FIGURE, no_memory), "not enough memory"),
    "saving fails": (
        lambda patch: patch.setattr(CANVAS, broken),
        "the second",
    ),
    "disk full": (
        lambda patch: patch.setattr("tinyalex.system.storage.open", full_disk, raising=False),
        "cannot be written (No space left on device)",
    ),
}


@pytest.fixture(params=FAULTS)
def fault(request, monkeypatch):
    """Return (a function that lets drawing fail in one of the ways, a part of the message)."""
    break_it, words = FAULTS[request.param]
    return lambda: break_it(monkeypatch), words


def left_out(text, words, name):
    """Check that one line of the output says why a picture is missing."""
    lines = [line for line in text.splitlines() if line.startswith("warning: ") and "not drawn" in line]
    assert len(lines) == 1 and words in lines[0] and name in lines[0], text
    return lines[0]


def test_training_ends_well_without_its_pictures(folder, tmp_path, capsys, monkeypatch, fault):
    break_it, words = fault
    save = figures.attempt  # only the pictures fail: checkpoints use the same functions
    monkeypatch.setattr(figures, "attempt", lambda draw, path: (break_it(), save(draw, path))[1])
    assert main(train(folder, tmp_path / "run")) == 0
    output, error = capsys.readouterr()
    assert not error and "test error" in output
    line = left_out(output, words, "curves.png")
    assert "kernels.png" in line and "panel.png" in line and line.endswith(f"tinyalex figures {tmp_path / 'run'}")
    assert not list(tmp_path.glob("run/*.png")) and checkpoint.newest(tmp_path / "run")


def test_pictures_that_can_be_drawn_are_drawn(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tinyalex.gallery.gallery.kernels", broken)
    assert main(train(folder, tmp_path / "run")) == 0
    output = capsys.readouterr().out
    line = left_out(output, "ValueError: the first line and the second", "kernels.png")
    assert "curves.png" not in line
    assert sorted(path.name for path in tmp_path.glob("run/*.png")) == ["curves.png", "panel.png"]
    assert f"pictures: {tmp_path / 'run/curves.png'}, {tmp_path / 'run/panel.png'}\n" in output


def test_a_set_is_prepared_without_its_contact_sheet_and_gets_it_later(folder, tmp_path, capsys, monkeypatch, fault):
    break_it, words = fault
    save, command = figures.attempt, ["prepare", str(folder / "images"), str(tmp_path / "out"), "--workers", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(figures, "attempt", lambda draw, path: (break_it(), save(draw, path))[1])
        assert main([*command, "--size", "16"]) == 0
    output, error = capsys.readouterr()
    assert not error and "look at" not in output and "3 training" in output
    left_out(output, words, "contact_sheet.png")
    monkeypatch.undo()
    assert main([*command, "--size", "16"]) == 0
    assert "look at" in capsys.readouterr().out and (tmp_path / "out/contact_sheet.png").is_file()


def test_an_experiment_ends_well_without_its_picture(tmp_path, capsys, monkeypatch, fault):
    break_it, words = fault
    save, result = figures.attempt, test_experiments.made_up_result(0.02, 0.001)
    monkeypatch.setattr("tinyalex.experiments.experiment.experiment", lambda *_: result)
    monkeypatch.setattr(figures, "attempt", lambda draw, path: (break_it(), save(draw, path))[1])
    options = ["--train-images", "20", "--test-images", "10", "--threads", "1", "--out", str(tmp_path)]
    assert main(["experiment", "norm", *options]) == 0
    output, error = capsys.readouterr()
    assert not error and f"saved {tmp_path / 'norm/result.json'}\n" in output
    left_out(output, words, "picture")
    assert (tmp_path / "norm/result.json").is_file() and not (tmp_path / "norm/result.png").exists()


def test_a_measurement_is_saved_without_its_picture(tmp_path, capsys, monkeypatch, fault):
    break_it, words = fault
    save, result = figures.attempt, test_bench.made_up(["im2col"])
    monkeypatch.setattr(measure, "measure", lambda *_, **options: result)
    monkeypatch.setattr(figures, "attempt", lambda draw, path: (break_it(), save(draw, path))[1])
    options = ["--contenders", "im2col", "--threads", "1", "--out", str(tmp_path)]
    assert main(["bench", "paper", *options]) == 0
    output, error = capsys.readouterr()
    assert not error and f"{tmp_path / 'bench.md'}\n" in output
    left_out(output, words, "bench.png")
    assert (tmp_path / "bench.json").is_file() and not (tmp_path / "bench.png").exists()


def test_where_a_picture_was_asked_for_its_absence_is_an_error(folder, tmp_path, capsys, monkeypatch):
    image = str(next(folder.glob("images/train/b/*")))
    with monkeypatch.context() as patch:
        missing(patch)
        for command in (
            ["figures", "original", "--out", str(tmp_path)],
            ["figures", str(folder / "run"), "--only", "curves"],
            ["predict", image, "--run", str(folder / "run"), "--picture", str(tmp_path / "new.png"), "--threads", "1"],
        ):
            assert main(command) == 1
            output, error = capsys.readouterr()
            assert error.startswith("tinyalex: error: matplotlib cannot be imported (") and error.count("\n") == 1
            assert error.endswith("; pip install matplotlib\n") and "bug" not in error
    assert image in output and "%" in output  # the classes are printed all the same
    (tmp_path / "taken.png").mkdir()
    assert main(["predict", image, "--run", str(folder / "run"), "--picture", str(tmp_path / "taken.png")]) == 7
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "exists already" in error


def test_any_failure_of_importing_matplotlib_is_a_picture_error():
    for error in (ImportError("no module"), OSError("no folder"), ValueError("bad matplotlibrc"), RuntimeError("ABI")):
        with pytest.raises(PictureError, match="^matplotlib "), page.importing():
            raise error
    with pytest.raises(MemoryError), page.importing():
        raise MemoryError


# A file system that cannot be written, except one folder.

READ_ONLY = """
set -e
root=$1/root
mkdir -p "$root"
mount --rbind / "$root"
mount -o remount,ro,bind "$root"
for folder in dev/shm tmp var/tmp; do
    [ -d "$root/$folder" ] && mount --bind "$root/$folder" "$root/$folder" && mount -o remount,ro,bind "$root/$folder"
done
mount --bind "$1" "$root/$1"
exec chroot "$root" "${@:2}"
"""


@pytest.fixture(scope="module")
def can_mount(tmp_path_factory):
    """Skip a test where file systems cannot be mounted."""
    if not shutil.which("unshare"):
        pytest.skip("unshare is not installed")
    words = ["unshare", "-rm", "bash", "-c", READ_ONLY, "bash", tmp_path_factory.mktemp("mount"), "true"]
    tried = subprocess.run(words, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no file system can be mounted here: {tried.stderr}")


@pytest.fixture
def read_only(tmp_path, can_mount):
    """Return a function that runs the command where only `tmp_path` can be written, without HOME."""

    def run(*words, **variables):
        script = f"import sys\nsys.path.insert(0, {os.getcwd()!r})\nfrom tinyalex.cli import main\nsys.exit(main())"
        kept = {key: value for key, value in os.environ.items() if key not in ("HOME", "MPLCONFIGDIR", "TMPDIR")}
        command = [sys.executable, "-B", "-c", script, *map(str, words)]
        return subprocess.run(
            ["unshare", "-rm", "bash", "-c", READ_ONLY, "bash", tmp_path, *command],
            capture_output=True, text=True, timeout=120, env=kept | {"XDG_CACHE_HOME": "/nowhere"} | variables,
        )  # fmt: skip

    return run


@pytest.mark.parametrize("home", [None, "/root"])
def test_training_where_nothing_but_its_folder_can_be_written(folder, read_only, tmp_path, home):
    done = read_only(*train(folder, tmp_path / "run"), **({"HOME": home} if home else {}))
    assert (done.returncode, done.stderr) == (0, "")
    left_out(done.stdout, "set MPLCONFIGDIR to one", "curves.png")
    assert checkpoint.newest(tmp_path / "run")


@pytest.mark.slow  # matplotlib looks at all fonts
def test_all_is_drawn_where_a_folder_for_matplotlib_is_given(folder, read_only, tmp_path):
    (tmp_path / "mpl").mkdir()
    done = read_only(*train(folder, tmp_path / "run"), MPLCONFIGDIR=str(tmp_path / "mpl"))
    assert (done.returncode, done.stderr) == (0, "") and "not drawn" not in done.stdout
    assert len(list(tmp_path.glob("run/*.png"))) == 3


def test_other_commands_where_nothing_but_one_folder_can_be_written(folder, read_only, tmp_path):
    done = read_only("prepare", folder / "images", tmp_path / "out", "--workers", "2", "--size", "16")
    assert (done.returncode, done.stderr) == (0, "")
    left_out(done.stdout, "set MPLCONFIGDIR to one", "contact_sheet.png")
    done = read_only("figures", "original", "--out", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1) and "set MPLCONFIGDIR to one" in done.stderr
    done = read_only("bench", "shapes", "--batch", "2", "--rounds", "1", "--contenders", "im2col", "--threads", "1")
    assert (done.returncode, done.stderr.count("\n")) == (7, 1)
    assert done.stderr.endswith("; set TMPDIR to a folder that can be written\n")
    done = read_only(*train(folder, "/run"))
    assert done.returncode == 7 and done.stderr.startswith("tinyalex: error: /run") and done.stderr.count("\n") == 1


# Streams.


def shell(line, **variables):
    """Run a line of shell in which T stands for the command, with buffers as a user has them."""
    code = "import sys; from tinyalex.cli import main; sys.exit(main())"
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["bash", "-c", f'T() {{ "{sys.executable}" -c "{code}" "$@"; }}; {line}'],
        capture_output=True, text=True, timeout=60, env=kept | variables,
    )  # fmt: skip


FULL = "tinyalex: error: output: No space left on device; free some space or check the permissions\n"


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("T summary shapes > /dev/full", 7, FULL),
        ("T --help > /dev/full", 7, FULL),
        ("T summary shapes > /dev/full 2>&1", 7, ""),
        ("T summary nothing 2> /dev/full", 2, ""),
        ("T summary nothing --debug > /dev/full 2>&1", 2, ""),
        ("T summary nothing >&-", 2, None),
        ("T summary nothing <&- 2>&-", 2, ""),
        ("T summary shapes <&- >&- 2>&-", 0, ""),
        ("set -o pipefail; T --version | true", (0, 141), ""),
    ],
)
def test_the_exit_code_is_that_of_the_command_whatever_the_streams_are(line, code, error):
    if "/dev/full" in line and not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    done = shell(line)
    assert done.returncode in (code if isinstance(code, tuple) else (code,))
    assert done.stderr == error if error is not None else done.stderr.startswith("tinyalex: error: nothing")


@pytest.mark.parametrize("redirection", ["> /dev/full 2>&1", "| true"])
def test_training_whose_output_cannot_be_written_ends_well(folder, tmp_path, redirection):
    words = " ".join(train(folder, tmp_path / "run"))
    done = shell(f"set -o pipefail; T {words} {redirection}")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(tmp_path.glob("run/*.png"))) == 3


def test_a_warning_that_cannot_be_written_ends_no_command(folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(folder / "run", run)
    newest = checkpoint.newest(run)
    shutil.copy(newest, run / "checkpoint-99999999.safetensors")
    os.truncate(run / "checkpoint-99999999.safetensors", 1000)
    done = shell(f"T evaluate {run} --threads 1 2> /dev/full")
    assert done.returncode == 0 and "test error" in done.stdout


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    """Libraries print to stream number 2, whoever has it."""
    code = (
        "import os; from tinyalex import cli; cli._set_up_output(); "
        f"file = open('{tmp_path / 'file'}', 'w'); os.write(2, b'a remark'); print(file.fileno(), file=file)"
    )
    done = subprocess.run(["bash", "-c", f'"{sys.executable}" -c "{code}" <&- 2>&-'])
    assert done.returncode == 0 and int((tmp_path / "file").read_text()) > 2


@pytest.mark.parametrize(
    "variables",
    [{"PYTHONIOENCODING": "ascii"}, {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
)
def test_messages_come_out_in_any_encoding_and_on_any_terminal(variables):
    done = shell("T summary 'n§o'", TERM="dumb", **variables)
    assert done.returncode == 2 and done.stderr.startswith("tinyalex: error: n") and "\x1b" not in done.stderr
    assert "no such recipe or file" in done.stderr and done.stderr.count("\n") == 1
    assert shell("T --help", TERM="dumb", **variables).stdout.startswith("usage: tinyalex")


def test_what_cannot_be_printed_once_is_not_tried_again(monkeypatch):
    tried = []

    class Full:
        def write(self, text):
            tried.append(text)
            raise OSError(errno.ENOSPC, "No space left on device")

        def fileno(self):
            raise OSError("no file")

    monkeypatch.setattr(sys, "stdout", Full())
    common.print_if_possible("a line")
    assert tried
