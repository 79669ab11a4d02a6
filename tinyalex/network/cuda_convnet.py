"""Builds the nets of cuda-convnet's files, as `tinyalex.recipes.cuda_convnet` describes them.

A layer's several inputs are joined where the layer treats them alike, and have weights of their own where they differ
(`tinyalex.layers.joined`). A nonlinearity is a layer of its own, named ``conv2a_neuron`` as in 2012. Sizes are rounded
up.

Random numbers (`tinyalex.randomness`) depend on names in the files, not on GPUs: first values on the tensor's name,
``("init", "conv2a")``; the masks of dropout on the section's, ``("dropout", "hs1a", step)``; and random connections
(``randSparse``) on the layer's and the input's number alone, ``("connections", "conv3.0 channels")``.
"""

import re
from collections.abc import Callable, Sequence

from tinyalex.errors import ShapeError, UsageError
from tinyalex.layers import (
    LRN,
    Abs,
    AvgPool,
    ContrastNorm,
    Conv2d,
    DealChannels,
    Dropout,
    ElementwiseSum,
    GaussianBlur,
    Linear,
    LocallyConnected,
    Logistic,
    MaxPool,
    ReLU,
    ScaledTanh,
    SoftReLU,
    SpatialNorm,
    Square,
    Subsample,
    SumOfInputs,
)
from tinyalex.layers import Layer as Module
from tinyalex.layers.joined import joined_shape
from tinyalex.layers.winograd import WinogradConv2d
from tinyalex.network import graph
from tinyalex.network.columns import Shape
from tinyalex.network.network import Network
from tinyalex.recipes.cuda_convnet import classes
from tinyalex.recipes.cuda_convnet.description import Description, Layer, Rates
from tinyalex.recipes.settings import Net

UNITS: dict[str, Callable[[], Module]] = {
    "relu": ReLU,
    "logistic": Logistic,
    "abs": Abs,
    "square": Square,
    "softrelu": SoftReLU,
}
_TANH = re.compile(r"tanh(?:\[([-\d.e]+),([-\d.e]+)\])?$")
_ONE_INPUT = ("pool", "cmrnorm", "rnorm", "cnorm", "hs", "blur", "nailbed", "softmax")
_POOLS = {"max": MaxPool, "avg": AvgPool}


def describe(description: Description, side: int = 224, channels: int = 3, winograd: bool = False) -> Network:
    """Lay out a net of cuda-convnet without arrays.

    Parameters
    ----------
    description : Description
    side, channels : int
        Pixels of an image, down and across, and their colours. The files do not say them.
    winograd : bool
        Compute convolutions by Winograd's algorithm where there are transforms, as recipes do by default.

    Returns
    -------
    Network
        It is built on one device for each GPU that the files name. Parameters are called ``conv1a/W`` and ``conv1a/b``;
        where a layer's inputs have weights of their own, ``conv2a.0/W`` and ``conv2a.1/W``.

    Raises
    ------
    UsageError
        If the files have something that is not supported (all of it is named, with its place), or if a layer does not
        fit its input.
    """
    if missing := unsupported(description):
        raise UsageError(f"{'; '.join(missing)}: not supported; the types that are: {', '.join(sorted(_MAKERS))}")
    shapes: dict[str, Shape] = {}
    nodes: dict[str, graph.Node] = {}
    for layer in description.layers.values():
        if layer.type == "data":
            shapes[layer.name] = (side, side, channels)
        elif layer.type in _MAKERS:
            _add(layer, nodes, shapes, winograd)
    (cost,) = _costs(description)
    return graph.network(nodes, _logits(description, cost).name, (side, side, channels))


def of_recipe(net: Net) -> Network:
    """Lay out the net of a recipe that has the files' texts, with the recipe's classes and size of images."""
    winograd = net.convolution == "auto"
    network = describe(net.files, net.input, winograd=winograd)
    if net.classes in (0, network.classes):
        return network
    return describe(classes.with_classes(net.files, net.classes), net.input, winograd=winograd)


def rates(description: Description) -> dict[str, Rates]:
    """Return how each parameter learns, by the names that it has in `describe`'s network."""
    return {name: rate for layer in description.layers.values() for name, rate in layer.tensors.items()}


