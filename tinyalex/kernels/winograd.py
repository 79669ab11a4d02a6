"""Convolution with less than a third of the multiplications: Winograd's algorithm, as small matrix products.

In one dimension m outputs of an r-tap kernel take t = m + r - 1 products (`tinyalex.kernels.cook_toom`). In two, a tile
of t x t pixels gives m x m outputs,

    Y = A' [(G W G') * (B' D B)] A,

and since each of the t x t places is summed over all channels, "*" becomes t x t matrix products (tiles, c) (c, o). For
m = 5 that is 49 products instead of 225 for a 3 x 3 kernel, and for m = 4 it is 64 instead of 400 for 5 x 5. All of it
is linear, so backward is the same matrices, transposed.

n images, c channels, o maps, th x tw tiles. Images lie as (height, width, n, c) here: runs of n c stay together.
"""

import numpy as np

from tinyalex.kernels.cook_toom import POINTS, cook_toom
from tinyalex.layers.convolution import Conv2d
from tinyalex.layers.layer import grouped


class WinogradConv2d(Conv2d):
    """`Conv2d` by Winograd's algorithm: the same parameters and, but for rounding, the same numbers.

    A stride s becomes 1 first: blocks of s x s pixels are taken for channels, and r = ceil(k / s).
    On a CUDA device it computes as `Conv2d` does.
    """

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.kept = {}  # U, while a batch is under way; all replicas look here

    @staticmethod
    def suits(kernel, stride=1, groups=1):
        """Whether there are transforms for such a convolution."""
        return -(-kernel // stride) in {r for _, r in POINTS} and (stride == 1 or groups == 1)

    def tiling(self, shape):
        """Return a tile's outputs m, those of the known with the fewest products, and the tiles down and across."""
        (ho, wo, _), r = self.output_shape(shape), -(-self.geometry["kernel"] // self.geometry["stride"])
        tilings = [(m, -(-ho // m), -(-wo // m)) for m, size in POINTS if size == r]
        return min(tilings, key=lambda tiling: tiling[1] * tiling[2] * (tiling[0] + r - 1) ** 2)

    def prepare(self, shape):
        self.release()
        if self.device.on_host:
            self.kept["U"] = self._kernels(self.tiling(shape)[0])

    def release(self):
        self.kept.clear()

    def forward(self, x, step=None):
        if not self.device.on_host:
            return super().forward(x, step)
        xp, (n, (ho, wo, o)), (m, th, tw) = (
            self.device.xp,
            (len(x), self.output_shape(x.shape[1:])),
            self.tiling(x.shape[1:]),
        )
        A, _, B = self._transforms(m, x)
        U, rows = self._kernels(m), self._down(B.T, self._image(x, m, th, tw), m)
        t, dtype = len(A), xp.result_type(rows, U)
        M = self.device.empty((t, th * tw * n, o), dtype)
        half = self.device.empty((t, m, th * tw * n * o), dtype)
        for i in range(t):  # one row of the t x t places after the other, while it is in cache
            V = self._across(B.T, rows[i], m, n)
            for inputs, outputs in grouped(V.shape[2], o, self.groups):
                xp.matmul(V[..., inputs], U[i][..., outputs], out=M[..., outputs])
            xp.matmul(A.T, M.reshape(t, -1), out=half[i])
        y = xp.matmul(A.T, half.reshape(t, -1), out=self.device.empty((m, m * half.shape[2]), dtype))
        y = y.reshape(m, m, th, tw, n, o).transpose(4, 2, 0, 3, 1, 5)
        y = xp.add(y, self.b.value, out=self.device.empty(y.shape, dtype))
        self.saved = x
        return y.reshape(n, th * m, tw * m, o)[:, :ho, :wo]

    def backward(self, dy):
        # Y = A' (V * U) A with V = B' D B, U = G W G':
        # dM = A dY A',  dU = V' dM,  dW = G' dU G,  dV = dM U',  dD = B dV B'
        if not self.device.on_host:
            return super().backward(dy)
        x, (n, *_, o), xp = self.recall(), dy.shape, self.device.xp
        m, th, tw = self.tiling(x.shape[1:])
        A, G, B = self._transforms(m, dy)
        t, c = len(A), x.shape[3] * self.geometry["stride"] ** 2
        self.b.grad[...] = dy.reshape(-1, o).sum(axis=0)
        U, rows, drows = (
            self._kernels(m),
            self._down(B.T, self._image(x, m, th, tw), m),
            self._down(A, self._tiled(dy, m, th, tw), m),
        )
        dU = self.device.empty((t, t, c // self.groups, o), dy.dtype)
        dV, back = (self.device.empty((t, th * tw * n, c), dy.dtype) for _ in range(2))
        dcolumns = self.device.zeros((t, th, tw * m + t - m, n * c), dy.dtype)
        for i in range(t):
            V, dM = self._across(B.T, rows[i], m, n), self._across(A, drows[i], m, n)
            for inputs, outputs in grouped(c, o, self.groups):
                xp.matmul(V[..., inputs].swapaxes(1, 2), dM[..., outputs], out=dU[i][..., outputs])
                if self.input_gradient:
                    xp.matmul(dM[..., outputs], U[i][..., outputs].swapaxes(1, 2), out=dV[..., inputs])
            if self.input_gradient:
                xp.matmul(B, dV.reshape(t, -1), out=back.reshape(t, -1))
                self._overlap(back.reshape(t, th, tw, n * c).swapaxes(1, 2), dcolumns[i].swapaxes(0, 1), m)
        self.W.grad[...] = self._unfold(self._both(G.T, dU))
        if not self.input_gradient:
            return None
        drows = xp.matmul(B, dcolumns.reshape(t, -1), out=self.device.empty((t, dcolumns[0].size), dy.dtype))
        image = self.device.zeros((th * m + t - m, *dcolumns.shape[2:]), dy.dtype)
        self._overlap(drows.reshape(dcolumns.shape), image, m)
        return self._pixels(image, x.shape)

    def _transforms(self, m, like):
        r = -(-self.geometry["kernel"] // self.geometry["stride"])
        return [self.device.put(matrix.astype(like.real.dtype)) for matrix in cook_toom(m, POINTS[m, r])]

    def _kernels(self, m):
        # U = G W G', (t, t, c/g, o)
        if "U" in self.kept:
            return self.kept["U"]
        W, (k, s) = self.W.value, (self.geometry["kernel"], self.geometry["stride"])
        r, (c, o) = -(-k // s), W.shape[2:]
        if s > 1:
            whole = self.device.zeros((r * s, r * s, c, o), W.dtype)
            whole[:k, :k] = W
            W = whole.reshape(r, s, r, s, c, o).transpose(0, 2, 1, 3, 4, 5).reshape(r, r, s * s * c, o)
        return self._both(self._transforms(m, W)[1], W)

    def _unfold(self, dW):
        # (r, r, s s c, o) to (k, k, c, o)
        k, s = self.geometry["kernel"], self.geometry["stride"]
        r, c, o = len(dW), dW.shape[2] // s**2, dW.shape[3]
        return dW.reshape(r, r, s, s, c, o).transpose(0, 2, 1, 3, 4, 5).reshape(r * s, r * s, c, o)[:k, :k]

    def _both(self, matrix, kernels):
        # A matrix (q, r) applied in both directions: (r, r, c, o) to (q, q, c, o).
        xp, (q, r), (_, _, c, o) = self.device.xp, matrix.shape, kernels.shape
        rows, both = self.device.empty((q, r * c * o), kernels.dtype), self.device.empty((q, q, c * o), kernels.dtype)
        xp.matmul(matrix, kernels.reshape(r, -1), out=rows)
        return xp.matmul(matrix, rows.reshape(q, r, c * o), out=both).reshape(q, q, c, o)

    def _image(self, x, m, th, tw):
        # Padded, and cut into blocks of s x s pixels: (height, width, n s s c).
        (n, _, _, c), (k, s, p, _) = x.shape, self.geometry.values()
        height, width = (m * tiles + -(-k // s) - 1 for tiles in (th, tw))
        inside = x[:, : height * s - p, : width * s - p]
        places = np.s_[p : p + inside.shape[1], p : p + inside.shape[2]]
        if s == 1:
            image = self.device.zeros((height, width, n, c), x.dtype)
            image[places] = inside.transpose(1, 2, 0, 3)
        else:
            padded = self.device.zeros((n, height * s, width * s, c), x.dtype)
            padded[:, *places] = inside
            image = self.device.empty((height, width, n, s, s, c), x.dtype)
            image[...] = padded.reshape(n, height, s, width, s, c).transpose(1, 3, 0, 2, 4, 5)
        return image.reshape(height, width, n * s * s * c)

    def _pixels(self, image, shape):
        # The reverse: to (n, h, w, c), without the padding.
        (n, h, w, c), (_, s, p, _) = shape, self.geometry.values()
        height, width, _ = image.shape
        image = image.reshape(height, width, n, s, s, c).transpose(2, 0, 3, 1, 4, 5)
        image = image.reshape(n, height * s, width * s, c)[:, p : p + h, p : p + w]
        x = self.device.zeros(shape, image.dtype)
        x[:, : image.shape[1], : image.shape[2]] = image
        return x

    def _tiled(self, dy, m, th, tw):
        # (n, ho, wo, o) to whole tiles, (th m, tw m, n o)
        n, ho, wo, o = dy.shape
        image = self.device.zeros((th * m, tw * m, n, o), dy.dtype)
        image[:ho, :wo] = dy.transpose(1, 2, 0, 3)
        return image.reshape(th * m, tw * m, n * o)

    def _down(self, matrix, image, m):
        # From (height, width, n c), in windows of rows: (rows of the matrix, th, width, n c).
        xp, (q, window), (height, width, size) = self.device.xp, matrix.shape, image.shape
        windows = xp.lib.stride_tricks.sliding_window_view
        view = windows(image.reshape(height, width * size), window, axis=0)[::m].swapaxes(1, 2)
        rows = self.device.empty((q, len(view), width * size), image.dtype)
        xp.matmul(matrix, view, out=rows.swapaxes(0, 1))
        return rows.reshape(q, len(view), width, size)

    def _across(self, matrix, row, m, n):
        # From (th, width, n c), in windows of columns: (rows of the matrix, th tw n, c).
        xp, (q, window), (th, _, size) = self.device.xp, matrix.shape, row.shape
        view = xp.lib.stride_tricks.sliding_window_view(row, window, axis=1)[:, ::m].swapaxes(2, 3)
        tiles = self.device.empty((q, th, view.shape[1], size), row.dtype)
        xp.matmul(matrix, view, out=tiles.transpose(1, 2, 0, 3))
        return tiles.reshape(q, -1, size // n)

    @staticmethod
    def _overlap(tiles, image, m):
        # Add tiles (t, tiles, ...) to lines (tiles m + r - 1, ...): neighbouring tiles share r - 1.
        last = m * (tiles.shape[1] - 1) + 1
        for i, lines in enumerate(tiles):
            image[i : i + last : m] += lines
