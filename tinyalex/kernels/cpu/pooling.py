"""Pooling for NumPy; the readable forms are in `tinyalex.layers.pooling`.

A window is pooled along its columns first, then along its rows: z + z passes over the image instead of z z. All arrays
are (h, w, n c).
"""

import numpy as np

from tinyalex.kernels.cpu.scratch import maximum


class MaxPool:
    """The largest number of every window.

    Parameters
    ----------
    shape, outputs : tuple of int
        (h, w, c) and (ho, wo, c) of one image.
    window, stride : int
        z and s; z >= s.
    """

    reads_input = reads_output = False  # in backward

    def __init__(self, shape, outputs, window, stride):
        self.shape, self.outputs, self.window, self.stride = shape, outputs, window, stride

    def keep(self, scratch, images, x, y):
        """Return masks, by axis, for where the second, third, ... number of a window wins: for forward and backward."""
        (h, _, c), (ho, wo, _) = self.shape, self.outputs
        sizes = {1: (h, wo), 0: (ho, wo)}
        masks = {
            axis: [np.empty((*size, images * c), bool) for _ in range(self.window - 1)] for axis, size in sizes.items()
        }
        return (masks,), masks

    def forward(self, scratch, images, x, y, masks):
        """Yield the calls that compute y. Of several largest, or several NaN, the first in row-major order wins."""
        rows = scratch.get("pooled rows", (self.shape[0], *y.shape[1:]))
        yield from self._largest(1, x, rows, masks[1])
        yield from self._largest(0, rows, y, masks[0])
        yield self._let_nan_win, x, rows, y, masks

    def backward(self, scratch, images, masks, dy, dx):
        """Yield the calls that compute dx: each window's gradient goes to its first maximum. They overwrite dy."""
        rows = scratch.get("pooled rows", (self.shape[0], *dy.shape[1:]))
        yield from self._to_winners(scratch, 0, dy, rows, masks[0])
        yield from self._to_winners(scratch, 1, rows, dx, masks[1])

    def _largest(self, axis, x, y, masks):
        (units, first), *others = self._taps(axis)
        for index, (mask, (some, pixels)) in enumerate(zip(masks, others, strict=True), 1):
            if index == 1 and some == units:
                yield np.greater, x[pixels], x[first], mask
                yield maximum, x[pixels], x[first], y
                continue
            if index == 1:
                yield np.copyto, y, x[first]
            yield np.greater, x[pixels], y[some], mask[some]
            yield maximum, x[pixels], y[some], y[some]
        if not others:
            yield np.copyto, y, x[first]

    def _let_nan_win(self, x, rows, y, masks):
        # Comparisons with NaN are false: if there is one, correct the masks, so that the first of a window wins.
        if not np.isnan(y.max()):
            return
        for axis, read in ((1, x), (0, rows)):
            (_, first), *others = self._taps(axis)
            best = read[first].copy()
            for mask, (some, pixels) in zip(masks[axis], others, strict=True):
                mask[some] = (read[pixels] > best[some]) | (np.isnan(read[pixels]) & ~np.isnan(best[some]))
                maximum(best[some], read[pixels], best[some])

    def _to_winners(self, scratch, axis, dy, dx, masks):
        # From the last number of a window to the first, since a later winner has taken the gradient from an earlier
        # one. The first s numbers of all windows are different pixels: they are written, the others are added to them.
        # The bits of the gradient, as integers, are multiplied with 0 or 1 and subtracted exactly.
        (units, first), *others = self._taps(axis)
        s, added, winners = self.stride, [], scratch.get("winners", dy.shape, scratch.integers)
        for index, (mask, (some, pixels)) in reversed([*enumerate(zip(masks, others, strict=True), 1)]):
            won = dx[pixels] if index < s else scratch.get(f"won {index}", dy.shape)[some]
            left = dx[first] if index == 1 and some == units else dy[some]
            yield np.copyto, winners[some], mask[some].view(np.uint8)
            yield np.multiply, scratch.bits(dy[some]), winners[some], scratch.bits(won)
            yield np.subtract, scratch.bits(dy[some]), scratch.bits(won), scratch.bits(left)
            if index >= s:
                added.append((dx[pixels], won))
        if not others or others[0][0] != units:
            yield np.copyto, dx[first], dy
        beyond = (*(slice(None),) * axis, slice(s * self.outputs[axis], None))
        if dx[beyond].size:
            yield np.copyto, dx[beyond], 0.0
        for pixels, won in added:
            yield np.add, pixels, won, pixels

    def _taps(self, axis):
        # For each number of a window, along one axis: the outputs whose window has a pixel there, and these pixels.
        every, taps = (slice(None),) * axis, []
        for index in range(self.window):
            count = min(self.outputs[axis], -(-(self.shape[axis] - index) // self.stride))
            taps.append(((*every, slice(count)), (*every, slice(index, index + self.stride * count, self.stride))))
        return taps


class AvgPool:
    """The mean of the pixels of every window that lie inside the image, as two small matrix products.

    Parameters
    ----------
    shape, outputs, window, stride
        As for `MaxPool`.
    dtype : dtype
    """

    reads_input = reads_output = False  # in backward

    def __init__(self, shape, outputs, window, stride, dtype):
        self.shape, self.outputs = shape, outputs
        self._down, self._across = (
            _means(size, units, window, stride).astype(dtype)
            for size, units in zip(shape[:2], outputs[:2], strict=True)
        )

    def keep(self, scratch, images, x, y):
        """Return what forward needs besides x and y, and what backward needs: nothing."""
        return (), None

    def forward(self, scratch, images, x, y):
        """Yield the calls that compute y = D x A', D and A the means along both axes."""
        rows = scratch.get("averaged rows", (self.outputs[0], *x.shape[1:]))
        yield np.matmul, self._down, x.transpose(1, 0, 2), rows.transpose(1, 0, 2)
        yield np.matmul, self._across, rows, y

    def backward(self, scratch, images, saved, dy, dx):
        """Yield the calls that compute dx = D' dy A."""
        rows = scratch.get("averaged rows", (self.outputs[0], *dx.shape[1:]))
        yield np.matmul, self._across.T, dy, rows
        yield np.matmul, self._down.T, rows.transpose(1, 0, 2), dx.transpose(1, 0, 2)


def _means(size, units, window, stride):
    # (units, size): each row averages one window, clipped at the edge.
    matrix = np.zeros((units, size))
    for unit in range(units):
        inside = slice(stride * unit, min(stride * unit + window, size))
        matrix[unit, inside] = 1 / (inside.stop - inside.start)
    return matrix