def unsupported(description: Description) -> list[str]:
    """Name everything in the files that is not supported, each with file and line."""
    found = []
    layers = description.layers
    for layer in layers.values():
        settings = layer.settings

        def refuse(what: str, key: str, layer: Layer = layer) -> None:
            found.append(f"{layer.place(key)}: {what} of [{layer.name}]")

        if layer.type not in (*_MAKERS, "data", "softmax", "cost.logreg"):
            refuse(f"type={layer.type}", "type")
            continue
        if layer.type in _ONE_INPUT and len(layer.inputs) != 1:
            refuse(f"{len(layer.inputs)} inputs", "inputs")
        for source in (layers[name] for name in layer.inputs if layer.type in _MAKERS):
            if source.type in ("softmax", "cost.logreg") or source.settings.get("dataIdx"):
                refuse(f"input {source.name}", "inputs")
        if layer.neuron not in ("ident", *UNITS) and not _TANH.match(layer.neuron):
            refuse(f"neuron={layer.neuron}", "neuron")
        if layer.type == "pool":
            if settings["pool"] not in _POOLS:
                refuse(f"pool={settings['pool']}", "pool")
            for key in ("start", "outputsX"):
                if settings[key]:
                    refuse(f"{key}={settings[key]}", key.lower())
        if layer.type == "nailbed" and settings["start"]:
            refuse(f"start={settings['start']}", "start")
        if layer.type == "local" and (len(layer.inputs) > 1 or settings["groups"] != [1]):
            refuse("several inputs or groups", "groups")
        if layer.source:
            refuse(f"weightSource={layer.source}", "weightSource")
        if layer.type == "cost.logreg" and settings["coeff"] != 1:
            refuse(f"coeff={settings['coeff']:g}", "coeff")
        if layer.type not in ("data", "cost.logreg") and not description.readers(layer.name):
            refuse("no reader", "type")
    costs = _costs(description)
    if not found and len(costs) != 1:
        found.append(f"{description.files[0]}: {len(costs)} layers of type cost.logreg instead of one")
    for cost in costs if not found else ():
        if len(cost.inputs) != 2 or layers[cost.inputs[0]].type != "data" or layers[cost.inputs[1]].type != "softmax":
            found.append(f"{cost.place('inputs')}: inputs of [{cost.name}] that are not labels and a softmax")
    return found


def _costs(description: Description) -> list[Layer]:
    return [layer for layer in description.layers.values() if layer.type == "cost.logreg"]


def _logits(description: Description, cost: Layer) -> Layer:
    return description.layers[description.layers[cost.inputs[1]].inputs[0]]


def _add(layer: Layer, nodes: dict[str, graph.Node], shapes: dict[str, Shape], winograd: bool) -> None:
    # Adds a layer's node, and before it the nodes that deal the channels of its inputs.
    inputs = [each if each in nodes else graph.IMAGE for each in layer.inputs]
    before = [shapes[each] for each in layer.inputs]
    settings = layer.settings
    for number, sparse in enumerate(settings.get("randSparse", ())):
        if sparse:
            name = f"{layer.name}.{number} channels"
            dealt = settings["groups"][number] * settings["filterChannels"][number]
            deal = DealChannels(before[number][-1], dealt).named(name)
            nodes[name] = graph.Node((inputs[number],), layer.gpu, [deal])
            inputs[number], before[number] = name, deal.output_shape(before[number])
    try:
        made = _convolution(layer, before, winograd) if layer.type == "conv" else _MAKERS[layer.type](layer, before)
        shape = joined_shape(before)
        for each in made:
            shape = each.output_shape(shape)
    except ShapeError as error:
        raise UsageError(f"{layer.where}: {error}") from None
    nodes[layer.name], shapes[layer.name] = graph.Node(tuple(inputs), layer.gpu, made), shape


def _with_unit(layer: Layer, *made: Module) -> list[Module]:
    if layer.neuron == "ident":
        return list(made)
    tanh = _TANH.match(layer.neuron)
    unit = ScaledTanh(*(float(each or 1) for each in tanh.groups())) if tanh else UNITS[layer.neuron]()
    return [*made, unit.named(f"{layer.name}_neuron")]


