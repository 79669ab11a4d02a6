"""Build the same network in PyTorch (its twin), from the description of its layers.

Each layer becomes a module of the same name, with the same first values, that computes the same numbers. In PyTorch
kernels are (o, c, k, k) and activations (n, c, h, w); where windows extend beyond the right and lower edge, the images
are padded there. PyTorch is imported when a twin is built.
"""

import contextlib
from collections import OrderedDict

from tinyalex import layers as ours
from tinyalex.bench.cpu_floor import without_column
from tinyalex.errors import UsageError
from tinyalex.layers.layer import grouped


def twin(network, seed=0, dtype="float32", shifted=False):
    """Build the twin of a described network on one device.

    Parameters
    ----------
    network : Network
        It keeps no arrays: its layers draw their first values one after the other.
    seed : int
    dtype : str
    shifted : bool
        Whether normalization across maps is `shifted_norm` instead of PyTorch's own.

    Returns
    -------
    torch.nn.Sequential
        From images, (n, c, h, w), to logits.

    Raises
    ------
    UsageError
        For a layer that has no counterpart in PyTorch.
    """
    from torch import nn

    modules, shape = {}, network.input_shape
    for _, layer in network.layers():
        if not _has_twin(layer):
            kind = type(layer).__name__
            raise UsageError(f"{layer.name}: PyTorch has no {kind} to compare with; leave torch out of --contenders")
        make = _TWINS.get(type(layer), _convolution)
        make = _shifted_lrn if shifted and isinstance(layer, ours.LRN) else make
        with _first_values(layer, seed, dtype):
            modules[without_column(layer.name)] = make(layer, shape)
        shape = layer.output_shape(shape)
    return nn.Sequential(OrderedDict(modules))


def has_twin(network):
    """Whether PyTorch has all layers of a described network."""
    return all(_has_twin(layer) for _, layer in network.layers())


def _has_twin(layer):
    return type(layer) in _TWINS or isinstance(layer, ours.Conv2d)


@contextlib.contextmanager
def _first_values(layer, seed, dtype):
    # Build the layer for the duration of the block only: the net in both forms would raise the peak of memory.
    layer.build(seed=seed, dtype=dtype)
    try:
        yield
    finally:
        for parameter in layer.parameters:
            parameter.value = parameter.grad = None


def overhang(size, window, stride, pad=0):
    """Return how many zeros to add at the right or lower edge: PyTorch rounds down and then gives as many outputs."""
    return -(size + 2 * pad - window) % stride


def spatial_norm(x, alpha, k=1.0, size=5, beta=0.75):
    """Normalize (n, c, h, w) over neighbouring pixels as in 2012: at the edges too, divide by the whole window."""
    from torch.nn import functional

    mean = functional.avg_pool2d(functional.pad(x * x, (size // 2,) * 4), size, stride=1)
    return x * (k + alpha * mean) ** -beta


def shifted_norm(x, size, alpha, k=1.0, beta=0.75, groups=1):
    """Normalize (n, c, h, w) across neighbouring maps by adding shifted slices of the squares (paper, section 3.3).

    A compiler fuses them to one kernel, where PyTorch's own takes several passes over memory. The groups are normalized
    apart; arrays with the channels last stay so.
    """
    from torch.nn import functional

    apart = x.unflatten(1, (groups, x.shape[1] // groups))
    maps = apart.shape[2]
    squares = functional.pad(apart * apart, (0, 0, 0, 0, size // 2, (size - 1) // 2))
    total = sum(squares[:, :, shift : shift + maps] for shift in range(size))
    return (apart * (k + alpha * total) ** -beta).flatten(1, 2)


def _convolution(layer, shape):
    from torch import nn

    k, stride, pad, rounding = layer.geometry.values()
    below, right = (overhang(side, k, stride, pad) if rounding == "ceil" else 0 for side in shape[:2])
    uneven = below or right
    conv = nn.Conv2d(layer.channels, layer.maps, k, stride, 0 if uneven else pad, groups=layer.groups)
    _fill(conv.weight, layer.W.value.transpose(3, 2, 0, 1))
    _fill(conv.bias, layer.b.value)
    return nn.Sequential(nn.ZeroPad2d((pad, pad + right, pad, pad + below)), conv) if uneven else conv


def _linear(layer, shape):
    from torch import nn

    h, w, c = (1, 1, *layer.inputs) if len(layer.inputs) == 1 else layer.inputs
    parts = []
    for inputs, outputs in grouped(c, layer.outputs, layer.groups):
        channels, units = inputs.stop - inputs.start, outputs.stop - outputs.start
        linear = nn.Linear(h * w * channels, units)
        # tinyalex's rows are (h, w, c); PyTorch's input is a flattened (c, h, w).
        _fill(linear.weight, layer.W.value[:, outputs].reshape(h, w, channels, units).transpose(3, 2, 0, 1))
        _fill(linear.bias, layer.b.value[outputs])
        parts.append(nn.Sequential(nn.Flatten(), linear))
    return parts[0] if len(parts) == 1 else _side_by_side(parts)


def _side_by_side(parts):
    import torch

    def both(x):
        return torch.cat([part(chunk) for part, chunk in zip(parts, x.chunk(len(parts), 1), strict=True)], 1)

    return _module(both, parts)


def _lrn(layer, shape):
    from torch import nn

    norm = nn.LocalResponseNorm(layer.size, layer.alpha * layer.size, layer.beta, layer.k)  # PyTorch divides alpha by n
    if layer.groups == 1:
        return norm
    return _module(lambda x: norm(x.reshape(-1, x.shape[1] // layer.groups, *x.shape[2:])).reshape(x.shape))


def _shifted_lrn(layer, shape):
    return _module(lambda x: shifted_norm(x, layer.size, layer.alpha, layer.k, layer.beta, layer.groups))


def _spatial_norm(layer, shape):
    alpha = layer.alpha * layer.size**2
    return _module(lambda x: spatial_norm(x, alpha, layer.k, layer.size, layer.beta))


def _max_pool(layer, shape):
    from torch import nn

    return nn.MaxPool2d(layer.window, layer.stride, ceil_mode=layer.rounding == "ceil")


def _average_pool(layer, shape):
    from torch import nn

    return nn.AvgPool2d(layer.window, layer.stride, ceil_mode=layer.rounding == "ceil", count_include_pad=False)


def _dropout(layer, shape):
    from torch import nn

    kept = 1 - layer.p  # PyTorch divides by it in training; the paper multiplies by it in testing
    return nn.Sequential(nn.Dropout(layer.p), _module(lambda x: x * kept))


def _relu(layer, shape):
    from torch import nn

    return nn.ReLU(inplace=True)  # as in torchvision's AlexNet


def _tanh(layer, shape):
    from torch import nn

    return nn.Tanh()


_TWINS = {
    ours.LRN: _lrn,
    ours.SpatialNorm: _spatial_norm,
    ours.MaxPool: _max_pool,
    ours.AvgPool: _average_pool,
    ours.Linear: _linear,
    ours.Dropout: _dropout,
    ours.ReLU: _relu,
    ours.Tanh: _tanh,
}


def _module(function, parts=()):
    from torch import nn

    class Applied(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList(parts)

        def forward(self, x):
            return function(x)

    return Applied()


def _fill(tensor, array):
    # Replace the tensor's data, in the dtype of the array.
    import torch

    tensor.data = torch.tensor(array.reshape(tensor.shape))
