"""Ranks as threads of one process, with the part of mpi4py's interface that the package uses: tests need no MPI."""

import queue
import threading
from types import SimpleNamespace

import numpy as np

from tinyalex.ranks.world import World


class _Shared:
    def __init__(self, size):
        self.size, self.barrier, self.slots = size, threading.Barrier(size, timeout=60), [None] * size
        self.arrived = [0] * size  # how often each rank has called Ibarrier
        self.queues = {}  # one for each sender, receiver and tag

    def messages(self, sender, receiver, tag):
        return self.queues.setdefault((sender, receiver, tag), queue.Queue())


class Communicator:
    """One rank's end. Like MPI it delivers the messages of a tag from one rank to another in their order."""

    def __init__(self, shared, rank):
        self._shared, self.rank, self.size, self.aborted = shared, rank, shared.size, None

    def Barrier(self):
        self._shared.barrier.wait()

    def Ibarrier(self):
        arrived = self._shared.arrived
        arrived[self.rank] += 1
        number = arrived[self.rank]

        def test():
            if self._shared.barrier.broken:
                raise threading.BrokenBarrierError
            return min(arrived) >= number

        return SimpleNamespace(Test=test)

    def allgather(self, value):
        self._shared.slots[self.rank] = value
        self.Barrier()
        found = list(self._shared.slots)
        self.Barrier()
        return found

    def bcast(self, value):
        return self.allgather(value)[0]

    def Bcast(self, array):
        array[...] = self.allgather(array.copy())[0]

    def Allgather(self, own, whole):
        whole[...] = np.concatenate(self.allgather(own.copy()))

    def Allreduce(self, own, total):
        total[...] = sum(self.allgather(own.copy()))

    def Isend(self, array, other, tag):
        self._shared.messages(self.rank, other, tag).put(array.copy())
        return _Request(lambda: None)  # it is sent

    def Irecv(self, array, other, tag):
        return _Request(lambda: self._receive(array, other, tag))

    def Iprobe(self, other, tag):
        return not self._shared.messages(other, self.rank, tag).empty()

    def Recv(self, array, other, tag):
        self._receive(array, other, tag)

    def _receive(self, array, other, tag):
        array[...] = self._shared.messages(other, self.rank, tag).get(timeout=60)

    def Abort(self, code):
        self._shared.barrier.abort()
        self.aborted = code


class _Request:
    def __init__(self, complete):
        self._complete = complete

    def Test(self):
        return True

    @staticmethod
    def Waitall(requests):
        for request in requests:
            request._complete()


def on_ranks(size, function, patience=300.0):
    """Call ``function(world)`` on so many ranks at once; return the results, or raise the first rank's exception."""
    shared, results, errors = _Shared(size), [None] * size, [None] * size

    def run(rank):
        world = None
        try:
            world = World(Communicator(shared, rank), patience)
            results[rank] = function(world)
        except BaseException as error:
            errors[rank] = error
            shared.barrier.abort()
        finally:
            if world:
                world.close()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    own = [error for error in errors if error and not isinstance(error, threading.BrokenBarrierError)]
    if own or any(errors):
        raise (own or [error for error in errors if error])[0]
    return results
