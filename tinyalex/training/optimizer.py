"""The update rule (paper §5; 2012: ``weights.cu``).

    v := 0.9 v - 0.0005 rate w - rate <dL/dw>,        w := w + v

with the gradient averaged over the batch. Biases have a rate of their own and do not decay (2012: ``epsB``, no ``wc``).
"""

from tinyalex.devices.parallel import spread
from tinyalex.kernels.update import Flat


class Optimizer:
    """Stochastic gradient descent with momentum, as the paper writes it.

    Parameters
    ----------
    network : Network
        Built; its gradients are read, its values are changed in place.
    momentum, weight_decay : float
        0.9 and 0.0005 in the paper.
    layer_weight_decay : dict, optional
        Layer name to a decay of its own (2012: every layer has its ``wc``).
    """

    def __init__(self, network, momentum=0.9, weight_decay=0.0005, layer_weight_decay=None):
        self.momentum, self.weight_decay, self.layer_weight_decay = momentum, weight_decay, layer_weight_decay or {}
        self._rows, self._flats = [], []  # (device, parameter, v); and what a card updates in one pass
        for column, device in enumerate(network.devices):
            parameters = [p for index, layer in network.layers() if index == column for p in layer.parameters]
            with device:
                if device.has_cuda_kernels(network.dtype):
                    self._flats.append(Flat(device, parameters, network.dtype))
                    vs = self._flats[-1].v
                else:
                    vs = [device.zeros(parameter.shape, network.dtype) for parameter in parameters]
            self._rows += zip([device] * len(vs), parameters, vs, strict=True)

    def tensors(self):
        """Yield (name, device, view) of every v, named as in `Network.state`."""
        for device, parameter, v in self._rows:
            yield from ((name, device, view) for name, view in parameter.parts(v).items())

    def load(self, arrays):
        """Copy host arrays, by the names of `tensors`, into every v."""
        for name, device, view in self.tensors():
            with device:
                view[...] = device.put(arrays[name])

    def update(self, rate, bias_rate=None, lr_mult=None):
        """Take one step.

        Parameters
        ----------
        rate : float
            Of the weights.
        bias_rate : float, optional
            Of the biases; the same as the weights' if not given.
        lr_mult : dict, optional
            Layer name to multiplier of its rates. With 0 the layer stands still: no decay and no coasting (2012).
        """
        rates = {"W": rate, "b": rate if bias_rate is None else bias_rate}

        def of(parameter):  # its rate, and what it decays by
            own = rates[parameter.kind] * (lr_mult or {}).get(parameter.layer, 1.0)
            decay = self.layer_weight_decay.get(parameter.layer, self.weight_decay) if parameter.kind == "W" else 0.0
            return own, decay * own

        for flat in self._flats:
            with flat.device:
                flat.update(self.momentum, [of(parameter) for parameter in flat.parameters])
        for device, parameter, v in self._rows if not self._flats else ():
            own, decay = of(parameter)
            if own:
                tensors, settings = (parameter.value, parameter.grad, v), (self.momentum, own, decay)
                with device:
                    spread(move, tensors, *settings) if device.on_host else move(*tensors, *settings)


def move(w, g, v, momentum, rate, decay):
    """Change a parameter's values and its v; ``decay`` is the weight decay times the rate."""
    v *= momentum
    if decay:
        v -= decay * w
    v -= rate * g
    w += v
