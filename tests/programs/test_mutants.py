"""Tests of the tests: the quick checks accept the code, and at least one of them rejects each planted bug."""

import numpy as np
import pytest

from tests.support.mutants import MUTANTS, plant
from tests.support.quick_checks import CHECKS
from tinyalex.devices import parallel

# Which checks run first, by the beginning of a mutant's name; this only saves time.
FIRST = {
    "update": ("update", "lr_mult"), "schedule": ("rates",), "columns": ("columns", "bytes"), "init": ("weights",),
    "net": ("net", "columns"), "network": ("blocks", "predictions", "fast"), "loss": ("loss",),
    "winograd": ("winograd", "convolutions", "fast"), "first conv": ("convolutions",),
}  # fmt: skip


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """Restore the process's workers after each test."""
    monkeypatch.setattr(parallel, "_workers", parallel._workers)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_check_accepts_the_code(check):
    check()


# Every eighth is quick enough for each run of the tests; the others are among the slow ones.
SAMPLED = [pytest.param(mutant, marks=pytest.mark.slow if number % 8 else ()) for number, mutant in enumerate(MUTANTS)]


@pytest.mark.parametrize("mutant", SAMPLED, ids=lambda mutant: mutant.name)
@pytest.mark.filterwarnings("ignore")
def test_mutant_is_rejected(mutant, monkeypatch):
    plant(mutant, monkeypatch)
    likely = FIRST.get(mutant.name.split(":")[0], ())
    with np.errstate(all="ignore"):
        for check in sorted(CHECKS, key=lambda check: not check.__name__.startswith(likely)):
            try:
                check()
            except (NameError, SyntaxError, AttributeError) as error:
                pytest.fail(f"{mutant.name}: the planted code does not run: {error!r}")
            except Exception:
                return
    pytest.fail(f"{mutant.name}: no check noticed it")


def test_there_are_enough_mutants_and_all_differ():
    assert len(MUTANTS) >= 60
    assert len({mutant.name for mutant in MUTANTS}) == len({mutant[1:] for mutant in MUTANTS}) == len(MUTANTS)
