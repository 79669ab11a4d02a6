"""Exercise 17: three outputs of a 2-tap kernel with four products (lesson 17). Check it: ``pytest -m ex17``."""

from fractions import Fraction

import pytest
from returned import alike, sequence


def three_outputs(d, g):
    """Return y0 = d0 g0 + d1 g1, y1 = d1 g0 + d2 g1, y2 = d2 g0 + d3 g1 with four multiplications.

    d: four numbers, g: two. Additions, and multiplying or dividing by constants (2, 1/2), do not count as
    multiplications; a number that depends on d times one that depends on g does.
    """
    raise NotImplementedError("write three_outputs: evaluate at 0, 1, -1 and infinity, as the lesson does")


class Counted:
    """An exact number; `products` counts the multiplications of two such numbers."""

    products = 0

    def __init__(self, value):
        self.value = Fraction(value)

    def __add__(self, other):
        return Counted(self.value + _plain(other))

    def __sub__(self, other):
        return Counted(self.value - _plain(other))

    def __rsub__(self, other):
        return Counted(_plain(other) - self.value)

    def __neg__(self):
        return Counted(-self.value)

    def __mul__(self, other):
        Counted.products += isinstance(other, Counted)
        return Counted(self.value * _plain(other))

    def __truediv__(self, other):
        if isinstance(other, Counted):
            raise TypeError("divide by constants only, not by a number that depends on d or g")
        return Counted(self.value / _plain(other))

    __radd__, __rmul__ = __add__, __mul__


def _plain(other):
    return other.value if isinstance(other, Counted) else Fraction(other)


@pytest.mark.ex17
def test_three_outputs():
    for d, g in (((1, 2, 3, 4), (5, 7)), ((3, -1, 4, 1), (-5, 9)), ((0, 1, 0, 0), (1, 3)), ((2, 7, 1, 8), (2, -8))):
        Counted.products = 0
        y = sequence("three_outputs", three_outputs([Counted(v) for v in d], [Counted(v) for v in g]), 3)
        y = [output.value for output in y]
        expected = [d[i] * g[0] + d[i + 1] * g[1] for i in range(3)]
        shown = ", ".join(map(str, y)), ", ".join(map(str, expected))
        assert y == expected, f"d = {d}, g = {g}: the outputs are {shown[0]}, expected {shown[1]}{alike(y, expected)}"
        assert Counted.products <= 4, f"{Counted.products} multiplications of numbers from d and g; use only four"
