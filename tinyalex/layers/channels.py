"""Some of the channels: what a column keeps of maps that were computed from both columns'."""

from tinyalex.devices.device import Array
from tinyalex.layers.layer import Layer
from tinyalex.randomness import Step


class ChannelSlice(Layer):
    """Map (n, ..., c) to (n, ..., count): the channels from ``first`` on.

    Parameters
    ----------
    first, count : int

    Raises
    ------
    ShapeError
        If first is not a whole number from 0 on, or count not one from 1 on.

    Examples
    --------
    >>> import numpy as np
    >>> part = ChannelSlice(first=1, count=2)
    >>> part.forward(np.array([[0.0, 10.0, 20.0, 30.0]]))
    array([[10., 20.]])
    >>> part.backward(np.array([[1.0, 2.0]]))
    array([[0., 1., 2., 0.]])
    """

    def __init__(self, first: int, count: int) -> None:
        (self.first,), (self.count,) = self.whole(0, first=first), self.whole(count=count)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        needed = self.first + self.count
        self.expect(bool(shape) and shape[-1] >= needed, shape, f"(..., channels), {needed} channels or more")
        return *shape[:-1], self.count

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        self.check_input(x)
        self.saved = x.shape
        return self.device.xp.ascontiguousarray(x[..., self.first : self.first + self.count])

    def backward(self, dy: Array) -> Array:
        dx = self.device.zeros(self.pop_saved(), dy.dtype)
        dx[..., self.first : self.first + self.count] = dy
        return dx
