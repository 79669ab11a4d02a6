"""Learning curves: the lines hold the logged data, and drops of the learning rate are marked."""

import numpy as np
import pytest

from tests.support.figure_checks import assert_no_overlap, texts
from tinyalex import figures


def record(event, epoch, loss, error, rate=0.01):
    fifth = None if error is None else error / 5
    return {"event": event, "epoch": epoch, "loss": loss, "top1_error": error, "top5_error": fifth, "rate": rate}


def a_run(epochs=4, drops=(2,), fall=1.0):
    records = [{"event": "start", "time": 0.0, "epoch": 0.0, "step": 0}]
    for epoch in range(1, epochs + 1):
        rate = 0.01 * 0.1 ** sum(epoch > drop for drop in drops)
        for part in (0.25, 0.5, 0.75, 1.0):
            now = epoch - 1 + part
            records.append(record("train", now, 2.1 / (now + 1) ** fall, 0.8 / (now + 1), rate))
        records.append(record("epoch", float(epoch), 2.0 / epoch**fall, 0.8 / epoch, rate))
        records.append(record("test", float(epoch), 2.2 / epoch**fall, 0.9 / epoch, rate))
    return records


def line(axes, label):
    return next(line for line in axes.lines if line.get_label() == label)


def verticals(axes):
    return sorted({line.get_xdata()[0] for line in axes.lines if list(line.get_ydata()) == [0, 1]})


def test_curves_hold_the_logged_data():
    records = a_run()
    loss, error = figures.curves(records).axes
    for event, field, axes, label, scale in [
        ("epoch", "loss", loss, "train", 1),
        ("test", "loss", loss, "test", 1),
        ("train", "loss", loss, "_running", 1),
        ("epoch", "top1_error", error, "train top-1", 100),
        ("test", "top1_error", error, "test top-1", 100),
        ("test", "top5_error", error, "test top-5", 100),
        ("train", "top1_error", error, "_running", 100),
    ]:
        logged = [(r["epoch"], scale * r[field]) for r in records if r["event"] == event]
        np.testing.assert_allclose(line(axes, label).get_xydata(), logged, err_msg=label)
    assert line(error, "test top-5").is_dashed() and not line(error, "test top-1").is_dashed()
    assert "test top-1  22.5 %" in texts(error)
    assert "test top-5  4.5 %" in texts(error)


def test_curves_mark_where_the_rate_drops():
    for axes in figures.curves(a_run(6, drops=(2, 4))).axes:
        assert verticals(axes) == [2.0, 4.0]
        assert {"rate 0.001", "0.0001"} <= set(texts(axes))


def test_curves_mark_no_drop_on_a_cosine():
    records = [record("train", e / 10, 1.0, 0.5, 0.005 * (1 + np.cos(np.pi * e / 40))) for e in range(1, 41)]
    assert verticals(figures.curves(records).axes[0]) == []


def test_curves_of_a_resumed_run_show_the_later_records():
    records = [record("test", 1.0, 5, 0.5), record("test", 2.0, 5, 0.4), record("test", 3.0, 9, 0.9)]
    resumed = [*records, record("test", 2.0, 4, 0.3), record("test", 3.0, 3, 0.2)]
    assert line(figures.curves(resumed).axes[0], "test").get_xydata().tolist() == [[1, 5], [2, 4], [3, 3]]


def test_loss_axis_is_logarithmic_if_the_loss_falls_far():
    assert figures.curves(a_run(10, fall=2.0)).axes[0].get_yscale() == "log"
    assert figures.curves(a_run(3)).axes[0].get_yscale() == "linear"


def diverged():
    return [record("epoch", e, value, 0.9) for e, value in enumerate([2.3, 1e9, float("inf"), float("nan"), None], 1)]


def test_curves_leave_a_gap_where_the_loss_is_not_finite():
    loss = figures.curves(diverged()).axes[0]
    np.testing.assert_array_equal(line(loss, "train").get_ydata(), [2.3, 1e9, np.nan, np.nan, np.nan])
    assert loss.get_title("right") == "not finite from epoch 3"


@pytest.mark.parametrize(
    "records",
    {
        "nothing": [],
        "started": [{"event": "start", "epoch": 0.0}],
        "one epoch": a_run(1),
        "in the first epoch": a_run(1)[:4],
        "no test": [r for r in a_run(3) if r["event"] != "test"],
        "ninety epochs": a_run(90, drops=(25, 51, 79)),
        "drops close together": a_run(90, drops=(80, 82, 84)),
        "diverged": diverged(),
        "never finite": [record("train", 0.5, float("nan"), None)],
        "no errors": [record("epoch", float(e), 1.0, 0.0) for e in range(1, 5)],
        "all wrong": [record("test", float(e), 6.9, 1.0) for e in range(1, 5)],
        "steep": a_run(10, fall=6.0),
    }.items(),
    ids=lambda case: case[0],
)
def test_curve_texts_do_not_overlap(records):
    assert_no_overlap(figures.curves(records[1]))
