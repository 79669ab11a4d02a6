"""Response normalization: each response is divided by a power of its neighbours' energy (paper §3.3).

    y = x d^-beta,    d = k + alpha S x^2

S sums over a window of neighbours, clipped at the edges: of maps at the same place for `LRN`, of places in the same
map for `SpatialNorm`. The paper's text multiplies the sum by alpha; the 2012 code multiplies the mean over a full
window (``layer.py`` divides its scale by the size).
"""

from tinyalex.layers.layer import Layer

K, SIZE, ALPHA, BETA = 2.0, 5, 1e-4, 0.75  # paper §3.3: k, n, alpha and beta


class _ResponseNorm(Layer):
    def __init__(self, size, k, alpha, beta):
        self.size, self.k, self.alpha, self.beta = size, k, alpha, beta

    def forward(self, x, step=None):
        d = self.k + self.alpha * self._window_sum(x * x, self.size // 2)
        p = d**-self.beta
        self.saved = x, p, p / d
        return self.device.xp.multiply(x, p, out=self.device.empty(x.shape, x.dtype))

    def backward(self, dy):
        # y_i = x_i d_i^-beta and d_i takes in x_j:  dx_j = dy_j d_j^-beta - 2 alpha beta x_j S'(dy x d^(-beta - 1))_j
        x, p, q = self.recall()
        dx = self._window_sum(dy * x * q, self.size - 1 - self.size // 2)  # S' looks the other way: matters if even
        dx *= x
        dx *= -2 * self.alpha * self.beta
        dx += dy * p
        return dx


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

    def __init__(self, size=SIZE, k=K, alpha=ALPHA, beta=BETA, average=False, groups=1):
        super().__init__(size, k, alpha / size if average else alpha, beta)
        self.groups = groups

    def _window_sum(self, x, before):
        self.expect(x.shape[-1] % self.groups == 0, x.shape, f"maps in {self.groups} equal groups")
        # One row of c/g maps and size - 1 zeros after the other, so that a shift never reaches the next row's maps.
        full, x = x.shape, x.reshape(-1, x.shape[-1] // self.groups)
        shape = (len(x), x.shape[1] + self.size - 1)
        padded, total = self.device.zeros(shape, x.dtype), self.device.empty(shape, x.dtype)
        padded[:, before : before + x.shape[1]] = x
        padded, flat = padded.reshape(-1), total.reshape(-1)[: padded.size - self.size + 1]
        flat[...] = padded[: flat.size]
        for shift in range(1, self.size):
            flat += padded[shift : shift + flat.size]
        return total[:, : x.shape[1]].reshape(full)


class SpatialNorm(_ResponseNorm):
    """Normalize across places of one map; (n, h, w, c). 2012 has one after the second LRN: size 5, alpha 1e-3, k 1.

    Parameters
    ----------
    size : int
        Side of the square window.
    k, alpha, beta : float
        alpha multiplies the mean over a full window (2012).
    """

    def __init__(self, size=5, k=1.0, alpha=1e-3, beta=BETA):
        super().__init__(size, k, alpha / size**2, beta)

    def _window_sum(self, x, before):
        n, h, w, c = x.shape
        padded = self.device.zeros((n, h + self.size - 1, w + self.size - 1, c), x.dtype)
        padded[:, before : before + h, before : before + w] = x
        rows = sum(padded[:, shift : shift + h] for shift in range(self.size))
        return sum(rows[:, :, shift : shift + w] for shift in range(self.size))
