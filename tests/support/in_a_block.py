"""A layer that computes by its fast form for NumPy, with the interface of a layer, so that checks of layers apply."""

from tinyalex.kernels.cpu.scratch import Scratch
from tinyalex.network.fast import Batch, ColumnBlock, form_of


class InABlock:
    """A layer after `build`, whose fast form computes blocks of as many images as come, or of ``more``.

    Parameters
    ----------
    layer : Layer
    more : int
        Images in a block beyond those that are given.
    """

    def __init__(self, layer, more=0):
        self.layer, self.more, self.device, self.parameters = layer, more, layer.device, layer.parameters
        self.saved = None

    @property
    def name(self):
        return self.layer.name

    @property
    def W(self):
        return self.layer.W

    @property
    def b(self):
        return self.layer.b

    def forward(self, x, training=False, step=None):
        size, scratch = len(x) + self.more, Scratch(x.dtype)
        form = form_of(self.layer, x.shape[1:], x.dtype)
        form_of_parameters = [p.value for p in self.parameters]
        if self.parameters:
            form.prepare(*form_of_parameters)
        block = ColumnBlock([(self.layer, form)], x.shape[1:], size, scratch, True)
        batch = Batch(len(x), True, training, step)
        self.saved = form, block, batch, scratch
        return block.forward(x, batch).copy()

    def backward(self, dy):
        form, block, batch, scratch = self.saved
        dx = block.backward(dy, batch)
        if self.parameters:
            form.finish([form.gradients(scratch)], *(p.grad for p in self.parameters))
        return dx


class BlockCase:
    """A case of layer_cases.py whose layer computes by its fast form."""

    def __init__(self, case, more=0):
        self.case, self.more = case, more
        self.shape, self.options, self.forward, self.backward = case.shape, case.options, case.forward, case.backward
        self.x = case.x

    def build(self, device, dtype="float64"):
        return InABlock(self.case.build(device, dtype), self.more)

    def run(self, layer, x, dy=None):
        return self.case.run(layer, x, dy)
