"""How a batch is divided: into parts, whose gradients are summed in a fixed order, and the parts among the ranks.

Each part's gradient is computed by itself. The sum over the parts is taken in a binary tree that depends on the number
of parts only: first parts 0 and 1, 2 and 3, ..., then these sums in pairs. So the bits of the sum do not depend on how
many ranks there are, or on which rank computed which part.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tinyalex.errors import UsageError
from tinyalex.words import counted

IMAGES = 16  # a part's work is divided into a share for each so many images
Node = tuple[int, int]  # level and index in the tree: parts are at level 0
Array = TypeVar("Array")


class Parts:
    """The parts of every batch, and which of them a rank computes.

    Parameters
    ----------
    count : int
    ranks : int
        At most as many as there are parts.
    """

    def __init__(self, count: int, ranks: int = 1) -> None:
        if ranks > count:
            raise UsageError(
                f"ranks: {ranks}, but each batch has {counted(count, 'part')} (learning.parts): a rank needs at least "
                "one; start fewer ranks, or a new run with more parts"
            )
        self.count, self.ranks = count, ranks

    def slices(self, images: int) -> list[slice]:
        """Return every part's slice of a batch; some are empty if there are fewer images than parts."""
        edges = [images * part // self.count for part in range(self.count + 1)]
        return [slice(low, high) for low, high in zip(edges, edges[1:], strict=False)]

    def of_rank(self, rank: int) -> range:
        """Return the numbers of the parts that a rank computes."""
        return range(self.count * rank // self.ranks, self.count * (rank + 1) // self.ranks)

    def share(self, rank: int, images: int) -> slice:
        """Return a rank's slice of a batch."""
        slices, numbers = self.slices(images), self.of_rank(rank)
        return slice(slices[numbers[0]].start, slices[numbers[-1]].stop)

    def shares_of_work(self, batch: int) -> int:
        """Return into how many shares the work of a part of a full batch is divided, whatever the number of threads."""
        return max(1, batch // self.count // IMAGES)

    def nodes(self, rank: int, images: int) -> list[Node]:
        """Return what is left when a rank has added up its parts of a batch as far as the tree allows."""
        slices, left = self.slices(images), dict[Node, None]()
        for part in self.of_rank(rank):
            if slices[part].start < slices[part].stop:
                add(left, part, None, lambda first, second: None)
        return list(left)

    def total(self, nodes: Mapping[Node, Any], add_to: Callable[[Any, Any], Any]) -> Any:
        """Sum what all ranks have left, in the order of the tree; None if there is nothing.

        Parameters
        ----------
        nodes : dict of Node to array
        add_to : callable
            ``add_to(first, second)`` returns the sum; it may change the first.
        """

        def value(level: int, index: int) -> Any:
            if (level, index) in nodes or level == 0:
                return nodes.get((level, index))
            first, second = value(level - 1, 2 * index), value(level - 1, 2 * index + 1)
            return second if first is None else first if second is None else add_to(first, second)

        return value((self.count - 1).bit_length(), 0)


def add(nodes: dict[Node, Any], part: int, array: Any, add_to: Callable[[Any, Any], Any]) -> None:
    """Add a part's array to what a rank has left so far: as far up the tree as both halves of a pair are there.

    Parts come in ascending order. A pair whose first half is missing, because that part has no images or belongs to
    another rank, stays as it is.
    """
    level, index = 0, part
    while index % 2 and (level, index - 1) in nodes:
        array = add_to(nodes.pop((level, index - 1)), array)
        level, index = level + 1, index // 2
    nodes[level, index] = array
