"""The lessons run, in a process of their own as a learner runs them, and what their text says is what they print."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tinyalex.recipes import recipe

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "lessons").glob("[0-9][0-9]_*.py"))
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in LESSONS}
FIELDS = ("Question", "Paper", "At the end", "Takes", "Run")


def field(name, which):
    return re.search(rf"^:{which}: (.+(?:\n    .+)*)", TEXTS[name], re.M)[1]


def seconds(name):
    """What the header says that the lesson takes."""
    return int(re.match(r"(\d+) s on two cores", field(name, "Takes"))[1])


def prose(name):
    """The docstring and the comment blocks that open each cell."""
    docstring, code = TEXTS[name].split('"""')[1], TEXTS[name].split('"""', 2)[2]
    cells = [re.match(r"\n(?:#.*\n)*", cell)[0] for cell in code.split("\n# %%")[1:]]
    return docstring + "\n".join(re.sub(r"^# ?", "", cell, flags=re.M) for cell in cells)


PARAMETERS = [pytest.param(name, marks=[pytest.mark.lessons] if seconds(name) > 5 else []) for name in TEXTS]


def test_there_are_seventeen():
    assert [name[:2] for name in TEXTS] == [f"{number:02d}" for number in range(1, 18)]


@pytest.mark.parametrize("name", TEXTS)
def test_a_lesson_says_what_it_is(name):
    first, line = TEXTS[name].split("\n")[1:3]
    assert first.startswith(f"Lesson {int(name[:2])}: ") and line == "=" * len(first)
    for which in FIELDS:
        assert field(name, which)
    assert "§" in field(name, "Paper")
    assert field(name, "Run") == f"``python lessons/{name}.py``"
    assert seconds(name) <= 45 and "45 seconds at most" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TEXTS)
def test_a_lesson_is_a_lesson(name):
    text = TEXTS[name]
    assert 90 <= len(text.splitlines()) <= 260
    assert "assert " in text and f'keep(figure, "{name}")' in text
    assert re.search(r"^from tinyalex", text, re.M), "a lesson proves the package"
    assert text.count("\n# %%\n") >= 5
    for heading in ("Try", "Exercise"):
        assert f"\n# {heading}\n# {'-' * len(heading)}\n" in text
    assert len(re.findall(r"^# - ", text.split("\n# Try\n")[1].split("\n# Exercise\n")[0], re.M)) >= 2


@pytest.mark.parametrize("name", TEXTS)
def test_headings_are_underlined_to_their_length(name):
    for title, line in re.findall(r"^# (.+)\n# (-{3,})$", TEXTS[name], re.M):
        assert len(title) == len(line), title


def run(name, folder):
    """Run a copy, so that what it leaves does not depend on what was there."""
    lessons = folder / "lessons"
    lessons.mkdir()
    for each in ("shared.py", "small.toml", "measured.json", f"{name}.py"):
        (lessons / each).symlink_to(ROOT / "lessons" / each)
    (folder / "data").symlink_to(ROOT / "data")
    code = (
        f"import runpy, shared; shared.OUT = shared.Path({str(folder / 'out')!r}); "
        f"runpy.run_path({name + '.py'!r}, run_name='__main__')"
    )
    env = os.environ | {"PYTHONPATH": f"{lessons}{os.pathsep}{ROOT}"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=lessons, env=env, capture_output=True, text=True, timeout=580
    )


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_lesson_runs_and_its_numbers_came_out(name, tmp_path):
    done = run(name, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    picture = tmp_path / "out" / f"{name}.png"
    assert picture.stat().st_size > 20_000
    for number in re.findall(r"\*\*([\d,.]+ ?%?)\*\*", prose(name)):
        assert re.search(rf"(?<![\d.,]){re.escape(number)}(?![\d%])", done.stdout), (
            f"{number} is in the text, not in the output"
        )


def test_numbers_in_the_text_are_looked_for_in_the_output():
    found = {name: re.findall(r"\*\*([\d,.]+ ?%?)\*\*", prose(name)) for name in TEXTS}
    assert sum(len(numbers) > 0 for numbers in found.values()) >= 10
    assert "60,965,224" in found["10_network"] and "7.1" in found["01_convolution"]


def test_the_small_net_is_a_recipe_that_trains_by_its_name(tmp_path):
    path = ROOT / "lessons" / "small.toml"
    assert tomllib.loads(path.read_text())["net"] == {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in vars(recipe.load(path).net).items()
        if key in tomllib.loads(path.read_text())["net"]
    }


def test_a_lesson_that_is_wrong_fails(tmp_path):
    (tmp_path / "lessons").mkdir()
    broken = TEXTS["10_network"].replace(
        "parameters[name] = k * k * depth * maps + maps", "parameters[name] = k * k * depth * maps", 1
    )
    assert broken != TEXTS["10_network"]
    path = tmp_path / "10_network.py"
    path.write_text(broken, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": f"{ROOT / 'lessons'}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, str(path)], env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "AssertionError" in done.stderr