def _convolution(layer: Layer, before: Sequence[Shape], winograd: bool = False) -> list[Module]:
    settings = layer.settings

    def make(channels: int, number: int, winograd: bool = False) -> Conv2d:
        kernel, pad, stride, groups, filters = (
            settings[key][number] for key in ("filterSize", "padding", "stride", "groups", "filters")
        )
        kind = WinogradConv2d if winograd and WinogradConv2d.supports(channels, kernel, stride, groups) else Conv2d
        return kind(
            channels, filters * groups, kernel, stride, pad, groups, "ceil", layer.first_weights[number],
            layer.first_bias,
        )  # fmt: skip

    for number, shape in enumerate(before):
        wanted = settings["channels"][number]
        if not settings["randSparse"][number] and (len(shape) != 3 or shape[2] != wanted):
            raise UsageError(
                f"{layer.place('channels')}: channels={wanted} of [{layer.name}], but its input {layer.inputs[number]} "
                f"has shape {shape}"
            )
    if layer.apart:
        made = [make(shape[2], number) for number, shape in enumerate(before)]
        return _with_unit(layer, SumOfInputs(before, made, not settings["sharedBiases"]).named(layer.name))
    return _with_unit(layer, make(joined_shape(before)[2], 0, winograd).named(layer.name))


def _local(layer: Layer, before: Sequence[Shape]) -> list[Module]:
    filters, kernel, stride, pad = (layer.settings[key][0] for key in ("filters", "filterSize", "stride", "padding"))
    (std,), bias = layer.first_weights, layer.first_bias
    made = LocallyConnected(before[0], filters, kernel, stride, pad, "ceil", std, bias)
    return _with_unit(layer, made.named(layer.name))


def _fully_connected(layer: Layer, before: Sequence[Shape]) -> list[Module]:
    outputs, bias = layer.settings["outputs"], layer.first_bias
    if layer.apart:
        made = [
            Linear(shape, outputs, std=std, bias=bias) for shape, std in zip(before, layer.first_weights, strict=True)
        ]
        return _with_unit(layer, SumOfInputs(before, made).named(layer.name))
    linear = Linear(joined_shape(before), outputs, std=layer.first_weights[0], bias=bias)
    return _with_unit(layer, linear.named(layer.name))


def _pool(layer: Layer, before: Sequence[Shape]) -> list[Module]:
    made = _POOLS[layer.settings["pool"]](layer.settings["sizeX"], layer.settings["stride"], "ceil")
    return _with_unit(layer, made.named(layer.name))


def _norm(kind: Callable[..., Module]) -> Callable[[Layer, Sequence[Shape]], list[Module]]:
    def make(layer: Layer, before: Sequence[Shape]) -> list[Module]:
        size, scale, pow_, k = (layer.settings[key] for key in ("size", "scale", "pow", "minDiv"))
        return _with_unit(layer, kind(size, k, scale, pow_).named(layer.name))

    return make


def _maps_norm(size: int, k: float, alpha: float, beta: float) -> LRN:
    return LRN(size, k, alpha, beta, average=True)


def _dropout(layer: Layer, before: Sequence[Shape]) -> list[Module]:
    p = 1 - layer.settings["keep"] if layer.settings["enable"] else 0.0
    return _with_unit(layer, Dropout(p, layer.name).named(layer.name))


def _sum(layer: Layer, before: Sequence[Shape]) -> list[Module]:
    if len(set(before)) > 1:
        raise UsageError(
            f"{layer.place('inputs')}: the inputs of [{layer.name}] have shapes {' and '.join(map(str, before))}; "
            "give inputs of one shape"
        )
    return _with_unit(layer, ElementwiseSum(layer.settings["coeffs"]).named(layer.name))


_MAKERS: dict[str, Callable[[Layer, Sequence[Shape]], list[Module]]] = {
    "conv": _convolution,
    "local": _local,
    "fc": _fully_connected,
    "pool": _pool,
    "cmrnorm": _norm(_maps_norm),
    "rnorm": _norm(SpatialNorm),
    "cnorm": _norm(ContrastNorm),
    "hs": _dropout,
    "concat": lambda layer, before: _with_unit(layer),
    "eltsum": _sum,
    "blur": lambda layer, before: _with_unit(
        layer, GaussianBlur(layer.settings["stdev"], layer.settings["filterSize"]).named(layer.name)
    ),
    "nailbed": lambda layer, before: _with_unit(layer, Subsample(layer.settings["stride"]).named(layer.name)),
}
