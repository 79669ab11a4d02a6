"""Convolution with less than a third of the multiplications: Winograd's algorithm, as small matrix products.

In one dimension m outputs of an r-tap kernel take t = m + r - 1 products (`tinyalex.layers.cook_toom`). In two, a tile
of t x t pixels gives m x m outputs,

    Y = A' [(G W G') * (B' D B)] A,

and since each of the t x t positions is summed over all channels, "*" becomes t x t matrix products (tiles, c) (c, o).
For m = 5 that is 49 products instead of 225 for a 3 x 3 kernel, and for m = 4 it is 64 instead of 400 for 5 x 5. All of
it is linear, so backward uses the same matrices, transposed.

n images, c channels, o maps, th x tw tiles. In between, the numbers of all images at one position lie side by side, in
runs of n c.
"""

from typing import Any

from tinyalex.devices.device import Array
from tinyalex.layers.convolution import Conv2d
from tinyalex.layers.cook_toom import POINTS, cook_toom
from tinyalex.layers.layer import grouped
from tinyalex.randomness import Step

FEW = 8  # channels from which on this pays: with an image's 3, which need no gradient, im2col is faster


class WinogradConv2d(Conv2d):
    """`Conv2d` by Winograd's algorithm: the same parameters and, up to rounding, the same results.

    A stride s is turned into stride 1 first: the pixels of an s x s block become channels, and r = ceil(k / s).
    On a GPU, and without images, it computes as `Conv2d` does.

    Raises
    ------
    ShapeError
        If there are no transforms for the kernel and stride (`computes`).
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        k, s, *_ = self.geometry.values()
        self.expect(
            self.computes(k, s, self.groups),
            f"kernel {k}, stride {s}, groups {self.groups}",
            "ceil(kernel / stride) 3 or 5, and one group if the stride is 2 or more: use Conv2d",
        )
        self.kept: dict[str, Array] = {}  # U while a batch is computed, shared with all replicas

    @staticmethod
    def computes(kernel: int, stride: int = 1, groups: int = 1) -> bool:
        """Whether there are transforms for such a convolution."""
        return -(-kernel // stride) in {r for _, r in POINTS} and (stride == 1 or groups == 1)

    @classmethod
    def supports(cls, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> bool:
        """Whether there are transforms for such a convolution, and enough channels in each product to pay for them."""
        return channels // groups * stride**2 >= FEW and cls.computes(kernel, stride, groups)

    def tiling(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return a tile's outputs m, chosen for the fewest products, and the number of tiles down and across."""
        (ho, wo, _), r = self.output_shape(shape), self._taps
        tilings = [(m, -(-ho // m), -(-wo // m)) for m, size in POINTS if size == r]
        return min(tilings, key=lambda tiling: tiling[1] * tiling[2] * (tiling[0] + r - 1) ** 2)

    def transforms(self, shape: tuple[int, ...]) -> tuple[tuple[Array, ...], int]:
        """Return A, G and B for images of this shape, in float64 on the host, and the index of the point 1."""
        m = self.tiling(shape)[0]
        return cook_toom(m, POINTS[m, self._taps]), self._one(m)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"kept": {}}

    def prepare(self, shape: tuple[int, ...]) -> None:
        self.release()
        if self.device.on_host:
            self.kept["U"] = self._kernels(self.tiling(shape)[0])

    def release(self) -> None:
        self.kept.clear()

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        if not self.device.on_host or not len(x):
            return super().forward(x, training, step)
        (ho, wo, o), (m, th, tw), n = self.check_input(x), self.tiling(x.shape[1:]), len(x)
        xp, (A, _, B) = self.device.xp, self._transforms(m, x)
        U, rows = self._kernels(m), self._rows(B.T, *self._blocks(x, m, th, tw), m, th, tw)
        t, dtype, one = len(A), xp.result_type(rows, U), self._one(m)
        M, half = self.device.empty((t, th * tw * n, o), dtype), self.device.empty((t, m, th, tw, n, o), dtype)
        for i in range(t):  # one row of the t x t positions at a time, to stay in cache
            V = self._combine(B.T, rows[i]).reshape(t, th * tw * n, -1)
            for inputs, outputs in grouped(V.shape[2], o, self.groups):
                xp.matmul(V[..., inputs], U[i][..., outputs], out=M[..., outputs])
            if i == one:
                M[one] += self.b.value  # A' adds the numbers of this position to all outputs of a tile
            self._combine(A.T, xp.moveaxis(M.reshape(t, th * tw, n * o), 0, -2), half[i].reshape(m, th * tw, n * o))
        y = self.device.empty((n, th, m, tw, m, o), dtype)
        self._combine(A.T, xp.moveaxis(half, 0, -2), y.transpose(2, 4, 1, 3, 0, 5))
        self.saved = x
        return y.reshape(n, th * m, tw * m, o)[:, :ho, :wo]

    def backward(self, dy: Array) -> Array | None:
        # Y = A' (V * U) A with V = B' D B, U = G W G':
        # dM = A dY A',  dU = V' dM,  dW = G' dU G,  dV = dM U',  dD = B dV B'
        if not self.device.on_host or not len(dy):
            return super().backward(dy)
        x, (n, *_, o), xp = self.pop_saved(), dy.shape, self.device.xp
        m, th, tw = self.tiling(x.shape[1:])
        blocks, before = self._blocks(x, m, th, tw)
        U, (A, G, B) = self._kernels(m), self._transforms(m, dy)
        rows, drows = self._rows(B.T, blocks, before, m, th, tw), self._rows(A, dy, 0, m, th, tw)
        t, c, one = len(A), x.shape[3] * self.geometry["stride"] ** 2, self._one(m)
        dU = self.device.empty((t, t, c // self.groups, o), dy.dtype)
        dV = self.device.empty((t, th * tw * n, c), dy.dtype)
        dcolumns = self.device.empty((t, th, tw * m + t - m, n * c), dy.dtype)
        for i in range(t):
            V = self._combine(B.T, rows[i]).reshape(dV.shape)
            dM = self._combine(A, drows[i]).reshape(t, th * tw * n, o)
            if i == one:
                self.b.grad[...] = dM[one].sum(axis=0)
            for inputs, outputs in grouped(c, o, self.groups):
                xp.matmul(V[..., inputs].swapaxes(1, 2), dM[..., outputs], out=dU[i][..., outputs])
                if self.input_gradient:
                    xp.matmul(dM[..., outputs], U[i][..., outputs].swapaxes(1, 2), out=dV[..., inputs])
            if self.input_gradient:
                self._overlap(B, dV.reshape(t, th, tw, n * c), dcolumns[i], m)
        self.W.grad[...] = self._unfold(self._both(G.T, dU))
        if not self.input_gradient:
            return None
        return self._pixels(self._images(B, dcolumns, blocks.shape, before, m), x.shape)

    def _transforms(self, m: int, like: Array) -> list[Array]:
        return [self.device.put(matrix.astype(like.real.dtype)) for matrix in cook_toom(m, POINTS[m, self._taps])]

    @property
    def _taps(self) -> int:
        return -(-self.geometry["kernel"] // self.geometry["stride"])

    def _one(self, m: int) -> int:
        # The point 1, where the value of a polynomial is the sum of its coefficients.
        return POINTS[m, self._taps].index("1")

    def _kernels(self, m: int) -> Array:
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

    def _unfold(self, dW: Array) -> Array:
        # (r, r, s s c, o) to (k, k, c, o)
        k, s = self.geometry["kernel"], self.geometry["stride"]
        r, c, o = len(dW), dW.shape[2] // s**2, dW.shape[3]
        return dW.reshape(r, r, s, s, c, o).transpose(0, 2, 1, 3, 4, 5).reshape(r * s, r * s, c, o)[:k, :k]

    def _both(self, matrix: Array, kernels: Array) -> Array:
        # A matrix (q, r) applied in both directions: (r, r, c, o) to (q, q, c, o).
        rows = self._combine(matrix, kernels.transpose(1, 2, 0, 3))
        out = self.device.empty((len(matrix), *rows.shape[:1], *rows.shape[2:]), rows.dtype)
        return self._combine(matrix, rows.swapaxes(1, 2), out).swapaxes(0, 1)

    def _blocks(self, x: Array, m: int, th: int, tw: int) -> tuple[Array, int]:
        # Blocks of s x s pixels as channels, all images' side by side, with the padding: (1, height, width, n s s c).
        # Where s is 1, x itself, and the padding that is still to be added.
        (n, _, _, c), (k, s, p, _) = x.shape, self.geometry.values()
        if s == 1:
            return x, p
        height, width = (m * tiles + -(-k // s) - 1 for tiles in (th, tw))
        padded = self.device.zeros((n, height * s, width * s, c), x.dtype)
        inside = x[:, : height * s - p, : width * s - p]
        padded[:, p : p + inside.shape[1], p : p + inside.shape[2]] = inside
        blocks = self.device.empty((height, width, n, s, s, c), x.dtype)
        blocks[...] = padded.reshape(n, height, s, width, s, c).transpose(1, 3, 0, 2, 4, 5)
        return blocks.reshape(1, height, width, n * s * s * c), 0

    def _pixels(self, blocks: Array, shape: tuple[int, ...]) -> Array:
        # The reverse of `_blocks`: to (n, h, w, c), without the padding.
        (n, h, w, c), (_, s, p, _), (_, height, width, _) = shape, self.geometry.values(), blocks.shape
        if s == 1:
            return blocks
        pixels = blocks.reshape(height, width, n, s, s, c).transpose(2, 0, 3, 1, 4, 5)
        inside = pixels.reshape(n, height * s, width * s, c)[:, p : p + h, p : p + w]
        x = self.device.zeros(shape, blocks.dtype)
        x[:, : inside.shape[1], : inside.shape[2]] = inside
        return x

    def _rows(self, matrix: Array, images: Array, before: int, m: int, th: int, tw: int) -> Array:
        # The matrix (q, window) times every m-th window of rows of images (n, h, w, c), from `before` pixels outside,
        # where all is zero: (q, th, width, n c). Of these, return the windows of columns, (q, th, tw, window, n c).
        (n, h, w, c), (q, window) = images.shape, matrix.shape
        rows = self.device.empty((q, th, m * (tw - 1) + window, n, c), images.dtype)
        rows[:, :, :before] = 0
        rows[:, :, before + w :] = 0
        for tile in range(th):
            top = tile * m - before
            low, high = self._inside(top, window, h)
            lines = images[:, low:high].transpose(2, 0, 1, 3)
            self._combine(matrix[:, low - top : high - top], lines, rows[:, tile, before : before + w])
        view = self.device.xp.lib.stride_tricks.sliding_window_view(rows.reshape(q, th, -1, n * c), window, 2)
        return view[:, :, ::m].swapaxes(3, 4)

    def _images(self, matrix: Array, rows: Array, shape: tuple[int, ...], before: int, m: int) -> Array:
        # The reverse of `_rows`: windows of rows that overlap are added up.
        (n, h, w, c), done = shape, 0
        images = self.device.empty(shape, rows.dtype)
        rows = rows[:, :, before : before + w]
        for tile in range(rows.shape[1]):
            lines = self._combine(matrix, self.device.xp.moveaxis(rows[:, tile], 0, -2))
            lines = lines.reshape(-1, w, n, c).transpose(2, 0, 1, 3)
            top = tile * m - before
            low, high = self._inside(top, len(matrix), h)
            images[:, low:done] += lines[:, low - top : done - top]
            images[:, done:high] = lines[:, done - top : high - top]
            done = high
        images[:, done:] = 0
        return images

    @staticmethod
    def _inside(top: int, window: int, size: int) -> tuple[int, int]:
        # The first and last row of a window that are inside the image.
        return min(max(top, 0), size), min(max(top + window, 0), size)

    def _combine(self, matrix: Array, lines: Array, out: Array | None = None) -> Array:
        # Sums of lines (..., w, l) with the weights of a matrix (q, w): (q, ..., l). Many small products, which BLAS
        # computes without copying their factors, take half the time of one large product, which it copies first.
        if out is None:
            out = self.device.empty((len(matrix), *lines.shape[:-2], lines.shape[-1]), lines.dtype)
        self.device.xp.matmul(matrix, lines, out=self.device.xp.moveaxis(out, 0, -2))
        return out

    def _overlap(self, matrix: Array, tiles: Array, columns: Array, m: int) -> None:
        # The adjoint of taking windows of columns: B times tiles (t, th, tw, n c), where neighbours share r - 1 of the
        # columns (th, tw m + r - 1, n c).
        xp, (_, th, tw, size) = self.device.xp, tiles.shape
        tiles, last = xp.moveaxis(tiles, 0, -2), m * (tw - 1) + 1
        self._combine(matrix[:m], tiles, columns[:, : m * tw].reshape(th, tw, m, size).transpose(2, 0, 1, 3))
        columns[:, m * tw :] = 0
        for i, column in enumerate(self._combine(matrix[m:], tiles), m):
            columns[:, i : i + last : m] += column
