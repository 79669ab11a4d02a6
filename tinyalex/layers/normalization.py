"""Response normalization: each response is divided by a power of its neighbours' energy (paper §3.3).

    y = x d^-beta,    d = k + alpha S x^2

S sums over a window of neighbours, clipped at the edges: of maps at the same place for `LRN`, of places in the same
map for `SpatialNorm`. The paper's text multiplies the sum by alpha; the 2012 code multiplies the mean over a full
window (``layer.py`` divides its scale by the size).
"""

from tinyalex.devices.launch import instead
from tinyalex.devices.parallel import ranges
from tinyalex.kernels import response
from tinyalex.layers.layer import Layer

PIECE = 3 << 15  # numbers
K, SIZE, ALPHA, BETA = 2.0, 5, 1e-4, 0.75  # paper §3.3: k, n, alpha and beta


class _ResponseNorm(Layer):
    def __init__(self, size, k, alpha, beta):
        self.size, (self.k, self.alpha, self.beta) = size, map(float, (k, alpha, beta))

    @instead(response.forward)
    def forward(self, x, training=False, step=None):
        xp, shape, x = self.device.xp, x.shape, self._apart(x)
        y, u = (self.device.empty(x.shape, x.dtype) for _ in range(2))
        for i in self._pieces(x):
            d, inside = self._window_sum(x[i], x[i], self.size // 2)
            d *= self.alpha
            d += self.k
            xp.multiply(x[i], self._power(xp.divide(1, d[inside], out=u[i])), out=y[i])
        self.saved = x, u
        return y.reshape(shape)

    @instead(response.backward)
    def backward(self, dy):
        # y_i = x_i d_i^-beta and d_i takes in x_j:  dx_j = dy_j d_j^-beta - 2 alpha beta x_j S'(dy x d^(-beta - 1))_j
        (x, u), shape, dy, xp = self.pop_saved(), dy.shape, self._apart(dy), self.device.xp
        dx, after = self.device.empty(dy.shape, dy.dtype), self.size - 1 - self.size // 2
        for i in self._pieces(x):
            p = self._power(u[i])
            q = xp.multiply(x[i], p, out=dx[i])
            q *= u[i]
            cross, inside = self._window_sum(dy[i], q, after)  # S' looks the other way: matters if even
            cross *= -2 * self.alpha * self.beta
            xp.multiply(x[i], cross[inside], out=dx[i])
            dx[i] += xp.multiply(dy[i], p, out=p)  # p has done its duty
        return dx.reshape(shape)

    def _power(self, u):
        # d^-beta of u = 1 / d; the paper's beta, 3/4, is two square roots, several times as fast as a power.
        xp, out = self.device.xp, self.device.empty(u.shape, u.dtype)
        if self.beta != 0.75:
            return xp.power(u, self.beta, out=out)
        return xp.sqrt(xp.multiply(xp.sqrt(u, out=out), u, out=out), out=out)

    def _add(self, terms, out):
        out[...] = terms[0]
        for term in terms[1:]:
            out += term

    def _pieces(self, x):
        # So few rows, or images, at a time that all that is computed of them stays in cache.
        return ranges(len(x), -(-x.size // PIECE) if self.device.on_host else 1)


class LRN(_ResponseNorm):
    """Normalize across maps; (n, h, w, c) or any shape with the maps last.

    Parameters
    ----------
    size : int
        n of the paper: how many adjacent maps, from ``i - size // 2`` on.
    k, alpha, beta : float
    average : bool
        Multiply alpha by the mean over a full window instead of the sum (2012).
    groups : int
        Columns side by side in the last axis; the window stays inside its column, as each ran on a GPU of its own.
    """

    across = True  # maps; for kernels

    def __init__(self, size=SIZE, k=K, alpha=ALPHA, beta=BETA, average=False, groups=1):
        super().__init__(size, k, alpha / size if average else alpha, beta)
        self.groups = groups

    def _apart(self, x):
        # The window's rows: c/g maps at one place.
        self.expect(x.shape[-1] % self.groups == 0, x.shape, f"maps in {self.groups} equal groups")
        return x.reshape(-1, x.shape[-1] // self.groups)

    def _window_sum(self, a, b, before):
        # One row of c/g maps and size - 1 zeros after the other, so that a shift never reaches the next row's maps.
        rows, maps = a.shape
        padded = self.device.zeros((rows + 1, maps + self.size - 1), a.dtype)
        total = self.device.empty((rows, padded.shape[1]), a.dtype)
        self.device.xp.multiply(a, b, out=padded[:rows, before : before + maps])
        padded, flat = padded.reshape(-1), total.reshape(-1)
        self._add([padded[shift : shift + flat.size] for shift in range(self.size)], flat)
        return total, (slice(rows), slice(maps))


class SpatialNorm(_ResponseNorm):
    """Normalize across places of one map; (n, h, w, c). 2012 has one after the second LRN: size 5, alpha 1e-3, k 1.

    Parameters
    ----------
    size : int
        Side of the square window.
    k, alpha, beta : float
        alpha multiplies the mean over a full window (2012).
    """

    across = False  # but around, in space

    def __init__(self, size=5, k=1.0, alpha=1e-3, beta=BETA):
        super().__init__(size, k, alpha / size**2, beta)

    def _apart(self, x):
        return x

    def _window_sum(self, a, b, before):
        n, h, w, c = a.shape
        padded = self.device.zeros((n, h + self.size - 1, w + self.size - 1, c), a.dtype)
        self.device.xp.multiply(a, b, out=padded[:, before : before + h, before : before + w])
        rows, total = self.device.empty((n, h, *padded.shape[2:]), a.dtype), self.device.empty(a.shape, a.dtype)
        self._add([padded[:, shift : shift + h] for shift in range(self.size)], rows)
        self._add([rows[:, :, shift : shift + w] for shift in range(self.size)], total)
        return total, ...
