"""Fusion on a GPU: the bias, ReLU and dropout after a matrix product take one pass instead of three."""

from tinyalex.kernels import rectify
from tinyalex.layers import Conv2d, Dropout, Layer, Linear, ReLU
from tinyalex.network.columns import Stage


class FusedLayer(Layer):
    """A layer with weights, and the ReLU and dropout that follow it.

    Its first part is the layer's matrix product, its second `tinyalex.kernels.rectify`.

    Parameters
    ----------
    layer : Conv2d or Linear
    relu : ReLU, optional
    dropout : Dropout, optional
    """

    def __init__(self, layer, relu=None, dropout=None):
        self.layer, self.relu, self.dropout = layer, relu, dropout
        self.names, self.device, self.W, self.b = layer.names, layer.device, layer.W, layer.b

    def forward(self, x, training=False, step=None):
        y = self.layer.product(x)
        scale = 1.0 if training or not self.dropout else 1.0 - self.dropout.p
        if training and self.dropout:
            self.device.issue_with(step, lambda step: self._rectify(y, scale, self._mask(step)))
        else:
            self._rectify(y, scale)
        self.saved = y, scale
        return y

    def _rectify(self, y, scale, mask=None):
        rectify.rectify(self.device, y, self.b.value, self.relu is not None, scale, mask)

    def _mask(self, step):
        return self.dropout.p, self.dropout.key(step), step.first, self.dropout.first_unit

    def backward(self, dy):
        # y = m max(0, z + b):  dz = dy where y > 0,  db sums dz over its rows
        y, scale = self.pop_saved()
        dz = rectify.rectify_backward(self.device, dy, y, self.b.grad, self.relu is not None, scale)
        return self.layer.product_backward(dz)


def fuse(stage):
    """Return a stage that computes the same with fused layers; its `Parameter` objects are the same."""
    columns = []
    for column in stage.columns:
        layers = []
        for layer in column:
            last = layers[-1] if layers and isinstance(layers[-1], FusedLayer) else None
            if isinstance(layer, Conv2d | Linear):
                layers.append(FusedLayer(layer))
            elif isinstance(layer, ReLU) and last and not last.relu:
                last.relu = layer
            elif (
                isinstance(layer, Dropout)
                and last
                and last.relu
                and not last.dropout
                and isinstance(last.layer, Linear)
            ):
                last.dropout = layer
            else:
                layers.append(layer)
        columns.append(layers)
    return Stage(stage.name, stage.exchange, columns)
