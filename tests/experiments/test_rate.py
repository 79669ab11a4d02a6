"""The learning-rate range test: its rates, its suggestion, and that a test that was stopped is resumed."""

import json
import math
import signal

import numpy as np
import pytest

from tests.support.small_runs import pressed, quiet, small, stripes
from tinyalex import figures
from tinyalex.cli import main
from tinyalex.errors import Interrupted, UsageError
from tinyalex.experiments import rate
from tinyalex.recipes import recipe
from tinyalex.training import loop


def made(*settings, **learning):
    return recipe.with_classes(small(*settings, **learning), 2)


def test_rates_rise_by_the_same_factor_around_the_recipes():
    rates = rate.rates_of(0.03, 41)
    assert (rates[0], rates[20], rates[-1]) == pytest.approx((0.0003, 0.03, 3))
    np.testing.assert_allclose(np.diff(np.log(rates)), np.log(1e4) / 40, rtol=1e-4)
    with pytest.raises(UsageError, match="^--steps 9: too few to see a curve"):
        rate.rates_of(0.03, 9)


def test_each_step_has_its_rate():
    """Also over the end of an epoch, six steps here, and with the recipe's multiples for biases and layers."""
    phase = "learning.phases=[{epoch = 0, rate = 0.03, bias_rate = 0.06, lr_mult = {conv1 = 0}}]"
    learning = made(phase, schedule="phases")
    rates = rate.rates_of(0.03, 14)
    rising = rate.rising(learning, rates, 6)
    training = loop.Training(rising, stripes())
    for step, wanted in enumerate(rates):
        training.step = step
        found = training.rates
        assert (found.rate, found.bias_rate, found.lr_mult) == (wanted, pytest.approx(2 * wanted), {"conv1": 0.0})
    cosine = rate.rising(made(schedule="cosine", warmup=1, stop_after=1), rates, 6)
    assert (cosine.learning.warmup, cosine.learning.epochs, cosine.learning.stop_after) == (0, 3, 0)


def test_the_running_mean_is_not_pulled_towards_zero():
    assert rate.smoothed([2.0] * 5) == pytest.approx([2.0] * 5)
    means = rate.smoothed([1.0, 0.0])
    assert means == pytest.approx([1.0, 0.09 / 0.19])


def test_the_suggestion_is_a_third_of_the_rate_with_the_lowest_loss():
    rates = np.geomspace(1e-3, 10, 101).tolist()
    curve = [2.3 - 1.5 * math.exp(-(np.log10(r / 0.3) ** 2) * 8) for r in rates]
    suggested, lowest = rate.suggestion(rates, curve)
    assert lowest == pytest.approx(0.3, rel=0.05) and suggested == pytest.approx(lowest / 3, rel=0.05)
    assert rate.suggestion(rates, [2.3] * 101) == (None, None)
    assert rate.suggestion(rates, np.linspace(2.3, 9, 101)) == (None, None)
    assert rate.suggestion(rates, 2.3 - 0.01 * np.sin(np.arange(101))) == (None, None)  # noise


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("rate")
    return out, rate.rate_test(made(), stripes(), out, 2, ["cpu"], 60, quiet)


def test_a_net_that_learns_gets_a_suggestion(whole):
    _, found = whole
    assert len(found["losses"]) == 2 and found["losses"][0] != found["losses"][1]
    assert found["rates"][0] < found["suggested"] < found["rates"][-1]
    assert min(found["mean"]) < 0.9 * found["mean"][0]
    assert found["losses"][0][0] == pytest.approx(math.log(2), rel=0.2)
    length = min(map(len, found["losses"]))
    assert found["mean"] == pytest.approx(np.mean([each[:length] for each in found["means"]], axis=0).tolist())
    json.dumps(found)


def test_training_at_the_suggested_rate_learns_better_than_at_a_hundredth(whole):
    suggested = whole[1]["suggested"]

    def loss(learning_rate):
        training = loop.Training(made("learning.schedule=phases", rate=learning_rate, epochs=4), stripes())
        for _ in range(4):
            losses = [metrics.read()[0] for metrics in training.train_steps(training.batches())]
        return np.mean(losses)

    assert loss(suggested) < 0.9 * loss(suggested / 100)


def test_a_finished_test_is_not_repeated(whole, monkeypatch):
    out, found = whole
    monkeypatch.setattr(loop.Training, "train_step", None)
    assert rate.rate_test(made(), stripes(), out, 2, ["cpu"], 60, quiet) == found
    assert not list(out.glob("*/checkpoint-*"))


@pytest.mark.parametrize("step", [1, 6, 17])
def test_a_test_that_is_stopped_has_the_same_losses(whole, tmp_path, monkeypatch, step):
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match=f"stopped at step {step} of 60"):
        pressed(patch, signal.SIGINT, step)
        rate.rate_test(made(), stripes(), tmp_path, 1, ["cpu"], 60, quiet)
    found = rate.rate_test(made(), stripes(), tmp_path, 1, ["cpu"], 60, quiet)
    assert found["losses"] == whole[1]["losses"][:1]


def test_a_loss_that_is_not_finite_ends_the_test(tmp_path):
    found = rate.rate_test(made(rate=1e6), stripes(), tmp_path, 1, ["cpu"], 20, quiet)
    assert len(found["losses"][0]) < 20 and np.isfinite(found["losses"][0]).all()


@pytest.mark.parametrize("suggested", [0.01, 0.5, None])
def test_the_picture(tmp_path, suggested):
    rates = rate.rates_of(0.03, 50)
    losses = [2.3 - 0.01 * k for k in range(40)]
    figure = figures.rate_test(rates, [losses, losses[:30]], losses[:30], suggested, 0.03)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert ("suggested 0.01" in texts) == (suggested == 0.01) and "the recipe's 0.03" in texts
    assert ("the loss falls at no rate" in texts) == (suggested is None)
    (line,) = [line for line in figure.axes[0].lines if line.get_linewidth() > 2]
    assert line.get_xdata().tolist() == rates[:30] and line.get_ydata().tolist() == losses[:30]


def test_the_command(tmp_path, capsys):
    sizes = ["net.maps=[4,4,4,4,4]", "net.hidden=8", "learning.batch=8", "net.input=32"]
    command = ["experiment", "rate", "--steps", "12", "--train-images", "48", "--test-images", "24", "--set", *sizes]
    command += ["--out", str(tmp_path), "--threads", "1"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "learning-rate range test of recipe shapes" in out and "seeds: 1" in out
    assert "12 steps with rates from 0.0003 to 3" in out or "ended there, before 3" in out
    result = json.loads((tmp_path / "rate" / "result.json").read_text())
    assert {"rates", "losses", "mean", "suggested", "steps", "recipe", "data"} <= result.keys()
    assert (tmp_path / "rate" / "result.png").stat().st_size > 10_000
    assert main([*command[:3], "3"]) == 2
    assert capsys.readouterr().err == "tinyalex: error: --steps 3: too few to see a curve; give 10 or more\n"
    for words, line in (
        (["rate", "--epochs", "3"], "--epochs 3: rate takes steps, not epochs; give --steps (default: 200)"),
        (["dropout", "--steps", "30"], "--steps 30: for rate only; give --epochs"),
        (["rate", "--search-epochs", "1"], "--search-epochs 1: for relu-tanh only; leave it out"),
    ):
        assert main(["experiment", *words]) == 2
        assert capsys.readouterr().err == f"tinyalex: error: {line}\n"
