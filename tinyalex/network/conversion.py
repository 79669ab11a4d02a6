"""Writes a net of cuda-convnet's files as a recipe, where a recipe can say it.

The recipe is guessed from the layers, and then its net is compared with that of the files, layer by layer in each
column. What the files do not say, how images are cropped and whether they are reflected, is that of the recipe of ours
that is nearest.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tinyalex.errors import UsageError
from tinyalex.layers import Layer as Module
from tinyalex.layers import Parameter
from tinyalex.network import alexnet, cuda_convnet
from tinyalex.network.network import Network
from tinyalex.recipes.cuda_convnet.description import Description, Layer
from tinyalex.recipes.cuda_convnet.learning import learning as learns
from tinyalex.recipes.cuda_convnet.notes import Change
from tinyalex.recipes.recipe import LAYERS, Init, Learning, Net, Phase, Recipe, load
from tinyalex.recipes.settings import FILES

_END = 90  # epochs, where the notes do not say when the run was ended
_NEAREST = {"alexnet": "original", "cifar10": "cifar10-relu", "cifar10-local": "cifar10-13pct"}


def to_recipe(description: Description, side: int) -> Recipe:
    """Return the recipe that says a net of cuda-convnet's files.

    Parameters
    ----------
    description : Description
    side : int
        Pixels of an image, down and across.

    Returns
    -------
    Recipe
        Its notes say where it comes from. Its net computes the same as that of the files: at most a ReLU stands on the
        other side of a max pool, and the columns are read in another order.

    Raises
    ------
    UsageError
        If no recipe can say the net or how it learns; the message says what differs.
    """
    theirs = cuda_convnet.describe(description, side)
    try:
        for layer in description.layers.values():
            if layer.type in ("blur", "nailbed", "cnorm", "eltsum"):
                raise UsageError(f"{layer.place('type')}: type={layer.type} of [{layer.name}]")
        layers = _by_recipe_name(description)
        net, init = _net(description, layers, side), _init(layers)
        ours = alexnet.describe(replace(net, convolution="im2col"), init, net.columns)
        _compare(ours, theirs, description.gpus)
        learning = _learning(description, net)
    except UsageError as error:
        name = f"layers-{description.name}.cfg"
        raise UsageError(f"{name}: no recipe can say this net: {error}; tinyalex train takes the files") from None
    nearest = load(_NEAREST[net.kind])
    notes = (_origin(description, nearest),)
    copied = (f"first values of {', '.join(description.copied)}: in the files from another net",)
    return Recipe(description.run, net, init, nearest.data, learning, notes + copied * bool(description.copied))


def of_files(description: Description, side: int) -> Recipe:
    """Return a recipe for a net of cuda-convnet's files: that of `to_recipe`, or else one that holds the files.

    Parameters
    ----------
    description : Description
    side : int
        Pixels of an image, down and across.

    Returns
    -------
    Recipe
        Its notes say where it comes from, and what the files have that it does not: every limit of weights, schedule
        by a formula and unknown key, with its line.

    Raises
    ------
    UsageError
        If the net cannot be built.
    """
    network = cuda_convnet.describe(description, side)
    try:
        return to_recipe(description, side)
    except UsageError as error:
        reason = str(error).split("no recipe can say this net: ")[-1].removesuffix("; tinyalex train takes the files")
    texts, kind = description.texts, _kind(description)
    precision = "tf32" if kind == "alexnet" else "float32"
    learning, left_out = learns(description)
    nearest = load(_NEAREST[kind])
    notes = _origin(description, nearest), f"the net is what the files say; no other kind of net can say it: {reason}"
    net = Net(
        kind=FILES, input=side, classes=network.classes, precision=precision, layers_cfg=texts[0],
        layer_params_cfg=texts[1],
    )  # fmt: skip
    return Recipe(description.run, net, Init(), nearest.data, learning, (*notes, *left_out))


def _origin(description: Description, nearest: Recipe) -> str:
    files = " and ".join(description.files)
    return f"from {files}; the section data is that of the recipe {nearest.name}"


def _kind(description: Description) -> str:
    types = {layer.type for layer in description.layers.values()}
    return "cifar10-local" if "local" in types else "alexnet" if "hs" in types else "cifar10"


def _heads(description: Description) -> tuple[str, ...]:
    # The layers whose outputs the softmax reads.
    (name,) = next(layer.inputs for layer in description.layers.values() if layer.type == "softmax")
    layer = description.layers[name]
    return layer.inputs if layer.type == "concat" else (name,)


def _by_recipe_name(description: Description) -> dict[str, Layer]:
    # The layers with weights on the first GPU, by the names that they have in a recipe.
    kind = _kind(description)
    found = [layer for layer in description.layers.values() if layer.biases and layer.gpu == description.gpus[0]]
    groups = {
        type_: [name for name in LAYERS[kind] if name.startswith(starts)]
        for type_, starts in (("conv", "conv"), ("local", "local"), ("fc", ("fc", "bottleneck")))
    }
    named: dict[str, Layer] = {}
    for type_, names in groups.items():
        layers = [layer for layer in found if layer.type == type_]
        if type_ == "fc" and "bottleneck7" in names and len(layers) < len(names):
            names.remove("bottleneck7")
        if len(layers) > len(names) or (len(layers) < len(names) and names[len(layers) :] != ["conv6"]):
            raise UsageError(f"{len(layers)} layers of type {type_} on a GPU, in a recipe {len(names)}")
        named |= dict(zip(names, layers, strict=False))
    return {name: named[name] for name in LAYERS[kind] if name in named}


def _net(description: Description, layers: dict[str, Layer], side: int) -> Net:
    every, columns = description.layers.values(), len(description.gpus)
    if columns > 2:
        raise UsageError(f"{columns} GPUs, in a recipe 2")
    types = Counter(layer.type for layer in every)
    windows = [each for name, each in layers.items() if name.startswith(("conv", "local"))]
    units = sorted({layer.neuron for layer in every} - {"ident"})
    heads = [description.layers[name] for name in _heads(description)]
    drops = [1 - layer.settings["keep"] for layer in every if layer.type == "hs"]
    settings: dict[str, Any] = {
        "kind": _kind(description),
        "input": side,
        "columns": columns,
        "maps": tuple(columns * each.settings["filters"][0] * each.settings["groups"][0] for each in windows),
        "kernels": tuple(each.settings["filterSize"][0] for each in windows),
        "stride": windows[0].settings["stride"][0],
        "classes": sum(head.settings.get("outputs", 0) for head in heads),
        "norm": "2012" if types["cmrnorm"] else "none",
        "pool": next((layer.settings["sizeX"] for layer in every if layer.type == "pool"), 3),
        "fc8": "split" if len(heads) > 1 else "a",
        "activation": " and ".join(units),
        "dropout": round(drops[0], 12) if drops else 0.0,
        "precision": "tf32" if _kind(description) == "alexnet" else "float32",
        "talk": tuple(
            name
            for name, layer in layers.items()
            if {description.layers[each].gpu for each in layer.inputs if name != "conv1"} - {layer.gpu}
        ),
    }
    if "fc6" in layers:
        settings["hidden"] = columns * layers["fc6"].settings["outputs"]
    if "bottleneck7" in layers:
        settings["bottleneck"] = columns * layers["bottleneck7"].settings["outputs"]
    return Net(**settings)


def _init(layers: dict[str, Layer]) -> Init:
    weights: dict[str, float | str] = {name: layer.first_weights[0] for name, layer in layers.items()}
    biases = {name: layer.first_bias for name, layer in layers.items()}
    return Init(
        {"default": 0.01, **{name: std for name, std in weights.items() if std != 0.01}},
        {"default": 0.0} | {name: bias for name, bias in biases.items() if bias},
    )


def _compare(ours: Network, theirs: Network, gpus: list[int]) -> None:
    # Raises a UsageError that names the first difference.
    for gpu, number in enumerate(gpus):
        mine, its = _column(ours, gpu), _column(theirs, gpu)
        for (here, _), (there, name) in zip(mine, its, strict=False):
            if here[:2] != there[:2]:
                raise UsageError(f"{name} on GPU {number} is {_shown(there)}, in a recipe {_shown(here)}")
            for (key, recipes), (_, files) in zip(here[2:], there[2:], strict=True):
                if recipes != files:
                    raise UsageError(
                        f"{key} of {name} on GPU {number} is {_plain(files)}, in a recipe {_plain(recipes)}"
                    )
        if len(mine) != len(its):
            raise UsageError(f"{len(its)} layers and exchanges on GPU {number}, in a recipe {len(mine)}")


def _column(network: Network, gpu: int) -> list[tuple[tuple[Any, ...], str]]:
    # Everything that happens on one GPU, each with a name: what is read from where, and every layer's kind, shape and
    # settings. A ReLU after a max pool is put before it.
    found: list[tuple[tuple[Any, ...], str]] = []
    for stage, before in zip(network.stages, network.shapes, strict=False):
        shapes = stage.exchange.output_shapes(before)
        for column, layers in enumerate(stage.columns):
            if network.gpus[column] != gpu:
                continue
            sources = stage.exchange.routes[column]
            if sources not in ([], [column]):
                found.append((("reads", tuple(sorted(network.gpus[each] for each in sources))), stage.name))
            shape = shapes[column]
            for layer in layers:
                after = layer.output_shape(shape)
                entry = (type(layer).__name__, after, *_settings(layer)), layer.name
                if type(layer).__name__ == "ReLU" and found and found[-1][0][0] == "MaxPool":
                    found[-1:] = [((type(layer).__name__, found[-2][0][1]), layer.name), found[-1]]
                else:
                    found.append(entry)
                shape = after
    return found


def _settings(layer: Module) -> list[tuple[str, Any]]:
    found = []
    for key, value in sorted(vars(layer).items(), reverse=True):  # size before alpha, which it divides
        if isinstance(value, Parameter):
            found.append((key, (value.shape, value.init)))
        elif key == "geometry":  # the shape of the output shows how sizes are rounded
            found.append((key, tuple(value[each] for each in ("kernel", "stride", "pad"))))
        elif key not in ("names", "input_gradient", "stream", "first_unit"):
            found.append((key, value))
    return found


def _shown(entry: tuple[Any, ...]) -> str:
    kind, *rest = entry
    return f"{kind} of GPUs {rest[0]}" if kind == "reads" else f"{kind} {' x '.join(map(str, rest[0]))}"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _learning(description: Description, net: Net) -> Learning:
    if description.left_out:
        raise UsageError(description.left_out[0].removesuffix(", which is left out"))
    names = _recipe_names(description)
    rates = {layer.name: (*layer.weights, layer.biases) for layer in description.layers.values() if layer.biases}
    momentum = _one("momentum", (each.momentum for group in rates.values() for each in group if each))
    decays = {
        names[name]: _one(f"weight decay of {name}", (each.weight_decay for each in group[:-1] if each))
        for name, group in rates.items()
    }
    common = Counter(decays.values()).most_common(1)[0][0]
    phases, epochs = _phases(description, names)
    return Learning(
        epochs=epochs,
        rate=phases[0].rate,
        bias_rate=(phases[0].bias_rate or 0.0) / phases[0].rate,
        momentum=momentum,
        weight_decay=common,
        layer_weight_decay={name: decay for name, decay in decays.items() if decay != common},
        phases=phases,
    )


def _one(what: str, values: Iterable[float]) -> float:
    found = sorted(set(values))
    if len(found) > 1:
        raise UsageError(f"{what}: {', '.join(f'{each:g}' for each in found)}, in a recipe one")
    return found[0]


def _recipe_names(description: Description) -> dict[str, str]:
    # The recipe's name of every layer with weights: on each GPU they come in the same order.
    first = list(_by_recipe_name(description))
    found: dict[str, str] = {}
    for gpu in description.gpus:
        own = [layer.name for layer in description.layers.values() if layer.biases and layer.gpu == gpu]
        found |= dict(zip(own, first, strict=False))
    return found


def _phases(description: Description, names: dict[str, str]) -> tuple[tuple[Phase, ...], int]:
    # From the notes, which change the rates that the run began with; without notes, the rates of the file.
    layers = [layer for layer in description.layers.values() if layer.biases]
    weights = {layer.name: _one(f"rate of {layer.name}", (each.rate for each in layer.weights)) for layer in layers}
    biases = {layer.name: layer.biases.rate for layer in layers if layer.biases}
    rate, bias_rate = (Counter(found.values()).most_common(1)[0][0] for found in (weights, biases))
    changes = [change for change in description.phases if not change.end]
    begun = next((change.before for change in changes if change.before and not change.layers), None)
    if not begun:
        multiples = {names[name]: _ratio(each, rate) for name, each in weights.items() if each != rate}
        for name, each in biases.items():
            if each != bias_rate * multiples.get(names[name], 1.0):
                raise UsageError(f"rate of the biases of {name}: {each:g}, in a recipe a multiple as of its weights")
        return (Phase(0.0, rate, bias_rate, None, multiples),), _END
    rate, noise, multiples = begun, None, _began(changes, begun, names)
    phases = [Phase(0.0, rate, max(2 * rate, bias_rate), None, multiples)]  # biases began at twice the weights' rate
    for epoch in sorted({change.epoch for change in changes}):
        now = [change for change in changes if change.epoch == epoch]
        for change in now:
            if change.rate is not None and not change.layers:
                rate, multiples = change.rate, {name: 0.0 for name, each in multiples.items() if not each}
        for change in now:
            noise = noise if change.colour_noise is None else change.colour_noise
            if change.rate is not None:
                multiples = multiples | {_noted(each, names): _ratio(change.rate, rate) for each in change.layers}
        multiples = {name: each for name, each in multiples.items() if each != 1}
        phases.append(Phase(epoch, rate, bias_rate, noise, multiples))
    ends = [change.epoch for change in description.phases if change.end]
    return tuple(phases), math.ceil(ends[0]) if ends else max(_END, math.ceil(phases[-1].epoch) + 1)


def _began(changes: list[Change], rate: float, names: dict[str, str]) -> dict[str, float]:
    # The multiples of layers whose first change says that they had a rate of their own before.
    found: dict[str, float] = {}
    for change in changes:
        if change.rate is not None and not change.layers:
            rate = change.rate
        for each in change.layers:
            found.setdefault(_noted(each, names), _ratio(change.before or rate, rate))
    return {name: each for name, each in found.items() if each != 1}


def _ratio(rate: float, other: float) -> float:
    if not other:
        raise UsageError("the rate of most layers is 0, in a recipe above 0")
    return float(f"{rate / other:.9g}")


def _noted(name: str, names: dict[str, str]) -> str:
    # The recipe's name of a layer that the notes call conv1, for conv1a and conv1b.
    for own, found in names.items():
        if own in (name, f"{name}a"):
            return found
    raise UsageError(f"the notes change the rate of {name}, in a recipe the rate of single layers")
