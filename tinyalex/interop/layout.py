"""How other libraries order the numbers of a layer, and how this package does.

Caffe, PyTorch and ONNX keep a convolution as (o, c/g, kh, kw) with all groups' maps side by side, and a fully connected
layer as (outputs, inputs), whose inputs are maps in the order (c, h, w). Here a convolution is (kh, kw, c/g, o), a
fully connected layer (inputs, outputs) with inputs in the order (h, w, c), and each column has its own part of the
outputs. Column a's maps come before column b's, as the first group's before the second's.

Elsewhere dropout divides by the share p of the units that stay, in training; here, as in the paper, all units are
multiplied by p at test. So that the net computes the same at test, the weights of a layer that reads such units are
divided by p on the way in, and multiplied on the way out.
"""

from collections.abc import Mapping

import numpy as np

from tinyalex.errors import CheckpointError
from tinyalex.layers import Conv2d, Dropout, Layer, Linear
from tinyalex.network import alexnet
from tinyalex.recipes.recipe import Net

Weights = dict[str, tuple[np.ndarray, np.ndarray]]  # by layer, without its column: W as elsewhere, and b


def shapes(net: Net) -> dict[str, tuple[int, ...]]:
    """Return the shape of each layer's W as other libraries have it, ``{"conv2": (256, 48, 5, 5), ...}``, in order.

    Examples
    --------
    >>> shapes(Net())["fc6"]
    (4096, 9216)
    """
    return {_name(layer): _shape(layer) for layer in _layers(net)}


def to_state(net: Net, weights: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the tensors of a net, named and ordered as in `Network.state`, from the weights of another library.

    Parameters
    ----------
    net : recipe.Net
    weights : dict of str to (ndarray, ndarray)
        For each layer (``conv2``, ``fc8``) W, as in `shapes`, and b; the colours of conv1 in the order RGB.

    Returns
    -------
    dict of str to ndarray
        In float32.

    Raises
    ------
    CheckpointError
        If a layer is missing or unknown, or an array has another shape; the message names the layer.
    """
    layers = {_name(layer): layer for layer in _layers(net)}
    for name in [*(layers.keys() - weights.keys()), *(weights.keys() - layers.keys())]:
        raise CheckpointError(
            f"{name}: {'missing' if name in layers else 'not a layer of this net'}; give another file"
        )
    state: dict[str, np.ndarray] = {}
    kept = _kept(net)
    for name, layer in layers.items():
        W, b = weights[name]
        for array, wanted in ((W, _shape(layer)), (b, layer.b.shape)):
            if array.shape != wanted:
                raise CheckpointError(f"{name}: {_sizes(array.shape)} numbers, not {_sizes(wanted)} as in this net")
        for parameter, array in ((layer.W, _here(layer, W) / kept[name]), (layer.b, b)):
            state |= {key: np.ascontiguousarray(part, "float32") for key, part in parameter.parts(array).items()}
    return state


def from_state(net: Net, state: Mapping[str, np.ndarray]) -> Weights:
    """Return a net's weights as other libraries have them, in the order of the layers: the reverse of `to_state`.

    A fully connected layer whose columns do not exchange maps becomes one with zeros between them.
    """
    weights: Weights = {}
    kept = _kept(net)
    for layer in _layers(net):
        W, b = (
            np.concatenate([state[f"{name}/{parameter.kind}"] for name in parameter.names], axis=-1)
            for parameter in (layer.W, layer.b)
        )
        W = _elsewhere(layer, W) * kept[_name(layer)]
        weights[_name(layer)] = np.ascontiguousarray(W), np.ascontiguousarray(b)
    return weights


def swap_colours(W: np.ndarray) -> np.ndarray:
    """Reverse the order of the colours that a first convolution (o, 3, kh, kw) reads: from BGR to RGB, or back."""
    return W[:, ::-1]


def _layers(net: Net) -> list[Conv2d | Linear]:
    layers = [layer for _, layer in alexnet.describe(net).layers() if layer.parameters]
    return [layer for layer in layers if isinstance(layer, Conv2d | Linear)]


def _kept(net: Net) -> dict[str, float]:
    # For each layer the share of its inputs that dropout leaves.
    found, share = {}, 1.0
    for _, layer in alexnet.describe(net).layers():
        if layer.parameters:
            found[_name(layer)], share = share, 1.0
        elif isinstance(layer, Dropout):
            share = 1.0 - layer.p
    return found


def _name(layer: Layer) -> str:
    return layer.parameters[0].layer


def _shape(layer: Conv2d | Linear) -> tuple[int, ...]:
    if isinstance(layer, Conv2d):
        return layer.W.shape[3], layer.W.shape[2], *layer.W.shape[:2]
    return layer.outputs, int(np.prod(layer.inputs))


def _here(layer: Conv2d | Linear, W: np.ndarray) -> np.ndarray:
    if isinstance(layer, Conv2d):
        return W.transpose(2, 3, 1, 0)
    maps = W.T if len(layer.inputs) == 1 else _maps_last(layer, W)
    if layer.groups == 1:
        return maps
    parts = _blocks(layer, maps)
    return np.concatenate([part for _, part in parts], axis=-1)


def _elsewhere(layer: Conv2d | Linear, W: np.ndarray) -> np.ndarray:
    if isinstance(layer, Conv2d):
        return W.transpose(3, 2, 0, 1)
    inputs = int(np.prod(layer.inputs))
    if layer.groups > 1:
        whole = np.zeros((inputs, layer.outputs), W.dtype)
        for (rows, columns), _ in _blocks(layer, whole):
            whole[np.ix_(rows, columns)] = W[:, columns]
        W = whole
    if len(layer.inputs) == 1:
        return W.T
    h, w, c = layer.inputs
    return W.reshape(h, w, c, -1).transpose(3, 2, 0, 1).reshape(-1, inputs)


def _maps_last(layer: Linear, W: np.ndarray) -> np.ndarray:
    # (outputs, c h w) to (h w c, outputs)
    h, w, c = layer.inputs
    return W.reshape(-1, c, h, w).transpose(2, 3, 1, 0).reshape(h * w * c, -1)


def _blocks(layer: Linear, W: np.ndarray) -> list[tuple[tuple[np.ndarray, np.ndarray], np.ndarray]]:
    # The rows and columns of each group in W (inputs, outputs), and the numbers there.
    channels = np.arange(int(np.prod(layer.inputs))) % layer.inputs[-1]
    found = []
    for group in range(layer.groups):
        rows = np.flatnonzero(channels * layer.groups // layer.inputs[-1] == group)
        columns = np.flatnonzero(np.arange(layer.outputs) * layer.groups // layer.outputs == group)
        found.append(((rows, columns), W[np.ix_(rows, columns)]))
    return found


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "1"
