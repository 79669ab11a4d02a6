"""The update rule (paper §5; 2012: ``weights.cu``).

    v := 0.9 v - 0.0005 rate w - rate <dL/dw>,        w := w + v

with the gradient averaged over the batch. Biases have a rate of their own and do not decay (2012: ``epsB``, no ``wc``).
"""

from tinyalex.parallel import ranges, workers

_CHUNK = 1 << 15  # elements: three float32 arrays of this length stay in a core's cache


class Optimizer:
    """Stochastic gradient descent with momentum, as the paper writes it.

    Parameters
    ----------
    network : Network
        Built; its gradients are read, its values are changed in place.
    momentum, decay : float
        0.9 and 0.0005 in the paper.
    decays : dict, optional
        Layer name to a decay of its own (2012: every layer has its ``wc``).
    """

    def __init__(self, network, momentum=0.9, decay=0.0005, decays=None):
        self.momentum, self.decay, self.decays = momentum, decay, decays or {}
        self._rows = []  # (device, parameter, v)
        for index, layer in network.layers():
            device = network.devices[index]
            with device:
                for parameter in layer.parameters:
                    self._rows.append((device, parameter, device.zeros(parameter.shape, parameter.value.dtype)))

    def tensors(self):
        """Yield (name, device, view) of every v, named as in `Network.state`."""
        for device, parameter, v in self._rows:
            yield from ((name, device, view) for name, view in parameter.parts(v).items())

    def load(self, arrays):
        """Copy host arrays, by the names of `tensors`, into every v."""
        for name, device, view in self.tensors():
            with device:
                view[...] = device.put(arrays[name])

    def update(self, rate, bias_rate=None, slow=None):
        """Take one step.

        Parameters
        ----------
        rate : float
            Of the weights.
        bias_rate : float, optional
            Of the biases; the same as the weights' if not given.
        slow : dict, optional
            Layer name to multiplier of its rates. With 0 the layer stands still: no decay and no coasting (2012).
        """
        for device, parameter, v in self._rows:
            own = rate if parameter.kind == "W" or bias_rate is None else bias_rate
            own *= (slow or {}).get(parameter.layer, 1.0)
            if own:
                with device:
                    self._move(device, parameter, v, own)

    def _move(self, device, parameter, v, rate):
        w, g, v = (array.reshape(-1) for array in (parameter.value, parameter.grad, v))
        decay = self.decays.get(parameter.layer, self.decay) * rate if parameter.kind == "W" else 0.0

        def move(part):
            v[part] *= self.momentum
            if decay:
                v[part] -= decay * w[part]
            v[part] -= rate * g[part]
            w[part] += v[part]

        if not device.on_host:
            move(slice(None))
            return

        def share(part):
            for low in range(part.start, part.stop, _CHUNK):
                move(slice(low, min(low + _CHUNK, part.stop)))

        workers().run(share, ranges(len(w), workers().count if len(w) > _CHUNK else 1))
