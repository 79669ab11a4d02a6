"""The summary of a net of cuda-convnet's files: its layers, their first values and how they learn."""

from collections.abc import Iterable

from tinyalex.network.network import Network
from tinyalex.network.summary import columns
from tinyalex.recipes.cuda_convnet.description import Description
from tinyalex.recipes.cuda_convnet.notes import Change

BATCH = 128  # the 2012 code's default


def text(description: Description, network: Network) -> str:
    """Format the summary of a description's net.

    Parameters
    ----------
    description : Description
    network : Network
        The description's; it needs no arrays.

    Returns
    -------
    str
    """
    gpus = description.gpus
    side, _, colours = network.input_shape
    placed = f"GPUs {', '.join(map(str, gpus))}" if len(gpus) > 1 else "1 GPU"
    head = f"layers-{description.name}: {placed}; {side} x {side} x {colours} in, {network.classes} classes out"
    lines, _, _ = columns(network, [f"GPU {gpu}" for gpu in gpus], BATCH)
    notes = [f"epoch {change.epoch:g}: {_what(change)}" for change in description.phases]
    return "\n".join([
        head, *lines, "", *_values(description), *(["", "the authors' notes:", *notes] if notes else []),
        *(["", *description.left_out] if description.left_out else []),
        *(["", f"first values from another net: {', '.join(description.copied)}"] if description.copied else []),
    ])  # fmt: skip


def _values(description: Description) -> list[str]:
    # First values and rates of every layer with weights; several inputs have several values where they differ.
    heads = ("first values", "deviation", "biases", "rate", "of biases", "momentum", "weight decay")
    table = [heads]
    for layer in description.layers.values():
        if layer.biases:
            momenta = [*(each.momentum for each in layer.weights), layer.biases.momentum]
            table.append((
                layer.name, _each(layer.first_weights), f"{layer.first_bias:g}",
                _each(each.rate for each in layer.weights), f"{layer.biases.rate:g}", _each(momenta),
                _each(each.weight_decay for each in layer.weights),
            ))  # fmt: skip
    widths = [max(len(row[i]) for row in table) + 2 for i in range(len(heads))]
    return [
        row[0].ljust(widths[0]) + "".join(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))
        for row in table
    ]


def _each(values: Iterable[float | str]) -> str:
    found = [f"{value:g}" if isinstance(value, float) else value for value in values]
    return found[0] if len(set(found)) == 1 else ", ".join(found)


def _what(change: Change) -> str:
    if change.end:
        return "the run is ended"
    if change.colour_noise is not None:
        return f"colour noise {change.colour_noise:g}"
    return f"rate of the weights {change.rate:g}" + (f" in {', '.join(change.layers)}" if change.layers else "")
