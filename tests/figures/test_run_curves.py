"""The curves of a report hold the logged data of every run, and become the same SVG each time."""

import re

import numpy as np
import pytest

from tests.figures.test_learning_curves import a_run
from tests.support.figure_checks import assert_no_overlap, texts
from tinyalex.figures.page import as_svg
from tinyalex.figures.run_curves import COLORS, run_curves
from tinyalex.report.elements import svg, text


@pytest.mark.parametrize("field, scale", [("loss", 1), ("top1_error", 100)])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_each_run_has_a_training_and_a_test_curve(field, scale, count):
    runs = [a_run(3 + number, fall=1 + 0.1 * number) for number in range(count)]
    axes = run_curves(runs, field).axes[0]
    assert len(axes.lines) == 2 * count
    for number, records in enumerate(runs):
        for event, line in zip(("epoch", "test"), axes.lines[2 * number : 2 * number + 2], strict=True):
            kept = [record for record in records if record["event"] == event]
            np.testing.assert_allclose(line.get_xdata(), [record["epoch"] for record in kept])
            np.testing.assert_allclose(line.get_ydata(), [scale * record[field] for record in kept])
            assert line.get_color() == COLORS[number % len(COLORS) if count > 1 else event == "test"]
    assert sorted(texts(axes)) == (["test", "training"] if count == 1 else [])
    assert axes.get_ylim()[0] == 0 and axes.get_xlim() == (0, 2 + count)
    assert_no_overlap(run_curves(runs, field))


@pytest.mark.parametrize("records", [[], [{"event": "saved", "epoch": 0.5, "step": 1}]])
def test_without_data_it_says_so(records):
    assert texts(run_curves([records], "loss").axes[0]) == ["no finished epoch yet"]
    assert_no_overlap(run_curves([records], "loss"))


def test_values_that_are_not_finite_leave_a_gap():
    records = a_run()
    next(record for record in records if record["event"] == "epoch")["loss"] = None
    line = run_curves([records], "loss").axes[0].lines[0]
    assert np.isnan(line.get_ydata()).tolist() == [True, False, False, False]


def test_the_svg_has_text_and_the_colours_of_the_page():
    figures = [run_curves([a_run()], "loss") for _ in range(2)]
    assert as_svg(figures[0]) == as_svg(figures[1])
    made = text(svg(figures[0], "c0", "loss over epochs"))
    assert ">Loss</text>" in made and "var(--blue)" in made and "var(--red)" in made and "#0072b2" not in made
    assert not re.search(r"xmlns|<style|<metadata|http", made) and 'aria-label="loss over epochs"' in made
    ids, used = set(re.findall(r' id="([^"]+)"', made)), set(re.findall(r'(?:href="#|url\(#)([^")]+)', made))
    assert used == ids and all(name.startswith("c0-") for name in ids)
