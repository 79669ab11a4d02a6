"""Contrast normalization (2012: ``cnorm``): response normalization whose energy is that of the deviations.

    y = x d^-beta,    d = k + alpha S e^2,    e = x - M x

S sums over a square window of pixels of the same map, and M averages over the same window; both are clipped at the
edges. The nets before run 137 have it where run 145 has `SpatialNorm`. The 2012 code leaves M out of its derivative;
here backward is exact.
"""

from tinyalex.devices.device import Array
from tinyalex.layers.normalization import SCALE, SpatialNorm
from tinyalex.randomness import Step


class ContrastNorm(SpatialNorm):
    """Normalize (n, h, w, c) by the contrast of the pixels around; the parameters are those of `SpatialNorm`.

    >>> import numpy as np
    >>> ContrastNorm(size=3, k=1.0, alpha=9.0, beta=1.0).forward(np.ones((1, 3, 3, 1)))[0, 1, 1]  # no contrast
    array([1.])
    """

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        self.check_input(x)
        before = self.size // 2
        area = self.window_sum(self.device.xp.ones((1, *x.shape[1:3], 1), x.real.dtype), before)
        e = x - self.window_sum(x, before) / area
        d = self.k + self.alpha * self.window_sum(e * e, before)
        self.saved = x, e, d, area
        return x * d**-self.beta

    def backward(self, dy: Array) -> Array:
        # de = -2 alpha beta e S'(dy x d^(-beta - 1)),  dx = dy d^-beta + de - S'(de / area)
        x, e, d, area = self.pop_saved()
        after = self.size - 1 - self.size // 2  # S' sums over the windows that contain a pixel
        p = d**-self.beta
        de = -2 * self.alpha * self.beta / SCALE * (e * self.window_sum(dy * (x / d * SCALE * p), after))
        return dy * p + de - self.window_sum(de / area, after)
