"""The layers of a net that compute its classes, and the same net with another number of classes."""

from dataclasses import replace

from tinyalex.errors import UsageError
from tinyalex.recipes.cuda_convnet.description import Description, Layer

_ONE_FOR_ONE = ("hs", "cmrnorm")  # as many outputs as inputs


def heads(description: Description) -> list[Layer]:
    """Return the fully connected layers whose outputs, side by side, are the classes.

    Raises
    ------
    UsageError
        If the softmax reads something else.
    """
    return _heads(description, next(layer for layer in description.layers.values() if layer.type == "softmax"))


def _heads(description: Description, reader: Layer) -> list[Layer]:
    found: list[Layer] = []
    for layer in (description.layers[name] for name in reader.inputs):
        if layer.type == "fc":
            found.append(layer)
        elif layer.type in ("concat", *_ONE_FOR_ONE):
            found += _heads(description, layer)
        else:
            raise UsageError(
                f"{layer.place('type')}: the classes come from [{layer.name}] of type {layer.type}, whose number of "
                "outputs cannot be changed; leave net.classes as the files say"
            )
    return found


def with_classes(description: Description, classes: int) -> Description:
    """Return a net whose last layer has another number of outputs; several last layers share them evenly.

    Raises
    ------
    UsageError
        If the classes do not come from fully connected layers, or there are fewer than such layers.
    """
    last = heads(description)
    if classes < len(last):
        raise UsageError(
            f"net.classes: {classes} for {len(last)} last layers, {', '.join(layer.name for layer in last)}; "
            f"give {len(last)} or more"
        )
    layers = dict(description.layers)
    for number, layer in enumerate(last):
        share = classes * (number + 1) // len(last) - classes * number // len(last)
        layers[layer.name] = replace(layer, settings=layer.settings | {"outputs": share})
    return replace(description, layers=layers)
