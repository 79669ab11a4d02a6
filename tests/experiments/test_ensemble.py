"""`tinyalex experiment ensemble`: nets of several seeds, averaged; and experiments that several ranks divide."""

import itertools
import json

import numpy as np
import pytest

from tests.support.ranks import on_ranks
from tests.support.small_runs import quiet, small, stripes
from tinyalex.cli import main
from tinyalex.experiments import catalogue, report
from tinyalex.experiments.experiment import experiment
from tinyalex.runs import run_folder

DATA = stripes(48, 40)


def run(folder, name="ensemble", ranks=1, seeds=3, **learning):
    made = small("data.flip=true", epochs=1, **learning)
    return on_ranks(ranks, lambda world: experiment(name, made, DATA, folder, seeds, ["cpu"], 1, quiet, world=world))[0]


def test_averages_are_over_all_choices_of_nets(tmp_path):
    from tinyalex.training import evaluation

    result = run(tmp_path)
    nets = [run_folder.load(tmp_path / f"seed-{seed}") for seed in range(3)]
    found = [evaluation.probabilities(net.network, DATA.test, net.mean, net.recipe, 10) for net in nets]
    assert result["views"] == 10 and [row["nets"] for row in result["averaged"]] == [1, 2, 3]
    for row in result["averaged"]:
        choices = itertools.combinations(found, row["nets"])
        errors = [np.mean(np.mean(chosen, axis=0).argmax(axis=1) != DATA.test.labels) for chosen in choices]
        assert row["top1_error"] == pytest.approx(np.mean(errors))
    text = report.text(result)
    assert "section 6, Table 2" in text and "the paper, ILSVRC-2012: 40.7 % and 18.2 %" in text
    assert "top-5" not in text.split("Table 2)")[1].split("the paper")[0]  # of two classes it says nothing
    paths, reason = report.write(result, tmp_path)
    assert reason is None and [path.name for path in paths] == ["result.json", "result.png"]


@pytest.mark.parametrize("name", ["ensemble", "norm"])
def test_ranks_divide_the_trainings_and_change_no_result(tmp_path, name):
    alone, divided = run(tmp_path / "1", name), run(tmp_path / "2", name, ranks=2)
    assert json.dumps(alone) == json.dumps(divided)


def test_a_search_step_by_step_is_not_divided(capsys, monkeypatch):
    for name in (catalogue.RACE, catalogue.RATE):
        assert main(["experiment", name, "--ranks", "0"]) == 2
        assert "--ranks 0: give a number" in capsys.readouterr().err
