"""The exercises fail until they are done, pass with a right answer, and fail with typical wrong answers."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.exercise_answers import ANSWERS
from tinyalex.errors import ShapeError

ROOT = Path(__file__).parents[2]
EXERCISES = ROOT / "lessons" / "exercises"
FILES = {int(path.name[2:4]): path for path in sorted(EXERCISES.glob("ex*.py"))}


def exercise(number, functions=None):
    """Load an exercise, replace the functions that the reader is to write, and return its test function."""
    spec = importlib.util.spec_from_file_location(FILES[number].stem, FILES[number])
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(EXERCISES))  # as pytest does, for returned.py
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(EXERCISES))
    for name, function in (functions or {}).items():
        assert hasattr(module, name)
        setattr(module, name, function)
    (check,) = [value for name, value in vars(module).items() if name.startswith("test_")]
    return check


def test_every_lesson_has_an_exercise_and_every_exercise_has_answers():
    lessons = {int(path.name[:2]): path for path in (ROOT / "lessons").glob("[0-9][0-9]_*.py")}
    assert FILES.keys() == ANSWERS.keys() == lessons.keys() | {0}  # lesson 1 has exercise 0 too
    lessons[0] = lessons[1]
    for number, path in lessons.items():
        text = path.read_text(encoding="utf-8")
        assert f"lessons/exercises/{FILES[number].name}" in text and f"pytest -m ex{number:02d}" in text


@pytest.mark.parametrize("number", FILES)
def test_an_exercise_that_is_not_done_fails_with_what_to_write(number):
    with pytest.raises(NotImplementedError, match=r"^write \w+"):
        exercise(number)()


@pytest.mark.parametrize("number", FILES)
def test_a_right_answer_passes(number):
    exercise(number, ANSWERS[number][0])()


def test_every_exercise_is_tested_with_at_least_three_mistakes():
    assert all(len(wrong) >= 3 for _, wrong in ANSWERS.values())


@pytest.mark.parametrize("number, mistake", [(number, name) for number in ANSWERS for name in ANSWERS[number][1]])
def test_a_wrong_answer_fails_with_a_message(number, mistake):
    right, wrong = ANSWERS[number]
    with pytest.raises((AssertionError, ShapeError, pytest.fail.Exception)) as caught:
        exercise(number, right | wrong[mistake])()
    assert len(str(caught.value).splitlines()[0]) > 15


def spoiled(function, how):
    """Return a function whose result is that of ``function``, spoiled: none, of another shape, or of another type."""

    def call(*arguments):
        value = function(*arguments)
        if how == "none":
            return None
        if how == "shape":
            return [value] if np.ndim(value) == 0 else value[..., :-1] if hasattr(value, "shape") else value[:-1]
        return value.astype(str) if hasattr(value, "shape") else str(value)

    return call


SPOILED = {"none": "returned None: does it end", "shape": "returned .*; return ", "type": "return.*; return "}


@pytest.mark.parametrize("how", SPOILED)
@pytest.mark.parametrize("number, name", [(n, name) for n in ANSWERS for name in ANSWERS[n][0] if n != 18])
def test_an_answer_of_the_wrong_kind_is_told_in_one_line(number, name, how):
    right = ANSWERS[number][0]
    with pytest.raises(pytest.fail.Exception, match=rf"^{name} .*{SPOILED[how]}") as caught:
        exercise(number, right | {name: spoiled(right[name], how)})()
    assert "\n" not in str(caught.value) and not caught.value.pytrace


def pytest_run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}, capture_output=True, text=True,
    )  # fmt: skip


def test_the_command_in_the_lessons_runs_one_exercise():
    done = pytest_run("-m", "ex04")
    assert done.returncode == 1 and re.search(r"\b1 failed, \d+ deselected", done.stdout), done.stdout[-800:]
    report = done.stdout.split("test_lrn_backward ___")[1].split("short test summary")[0].strip("_=\n ")
    assert report.startswith("ex04_lrn.py: write lrn_backward: ") and len(report.splitlines()) == 1


def test_a_wrong_answer_is_reported_by_its_message_alone(tmp_path):
    for name in ("conftest.py", "returned.py", "ex03_abs_tanh.py"):
        shutil.copy(EXERCISES / name, tmp_path)
    path = tmp_path / "ex03_abs_tanh.py"
    right = 'raise NotImplementedError("write abs_tanh: the absolute value of tanh(x)")'
    for answer, shown in (
        ("return abs(x)", "abs_tanh(x) is not |tanh(x)|"),
        ("return None", "abs_tanh returned None: "),
    ):
        path.write_text((EXERCISES / "ex03_abs_tanh.py").read_text(encoding="utf-8").replace(right, answer))
        done = pytest_run("-c", str(ROOT / "setup.cfg"), "--rootdir", str(tmp_path), "-m", "ex03", str(tmp_path))
        assert done.returncode == 1, done.stdout[-800:]
        report = done.stdout.split("test_abs_tanh ___")[1].split("short test summary")[0].strip("_=\n ")
        assert report.startswith(shown) and len(report.splitlines()) == 1
    path.write_text((EXERCISES / "ex03_abs_tanh.py").read_text(encoding="utf-8").replace(right, "return 1 / 0"))
    done = pytest_run("-c", str(ROOT / "setup.cfg"), "--rootdir", str(tmp_path), "-m", "ex03", str(tmp_path))
    assert "return 1 / 0" in done.stdout and "ZeroDivisionError" in done.stdout


def test_other_test_runs_leave_the_exercises_out():
    done = pytest_run("lessons/exercises")
    assert done.returncode == 5 and f"{len(FILES)} deselected" in done.stdout, done.stdout[-800:]
