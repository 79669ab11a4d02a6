"""Stands for ``cupy.cuda.nccl`` on pretend devices: the same calls, over the ranks' own communicator.

Like NCCL's, a call is queued on a stream. What it reads and writes is recorded there
(`tinyalex.devices.happens_before`), so a missing wait raises a `Race`. Sends and receives of a group are matched when
the group ends: outside of a group a send would wait for its receive.
"""

import threading

import numpy as np

_TAG = 77  # of messages between ranks
_here = threading.local()
FLOATS = {7: np.dtype("float32"), 8: np.dtype("float64")}  # ncclFloat32, ncclFloat64


def attach(communicator):
    """Let communicators that this thread makes from now on talk over this one, and return this module's stand-in."""
    _here.communicator, _here.group = communicator, None
    return Nccl


class NcclCommunicator:
    """One rank's end of a group of devices."""

    def __init__(self, size, identifier, rank):
        self._over = _here.communicator
        if (size, rank) != (self._over.size, self._over.rank):
            raise ValueError(f"rank {rank} of {size} on rank {self._over.rank} of {self._over.size}")
        if len(set(self._over.allgather(tuple(identifier)))) != 1:
            raise ValueError("the ranks have different identifiers")

    def send(self, array, count, kind, other, stream):
        """Queue the sending of ``count`` numbers."""
        _group().append(("send", _checked(array, count, kind), other, stream))

    def recv(self, array, count, kind, other, stream):
        """Queue the receiving of ``count`` numbers."""
        _group().append(("recv", _checked(array, count, kind), other, stream))

    def allGather(self, own, whole, count, kind, stream):  # noqa: N802, as in CuPy
        """Queue that every rank gets all ranks' numbers."""
        _checked(own, count, kind)
        _checked(whole, count * self._over.size, kind)
        own._memory.to_read(stream.access("allGather"))
        found = np.concatenate(self._over.allgather(own._array.copy()))
        whole._memory.to_write(stream.access("allGather"))
        whole._array[...] = found

    def allReduce(self, own, total, count, kind, operation, stream):  # noqa: N802
        """Queue that every rank gets the sum; like NCCL's it is not in the order of a tree of parts."""
        if operation:
            raise ValueError(f"operation {operation} is not a sum")
        _checked(own, count, kind)
        _checked(total, count, kind)
        own._memory.to_read(stream.access("allReduce"))
        found = sum(self._over.allgather(own._array.copy())[::-1])
        total._memory.to_write(stream.access("allReduce"))
        total._array[...] = found


class Nccl:
    """The names of ``cupy.cuda.nccl`` that the package uses."""

    NcclCommunicator = NcclCommunicator

    @staticmethod
    def get_unique_id():
        """Return a number that all ranks of a communicator share."""
        return tuple(range(128))

    @staticmethod
    def groupStart():  # noqa: N802
        """Collect sends and receives from now on."""
        _here.group = []

    @staticmethod
    def groupEnd():  # noqa: N802
        """Run what was collected."""
        calls, _here.group = _here.group, None
        _exchange(_here.communicator, calls)


def _exchange(communicator, calls):
    requests, arrived = [], []
    for what, array, other, stream in calls:
        if what == "send":
            array._memory.to_read(stream.access("send"))
            requests.append(communicator.Isend(np.ascontiguousarray(array._array), other, _TAG))
        else:
            buffer = np.empty(array.shape, array.dtype)
            arrived.append((array, buffer, stream))
            requests.append(communicator.Irecv(buffer, other, _TAG))
    if requests:
        type(requests[0]).Waitall(requests)
    for array, buffer, stream in arrived:
        array._memory.to_write(stream.access("recv"))
        array._array[...] = buffer


def _group():
    if _here.group is None:
        raise RuntimeError("a send or receive outside of groupStart and groupEnd may wait for ever")
    return _here.group


def _checked(array, count, kind):
    if array.size != count or array.dtype != FLOATS[kind] or not array.flags.c_contiguous:
        raise ValueError(f"{array.size} numbers of {array.dtype}, told {count} of {FLOATS[kind]}")
    return array
