"""Sums of gradients over the ranks, over MPI: in the fixed order of the parts, or by MPI's own all-reduce.

In the fixed order each rank sums one slice of the gradients. Every rank sends each other rank that one's slice of what
it has (`parts.Parts.nodes`), sums its own slice in the order of the tree, and all gather the slices. A rank sends and
receives about as much as in a ring: 2 (N - 1) / N times the gradients, if each has one part.
"""

import time
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from tinyalex.ranks.parts import Node, Parts
from tinyalex.ranks.world import World

CHUNK = 1 << 18  # numbers in a message: on one machine, 1 MiB is copied through the cache
ALIGN = 16  # numbers: a slice begins where a line of the cache begins


class Sum(Protocol):
    """A sum over all ranks that is under way."""

    def finish(self) -> np.ndarray:
        """Wait for it and return the total, (size,)."""


class Ordered:
    """Sums buffers of one size over the ranks, in the fixed order of the parts.

    Parameters
    ----------
    world : World
    parts : Parts
    size : int
        Numbers in a buffer; `padded` says how long the arrays have to be.
    dtype : numpy.dtype
    tag : int
        Of the messages; each sum that may be under way at the same time has another.
    """

    name = "ordered"

    def __init__(self, world: World, parts: Parts, size: int, dtype: np.dtype, tag: int = 0) -> None:
        self._world, self._parts, self.tag, self._dtype = world, parts, tag, dtype
        self.piece = -(-size // (ALIGN * world.size)) * ALIGN
        self.padded = self.piece * world.size
        self._space: dict[tuple[int, Node], np.ndarray] = {}

    def start(self, nodes: Mapping[Node, np.ndarray], images: int) -> "_OrderedSum":
        """Begin to send what this rank has.

        Parameters
        ----------
        nodes : dict of Node to ndarray, shape (padded,)
            What this rank has left of its parts; one of them will hold the total.
        images : int
            Images in the whole batch, which say what the other ranks have left.
        """
        world, piece = self._world, self.piece
        requests, slices = [], {}
        own = slice(world.rank * piece, (world.rank + 1) * piece)
        for other in range(world.size):
            if other != world.rank:
                for node in self._parts.nodes(other, images):
                    key = other, node
                    if key not in self._space:
                        self._space[key] = np.empty(piece, self._dtype)
                    slices[node] = self._space[key]
                    requests += [world.communicator.Irecv(part, other, self.tag) for part in _chunks(slices[node])]
                    world.received += slices[node].nbytes
        for other in range(world.size):
            if other != world.rank:
                for node in self._parts.nodes(world.rank, images):
                    part = nodes[node][other * piece : (other + 1) * piece]
                    requests += [world.communicator.Isend(chunk, other, self.tag) for chunk in _chunks(part)]
                    world.sent += part.nbytes
        slices |= {node: array[own] for node, array in nodes.items()}
        return _OrderedSum(world, self._parts, requests, slices, next(iter(nodes.values()), None), own, self)

    def empty(self) -> np.ndarray:
        """Return an array for a part's gradients."""
        return np.zeros(self.padded, self._dtype)


class _OrderedSum:
    def __init__(
        self, world: World, parts: Parts, requests: list, slices: dict, whole: np.ndarray | None, own: slice, owner: Any
    ) -> None:
        self._world, self._parts, self._requests, self._slices = world, parts, requests, slices
        self._whole, self._own, self._owner = whole, own, owner

    def finish(self) -> np.ndarray:
        world, started = self._world, time.perf_counter()
        if self._requests:
            with world.waiting("summing the gradients"):
                type(self._requests[0]).Waitall(self._requests)
        total = self._parts.total(self._slices, _add_to)
        whole = self._owner.empty() if self._whole is None else self._whole
        if total is None:
            whole[...] = 0
        elif total.ctypes.data != whole[self._own].ctypes.data:
            whole[self._own] = total
        if total is not None and world.size > 1:
            with world.waiting("gathering the gradients"):
                self._gather(whole)
        world.seconds += time.perf_counter() - started
        return whole

    def _gather(self, whole: np.ndarray) -> None:
        # Every rank gives its slice to all others.
        world, piece = self._world, len(whole) // self._world.size
        others = [other for other in range(world.size) if other != world.rank]
        requests = [
            world.communicator.Irecv(chunk, other, self._owner.tag)
            for other in others
            for chunk in _chunks(whole[other * piece : (other + 1) * piece])
        ]
        requests += [
            world.communicator.Isend(chunk, other, self._owner.tag)
            for other in others
            for chunk in _chunks(whole[self._own])
        ]
        type(requests[0]).Waitall(requests)
        world.sent += whole[self._own].nbytes * len(others)
        world.received += whole[self._own].nbytes * len(others)


class Fast:
    """Sums buffers over the ranks by MPI's all-reduce: in an order that depends on their number and on the library.

    The parameters are those of `Ordered`.
    """

    name = "fast"

    def __init__(self, world: World, parts: Parts, size: int, dtype: np.dtype, tag: int = 0) -> None:
        self._world, self._parts, self._dtype, self.padded = world, parts, dtype, size

    def empty(self) -> np.ndarray:
        """Return an array for a part's gradients."""
        return np.zeros(self.padded, self._dtype)

    def start(self, nodes: Mapping[Node, np.ndarray], images: int) -> "_FastSum":
        """Add up what this rank has; the rest is done in `finish`."""
        total = self._parts.total(dict(nodes), _add_to)
        return _FastSum(self._world, self.empty() if total is None else total)


class _FastSum:
    def __init__(self, world: World, total: np.ndarray) -> None:
        self._world, self._total = world, total

    def finish(self) -> np.ndarray:
        world, started = self._world, time.perf_counter()
        if world.size > 1:
            with world.waiting("summing the gradients"):
                for chunk in _chunks(self._total, 4 * CHUNK):
                    world.communicator.Allreduce(chunk.copy(), chunk)
            share = 2 * (world.size - 1) * self._total.nbytes // world.size  # of a ring
            world.sent += share
            world.received += share
        world.seconds += time.perf_counter() - started
        return self._total


SUMS: dict[str, type[Ordered] | type[Fast]] = {"ordered": Ordered, "fast": Fast}


def _chunks(array: np.ndarray, size: int = CHUNK) -> list[np.ndarray]:
    return [array[low : low + size] for low in range(0, len(array), size)]


def _add_to(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    first += second
    return first
