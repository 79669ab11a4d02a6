"""Activations stored in bfloat16: half the memory and half the bytes to move (recipes: ``net.precision = "bf16"``).

After every layer its output, and in backward the gradient of its input, is rounded to bfloat16 and stored. What layers
compute is in float32: sums, biases, dropout, normalization, the loss. Weights, their gradients and momenta are float32
as well; a matrix product rounds a copy of the weights (`Device.matmul`). The logits are not rounded. There is no loss
scaling, because bfloat16 has the exponents of float32.

See Micikevicius et al., "Mixed Precision Training" (arXiv:1710.03740), on the float32 copy of the weights, and Kalamkar
et al., "A Study of BFLOAT16 for Deep Learning Training" (arXiv:1905.12322).
"""

from collections.abc import Iterable, Sequence

from tinyalex.devices.bfloat16 import BFLOAT16
from tinyalex.devices.device import Array, Device
from tinyalex.layers import LRN, AvgPool, ChannelSlice, Layer, MaxPool, ReLU, SpatialNorm
from tinyalex.network.columns import ForwardHook, Stage
from tinyalex.network.fusion import FusedLayer
from tinyalex.randomness import Step

# With CUDA kernels, these read arrays stored in bfloat16; the others read float32.
_READ_BFLOAT16 = FusedLayer, ReLU, MaxPool, AvgPool, LRN, SpatialNorm, ChannelSlice


class Bfloat16Stage(Stage):
    """A stage that stores its layers' outputs and gradients in bfloat16.

    Parameters
    ----------
    stage : Stage
        Its layers and exchange are used as they are.
    logits : list of Layer
        The layers whose outputs stay in float32.
    """

    def __init__(self, stage: Stage, logits: Iterable[Layer]) -> None:
        super().__init__(stage.name, stage.exchange, stage.columns)
        self._logits = {parameter for layer in logits for parameter in layer.parameters}

    def forward(
        self,
        xs: Sequence[Array],
        devices: Sequence[Device],
        *,
        training: bool = False,
        step: Step | None = None,
        forward_hook: ForwardHook | None = None,
    ) -> list[Array]:
        """Run every column as `Stage.forward` does; ``forward_hook`` gets outputs in float32."""
        ys = self.exchange.forward(xs, devices)
        self._computed: list[list] = [[] for _ in self.columns]  # the type in which each layer computed its output
        for index, column in enumerate(self.columns):
            with devices[index] as device:
                for layer in column:
                    reads = isinstance(layer, _READ_BFLOAT16) and device.has_cuda_kernels(BFLOAT16)
                    x = device.rounded(ys[index]) if reads else device.widened(ys[index])
                    y = layer.forward(x, training=training, step=step)
                    self._computed[index].append(y.dtype)
                    ys[index] = y if self._logits.intersection(layer.parameters) else device.rounded(y)
                    if forward_hook:
                        forward_hook(layer, device.widened(ys[index]))
        return ys

    def backward(self, dys: Sequence[Array], devices: Sequence[Device]) -> list[Array]:
        """Run every column backward; each layer gets the gradient in the type in which it computed its output."""
        dys = list(dys)
        for index, column in enumerate(self.columns):
            with devices[index] as device:
                for layer, dtype in zip(reversed(column), reversed(self._computed[index]), strict=True):
                    dy = device.rounded(dys[index]) if dtype == BFLOAT16 else device.widened(dys[index])
                    dx = layer.backward(dy)
                    dys[index] = None if dx is None else device.rounded(dx)
        return self.exchange.backward(dys, devices)
