"""Signs of life that ranks send each other while each works by itself, so that one that hangs is noticed."""

import threading
import time
from typing import Any

import numpy as np

_TAG = 1_000  # of the messages; sums of gradients have small ones
_PER_PATIENCE = 10  # signs in the time after which a silent rank counts as lost


class Heartbeats:
    """Sends signs of life to all other ranks, and notes when theirs came.

    In a ``with`` block a thread does so; no other thread may use MPI there. After it the caller does, with `exchange`.

    Parameters
    ----------
    communicator : mpi4py.MPI.Comm
    patience : float
        Seconds after which a rank without a sign counts as lost.
    """

    def __init__(self, communicator: Any, patience: float) -> None:
        self._communicator, self._patience = communicator, patience
        self._every = patience / _PER_PATIENCE
        self._others = [rank for rank in range(communicator.size) if rank != communicator.rank]
        self._sign, self._requests = np.zeros(1, np.uint8), []  # type: ignore[var-annotated]
        self._clock, self._looked_at = 0.0, time.monotonic()
        self._heard = dict.fromkeys(self._others, 0.0)
        self._left = threading.Event()

    def __enter__(self) -> "Heartbeats":
        self._thread = threading.Thread(target=self._beat, name="tinyalex heartbeats", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._left.wait(self._every):
            self.exchange()

    def exchange(self) -> list[int]:
        """Send signs of life, if it is time, and take those that have come; return the ranks that are lost."""
        now = time.monotonic()
        if now - self._looked_at >= self._every:
            # If this process was suspended, the others may have been so, too: that time does not count.
            self._clock += min(now - self._looked_at, 2 * self._every)
            self._looked_at = now
            self._requests = [request for request in self._requests if not request.Test()]
            self._requests += [self._communicator.Isend(self._sign, other, _TAG) for other in self._others]
        for other in self._others:
            while self._communicator.Iprobe(other, _TAG):
                self._communicator.Recv(np.empty(1, np.uint8), other, _TAG)
                self._heard[other] = self._clock
        return [rank for rank, heard in self._heard.items() if self._clock - heard > self._patience]
