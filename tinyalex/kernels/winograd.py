"""Convolution with less than a third of the multiplications: Winograd's algorithm, as small matrix products.

Two polynomials can be multiplied by their values at a few points: evaluate both, multiply point by point, find the
product's coefficients again. With m and r coefficients the product has t = m + r - 1, so t points do (Cook and Toom;
"infinity", the leading coefficient, may be one). The m outputs of an r-tap kernel are the transpose of that:

    y = A' [(G g) * (B' d)],     A (t, m) and G (t, r) evaluate at the points, B' (t, t) is the inverse of that, turned

takes t products instead of m r. In two dimensions a tile of t x t pixels gives m x m outputs,

    Y = A' [(G W G') * (B' D B)] A,

and since each of the t x t places is summed over all channels, "*" becomes t x t matrix products (tiles, c) (c, o). For
m = 4 that is 36 products instead of 144 for a 3 x 3 kernel, and 64 instead of 400 for 5 x 5. All of it is linear, so
backward is the same matrices, transposed.

n images, c channels, o maps, th x tw tiles. Images lie as (height, width, n, c) here: runs of n c stay together.
"""

import math
from fractions import Fraction
from functools import cache

import numpy as np

from tinyalex.layers.convolution import Conv2d
from tinyalex.layers.layer import grouped

OUTPUTS = 4  # m
# By kernel size r, besides infinity: small fractions whose transforms enlarge rounding errors little.
POINTS = {3: ("0", "1", "-1", "2", "-1/2"), 5: ("0", "1", "-1", "2", "-2", "1/2", "-1/2")}


@cache
def cook_toom(outputs, points):
    """Derive the transforms of m outputs of an r-tap kernel, in exact fractions.

    Parameters
    ----------
    outputs : int
        m.
    points : tuple of str
        Where to evaluate, besides infinity: t - 1 = m + r - 2 different fractions.

    Returns
    -------
    A, G, B : ndarray, float64, shapes (t, m), (t, r) and (t, t)
    """
    points = [Fraction(point) for point in points]
    t = len(points) + 1
    # Lagrange's denominators, moved from B to G, leave small numbers in both.
    scale = [math.prod((p - q for q in points if q != p), start=Fraction(1)) for p in points] + [1]

    def evaluation(size):
        return [[p**j for j in range(size)] for p in points] + [[Fraction(j == size - 1) for j in range(size)]]

    G = [[value / s for value in row] for row, s in zip(evaluation(t - outputs + 1), scale, strict=True)]
    B = [[value * s for value, s in zip(row, scale, strict=True)] for row in _inverse(evaluation(t))]
    return tuple(np.array(matrix, dtype=np.float64) for matrix in (evaluation(outputs), G, B))


