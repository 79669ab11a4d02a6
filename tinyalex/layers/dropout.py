"""Dropout as in the paper (§4.2): in training each unit is zero with probability p, at test all are scaled by 1 - p.

training:  y = m x,  with a new random mask m of 0 and 1 for every image and step        test:  y = (1 - p) x
"""

import math

from tinyalex import randomness
from tinyalex.devices.device import Array
from tinyalex.errors import UsageError
from tinyalex.layers.layer import Layer
from tinyalex.randomness import Step


class Dropout(Layer):
    """Set units of (n, m), or numbers of maps (n, h, w, c), to zero with probability p.

    The mask is a function of the seed, the layer's name, the step, the image's position in the batch and the unit's
    index in the whole layer, so it does not depend on columns, workers or devices.

    Parameters
    ----------
    p : float
        0 or more, less than 1.
    stream : str
        Name of the layer whose units these are, without its column: ``fc6``.
    first_unit : int
        Index of this layer's first unit in the whole layer; the second column's units follow the first column's.

    Raises
    ------
    ShapeError
        If an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> Dropout(0.5, "fc6").forward(np.ones((1, 8)), training=True, step=randomness.Step(seed=0, number=0))
    array([[0., 0., 1., 1., 0., 1., 0., 1.]])
    >>> Dropout(0.5, "fc6").forward(np.ones((1, 8)))
    array([[0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]])
    """

    def __init__(self, p: float = 0.5, stream: str = "", first_unit: int = 0) -> None:
        (self.p,), (self.first_unit,) = self.real(0, 1, p=p), self.whole(0, first_unit=first_unit)
        self.expect(isinstance(stream, str), f"stream {stream!r}", "the layer's name, such as 'fc6'")
        self.stream = stream

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self.expect(len(shape) in (1, 3), shape, "(units,) or (height, width, maps)")
        return shape

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        self.check_input(x)
        if not training:
            self.saved = 1 - self.p
            return x * (1 - self.p)
        xp, key = self.device.xp, self.key(step)
        assert step is not None  # key has checked it
        images = xp.arange(step.first, step.first + len(x))[:, None]
        units = xp.arange(self.first_unit, self.first_unit + math.prod(x.shape[1:]))
        mask = randomness.bits(key, images, units, xp=xp) >= int(self.p * 2**32)  # (n, m)
        self.saved = mask.reshape(x.shape)
        return xp.where(self.saved, x, 0)

    def key(self, step: Step | None) -> int:
        """Return the key of a step's mask, for `randomness.bits`."""
        if step is None:
            raise UsageError(
                f"{self.name or 'Dropout'}: the mask for training is drawn from a step; pass step=Step(seed, number), "
                "or training=False"
            )
        return randomness.key(step.seed, "dropout", self.stream, step.number)

    def backward(self, dy: Array) -> Array:
        # y = m x with m fixed:  dx = m dy
        m = self.pop_saved()
        return dy * m if isinstance(m, float) else self.device.xp.where(m, dy, 0)
