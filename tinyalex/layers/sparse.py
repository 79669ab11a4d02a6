"""Deals the channels to the groups of the convolution that follows, at random (2012: ``randSparse``)."""

from typing import Any, Self

from tinyalex import randomness
from tinyalex.devices.device import Array, Device, DTypeLike
from tinyalex.layers.layer import Layer
from tinyalex.randomness import Step


class DealChannels(Layer):
    """Map (n, ..., c) to (n, ..., m), m a multiple of c: shuffled packs of all channels, one after the other.

    With g groups of f channels each in the convolution that follows, m is g f, and each channel is seen by g f / c
    groups. The order is a function of the layer's name, as the authors' own order is not known.

    Parameters
    ----------
    channels, dealt : int
        c and m.

    Raises
    ------
    ShapeError
        If an argument is not a whole number from 1 on, or m not a multiple of c.

    Examples
    --------
    >>> import numpy as np
    >>> deal = DealChannels(3, 6).named("conv2").build()
    >>> deal.forward(np.array([[0.0, 10.0, 20.0]]))
    array([[20.,  0., 10., 20.,  0., 10.]])
    """

    def __init__(self, channels: int, dealt: int) -> None:
        self.channels, self.dealt = self.whole(channels=channels, dealt=dealt)
        self.expect(dealt % channels == 0, f"{dealt} channels to deal", f"a multiple of the {channels} channels")
        self.packs: list[tuple[Array, Array]] = []

    def __getstate__(self) -> dict[str, Any]:
        packs = self.packs if self.device.kind == "cpu" else [tuple(map(self.device.get, pack)) for pack in self.packs]
        return super().__getstate__() | {"packs": packs}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self.device.kind != "cpu":
            self.packs = [(self.device.put(order), self.device.put(place)) for order, place in self.packs]

    @property
    def built(self) -> bool:
        return bool(self.packs)

    def build(self, device: Device | None = None, seed: int | None = 0, dtype: DTypeLike = "float32") -> Self:
        super().build(device or self.device, seed, dtype)
        keys = [randomness.key(pack, "connections", self.name) for pack in range(self.dealt // self.channels)]
        packs = [randomness.permutation(key, self.channels) for key in keys]
        # Each pack's channels in their order, and where each channel is in the pack.
        self.packs = [(self.device.put(pack), self.device.put(pack.argsort())) for pack in packs]
        return self

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self.expect(shape[-1:] == (self.channels,), shape, f"{self.channels} channels")
        return *shape[:-1], self.dealt

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        self.check_input(x)
        self.saved = ()
        return self.device.xp.concatenate([x[..., order] for order, _ in self.packs], axis=-1)

    def backward(self, dy: Array) -> Array:
        # A channel's gradient is the sum over the packs that it is in.
        self.pop_saved()
        c = self.channels
        return sum(dy[..., n * c : (n + 1) * c][..., place] for n, (_, place) in enumerate(self.packs))