class WinogradConv2d(Conv2d):
    """`Conv2d` by Winograd's algorithm: the same parameters and, but for rounding, the same numbers.

    A stride s becomes 1 first: blocks of s x s pixels are taken for channels, and the kernel shrinks to ceil(k / s).
    On a CUDA device it computes as `Conv2d` does.
    """

    @staticmethod
    def suits(kernel, stride=1, groups=1):
        """Whether there are transforms for such a convolution."""
        return -(-kernel // stride) in POINTS and (stride == 1 or groups == 1)

    def forward(self, x, step=None):
        if not self.device.on_host:
            return super().forward(x, step)
        n, (ho, wo, o) = len(x), self.output_shape(x.shape[1:])
        A, _, _ = self._transforms(x)
        V, U = self._tiles(x), self._kernels()
        M = self.device.empty((*V.shape[:4], n * o), self.device.xp.result_type(V, U))
        self._products(V, U, M, n)
        y = self._spread(A.T, M)  # (th, m, tw, m, n o)
        y = y.reshape(y.shape[0] * OUTPUTS, y.shape[2] * OUTPUTS, n, o)[:ho, :wo].transpose(2, 0, 1, 3)
        self.saved = x
        return self.device.xp.add(y, self.b.value, out=self.device.empty(y.shape, y.dtype))

    def backward(self, dy):
        # Y = A' (V * U) A with V = B' D B, U = G W G':
        # dM = A dY A',  dU = V' dM,  dW = G' dU G,  dV = dM U',  dD = B dV B'
        if not self.device.on_host:
            return super().backward(dy)
        x, (n, ho, wo, o), xp = self.recall(), dy.shape, self.device.xp
        A, G, B = self._transforms(dy)
        th, tw, m = -(-ho // OUTPUTS), -(-wo // OUTPUTS), OUTPUTS
        self.b.grad[...] = dy.reshape(-1, o).sum(axis=0)
        padded = self.device.zeros((th * m, tw * m, n, o), dy.dtype)
        padded[:ho, :wo] = dy.transpose(1, 2, 0, 3)
        dM, V = self._gather(A, padded.reshape(th * m, tw * m, n * o)), self._tiles(x)
        c = V.shape[4] // n
        dU = self.device.empty((len(B), len(B), c // self.groups, o), dy.dtype)
        for inputs, outputs in grouped(c, o, self.groups):
            xp.matmul(_rows(V, n)[..., inputs].swapaxes(2, 3), _rows(dM, n)[..., outputs], out=dU[..., outputs])
        self.W.grad[...] = self._unfold(_both(xp, G.T, dU))
        if not self.input_gradient:
            return None
        dV = V  # V has done its duty
        self._products(dM, self._kernels(), dV, n, back=True)
        return self._image(self._overlap(self._spread(B, dV)), x.shape)

    def _transforms(self, like):
        size = -(-self.geometry["kernel"] // self.geometry["stride"])
        matrices = cook_toom(OUTPUTS, POINTS[size])
        return [self.device.put(matrix.astype(like.real.dtype)) for matrix in matrices]

    def _kernels(self):
        # U = G W G', (t, t, c/g, o)
        W, (k, s) = self.W.value, (self.geometry["kernel"], self.geometry["stride"])
        r, (c, o) = -(-k // s), W.shape[2:]
        _, G, _ = self._transforms(W)
        if s > 1:
            whole = self.device.zeros((r * s, r * s, c, o), W.dtype)
            whole[:k, :k] = W
            W = whole.reshape(r, s, r, s, c, o).transpose(0, 2, 1, 3, 4, 5).reshape(r, r, s * s * c, o)
        return _both(self.device.xp, G, W)

    def _unfold(self, dW):
        # (r, r, s s c, o) to (k, k, c, o)
        k, s = self.geometry["kernel"], self.geometry["stride"]
        r, c, o = len(dW), dW.shape[2] // s**2, dW.shape[3]
        return dW.reshape(r, r, s, s, c, o).transpose(0, 2, 1, 3, 4, 5).reshape(r * s, r * s, c, o)[:k, :k]

    def _tiles(self, x):
        # V = B' D B, (t, t, th, tw, n c)
        (n, _, _, c), (k, s, p, _) = x.shape, self.geometry.values()
        ho, wo, _ = self.output_shape(x.shape[1:])
        rest = -(-k // s) - 1
        height, width = -(-ho // OUTPUTS) * OUTPUTS + rest, -(-wo // OUTPUTS) * OUTPUTS + rest
        padded = self.device.zeros((n, height * s, width * s, c), x.dtype)
        inside = x[:, : height * s - p, : width * s - p]
        padded[:, p : p + inside.shape[1], p : p + inside.shape[2]] = inside
        padded = padded.reshape(n, height, s, width, s, c).transpose(1, 3, 0, 2, 4, 5)
        image = self.device.empty(padded.shape, x.dtype)
        image[...] = padded
        return self._gather(self._transforms(x)[2].T, image.reshape(height, width, n * s * s * c))

    def _gather(self, matrix, image):
        # From (height, width, n c), tile by tile and in both directions: (rows of the matrix twice, th, tw, n c).
        xp, (q, window), (_, width, size) = self.device.xp, matrix.shape, image.shape
        windows = xp.lib.stride_tricks.sliding_window_view
        view = windows(image.reshape(len(image), width * size), window, axis=0)[::OUTPUTS].swapaxes(1, 2)
        rows = xp.matmul(matrix, view, out=self.device.empty((len(view), q, width * size), image.dtype))
        view = windows(rows.reshape(len(view), q, width, size), window, axis=2)[:, :, ::OUTPUTS].swapaxes(3, 4)
        tiles = self.device.empty((q, q, len(view), view.shape[2], size), image.dtype)
        xp.matmul(matrix, view, out=tiles.transpose(2, 0, 3, 1, 4))
        return tiles

    def _spread(self, matrix, tiles):
        # From (t, t, th, tw, n c), in both directions: (th, rows of the matrix, tw, rows of the matrix, n c).
        xp, q, (t, _, th, tw, size) = self.device.xp, len(matrix), tiles.shape
        rows = self.device.empty((q, t * th * tw * size), tiles.dtype)
        rows = xp.matmul(matrix, tiles.reshape(t, -1), out=rows).reshape(q, t, th, tw, size)
        image = self.device.empty((th, q, tw, q, size), tiles.dtype)
        xp.matmul(matrix, rows.transpose(0, 2, 3, 1, 4), out=image.transpose(1, 0, 2, 3, 4))
        return image

    def _products(self, tiles, kernels, out, n, back=False):
        # At each of the t x t places (th tw n, c) (c, o), group by group; back: (th tw n, o) (o, c).
        tiles, out = _rows(tiles, n), _rows(out, n)
        channels = out.shape[3] if back else tiles.shape[3]
        for inputs, outputs in grouped(channels, self.maps, self.groups):
            if back:
                factors, source, target = kernels[..., outputs].swapaxes(2, 3), outputs, inputs
            else:
                factors, source, target = kernels[..., outputs], inputs, outputs
            self.device.xp.matmul(tiles[..., source], factors, out=out[..., target])

    def _overlap(self, tiles):
        # Neighbouring tiles share r - 1 rows and columns, which add up: to ((th + 1) m, (tw + 1) m, n c).
        th, t, tw, _, size = tiles.shape
        m, shared = OUTPUTS, t - OUTPUTS
        rows = self.device.zeros((th, t, tw + 1, m, size), tiles.dtype)
        rows[:, :, :tw] = tiles[:, :, :, :m]
        rows[:, :, 1:, :shared] += tiles[:, :, :, m:]
        image = self.device.zeros((th + 1, m, (tw + 1) * m * size), tiles.dtype)
        rows = rows.reshape(th, t, -1)
        image[:th] = rows[:, :m]
        image[1:, :shared] += rows[:, m:]
        return image.reshape((th + 1) * m, (tw + 1) * m, size)

    def _image(self, image, shape):
        # Back to (n, h, w, c), without the padding.
        (n, h, w, c), (_, s, p, _) = shape, self.geometry.values()
        height, width, _ = image.shape
        image = image.reshape(height, width, n, s, s, c).transpose(2, 0, 3, 1, 4, 5)
        image = image.reshape(n, height * s, width * s, c)[:, p : p + h, p : p + w]
        x = self.device.zeros(shape, image.dtype)
        x[:, : image.shape[1], : image.shape[2]] = image
        return x


def _rows(tiles, n):
    # (t, t, th, tw, n c) as t x t matrices (th tw n, c)
    t, _, th, tw, size = tiles.shape
    return tiles.reshape(t, t, th * tw * n, size // n)


def _both(xp, matrix, kernels):
    # A matrix (q, r) applied in both directions: (r, r, c, o) to (q, q, c, o).
    (q, r), (_, _, c, o) = matrix.shape, kernels.shape
    return xp.matmul(matrix, xp.matmul(matrix, kernels.reshape(r, -1)).reshape(q, r, c * o)).reshape(q, q, c, o)


def _inverse(matrix):
    # By Gauss and Jordan, in fractions.
    size = len(matrix)
    rows = [[*row, *(Fraction(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    for i in range(size):
        pivot = next(k for k in range(i, size) if rows[k][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for k in set(range(size)) - {i}:
            rows[k] = [a - rows[k][i] * b for a, b in zip(rows[k], rows[i], strict=True)]
    return [row[size:] for row in rows]
