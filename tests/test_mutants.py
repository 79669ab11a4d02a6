"""Tests of the tests: the quick checks accept the code as it is, and reject it with any one bug planted."""

import numpy as np
import pytest
from mutants import MUTANTS, plant
from quick_checks import CHECKS

from tinyalex import parallel


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """Put the process's workers back afterwards."""
    monkeypatch.setattr(parallel, "_workers", parallel._workers)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_check_accepts_the_code(check):
    check()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
@pytest.mark.filterwarnings("ignore")
def test_mutant_is_rejected(mutant, monkeypatch):
    plant(mutant, monkeypatch)
    with np.errstate(all="ignore"):
        for check in CHECKS:
            try:
                check()
            except (NameError, SyntaxError, AttributeError) as error:
                pytest.fail(f"{mutant.name}: not a bug but a blunder: {error!r}")
            except Exception:
                return
    pytest.fail(f"{mutant.name}: nobody noticed")


def test_there_are_enough_mutants_and_no_two_alike():
    assert len(MUTANTS) >= 60
    assert len({mutant.name for mutant in MUTANTS}) == len({mutant[1:] for mutant in MUTANTS}) == len(MUTANTS)
