"""Response normalization: each response is divided by a power of its neighbours' energy (paper §3.3).

    y = x d^-beta,    d = k + alpha S x^2

S sums over a window of neighbours, clipped at the edges: of maps at the same pixel for `LRN`, of pixels of the same map
for `SpatialNorm`. The paper's text multiplies the sum by alpha; the 2012 code multiplies the mean over a full window
(``layer.py`` divides its scale by the size).
"""

from tinyalex.devices.device import Array
from tinyalex.kernels import response as cuda_kernels
from tinyalex.layers.layer import Layer
from tinyalex.randomness import Step

K, SIZE, ALPHA, BETA = 2.0, 5, 1e-4, 0.75  # paper §3.3: k, n, alpha and beta
SCALE = 2.0**40  # in float32 x d^(-beta - 1) would be less than the smallest number if x is 1e11 or more


class _ResponseNorm(Layer):
    groups: int | None = None  # of maps; None where the windows are over pixels

    def __init__(self, size: int, k: float, alpha: float, beta: float) -> None:
        (self.size,), (self.k, self.alpha, self.beta) = self.whole(size=size), self.real(0, k=k, alpha=alpha, beta=beta)
        self.expect(self.k > 0, f"k {k!r}", "a finite number above 0, so that no response is divided by 0")

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        self.check_input(x)
        if kernels := self.kernels_for(x, cuda=cuda_kernels):
            y, self.saved = kernels.forward(self.device, x, *self._settings())
            return y
        d = self.k + self.alpha * self.window_sum(x * x, self.size // 2)
        self.saved = x, d
        return x * d**-self.beta

    def backward(self, dy: Array) -> Array:
        # y_i = x_i d_i^-beta and d_i takes in x_j:  dx_j = dy_j d_j^-beta - 2 alpha beta x_j S'(dy x d^(-beta - 1))_j
        saved = self.pop_saved()
        if kernels := self.kernels_of_forward(dy):
            return kernels.backward(self.device, dy, saved, *self._settings())
        x, d = saved
        p = d**-self.beta
        # S' sums over the i whose windows contain j. If size is even, they lie the other way round.
        cross = self.window_sum(dy * (x / d * SCALE * p), self.size - 1 - self.size // 2)
        return dy * p - 2 * self.alpha * self.beta / SCALE * (x * cross)

    def window_sum(self, a: Array, before: int) -> Array:
        """Return, for every number of a, the sum over its window, which begins ``before`` numbers before it."""
        raise NotImplementedError

    def _settings(self) -> tuple[int, float, float, float, int | None]:
        return self.size, self.k, self.alpha, self.beta, self.groups


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
        Columns side by side in the last axis; a window stays inside its column, as each column had a GPU of its own.

    Raises
    ------
    ShapeError
        If an argument is out of range: size and groups whole numbers from 1 on, k above 0, alpha and beta 0 or more.

    Examples
    --------
    >>> import numpy as np
    >>> LRN(size=3, k=1.0, alpha=1.0, beta=1.0).forward(np.array([[1.0, 1.0, 0.0, 2.0]]))  # 1/3, 1/3, 0, 2/5
    array([[0.33333333, 0.33333333, 0.        , 0.4       ]])
    """

    groups: int

    def __init__(
        self,
        size: int = SIZE,
        k: float = K,
        alpha: float = ALPHA,
        beta: float = BETA,
        average: bool = False,
        groups: int = 1,
    ) -> None:
        super().__init__(size, k, alpha, beta)
        self.alpha /= self.size if average else 1
        (self.groups,) = self.whole(groups=groups)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self.expect(shape, "an array of one dimension", "(images, ..., maps)")
        self.expect(shape[-1] % self.groups == 0, shape, f"maps in {self.groups} equal groups")
        return shape

    def window_sum(self, a: Array, before: int) -> Array:
        """Return, for every map, the sum of a over ``size`` maps, from ``before`` maps before it on."""
        maps = a.shape[-1] // self.groups
        a = a.reshape(*a.shape[:-1], self.groups, maps)
        padded = self.device.zeros((*a.shape[:-1], maps + self.size - 1), a.dtype)
        padded[..., before : before + maps] = a
        total = sum(padded[..., shift : shift + maps] for shift in range(self.size))
        return total.reshape(*a.shape[:-2], self.groups * maps)


class SpatialNorm(_ResponseNorm):
    """Normalize across pixels of one map; (n, h, w, c). 2012 has one after the second LRN: size 5, alpha 1e-3, k 1.

    Parameters
    ----------
    size : int
        Side of the square window.
    k, alpha, beta : float
        alpha multiplies the mean over a full window (2012).

    Examples
    --------
    >>> import numpy as np
    >>> SpatialNorm(size=3, k=1.0, alpha=9.0, beta=1.0).forward(np.ones((1, 3, 3, 1)))[0, 1, 1]  # 1 / (1 + 9)
    array([0.1])
    """

    def __init__(self, size: int = 5, k: float = 1.0, alpha: float = 1e-3, beta: float = BETA) -> None:
        super().__init__(size, k, alpha, beta)
        self.alpha /= self.size**2

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self.expect(len(shape) == 3, shape, "(height, width, maps)")
        return shape

    def window_sum(self, a: Array, before: int) -> Array:
        """Return, for every pixel, the sum of a over ``size`` x ``size`` pixels, from ``before`` above and left on."""
        n, h, w, c = a.shape
        padded = self.device.zeros((n, h + self.size - 1, w + self.size - 1, c), a.dtype)
        padded[:, before : before + h, before : before + w] = a
        rows = sum(padded[:, shift : shift + h] for shift in range(self.size))
        return sum(rows[:, :, shift : shift + w] for shift in range(self.size))
