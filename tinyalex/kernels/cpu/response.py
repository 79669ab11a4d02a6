"""Response normalization for NumPy; the readable form is in `tinyalex.layers.normalization`.

    y = x d^-beta,    d = k + alpha S x^2

Forward keeps r, from which powers of d are products. For the paper's beta, 3/4, r = d^-1/4 takes two square roots and
d^-beta = r^3, which is several times as fast as a power; for others r = 1 / d.
"""

import math

import numpy as np

from tinyalex.devices.parallel import ranges
from tinyalex.kernels.cpu.scratch import PIECE, split

SCALE = 2.0**40  # of what backward sums up, as in `tinyalex.layers.normalization`: it is tiny for large x


class _ResponseNorm:
    reads_input, reads_output = True, False  # in backward

    def __init__(self, size, k, alpha, beta):
        self.size, self.before, self.beta = size, size // 2, beta
        self.k, self.alpha, self.cross = k, alpha, -2 * alpha * beta / SCALE

    def keep(self, scratch, images, x, y):
        """Return room for r, for forward, and x and r, for backward."""
        r = np.empty(x.shape, scratch.dtype)
        return (r,), (x, r)

    def forward(self, scratch, images, x, y, r):
        """Yield the calls that compute y and r from x."""
        for a, out, root in self.pieces(x, y, r):
            d, inside = yield from self.window_sum(scratch, a, a, self.before)
            yield np.multiply, d, self.alpha, d
            yield np.add, d, self.k, d
            yield np.divide, 1.0, d[inside], root
            power = scratch.get("power", root.shape)
            if self.beta == 0.75:
                yield np.sqrt, root, root
                yield np.sqrt, root, root
            yield from self._power(root, power)
            yield np.multiply, a, power, out

    def backward(self, scratch, images, saved, dy, dx):
        """Yield the calls that compute dx; ``saved`` is (x, r)."""
        # dx_j = dy_j d_j^-beta - 2 alpha beta x_j S'(dy x d^(-beta - 1))_j
        for a, r, g, out in self.pieces(*saved, dy, dx):
            power, q = scratch.get("power", r.shape), scratch.get("quotient", r.shape)
            yield from self._power(r, power)
            yield np.multiply, a, r, q  # x / d, in an order in which nothing vanishes early
            if self.beta == 0.75:
                yield np.multiply, q, power, q
            yield np.multiply, q, SCALE, q
            yield np.multiply, g, power, power  # dy d^-beta
            total, inside = yield from self.window_sum(scratch, power, q, self.size - 1 - self.before)
            yield np.multiply, a, total[inside], out
            yield np.multiply, out, self.cross, out
            yield np.add, out, power, out

    def _power(self, r, out):
        if self.beta == 0.75:
            yield np.multiply, r, r, out
            yield np.multiply, out, r, out
        else:
            yield np.power, r, self.beta, out


class LRN(_ResponseNorm):
    """Normalization across the maps of each pixel, in groups.

    Parameters
    ----------
    maps : int
        Of one image.
    groups, size : int
    k, alpha, beta : float
    """

    def __init__(self, maps, groups, size, k, alpha, beta):
        super().__init__(size, k, alpha, beta)
        self.row = maps // groups

    def pieces(self, *arrays):
        """Cut arrays (h, w, n c) into pieces of some rows of pixels, viewed as (rows, w, n g, c/g)."""
        views = [split(array, array.shape[2] // self.row) for array in arrays]
        for rows in ranges(len(arrays[0]), -(-arrays[0].size // PIECE)):
            yield tuple(view[rows] for view in views)

    def window_sum(self, scratch, a, b, before):
        """Yield the calls that sum a b over windows of maps; return the array of sums, and where in it they are.

        One group of maps and size - 1 zeros after the other, so that a shifted view of all at once never reaches the
        next group's maps.
        """
        *pixels, maps = a.shape
        count, row = math.prod(pixels), maps + self.size - 1
        padded, total = scratch.get(f"padded {before}", (count + 1, row)), scratch.get("total", (*pixels, row))
        yield np.multiply, a, b, padded[:-1].reshape(total.shape)[..., before : before + maps]
        padded = padded.reshape(-1)
        yield from _add([padded[shift : shift + total.size] for shift in range(self.size)], total.reshape(-1))
        return total, (..., slice(maps))


class SpatialNorm(_ResponseNorm):
    """Normalization across the pixels of each map.

    Parameters
    ----------
    size : int
        Side of the square window.
    k, alpha, beta : float
    """

    def pieces(self, *arrays):
        """Return the arrays (h, w, n c) as one piece."""
        yield arrays

    def window_sum(self, scratch, a, b, before):
        """Yield the calls that sum a b over windows of pixels; return the array of sums, and where in it they are."""
        h, w, line = a.shape
        padded = scratch.get(f"padded {before}", (h + self.size - 1, w + self.size - 1, line))
        rows, total = scratch.get("rows", (h, w + self.size - 1, line)), scratch.get("total", a.shape)
        yield np.multiply, a, b, padded[before : before + h, before : before + w]
        yield from _add([padded[shift : shift + h] for shift in range(self.size)], rows)
        yield from _add([rows[:, shift : shift + w] for shift in range(self.size)], total)
        return total, ...


def _add(terms, out):
    if len(terms) == 1:
        yield np.copyto, out, terms[0]
        return
    yield np.add, terms[0], terms[1], out
    for term in terms[2:]:
        yield np.add, out, term, out
