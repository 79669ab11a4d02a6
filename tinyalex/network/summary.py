"""The summary of a net: shapes and counts of every layer in each column, beside the figures that the paper gives."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tinyalex.network.columns import Crossed, Shape, Stage
from tinyalex.network.network import Network
from tinyalex.ranks import ledger
from tinyalex.recipes.recipe import Net, Recipe
from tinyalex.recipes.settings import FILES
from tinyalex.words import counted

# Neurons of each layer, both columns together: Figure 2's caption and §3.5.
_PAPER_NEURONS = {"conv1": 253_440, "conv2": 186_624, "conv3": 64_896, "conv4": 64_896, "conv5": 43_264,
                  "fc6": 4096, "fc7": 4096, "fc8": 1000}  # fmt: skip
_PAPER_SHAPES = {"input": 224, "maps": (96, 256, 384, 384, 256), "hidden": 4096, "bottleneck": 0, "classes": 1000,
                 "pads": (), "conv_rounding": "ceil", "pool_rounding": "ceil"}  # fmt: skip


class Row(NamedTuple):
    """One layer of one column; counts are for one image.

    Attributes
    ----------
    layer : str
    kind : str
    shape : tuple of int
        Shape of the output, (h, w, c) or (units,).
    neurons, parameters, multiply_adds : int
        Neurons are 0 for layers without weights.
    activation_bytes : int
        Bytes of the output.
    exchanged_bytes : int
        Bytes that this column receives before this layer in forward, and sends back in backward.
    """

    layer: str
    kind: str
    shape: Shape
    neurons: int
    parameters: int
    multiply_adds: int
    activation_bytes: int
    exchanged_bytes: int


def rows(network: Network, itemsize: int = 4) -> dict[int, list[Row]]:
    """Return ``{column index: [Row, ...]}`` of a network, which needs no arrays; columns of one GPU are together.

    ``itemsize`` is the size of a stored activation: 4 bytes in float32, 2 in bfloat16, in which logits have 4 as well.

    Examples
    --------
    >>> from tinyalex import alexnet, recipe, summary
    >>> columns = summary.rows(alexnet.describe(recipe.load("original").net, devices=2))
    >>> conv1a = columns[0][0]
    >>> conv1a.layer, conv1a.shape, conv1a.parameters
    ('conv1a', (55, 55, 48), 17472)
    """
    table: dict[int, list[Row]] = {gpu: [] for gpu in sorted(network.gpus)}
    logits = network.last_layers()
    for stage, before in zip(network.stages, network.shapes, strict=False):
        crossing = _crossing(stage, before, itemsize)
        shapes = stage.exchange.output_shapes(before)
        for index, column in enumerate(stage.columns):
            received = crossing_of(crossing, index)
            for layer in column:
                shape = layer.output_shape(shapes[index])
                has_weights = bool(layer.parameters)
                table[network.gpus[index]].append(
                    Row(
                        layer.name,
                        type(layer).__name__,
                        shape,
                        int(np.prod(shape)) if has_weights else 0,
                        sum(parameter.size for parameter in layer.parameters),
                        layer.multiply_adds(shapes[index]),
                        (4 if layer in logits else itemsize) * int(np.prod(shape)),
                        received,
                    )
                )
                shapes[index], received = shape, 0
    return table


def crossing_of(crossing: Crossed, column: int) -> int:
    """Return the bytes of `Exchange.bytes_per_image` that a column receives in forward and sends back in backward."""
    return sum(
        size
        for (direction, source, destination), size in crossing.items()
        if (destination if direction == "forward" else source) == column
    )


def _crossing(stage: Stage, before: list[Shape], itemsize: int) -> Crossed:
    # What a stage's exchange copies; one without layers after it gathers logits.
    return stage.exchange.bytes_per_image(before, itemsize if any(stage.columns) else 4)


def exchanged(network: Network, batch: int, itemsize: int = 4) -> int:
    """Return the bytes that cross between columns in one training step; ``itemsize`` as in `rows`."""
    pairs = zip(network.stages, network.shapes, strict=False)
    return batch * sum(sum(_crossing(stage, before, itemsize).values()) for stage, before in pairs)


def for_ledger(network: Network) -> ledger.Net:
    """Return what the bytes between the ranks of a data-parallel run depend on, of a network in its grouped form."""
    dense = [
        (p.shape[0] * getattr(layer, "groups", 1), p.shape[-1])
        for stage in network.head
        for column in stage.columns
        for layer in column
        for p in layer.parameters
        if p.kind == "W"
    ]
    rest = sum(p.size for stage in network.trunk for column in stage.columns for x in column for p in x.parameters)
    return ledger.Net(rest, tuple(dense))


def text(recipe: Recipe, network: Network) -> str:
    """Format the summary of a recipe's net.

    Parameters
    ----------
    recipe : Recipe
    network : Network
        The recipe's, with one device for each column; it needs no arrays.

    Returns
    -------
    str

    Examples
    --------
    >>> from tinyalex import alexnet, recipe, summary
    >>> paper = recipe.load("paper")
    >>> print(summary.text(paper, alexnet.describe(paper.net, devices=2)).splitlines()[0])
    paper: 2 columns, exchange before conv3, fc6, fc7, fc8; 224 x 224 x 3 in, 1,000 classes out
    """
    titles = ["column a", "column b"][: recipe.net.columns]
    if recipe.net.kind == FILES:
        titles = [f"GPU {gpu}" for gpu in recipe.net.files.gpus]
    itemsize = 2 if recipe.net.precision == "bf16" else 4
    lines, table, total = columns(network, titles, recipe.learning.batch, itemsize)
    head = [f"{recipe.name}: {_headline(recipe)}", *_switches(recipe.net), _PRECISION[recipe.net.precision]]
    return "\n".join([*head, *lines, *_paper(recipe.net, table, total)])


def columns(
    network: Network, titles: Sequence[str], batch: int, itemsize: int = 4
) -> tuple[list[str], dict[int, list[Row]], np.ndarray]:
    """Format a network's layers column by column, and the sums below them.

    Parameters
    ----------
    network : Network
        It needs no arrays.
    titles : sequence of str
        What stands above each column of `rows`; with a single one it is not shown.
    batch : int
    itemsize : int
        As in `rows`.

    Returns
    -------
    lines : list of str
    table : dict
        `rows` of the network.
    total : ndarray
        Neurons, parameters and multiply-adds in all.
    """
    lines, table, total = [], rows(network, itemsize), np.zeros(3, dtype=int)
    wide, kind = (
        max(w, *(1 + len(str(row[i])) for rows in table.values() for row in rows)) for i, w in ((0, 8), (1, 13))
    )
    for title, column in zip(titles if len(table) > 1 else ["layers"], table.values(), strict=True):
        lines += ["", f"{title:<{wide + kind}}{'output':>15}{'neurons':>10}{'parameters':>13}{'multiply-adds':>15}"
                  f"{'KiB out':>9}{'KiB crossed':>12}"]  # fmt: skip
        sums = np.zeros(5, dtype=int)
        for row in column:
            name = f"{row.layer:<{wide}}{row.kind:<{kind}}"
            lines.append(f"{name}{' x '.join(map(str, row.shape)):>15}" + _numbers(row[3:]))
            sums += row[3:]
        lines.append(f"{'sum':<{wide + kind + 15}}" + _numbers(sums))
        total += sums[:3]
    crossing = exchanged(network, batch, itemsize)
    lines += [
        "",
        f"in all: {total[0]:,} neurons, {total[1]:,} parameters, {total[2]:,} multiply-adds for an image",
        f"        {4 * total[1] / 2**20:,.1f} MiB of weights, as much again for momenta, and again for gradients",
    ]
    if len(table) > 1:
        lines.append(f"        {crossing:,} bytes cross between the columns in a step of {counted(batch, 'image')}")
    return lines, table, total


def _numbers(row: Sequence[int] | np.ndarray) -> str:
    neurons, parameters, products, size, crossed = row
    cells = [f"{neurons:,}", f"{parameters:,}", f"{products:,}", f"{size / 1024:,.1f}", f"{crossed / 1024:,.1f}"]
    cells = ["" if cell in ("0", "0.0") else cell for cell in cells]
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, (10, 13, 15, 9, 12), strict=True))


def _headline(recipe: Recipe) -> str:
    net = recipe.net
    if net.kind == FILES:
        return f"{counted(net.columns, 'GPU')}; {net.input} x {net.input} x 3 in, {counted(net.classes, 'class')} out"
    columns = f"{net.columns} columns" if net.columns > 1 else "1 column"
    exchanges = f", exchange before {', '.join(net.exchanges)}" if net.columns > 1 and net.exchanges else ""
    return f"{columns}{exchanges}; {net.input} x {net.input} x 3 in, {counted(net.classes, 'class')} out"


def _switches(net: Net) -> list[str]:
    # How windows, and the order of norm and pool, differ from the paper's; nothing if they do not.
    parts, usual = [], Net()
    constants = net.norm_size, net.norm_k, net.norm_alpha, net.norm_beta
    if net.padding != replace(net, pads=()).padding:
        parts.append(f"padding {', '.join(map(str, net.padding))}")
    if (net.conv_rounding, net.pool_roundings) != (usual.conv_rounding, usual.pool_roundings):
        pools = list(dict.fromkeys(net.pool_roundings)) if len(set(net.pool_roundings)) == 1 else net.pool_roundings
        directions = ", ".join(_DIRECTION[rounding] for rounding in pools)
        parts.append(f"convolutions rounded {_DIRECTION[net.conv_rounding]}, pools {directions}")
    if net.norm != "none" and constants != (usual.norm_size, usual.norm_k, usual.norm_alpha, usual.norm_beta):
        parts.append("normalization over {} maps, k {:g}, alpha {:g}, beta {:g}".format(*constants))
    if net.norm != "none" and net.columns > 1 and net.norm_window == "all":
        parts.append("its windows cross the columns" if parts else "the windows of normalization cross the columns")
    if net.norm != "none" and net.norm_order == "pool-norm":
        parts.append("pool before norm")
    return ["; ".join(parts)] if parts else []


_DIRECTION = {"ceil": "up", "floor": "down"}
_PRECISION = {
    "float32": "on a GPU: float32",
    "tf32": "on a GPU: float32, the factors of matrix products in TF32",
    "bf16": "on a GPU: activations and the factors of matrix products in bfloat16, all else in float32",
}


def _paper(net: Net, table: dict[int, list[Row]], total: np.ndarray) -> list[str]:
    # A comparison with the paper's figures, if the net is the paper's.
    if net.kind != "alexnet" or net.columns != 2 or any(getattr(net, k) != v for k, v in _PAPER_SHAPES.items()):
        return []
    neurons: dict[str, int] = {}
    for column in table.values():
        for row in column:
            if row.neurons:
                name = row.layer.rstrip("ab")
                neurons[name] = neurons.get(name, 0) + row.neurons
    claimed = sum(_PAPER_NEURONS.values())
    lines = ["", f"{'neurons':<10}{'here':>10}{'paper':>10}"]
    for name, count in neurons.items():
        paper = _PAPER_NEURONS[name]
        slip = "  a slip: 55 x 55 x 96 = 290,400; 253,440 = 55 x 48 x 96" if count != paper else ""
        lines.append(f"{name:<10}{count:>10,}{paper:>10,}{slip}")
    return [
        *lines,
        f"{'sum':<10}{sum(neurons.values()):>10,}{claimed:>10,}  the abstract's 650,000 agrees with ours",
        f"parameters: the abstract says 60 million, here {total[1]:,}",
        *_shares(table, total),
    ]


def _shares(table: dict[int, list[Row]], total: np.ndarray) -> list[str]:
    # §1 says that each convolution holds at most 1 % of the parameters.
    sizes: dict[str, int] = {}
    for column in table.values():
        for row in column:
            if row.kind in ("Conv2d", "WinogradConv2d"):
                name = row.layer.rstrip("ab")
                sizes[name] = sizes.get(name, 0) + row.parameters
    over = [f"{name} {size / total[1]:.2%}" for name, size in sizes.items() if size > 0.01 * total[1]]
    return [f"§1 says no convolution holds more than 1 % of them; {' and '.join(over)} do"] if over else []
