"""What the README says of the project, held to the project."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from tests.programs.paper_nets import NETS
from tinyalex import errors
from tinyalex.cli import main
from tinyalex.experiments import catalogue, race, report
from tinyalex.figures.race import crossing
from tinyalex.gallery import gallery
from tinyalex.network import alexnet
from tinyalex.recipes import recipe
from tinyalex.recipes.settings import Learning
from tinyalex.runs import resume, retention, run_folder
from tinyalex.training import health

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = re.findall(r"`([^`]+)`", TEXT)


def section(title):
    return TEXT.split(f"## {title}\n")[1].split("\n## ")[0]


def test_there_is_something_to_check():
    assert len(CODE) > 60 and "layers/pooling.py" in CODE


@pytest.mark.parametrize(
    "name", sorted({code for code in CODE if re.fullmatch(r"[\w./-]+\.(py|toml|md|cff|png)", code)})
)
def test_every_file_it_names_is_there(name):
    assert (ROOT / name).is_file() or (ROOT / "tinyalex" / name).is_file()


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)]+)\)", TEXT))
def test_every_link_leads_somewhere(target):
    assert (ROOT / target).is_file()


def test_the_tree_names_every_module():
    tree = section("The house")
    named = set(re.findall(r"\b(\w+)\.py\b", tree)) | set(re.findall(r"\b(\w+)/", tree))
    modules = {path.stem for path in (ROOT / "tinyalex").iterdir() if path.stem[0] not in "_." and path.stem != "py"}
    assert modules - named == set()
    assert {name for name in named if not (ROOT / "tinyalex" / name).exists()} <= modules | {
        "tests",
        "lessons",
        "site",
        "data",
        "tinyalex",
    }


def test_the_table_of_recipes_is_complete():
    rows = re.findall(r"^\| (.+?) \|", section("Recipes"), re.M)
    assert sorted(re.findall(r"`([^`]+)`", " ".join(rows))) == recipe.names()


def test_the_table_of_commands_is_complete(capsys):
    assert main(["--help"]) == 0
    said = re.findall(r"^    (\w+)", capsys.readouterr().out.split("COMMAND\n")[1], re.M)
    assert re.findall(r"^\| `tinyalex (\w+)", TEXT, re.M) == said


def test_the_pictures_and_experiments_it_names_are_all_there_are(capsys):
    pictures, experiments = section("Pictures and experiments").split("`tinyalex experiment NAME`")
    drawn, run = (set(re.findall(r"`([a-z][\w-]+)`", text)) for text in (pictures, experiments))
    assert drawn == set(gallery.NAMES)
    assert run == {catalogue.RACE, *catalogue.COMPARISONS}
    assert main(["experiment", "--help"]) == 0
    assert "(default: 5000)" in capsys.readouterr().out and "5,000 training images of the drawn set" in experiments


def test_the_recorded_figure_1_is_the_one_it_tells_of():
    told = json.loads((ROOT / "data" / "runs" / "figure1" / "result.json").read_text())
    for arm, name in zip(told["arms"], ("ReLU", "tanh"), strict=True):
        assert arm["needed"] == [pytest.approx(crossing(errors, race.GOAL)) for errors in arm["errors"]]
        assert f"{arm['needed'][0]:.2f} epochs" in TEXT and f"rate {arm['rate']:g}" in TEXT
        assert re.search(rf"{name}[^|]* after {arm['needed'][0]:.2f}", (ROOT / "data" / "README.md").read_text())
    assert told["ratio"][0] == pytest.approx(told["arms"][1]["needed"][0] / told["arms"][0]["needed"][0])
    assert f"{told['ratio'][0]:.2f} times as many" in TEXT and told["seeds"] == 1 and "50,000" in told["data"]["shown"]


def test_the_recorded_experiment_found_what_its_table_says():
    told = json.loads((ROOT / "data" / "runs" / "dropout" / "result.json").read_text())
    row = next(line for line in (ROOT / "data" / "README.md").read_text().splitlines() if "`runs/dropout/`" in line)
    for arm, words in zip(told["arms"], ("with dropout", "without"), strict=True):
        assert f"{100 * sum(arm['top1_error']) / len(arm['top1_error']):.2f} % {words}" in row
    assert "more overfitting; these runs do not show it" in report.text(told)


def test_what_it_says_of_a_run_of_days(capsys):
    text = " ".join(section("A run of days").split())
    assert main(["train", "--help"]) == 0
    options = capsys.readouterr().out
    named = re.findall(r"`(--[\w-]+)`", text)
    assert len(set(named)) == 5 and all(option in options for option in named)
    assert f"every {resume.SAVE_EVERY / 60:g} minutes" in text and retention.NEWEST == 2
    assert f"told after {health.STALL_WARNING:,} images" in text and f"after {health.STALL_END:,}." in text
    assert {key.split(".")[0] for key in resume.CHANGEABLE} == {"learning", "net"}
    learning = {f"learning.{each.name}" for each in fields(Learning)}
    assert learning - resume.CHANGEABLE == {"learning.batch"} and resume.CHANGEABLE - learning == {"net.convolution"}
    for script in re.findall(r"python -m tests\.(\w+)", text):
        assert (ROOT / "tests" / f"{script}.py").is_file()


def test_the_exit_codes_are_those_of_the_errors():
    codes = {each.exit_code for each in vars(errors).values() if isinstance(each, type)} - {1}
    line = TEXT.split("the exit codes are ")[1].split(".")[0]
    assert {int(number) for number in re.findall(r"\d+", line)} == codes


@pytest.mark.parametrize("code", [code for code in CODE if " --set net." in code or ' --set "net.' in code])
def test_every_switch_it_shows_makes_a_net(code):
    name = code.split()[code.startswith("tinyalex") * 2]
    made = recipe.load(name, re.findall(r'--set "?([^"]+?)"?(?= --|$)', code))
    assert made != recipe.load(name)
    alexnet.describe(made.net, made.init)


def test_the_table_of_other_nets_has_their_counts():
    shown = re.findall(r"^\| .* \| .*net\..* \| ([\d, ]+) \|$", section("Recipes"), re.M)
    counts = [f"{net.parameters:,}" for net in NETS.values() if net.overrides]
    assert ", ".join(shown).split(", ") == counts
    for name in ("one-gpu", "six-conv"):
        (line,) = re.findall(rf"^\| `{name}` \| (.*) \|$", section("Recipes"), re.M)
        assert f"{next(net.parameters for net in NETS.values() if net[:2] == (name, ())):,} parameters" in line


def test_every_section_of_the_paper_has_its_row():
    rows = re.findall(r"^\| (?:§([\d.]+)|(footnote \d))", section("The paper, section by section"), re.M)
    found = [a or b for a, b in rows]
    wanted = {"2", "3", "3.1", "3.2", "3.3", "3.4", "3.5", "4.1", "4.2", "5", "6", "6.1", "7"}
    assert set(found) == wanted | {f"footnote {n}" for n in (2, 3, 4, 5)}


@pytest.mark.parametrize("name", ["shapes", "cifar10-relu", "tiny-imagenet"])
def test_the_recorded_runs_are_those_of_their_table(name):
    folder = ROOT / "data" / "runs" / name
    last = [record for record in run_folder.read_log(folder) if record["event"] == "test"][-1]
    row = next(line for line in (ROOT / "data" / "README.md").read_text().splitlines() if f"`runs/{name}/`" in line)
    assert f"{last['top1_error']:.2%}".replace("%", " %") + f" after {last['epoch']:.0f} epochs" in row
    assert "top-5" not in row or f"top-5 {last['top5_error']:.2%}".replace("%", " %") in row
    recorded, shipped = recipe.load(folder / "recipe.toml"), recipe.load(name)
    assert recorded.learning == shipped.learning and recorded.init == shipped.init
    assert replace(recorded.data, set="") == replace(shipped.data, set="")
    if name == "shapes":  # the run that the README tells of
        assert f"{last['top1_error']:.2%}".replace("%", " %") in TEXT


def test_the_logs_of_figure_1_are_those_of_its_result():
    for arm in json.loads((ROOT / "data/runs/figure1/result.json").read_text())["arms"]:
        lines = (ROOT / "data/runs/figure1" / arm["name"] / "log.jsonl").read_text().splitlines()
        errors = [each["top1_error"] for each in map(json.loads, lines) if each["event"] == "epoch"]
        assert errors == arm["errors"][0] and min(errors[:-1]) > 0.25 >= errors[-1]
