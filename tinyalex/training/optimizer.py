"""The update rule (paper §5; 2012: ``weights.cu``).

    v := 0.9 v - 0.0005 rate w - rate <dL/dw>,        w := w + v

where the gradient is the mean over the batch. Biases have their own rate and no weight decay (2012: ``epsB``, no
``wc``).

For batches of thousands of images the rates of a layer can be multiplied by its trust ratio (LARS: You, Gitman and
Ginsburg, arXiv:1708.03888), so that a step changes each layer's weights by about the same fraction::

    eta |w| / (|dL/dw| + 0.0005 |w|)
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tinyalex.devices.device import Array, Device
from tinyalex.devices.parallel import spread
from tinyalex.kernels.update import Flat
from tinyalex.layers import Parameter
from tinyalex.network.network import Network, check_tensors
from tinyalex.recipes.cuda_convnet.description import Rates


class Optimizer:
    """Stochastic gradient descent with momentum and weight decay, in the paper's form.

    Parameters
    ----------
    network : Network
        After `Network.build`. `update` reads its gradients and changes its values in place.
    momentum, weight_decay : float
        0.9 and 0.0005 in the paper.
    layer_weight_decay, layer_momentum : dict, optional
        Layer or tensor name to weight decay or momentum, where it differs (2012: every layer has its own ``wc``).
    lr_mult : dict, optional
        Layer or tensor name to multiplier of the learning rate in every update.
    lars : float
        eta of the trust ratios; 0: no ratios.

    Examples
    --------
    One step on two images, without dropout, lowers their loss:

    >>> import numpy as np
    >>> from tinyalex import Optimizer, alexnet, recipe
    >>> shapes = recipe.load("shapes", ["net.classes=12"])
    >>> network = alexnet.build(shapes.net, shapes.init)
    >>> optimizer = Optimizer(network)
    >>> images = np.zeros((2, *network.input_shape), "float32")
    >>> images[1, 20:40, 20:40] = 1
    >>> labels = np.array([3, 7])
    >>> before, _ = network.loss_and_backward(images, labels, training=False)
    >>> optimizer.update(rate=0.01)
    >>> after, _ = network.loss_and_backward(images, labels, training=False)
    >>> bool(after < before)
    True
    """

    def __init__(
        self,
        network: Network,
        momentum: float = 0.9,
        weight_decay: float = 0.0005,
        layer_weight_decay: Mapping[str, float] | None = None,
        layer_momentum: Mapping[str, float] | None = None,
        lr_mult: Mapping[str, float] | None = None,
        lars: float = 0.0,
    ) -> None:
        network.require_arrays()
        self.momentum, self.weight_decay, self.layer_weight_decay = momentum, weight_decay, layer_weight_decay or {}
        self.layer_momentum, self.lr_mult, self.lars = layer_momentum or {}, lr_mult or {}, lars
        self._network = network
        self._rows: list[tuple[Device, Parameter, Array]] = []  # (device, parameter, v) of every parameter
        # On a GPU, the parameters of a column as one flat array, updated by a single kernel.
        self._flats: list[Flat] = []
        for column, device in enumerate(network.devices):
            parameters = [p for index, layer in network.layers() if index == column for p in layer.parameters]
            with device:
                if device.has_cuda_kernels(network.dtype) and not lars:
                    self._flats.append(Flat(device, parameters, network.dtype))
                    vs = self._flats[-1].v
                else:
                    vs = [device.zeros(parameter.shape, network.dtype) for parameter in parameters]
            self._rows += zip([device] * len(vs), parameters, vs, strict=True)

    def __getstate__(self) -> dict[str, Any]:
        settings = {name: value for name, value in vars(self).items() if name not in ("_rows", "_flats")}
        return settings | {"momenta": {name: device.get(view) for name, device, view in self.tensors()}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        settings = (state[name] for name in ("_network", "momentum", "weight_decay", "layer_weight_decay"))
        self.__init__(*settings)  # type: ignore[misc]
        self.load(state["momenta"])

    def tensors(self) -> Iterator[tuple[str, Device, Array]]:
        """Yield (name, device, view of v) for every parameter, named as in `Network.state`."""
        for device, parameter, v in self._rows:
            yield from ((name, device, view) for name, view in parameter.parts(v).items())

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Copy host arrays, a dict with the names and shapes of `tensors` and nothing else, into every v.

        Raises
        ------
        CheckpointError
            As from `Network.load`.
        """
        check_tensors(arrays, {name: v.shape for name, _, v in self.tensors()}, "momenta")
        for name, device, view in self.tensors():
            with device:
                view[...] = device.put(arrays[name])

    def update(self, rate: float, bias_rate: float | None = None, lr_mult: Mapping[str, float] | None = None) -> None:
        """Update every parameter once.

        Parameters
        ----------
        rate : float
            Learning rate of the weights.
        bias_rate : float, optional
            Learning rate of the biases; `rate` if not given.
        lr_mult : dict, optional
            Layer name to multiplier of both rates, or tensor name to one of its own. 0 freezes the layer: it does not
            decay, and its momentum does not move it (2012).
        """
        rates = {"W": rate, "b": rate if bias_rate is None else bias_rate}

        def settings(parameter: Parameter) -> tuple[float, float, float]:
            own = rates[parameter.kind] * _of(self.lr_mult, parameter, 1.0) * _of(lr_mult or {}, parameter, 1.0)
            decay = _of(self.layer_weight_decay, parameter, self.weight_decay) if parameter.kind == "W" else 0.0
            return _of(self.layer_momentum, parameter, self.momentum), own, decay * own

        self._step(settings)

    def update_each(self, rates: Mapping[str, Rates]) -> None:
        """Update every parameter once, with a rate, a momentum and a weight decay of its own.

        Parameters
        ----------
        rates : dict
            By the names of `Network.state`: `tinyalex.network.cuda_convnet.rates` of the authors' files.
        """

        def settings(parameter: Parameter) -> tuple[float, float, float]:
            own = rates[f"{parameter.names[0]}/{parameter.kind}"]
            return own.momentum, own.rate, own.weight_decay * own.rate

        self._step(settings)

    def _step(self, settings: Callable[[Parameter], tuple[float, float, float]]) -> None:
        # ``settings`` returns a parameter's momentum, rate, and weight decay times the rate.
        for flat in self._flats:
            with flat.device:
                flat.update([settings(parameter) for parameter in flat.parameters])
        ratios = self._trust_ratios(settings) if self.lars else {}
        for device, parameter, v in self._rows if not self._flats else ():
            momentum, own, decay = settings(parameter)
            if own and ratios:
                width = parameter.shape[-1] // len(parameter.names)  # of a column, in the last axis
                with device:
                    ratio = device.put(np.repeat([ratios[name] for name in parameter.names], width).astype(v.dtype))
                    sgd_update(parameter.value, parameter.grad, v, momentum, own * ratio, decay * ratio)
            elif own:
                tensors, numbers = (parameter.value, parameter.grad, v), (momentum, own, decay)
                with device:
                    spread(sgd_update, tensors, *numbers) if device.on_host else sgd_update(*tensors, *numbers)

    def _trust_ratios(self, settings: Callable[[Parameter], tuple[float, float, float]]) -> dict[str, float]:
        # Of each layer in each column, by its name: from the norms of its weights. Its biases get the same ratio, since
        # they begin at 0.
        ratios: dict[str, float] = {}
        for device, parameter, _ in self._rows:
            _, own, decay = settings(parameter)
            if parameter.kind == "W":
                values, gradients = parameter.parts(parameter.value), parameter.parts(parameter.grad)
                for name, view in values.items():
                    w, g = _norm(device, view), _norm(device, gradients[name])
                    below = g + (decay / own if own else 0.0) * w
                    ratios[name.split("/")[0]] = self.lars * w / below if w and below else 1.0
        return ratios


def _norm(device: Device, array: Array) -> float:
    # In float64, in a fixed order, few rows at a time.
    rows = array.reshape(-1, array.shape[-1])
    few = max(1, (1 << 18) // rows.shape[1])
    with device:
        squares = [(rows[low : low + few].astype(np.float64) ** 2).sum() for low in range(0, len(rows), few)]
        return math.sqrt(sum(float(device.get(square)) for square in squares))


def _of(table: Mapping[str, float], parameter: Parameter, default: float) -> float:
    # A tensor's own value, ``{"conv2.0/W": 0.1}``, else its layer's, ``{"conv2": 0.1}``.
    if not table:
        return default
    return table.get(f"{parameter.names[0]}/{parameter.kind}", table.get(parameter.layer, default))


def sgd_update(w: Array, g: Array, v: Array, momentum: float, rate: float | Array, decay: float | Array) -> None:
    """Update values w and momenta v in place, from gradients g; ``decay`` is the weight decay times the rate."""
    v *= momentum
    if np.ndim(decay) or decay:
        v -= decay * w
    v -= rate * g
    w += v
