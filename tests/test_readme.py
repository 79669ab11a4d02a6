"""Every claim of README.md, compared with the code, the recorded runs and BENCHMARKS.md."""

import configparser
import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from PIL import Image

from tests.programs.paper_nets import NETS
from tinyalex import errors
from tinyalex.cli import main
from tinyalex.datasets import shapes
from tinyalex.experiments import catalogue, race, rate, report
from tinyalex.figures.race import crossing
from tinyalex.gallery import gallery
from tinyalex.network import alexnet
from tinyalex.recipes import recipe
from tinyalex.recipes.settings import _OF_ALEXNET, Learning
from tinyalex.runs import resume, retention, run_folder
from tinyalex.training import health
from tinyalex.training.loop import Training

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
LINE = " ".join(TEXT.split())  # without line breaks, to look for phrases
CODE = re.findall(r"`([^`]+)`", TEXT)


def section(title):
    return TEXT.split(f"## {title}\n")[1].split("\n## ")[0]


def test_supported_versions():
    """README and setup.cfg name the same oldest Python, and every package has an oldest version."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    oldest = config["options"]["python_requires"].removeprefix(">=")
    assert f"Python {oldest} or later" in LINE
    versions = re.findall(r"Python :: (3\.\d+)", config["metadata"]["classifiers"])
    assert versions == [f"3.{minor}" for minor in range(int(oldest[2:]), int(oldest[2:]) + len(versions))]
    for requirement in config["options"]["install_requires"].split():
        assert re.fullmatch(r"\w+>=[\d.]+", requirement), requirement


def test_there_are_names_to_check():
    assert len(CODE) > 60 and "layers/pooling.py" in CODE


@pytest.mark.parametrize(
    "name", sorted({code for code in CODE if re.fullmatch(r"[\w./-]+\.(py|toml|md|cff|png)", code)})
)
def test_every_file_that_it_names_exists(name):
    assert (ROOT / name).is_file() or (ROOT / "tinyalex" / name).is_file()


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "tests/README.md"])
def test_files_that_the_other_documents_name_exist(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    names = re.findall(r"`([\w./-]+(?:\.py|\.md|\.cfg|/))`", text)
    assert len(names) > 8
    for name in names:
        if "NAME" not in name and "NN_" not in name:
            assert any((ROOT / folder / name).exists() for folder in ("", "tinyalex", "tests", "tests/support")), name


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)]+)\)", TEXT))
def test_every_link_has_its_target(target):
    assert target.startswith("https://papers.nips.cc/") or (ROOT / target).is_file()


def map_entries():
    """Return the map's ``{path: text}``, a folder or file of the package each, in the order of the map."""
    entries, folders = {}, []
    for indent, name, text in re.findall(r"^( {4,10})([\w/.]+) *(.*(?:\n {20,}.*)*)", section("The map"), re.M):
        folders = [*folders[: len(indent) // 2 - 2], name]
        entries["".join(folders)] = text
    return entries


def test_map_names_every_folder_and_top_level_file_of_the_package():
    package = ROOT / "tinyalex"
    folders = {f"{path.parent.relative_to(ROOT).as_posix()}/" for path in package.rglob("__init__.py")}
    files = {f"tinyalex/{path.name}" for path in package.glob("*.py") if path.name[0] != "_"} - {"tinyalex/cli.py"}
    assert {path for path in map_entries() if path.startswith("tinyalex/")} == folders | files
    assert "cli.py" in map_entries()["tinyalex/commands/"]


def test_map_names_files_that_exist_in_their_folders():
    count = 0
    for path, text in map_entries().items():
        for name in re.findall(r"\b([\w/.]+\.(?:py|md))\b", text):
            assert any((ROOT / folder / name).is_file() for folder in (path, "tinyalex", "")), f"{path}: {name}"
            count += 1
    assert count > 30


def test_map_lists_a_folder_below_all_that_it_imports():
    order = [re.sub(r"/$|\.py$", "", path).split("/")[1] for path in map_entries() if re.match("tinyalex/.", path)]
    for file in (ROOT / "tinyalex").rglob("*.py"):
        own = file.relative_to(ROOT / "tinyalex").parts[0].removesuffix(".py")
        text = file.read_text(encoding="utf-8")
        found = set(re.findall(r"^ *from tinyalex\.(\w+)", text, re.M))
        for line in re.findall(r"^ *from tinyalex import \(?([\w, ]+)", text, re.M):
            found |= {word for word in line.split(", ") if word in order}
        for other in (found - {own}) & set(order) if own in order else ():
            assert order.index(other) < order.index(own), f"{file} imports {other}"


def test_table_of_recipes_is_complete():
    rows = re.findall(r"^\| (.+?) \|", section("Recipes").split("| keys of `net` |")[0], re.M)
    assert sorted(re.findall(r"`([^`]+)`", " ".join(rows))) == recipe.names()


def test_table_of_switches_names_keys_of_the_net():
    rows = re.findall(r"^\| (.+?) \|", section("Recipes").split("| keys of `net` |")[1], re.M)
    assert set(re.findall(r"`([^`]+)`", " ".join(rows))) == {*_OF_ALEXNET}


def test_table_of_commands_is_complete(capsys):
    assert main(["--help"]) == 0
    commands = re.findall(r"^    (\w+)", capsys.readouterr().out.split("COMMAND\n")[1], re.M)
    assert re.findall(r"^\| `tinyalex (\w+)", TEXT, re.M) == commands


def test_it_names_all_pictures_and_experiments(capsys):
    pictures, experiments = section("Pictures and experiments").split("`tinyalex experiment NAME`")
    drawn, run = (set(re.findall(r"`([a-z][\w-]+)`", text)) for text in (pictures, experiments))
    assert drawn == set(gallery.NAMES)
    assert run == {catalogue.RACE, *catalogue.COMPARISONS}
    assert main(["experiment", "--help"]) == 0
    assert "(default: 5000)" in capsys.readouterr().out and "use 5,000 training images of the drawn set" in LINE


def test_recorded_figure_1_is_the_one_it_reports():
    result = json.loads((ROOT / "data" / "runs" / "figure1" / "result.json").read_text())
    for arm, name in zip(result["arms"], ("ReLU", "tanh"), strict=True):
        assert arm["needed"] == [pytest.approx(crossing(errors, race.GOAL)) for errors in arm["errors"]]
        assert f"{arm['needed'][0]:.2f} epochs" in LINE and f"rate {arm['rate']:g}" in LINE
        assert re.search(rf"{name}[^|]* after {arm['needed'][0]:.2f}", (ROOT / "data" / "README.md").read_text())
    assert result["ratio"][0] == pytest.approx(result["arms"][1]["needed"][0] / result["arms"][0]["needed"][0])
    assert (
        f"{result['ratio'][0]:.2f} times as many" in LINE
        and result["seeds"] == 1
        and "50,000" in result["data"]["shown"]
    )


def test_recorded_experiment_has_the_result_of_its_table():
    result = json.loads((ROOT / "data" / "runs" / "dropout" / "result.json").read_text())
    row = next(line for line in (ROOT / "data" / "README.md").read_text().splitlines() if "`runs/dropout/`" in line)
    for arm, words in zip(result["arms"], ("with dropout", "without"), strict=True):
        assert f"{100 * sum(arm['top1_error']) / len(arm['top1_error']):.2f} % {words}" in row
    assert "more overfitting; these runs do not show it" in report.text(result)


def test_section_on_a_run_of_days(capsys):
    text = " ".join(section("A run of days").split())
    assert main(["train", "--help"]) == 0
    options = capsys.readouterr().out
    named = re.findall(r"`(--[\w-]+)`", text)
    assert len(set(named)) == 5 and all(option in options for option in named)
    assert f"every {resume.SAVE_EVERY / 60:g} minutes" in text and retention.NEWEST == 2
    assert f"guessing after {health.STALL_WARNING:,} images, you are warned" in text
    assert f"after {health.STALL_END:,} images the run is saved and ended" in text
    assert {key.split(".")[0] for key in resume.CHANGEABLE} == {"learning", "net"}
    learning = {f"learning.{each.name}" for each in fields(Learning)}
    assert learning - resume.CHANGEABLE == {"learning.batch", "learning.parts"} and resume.CHANGEABLE - learning == {
        "net.convolution",
        "net.precision",
    }
    programs = re.findall(r"python -m tests\.programs\.(\w+)", text)
    assert len(programs) == 5 and all((ROOT / "tests" / "programs" / f"{name}.py").is_file() for name in programs)


def test_speed_beside_pytorch_is_the_recorded_one():
    """The ratios of the first screen stand in BENCHMARKS.md: of all recipes for a CPU, and of the step on a GPU."""
    tables = (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8")
    gpu = tables.split("**Training step")[-1]
    row = re.search(r"^\| `paper` \| 128 \| [\d,.]+ \| [\d,.]+ \| ([\d.]+) \|.*compiled", tables, re.M)
    on_cpu = float(row[1])
    on_gpu = float(re.search(r"^\| tinyalex, TF32 \| [\d,.]+ \| [\d,]+ \| ([\d.]+) \|", gpu, re.M)[1])
    assert f"is {on_cpu:.1f} times as fast as that of compiled PyTorch on two CPU cores, and" in LINE
    assert f"and {on_gpu:.1f} times as fast as that of PyTorch without compilation on an H200" in LINE


def test_old_names_of_recipe_keys_are_read():
    text = " ".join(section("Recipes").split())
    new = [key.split(".")[-1] for key in recipe.OLD_NAMES.values()]
    assert len(new) == 4 and all(f"`{key}`" in text for key in new) and "had other names in earlier versions" in text


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "bench"])
def test_option_no_kernels(command, capsys):
    assert "`train`, `evaluate`, `predict` and `bench` take `--no-kernels`" in LINE
    assert main([command, "--help"]) == 0
    assert "--no-kernels" in capsys.readouterr().out


def test_three_lines_of_python_classify_a_photograph(tmp_path, monkeypatch):
    """They run as they stand there, on a run with initial weights and a photograph of another size."""
    training = Training(recipe.load("shapes", ["net.maps=[4,4,4,4,4]", "net.hidden=8"]), shapes.load(0, 12, 12))
    run_folder.save(training, tmp_path / "runs" / "mine")
    Image.new("RGB", (80, 60), "brown").save(tmp_path / "photo.jpg")
    lines = re.findall(r"(?m)^    ((?:import|net|classes).*)$", section("From photographs to answers"))
    assert len(lines) == 3
    monkeypatch.chdir(tmp_path)
    found = {}
    exec("\n".join(lines), found)
    assert sorted(found["classes"]) == sorted(shapes.CLASSES)
    assert found["probabilities"].sum() == pytest.approx(1, rel=1e-5)


def test_section_on_photographs(capsys):
    text = " ".join(section("From photographs to answers").split())
    assert f"in {rate.STEPS} steps" in text and (rate.RANGE, rate.PART) == (100, 3)
    assert "from a hundredth of the recipe's to a hundred times it" in text and "suggests a third of the rate" in text
    for command in ("predict", "export", "evaluate"):
        main([command, "--help"])
        printed = " ".join(capsys.readouterr().out.split())
        assert "--best" in printed and "--last" in printed
        by_default = "the last if none was (default)" if command != "evaluate" else "take the last checkpoint (default)"
        assert by_default in printed


def test_page_of_numpy_is_as_long_as_it_says():
    assert "150 lines of NumPy" in LINE
    page = (ROOT / "lessons" / "alexnet.py").read_text(encoding="utf-8")
    assert len(page.splitlines()) <= 150 and "import tinyalex" not in page and "from tinyalex" not in page


def test_exit_codes_are_those_of_the_errors():
    codes = {each.exit_code for each in vars(errors).values() if isinstance(each, type)} - {1}
    line = LINE.split("the exit codes are ")[1].split(".")[0]
    assert {int(number) for number in re.findall(r"\d+", line)} == codes


@pytest.mark.parametrize("code", [code for code in CODE if " --set net." in code or ' --set "net.' in code])
def test_every_switch_that_it_shows_makes_a_net(code):
    name = code.split()[code.startswith("tinyalex") * 2]
    made = recipe.load(name, re.findall(r'--set "?([^"]+?)"?(?= --|$)', code))
    assert made != recipe.load(name)
    alexnet.describe(made.net, made.init)


def test_table_of_other_nets_has_their_parameter_counts():
    shown = re.findall(r"^\| .* \| .*net\..* \| ([\d, ]+) \|$", section("Recipes"), re.M)
    counts = [f"{net.parameters:,}" for net in NETS.values() if net.overrides]
    assert ", ".join(shown).split(", ") == counts
    for name in ("one-gpu", "six-conv"):
        (line,) = re.findall(rf"^\| `{name}` \| (.*) \|$", section("Recipes"), re.M)
        assert f"{next(net.parameters for net in NETS.values() if net[:2] == (name, ())):,} parameters" in line


def test_every_section_of_the_paper_has_a_row():
    rows = re.findall(r"^\| (?:§([\d.]+)|(footnote \d))", section("The paper, section by section"), re.M)
    found = [a or b for a, b in rows]
    wanted = {"2", "3", "3.1", "3.2", "3.3", "3.4", "3.5", "4.1", "4.2", "5", "6", "6.1", "7"}
    assert set(found) == wanted | {f"footnote {n}" for n in (1, 2, 3, 4, 5)}


@pytest.mark.parametrize("name", ["shapes", "cifar10-relu", "tiny-imagenet"])
def test_recorded_runs_have_the_results_of_their_table(name):
    folder = ROOT / "data" / "runs" / name
    last = [record for record in run_folder.read_log(folder) if record["event"] == "test"][-1]
    row = next(line for line in (ROOT / "data" / "README.md").read_text().splitlines() if f"`runs/{name}/`" in line)
    assert f"{last['top1_error']:.2%}".replace("%", " %") + f" after {last['epoch']:.0f} epochs" in row
    assert "top-5" not in row or f"top-5 {last['top5_error']:.2%}".replace("%", " %") in row
    recorded, shipped = recipe.load(folder / "recipe.toml"), recipe.load(name)
    assert recorded.learning == shipped.learning and recorded.init == shipped.init
    assert replace(recorded.data, set="") == replace(shipped.data, set="")
    if name == "shapes":  # the run that README describes
        assert f"{last['top1_error']:.2%}".replace("%", " %") in TEXT


def test_logs_of_figure_1_have_the_errors_of_its_result():
    for arm in json.loads((ROOT / "data/runs/figure1/result.json").read_text())["arms"]:
        lines = (ROOT / "data/runs/figure1" / arm["name"] / "log.jsonl").read_text().splitlines()
        errors = [each["top1_error"] for each in map(json.loads, lines) if each["event"] == "epoch"]
        assert errors == arm["errors"][0] and min(errors[:-1]) > 0.25 >= errors[-1]
