"""Dropout as the paper has it (§4.2): in training half the units are silent, at test all speak at half strength.

training:  y = m x,  m drawn anew for every image and step        test:  y = (1 - p) x
"""

from tinyalex import randomness
from tinyalex.errors import UsageError
from tinyalex.layers.layer import Layer


class Dropout(Layer):
    """Silence units of (n, m) with probability p.

    The mask is a function of the seed, the layer's name, the step, the image's place in the batch and the unit's
    number in the whole layer: columns, workers and devices cannot change it.

    Parameters
    ----------
    p : float, less than 1
    stream : str
        Name of the layer whose units these are, without its column.
    first_unit : int
        Number of the first unit here; a second column's units follow the first's.
    """

    def __init__(self, p=0.5, stream="", first_unit=0):
        self.p, self.stream, self.first_unit = p, stream, first_unit

    def forward(self, x, training=False, step=None):
        if not training:
            self.saved = 1 - self.p
            return x * (1 - self.p)
        xp, key = self.device.xp, self.key(step)
        images = xp.arange(step.first, step.first + len(x))[:, None]
        units = xp.arange(self.first_unit, self.first_unit + x.shape[1])
        self.saved = randomness.bits(key, images, units, xp=xp) >= int(self.p * 2**32)  # (n, m)
        return x * self.saved

    def key(self, step):
        """Return the key of a step's mask, for `randomness.bits`."""
        if step is None:
            raise UsageError(
                f"{self.name or 'Dropout'}: in training the mask is drawn from a step; pass step=Step(seed, number), "
                "or training=False"
            )
        return randomness.key(step.seed, "dropout", self.stream, step.number)

    def backward(self, dy):
        # y = m x with m fixed:  dx = m dy
        return dy * self.pop_saved()
