"""Exercise 18: sum the parts of a batch in a fixed order (lesson 18). Check it: ``pytest -m ex18``."""

import numpy as np
import pytest

from tinyalex.ranks.parts import Parts


def tree_sum(parts):
    """Return the sum of a list of numbers in the order of a binary tree; None stands for a part without images.

    Parts 0 and 1 are added, 2 and 3, and so on; then these sums in pairs, until one is left. A part or sum that has no
    partner, because the list ends or the partner is None, goes on to the next level as it is. Only None: return None.
    """
    raise NotImplementedError("write tree_sum: add pairs until one number is left; mind odd lengths and None")


@pytest.mark.ex18
def test_tree_sum():
    numbers = [np.float32(10.0**n) / 3 for n in (0, 7, -3, 5, 1, 8, -2, 6)]
    cases = [numbers, numbers[:1], numbers[:2], numbers[:5], numbers[:7], numbers[2:5]]
    cases += [[None, *numbers[:3]], [numbers[0], None, *numbers[1:4]], [None] * 3 + numbers[:3], [None, None]]
    for parts in cases:
        nodes = {(0, index): part for index, part in enumerate(parts) if part is not None}
        expected, yours = Parts(len(parts)).total(nodes, np.add), tree_sum(list(parts))
        shown = [None if part is None else float(part) for part in parts]
        assert (yours is None) == (expected is None), f"{shown}: {yours}, expected {expected}"
        assert expected is None or np.float32(yours) == expected, f"{shown}: {yours!r}, expected {expected!r}"
