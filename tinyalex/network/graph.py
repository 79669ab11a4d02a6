"""Lays out any net without cycles in stages of columns, so that `tinyalex.network.network` can run it.

Nodes that follow each other on one GPU, with no other reader between them, are one column's layers; fully connected
nodes begin a stage, as in a recipe's net. A stage holds all nodes that do not read each other. A GPU has as many
columns as it has such rows of layers at work in one stage. A column without layers carries what a later stage reads.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from tinyalex.layers import Layer, Linear, SumOfInputs
from tinyalex.network.columns import Exchange, Stage
from tinyalex.network.network import Network

IMAGE = "the image"  # what nodes at the bottom read
Value: TypeAlias = tuple[str, int]  # the last node of a chain, and 0; or the image, and a GPU, as each has its own


class Node(NamedTuple):
    """Some layers one after the other.

    Attributes
    ----------
    inputs : tuple of str
        The nodes that it reads, or `IMAGE`; several are joined in this order (`tinyalex.layers.joined`).
    gpu : int
    layers : list of Layer
    """

    inputs: tuple[str, ...]
    gpu: int
    layers: list[Layer]


@dataclass
class _Chain:
    # What one column runs in one stage. ``last`` is the node that others read it by.
    name: str
    last: str
    inputs: tuple[str, ...]
    gpu: int
    layers: list[Layer]
    stage: int

    def reads(self) -> list[Value]:
        return [(source, self.gpu if source == IMAGE else 0) for source in self.inputs]


def network(nodes: Mapping[str, Node], output: str, input_shape: Sequence[int]) -> Network:
    """Describe the network of some nodes.

    Parameters
    ----------
    nodes : dict
        Name to `Node`, each after those that it reads.
    output : str
        The last node, which computes the logits.
    input_shape : tuple of int
        (h, w, c) of one image.

    Returns
    -------
    Network
        Its first column has the logits. It is built on one device for each GPU, in ascending order.

    Examples
    --------
    >>> from tinyalex.layers import Linear, ReLU
    >>> nodes = {
    ...     "a": Node((IMAGE,), 0, [Linear((2, 2, 3), 4).named("a"), ReLU()]),
    ...     "b": Node((IMAGE,), 1, [Linear((2, 2, 3), 4).named("b"), ReLU()]),
    ...     "c": Node(("b", "a"), 0, [Linear(8, 5).named("c")]),
    ... }
    >>> net = network(nodes, "c", (2, 2, 3))
    >>> [(stage.name, stage.exchange.routes) for stage in net.stages], net.gpus
    ([('a', [[0], [1]]), ('c', [[1, 0], []])], [0, 1])
    """
    chains = _chains(nodes)
    found, gpus = _columns(chains)
    top = found[output, 0][chains[-1].stage]
    order = sorted(range(len(gpus)), key=lambda column: (column != top, gpus[column], column))
    index = {column: new for new, column in enumerate(order)}
    ranks = [sorted(set(gpus)).index(gpus[column]) for column in order]

    stages = []
    for number in range(chains[-1].stage + 1):
        here = [chain for chain in chains if chain.stage == number]
        routes: list[list[int]] = [[] for _ in order]
        layers: list[list[Layer]] = [[] for _ in order]
        for at in found.values():  # what is carried stays in its column
            if number in at and number - 1 in at:
                routes[index[at[number]]] = [index[at[number]]]
        for chain in here:
            own = found[chain.last, 0][number]
            layers[index[own]] = chain.layers
            sources = [own if number == 0 else found[value][number - 1] for value in chain.reads()]
            routes[index[own]] = [index[source] for source in sources]
        stages.append(Stage(here[0].name, Exchange(routes, ranks), layers))
    return Network(stages, input_shape, ranks)


def _chains(nodes: Mapping[str, Node]) -> list[_Chain]:
    # Joins nodes that follow each other; each chain comes after those that it reads.
    readers = Counter(source for node in nodes.values() for source in set(node.inputs))
    chains: dict[str, _Chain] = {}  # by the last node
    for name, node in nodes.items():
        source = node.inputs[0]
        above = chains.get(source)
        alone = len(node.inputs) == 1 and readers[source] == 1
        if above and alone and above.gpu == node.gpu and not any(map(_connects_fully, node.layers)):
            del chains[source]
            above.layers, above.last = above.layers + list(node.layers), name
            chains[name] = above
        else:
            stage = max((chains[each].stage + 1 for each in node.inputs if each != IMAGE), default=0)
            chains[name] = _Chain(name, name, node.inputs, node.gpu, list(node.layers), stage)
    return sorted(chains.values(), key=lambda chain: chain.stage)


def _connects_fully(layer: Layer) -> bool:
    return isinstance(layer, Linear) or (isinstance(layer, SumOfInputs) and isinstance(layer.layers[0], Linear))


def _columns(chains: list[_Chain]) -> tuple[dict[Value, dict[int, int]], list[int]]:
    # For every value the column that has it after each stage, and the GPU of every column. Before the first stage, -1,
    # every column has the image.
    until: dict[Value, int] = {}  # the last stage after which a value is read
    for chain in chains:
        for value in chain.reads():
            until[value] = max(until.get(value, -1), chain.stage - 1)
    found: dict[Value, dict[int, int]] = {}
    gpus: list[int] = []

    def free(gpu: int, taken: set[int], wanted: Sequence[int] = ()) -> int:
        # A column of a GPU: one of those wanted if it is free, any other that is free, or a new one.
        columns = [column for column, each in enumerate(gpus) if each == gpu and column not in taken]
        columns = [column for column in wanted if column in columns] + columns
        if not columns:
            gpus.append(gpu)
            columns = [len(gpus) - 1]
        taken.add(columns[0])
        return columns[0]

    for stage in range(chains[-1].stage + 1):
        carried = [at for value, at in found.items() if stage - 1 in at and until.get(value, -1) >= stage]
        for at in carried:
            at[stage] = at[stage - 1]
        taken = {at[stage] for at in carried}
        for chain in chains:
            if chain.stage == stage:
                above = [found[value][stage - 1] for value in chain.reads()] if stage else []
                found[chain.last, 0] = {stage: free(chain.gpu, taken, above)}
        if stage == 0:  # images that a later stage reads as well
            for value in [value for value, last in until.items() if value[0] == IMAGE and last >= 0]:
                column = free(value[1], taken)
                found[value] = {-1: column, 0: column}
    return found, gpus
