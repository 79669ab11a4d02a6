"""Sums of gradients over the ranks' GPUs, by NCCL on a stream of their own, beside the computation.

Nothing here makes the host wait. The communication stream waits for an event of the computing stream before it reads
the gradients, and the computing stream waits for it before it reads the sum. NCCL's own all-reduce adds in an order
that depends on the number of GPUs and on how they are connected; so the fixed order is made of sends, receives and
additions of our own, as in `tinyalex.ranks.sums`.

NCCL comes with CuPy's package ``nvidia-nccl-cu13`` or ``-cu12``. On pretend devices (``fake:0``) the same calls run on
`tinyalex.devices.fake_nccl`.
"""

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np

from tinyalex.devices.device import Array, Device
from tinyalex.ranks.parts import Node, Parts
from tinyalex.ranks.sums import ALIGN
from tinyalex.ranks.world import World

_FLOAT32, _FLOAT64, _SUM = 7, 8, 0  # ncclFloat32, ncclFloat64, ncclSum
_TYPES = {np.dtype("float32"): _FLOAT32, np.dtype("float64"): _FLOAT64}


class Channel:
    """Connects one device of each rank; all calls are queued on its stream.

    Parameters
    ----------
    device : Device
        Every rank makes its channels in the same order.
    world : World

    Attributes
    ----------
    stream : stream
        For communication alone.
    """

    def __init__(self, device: Device, world: World) -> None:
        self.device, self._world = device, world
        with device:
            self.stream = device.xp.cuda.Stream(non_blocking=True)
        if world.size > 1:
            self._nccl = device.nccl(world.communicator)
            identifier = world.broadcast(self._nccl.get_unique_id() if world.leads else None, "NCCL's number")
            with device, world.waiting("connecting the GPUs"):
                self._communicator = self._nccl.NcclCommunicator(world.size, identifier, world.rank)

    def begin(self) -> None:
        """Let what is queued from now on wait for the work of the device so far."""
        self.stream.wait_event(self.device.event(self.device.stream))

    def end(self) -> None:
        """Let the work of the device from now on wait for what has been queued."""
        self.device.stream.wait_event(self.device.event(self.stream))

    @contextlib.contextmanager
    def group(self) -> Iterator[None]:
        """In the block, sends and receives are collected; they start together, so that no rank waits for another."""
        with self.device:
            self._nccl.groupStart()
            yield
            self._nccl.groupEnd()

    def send(self, array: Array, other: int) -> None:
        """Send a contiguous array to another rank."""
        self._communicator.send(array.data.ptr, array.size, _TYPES[array.dtype], other, self.stream.ptr)
        self._world.sent += array.nbytes

    def receive(self, array: Array, other: int) -> None:
        """Receive an array of the same size from another rank."""
        self._communicator.recv(array.data.ptr, array.size, _TYPES[array.dtype], other, self.stream.ptr)
        self._world.received += array.nbytes

    def gather(self, own: Array, whole: Array) -> None:
        """Fill ``whole`` with every rank's ``own``, in the order of the ranks; ``own`` may be its place in it."""
        with self.device:
            kind = _TYPES[own.dtype]
            self._communicator.allGather(own.data.ptr, whole.data.ptr, own.size, kind, self.stream.ptr)
        nbytes = own.nbytes * (self._world.size - 1)
        self._world.sent += nbytes
        self._world.received += nbytes

    def all_reduce(self, array: Array) -> None:
        """Replace an array by its sum over all ranks, in NCCL's order."""
        with self.device:
            pointer = array.data.ptr
            self._communicator.allReduce(pointer, pointer, array.size, _TYPES[array.dtype], _SUM, self.stream.ptr)
        share = 2 * (self._world.size - 1) * array.nbytes // self._world.size
        self._world.sent += share
        self._world.received += share

    def add(self, first: Array, second: Array) -> Array:
        """Add the second array to the first."""
        with self.device, self.stream:
            first += second
        return first


class Ordered:
    """Sums arrays of one size over the ranks' devices, in the fixed order of the parts.

    Parameters
    ----------
    channel : Channel
    world : World
    parts : Parts
    size : int
        Numbers in an array; `padded` says how long they have to be.
    dtype : numpy.dtype
    """

    name = "ordered"

    def __init__(self, channel: Channel, world: World, parts: Parts, size: int, dtype: np.dtype) -> None:
        self._channel, self._world, self._parts, self._dtype = channel, world, parts, dtype
        self.piece = -(-size // (ALIGN * world.size)) * ALIGN
        self.padded = self.piece * world.size
        self._space: dict[tuple[int, Node], Array] = {}

    def empty(self) -> Array:
        """Return an array for a part's gradients."""
        return self._channel.device.zeros((self.padded,), self._dtype)

    def start(self, nodes: Mapping[Node, Array], images: int) -> "_Sum":
        """Queue the whole sum: see `tinyalex.ranks.sums.Ordered`."""
        world, channel, piece = self._world, self._channel, self.piece
        own = slice(world.rank * piece, (world.rank + 1) * piece)
        whole = next(iter(nodes.values())) if nodes else self.empty()
        slices = {node: array[own] for node, array in nodes.items()}
        channel.begin()
        if world.size > 1:
            with channel.group():
                for other in range(world.size):
                    if other != world.rank:
                        for node in self._parts.nodes(other, images):
                            slices[node] = self._received(other, node)
                            channel.receive(slices[node], other)
                        for node in self._parts.nodes(world.rank, images):
                            channel.send(nodes[node][other * piece : (other + 1) * piece], other)
        total = self._parts.total(slices, channel.add)
        if world.size == 1:
            return _Sum(channel, whole if total is None else total, nodes)
        with channel.device, channel.stream:
            if total is None:
                whole[...] = 0
            else:
                whole[own] = total
        channel.gather(whole[own], whole)
        return _Sum(channel, whole, nodes)

    def _received(self, other: int, node: Node) -> Array:
        if (other, node) not in self._space:
            device = self._channel.device
            self._space[other, node] = device.zeros((self.piece,), self._dtype)
            self._channel.begin()  # for the zeros
        return self._space[other, node]


class Fast:
    """Sums arrays over the ranks' devices by NCCL's all-reduce; the parameters are those of `Ordered`."""

    name = "fast"

    def __init__(self, channel: Channel, world: World, parts: Parts, size: int, dtype: np.dtype) -> None:
        self._channel, self._world, self._parts, self._dtype, self.padded = channel, world, parts, dtype, size

    def empty(self) -> Array:
        """Return an array for a part's gradients."""
        return self._channel.device.zeros((self.padded,), self._dtype)

    def start(self, nodes: Mapping[Node, Array], images: int) -> "_Sum":
        """Queue the whole sum."""
        spare = None if nodes else self.empty()
        self._channel.begin()
        total = self._parts.total(dict(nodes), self._channel.add) if nodes else spare
        if self._world.size > 1:
            self._channel.all_reduce(total)
        return _Sum(self._channel, total, nodes)


class _Sum:
    def __init__(self, channel: Channel, whole: Array, nodes: Mapping[Node, Array]) -> None:
        self._channel, self._whole, self._nodes = channel, whole, dict(nodes)  # kept until the stream is done with them

    def finish(self) -> Array:
        self._channel.end()
        return self._whole


SUMS: dict[str, type[Ordered] | type[Fast]] = {"ordered": Ordered, "fast": Fast}
