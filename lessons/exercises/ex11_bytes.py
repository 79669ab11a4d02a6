"""Exercise 11: predict the bytes copied between columns (lesson 11). Check it: ``pytest -m ex11``."""

import pytest
from returned import number

from tinyalex.network.columns import Exchange


def bytes_crossed(sizes, routes, batch):
    """Return the bytes that one training step copies between columns in one exchange, forward and backward together.

    sizes: for each column, the size of its output for one image. routes: for each column, the columns that it reads.
    Numbers are float32. What a column reads of its own output is not copied.
    """
    raise NotImplementedError(
        "write bytes_crossed: for each column, add up the sizes of the other columns that it reads; count backward too"
    )


@pytest.mark.ex11
def test_bytes_crossed():
    cases = [
        ([13 * 13 * 128] * 2, [[0, 1], [0, 1]], 128), ([2048, 2048], [[0, 1], []], 128), ([10, 10], [[0], [1]], 4),
        ([5, 7, 11], [[0, 1, 2], [1], [0, 2]], 3), ([6, 4], [[1], [0]], 1), ([8], [[0]], 64),
    ]  # fmt: skip
    for sizes, routes, batch in cases:
        ours = batch * sum(Exchange(routes).bytes_per_image([(size,) for size in sizes]).values())
        yours = number("bytes_crossed", bytes_crossed(sizes, routes, batch))
        assert yours == ours, f"sizes {sizes}, routes {routes}, batch {batch}: {yours} bytes, expected {ours}"
