"""Winograd's convolution for NumPy; the readable form, with the algorithm, is in `tinyalex.layers.winograd`.

The transforms of m outputs of an r-tap kernel, A (t, m), G (t, r) and B (t, t), with t = m + r - 1, are given. Images
are (h, w, n c) with a border of zeros; L is a line's n c numbers. Tiles are transformed along their rows first, all
columns of the image at once, then along their columns, one of the t results at a time, so that what belongs to it stays
in cache between the transform, the products and the transform back.
"""

import numpy as np

from tinyalex.devices.parallel import ranges
from tinyalex.kernels.cpu.scratch import steps, strided

SMALL = 1_000_000  # multiply-adds of a product up to which OpenBLAS multiplies without copying the factors


class Winograd:
    """A convolution of stride 1: parameters, transformed once a batch, and the calls of forward and backward.

    A stride s > 1 is turned into stride 1: the pixels of an s x s block become channels, when images are loaded.

    Parameters
    ----------
    shape, outputs : tuple of int
        (h, w, c) and (ho, wo, o) of one image.
    kernel, stride, pad, groups : int
    transforms : tuple of ndarray
        A, G and B.
    one : int
        Index of the point 1, at whose position the bias is added.
    input_gradient : bool
        Whether backward computes dx; then the stride is 1 and pad < kernel.
    dtype : dtype
    """

    def __init__(self, shape, outputs, kernel, stride, pad, groups, transforms, one, input_gradient, dtype):
        self.shape, self.outputs, self.kernel, self.stride, self.pad = shape, outputs, kernel, stride, pad
        self.taps, self.channels, self.groups = -(-kernel // stride), shape[2] * stride**2, groups
        self.G, self.input_gradient = np.ascontiguousarray(transforms[1], dtype), input_gradient
        matrices = [np.ascontiguousarray(matrix, dtype) for matrix in (transforms[0], transforms[2])]
        ho, wo, o = outputs
        self.there = Tiles((ho, wo), self.channels, o, groups, *matrices, one)
        # The input gradient is a convolution, too, of dy with the kernels turned around and transposed.
        self.back = Tiles(shape[:2], o, self.channels, groups, *matrices, one)
        # Arrays for the parameters of all batches, as the calls refer to them.
        self.U, self.b = np.empty((*matrices[1].shape, self.channels // groups, o), dtype), np.empty(o, dtype)
        self.back_U = np.empty((*matrices[1].shape, o // groups, self.channels), dtype) if input_gradient else None

    def prepare(self, W, b):
        """Transform the kernels W (k, k, c/g, o) of a new batch: U = G W G', (t, t, c/g, o)."""
        W, self.b[...] = self._fold(W), b
        self._both(self.G, W, self.U)
        if self.input_gradient:
            groups = np.split(W[::-1, ::-1], self.groups, axis=3)
            turned = np.concatenate([group.swapaxes(2, 3) for group in groups], axis=3)  # (r, r, o/g, c)
            self._both(self.G, turned, self.back_U)

    def gradients(self, scratch):
        """Return one worker's sums of dU and db over its blocks."""
        t, o = len(self.G), self.outputs[2]
        return scratch.get(("dU", id(self)), (t, t, self.channels // self.groups, o)), scratch.get(
            ("db", id(self)), (o,)
        )

    def finish(self, sums, dW, db):
        """Write the gradients of the parameters from all workers' sums: dW = G' dU G."""
        dU = sum(first for first, _ in sums[1:]) + sums[0][0] if len(sums) > 1 else sums[0][0]
        db[...] = sum(second for _, second in sums)
        dW[...] = self._unfold(self._both(self.G.T, dU))

    def input(self, scratch, images):
        """Return a new array for padded inputs, and the view of it into which (h, w, n c) is written."""
        x = np.zeros((*self.there.sizes_in, images * self.channels), scratch.dtype)
        (h, w, _), p = self.shape, self.pad
        return x, x[p : p + h, p : p + w] if self.stride == 1 else x

    def load(self, x, images):
        """Write images (n, h, w, c) into an array of `input`, as blocks of s x s pixels; those beyond n become 0."""
        (n, h, w, c), s, p, (height, width, line) = images.shape, self.stride, self.pad, x.shape
        whole = np.zeros((n, height * s, width * s, c), x.dtype)
        inside = whole[:, p : p + h, p : p + w]
        inside[...] = images[:, : inside.shape[1], : inside.shape[2]]
        blocks = x.reshape(height, width, line // self.channels, s, s * c)
        blocks[:, :, :n] = whole.reshape(n, height, s, width, s * c).transpose(1, 3, 0, 2, 4)
        blocks[:, :, n:] = 0

    def output(self, scratch, images):
        """Return scratch for the outputs of whole tiles, and the view (ho, wo, n o) of the outputs that count."""
        (ho, wo, o) = self.outputs
        y = scratch.get("outputs", (*self.there.sizes_out, images * o))
        return y, y[:ho, :wo]

    def forward(self, scratch, images, x, y):
        """Yield the calls that compute y of `output` from x of `input`."""
        yield from self.there.calls(scratch, images, x, y, self.U, self.b)

    def gradient(self, scratch, images):
        """Return scratch for dy with a border of zeros, and the view (ho, wo, n o) of it."""
        (ho, wo, o), before = self.outputs, self._before
        sizes = zip(self.there.sizes_out, self.back.sizes_in, strict=True)
        dy = scratch.get(("dy", id(self)), (*(max(before + a, b) for a, b in sizes), images * o))
        return dy, dy[before : before + ho, before : before + wo]

    def backward(self, scratch, images, x, dy, first):
        """Yield the calls that compute dx and dU and db, or add to them; return the view (h, w, n c) of dx, or None."""
        core = dy[self._before :, self._before :]
        yield from self.there.kernel_gradient(scratch, images, x, core, *self.gradients(scratch), first)
        if not self.input_gradient:
            return None
        dx = scratch.get("outputs", (*self.back.sizes_out, images * self.channels))
        yield from self.back.calls(scratch, images, dy, dx, self.back_U, None)
        return dx[: self.shape[0], : self.shape[1]]

    @property
    def _before(self):
        return self.taps - 1 - self.pad if self.input_gradient else 0

    def _both(self, matrix, kernels, out=None):
        # matrix (q, r) applied in both directions: (r, r, c, o) to (q, q, c, o).
        r, (q, _) = len(kernels), matrix.shape
        rows = (matrix @ kernels.reshape(r, -1)).reshape(q, r, -1)
        whole = np.matmul(matrix, rows, out=None if out is None else out.reshape(q, q, -1))
        return whole.reshape(q, q, *kernels.shape[2:])

    def _fold(self, W):
        # (k, k, c, o) to (r, r, s s c, o)
        k, s, r, (c, o) = self.kernel, self.stride, self.taps, W.shape[2:]
        if s == 1:
            return W
        whole = np.zeros((r * s, r * s, c, o), W.dtype)
        whole[:k, :k] = W
        return whole.reshape(r, s, r, s, c, o).transpose(0, 2, 1, 3, 4, 5).reshape(r, r, s * s * c, o)

    def _unfold(self, dW):
        # The reverse of `_fold`.
        k, s, r, o = self.kernel, self.stride, self.taps, dW.shape[3]
        blocks = dW.reshape(r, r, s, s, -1, o).transpose(0, 2, 1, 3, 4, 5)
        return blocks.reshape(r * s, r * s, -1, o)[:k, :k]


class Tiles:
    """Convolution of images that have their border, tile by tile.

    Parameters
    ----------
    sizes : tuple of int
        (ho, wo).
    channels, maps, groups : int
    A, B : ndarray
    one : int

    Attributes
    ----------
    sizes_in, sizes_out : tuple of int
        Height and width of the images that are read, and of the outputs of whole tiles that are written.
    """

    def __init__(self, sizes, channels, maps, groups, A, B, one):
        (self.t, self.m), self.channels, self.maps, self.groups, self.one = A.shape, channels, maps, groups, one
        self.A, self.AT, self.BT = A, np.ascontiguousarray(A.T), np.ascontiguousarray(B.T)
        self.down, self.across = (-(-size // self.m) for size in sizes)
        self.sizes_out = self.down * self.m, self.across * self.m
        self.sizes_in = tuple(size + self.t - self.m for size in self.sizes_out)

    def calls(self, scratch, images, x, y, U, b):
        """Yield the calls of Y = A' [(B' D B) * U] A for all tiles, plus the bias.

        Parameters
        ----------
        scratch : Scratch
        images : int
            n.
        x : array, shape (h, w, n c)
            h and w are ``sizes_in``, or larger.
        y : array, shape (h, w, n o)
            h and w are ``sizes_out``.
        U : array, shape (t, t, c/g, o)
        b : array or None, shape (o,)
        """
        m, t, line = self.m, self.t, images * self.maps
        for tiles in self._chunks(images):
            columns = yield from self._rows(scratch, self.BT, x, tiles, self.across * m + t - m, "columns")
            half = scratch.pitched("half", (tiles.stop - tiles.start, self.across * m, t, line))
            for i in range(t):
                V, V_tiles = self._places(scratch, "V", tiles, images, self.channels)
                M, M_tiles = self._places(scratch, "M", tiles, images, self.maps)
                yield np.matmul, self.BT, self._windows(columns, i, m, t), V_tiles
                for inputs, outputs in self._groups():
                    yield np.matmul, V[..., inputs], U[i][..., outputs], M[..., outputs]
                if i == self.one and b is not None:
                    yield np.add, M[i], b, M[i]  # A' adds the numbers of this position to all outputs of a tile
                yield np.matmul, self.AT, M_tiles, self._windows(half, i, m, m)
            rows = y[tiles.start * m : tiles.stop * m]
            yield np.matmul, self.AT, half, _row_windows(rows, m, m, len(half))

    def kernel_gradient(self, scratch, images, x, dy, dU, db, first):
        """Yield the calls of dU = (B' D B)' (A dY A') and of db, with x and dy as in `calls`.

        Unless this is the ``first`` block of a batch, they are added to dU and db.
        """
        m, t = self.m, self.t
        for tiles in self._chunks(images):
            new = first and tiles.start == 0
            columns = yield from self._rows(scratch, self.BT, x, tiles, self.across * m + t - m, "columns")
            dhalf = yield from self._rows(scratch, self.A, dy, tiles, self.across * m, "half")
            for i in range(t):
                V, V_tiles = self._places(scratch, "V", tiles, images, self.channels)
                dM, dM_tiles = self._places(scratch, "M", tiles, images, self.maps)
                yield np.matmul, self.BT, self._windows(columns, i, m, t), V_tiles
                yield np.matmul, self.A, self._windows(dhalf, i, m, m), dM_tiles
                if i == self.one:
                    part = db if new else scratch.get("db part", db.shape)
                    yield np.add.reduce, dM[i], 0, None, part
                    if not new:
                        yield np.add, db, part, db
                part = dU[i] if new else scratch.get("dU part", dU.shape[1:])
                for inputs, outputs in self._groups():
                    yield np.matmul, V[..., inputs].swapaxes(1, 2), dM[..., outputs], part[..., outputs]
                if not new:
                    yield np.add, dU[i], part, dU[i]

    def _chunks(self, images):
        # Rows of tiles that are computed together: as many as keep the products small, or else all.
        size = self.channels // self.groups * (self.maps // self.groups) * self.across * images
        together = max(1, SMALL // size) if size <= SMALL else self.down
        return [slice(low, min(low + together, self.down)) for low in range(0, self.down, together)]

    def _groups(self):
        return zip(ranges(self.channels, self.groups), ranges(self.maps, self.groups), strict=True)

    def _rows(self, scratch, matrix, images, tiles, width, purpose):
        # matrix (t, window) times the windows of rows that belong to these tiles: (tiles, width, t, L).
        count, (t, window) = tiles.stop - tiles.start, matrix.shape
        out = scratch.pitched(purpose, (count, width, t, images.shape[2]))
        yield np.matmul, matrix, _row_windows(images[tiles.start * self.m :, :width], self.m, window, count), out
        return out

    def _windows(self, columns, i, step, window):
        # Row i of the t transformed ones, as windows of columns: (tiles, tiles across, window, L).
        count, _, _, line = columns.shape
        rows, pixels, _, _ = steps(columns)
        return strided(columns[:, :, i], (count, self.across, window, line), (rows, step * pixels, pixels, 1))

    def _places(self, scratch, purpose, tiles, images, channels):
        # Room for t positions of all tiles: as factors (t, tiles n, c), and as results (tiles, tiles across, t, L).
        count, line = (tiles.stop - tiles.start), images * channels
        room = scratch.pitched(purpose, (self.t, count * self.across * line))
        pitch = steps(room)[0]
        factors = strided(room, (self.t, count * self.across * images, channels), (pitch, channels, 1))
        return factors, strided(room, (count, self.across, self.t, line), (self.across * line, line, pitch, 1))


def _row_windows(images, step, window, count):
    # Windows of rows, each `step` rows below the one before: (count, w, window, L).
    (_, width, line), (rows, pixels, _) = images.shape, steps(images)
    return strided(images, (count, width, window, line), (step * rows, pixels, rows, 1))
