"""Requests to stop or to save a run of several ranks: all ranks agree on them in each step."""

from collections.abc import Callable
from typing import Any

from tinyalex.ranks.world import World
from tinyalex.system.signals import StopRequests


class AgreedRequests:
    """The requests of all ranks, with the interface of `StopRequests`.

    A signal that reaches one rank only, and the clock of rank 0, become requests of all ranks at the same step.

    Parameters
    ----------
    stop : StopRequests
        Those of this rank.
    world : World

    Attributes
    ----------
    stop_requested, save_requested : bool
    late : callable
        Whether it is time for a checkpoint; asked on rank 0 only.
    """

    def __init__(self, stop: StopRequests, world: World) -> None:
        self._stop, self._world = stop, world
        self.stop_requested = self.save_requested = False
        self.late: Callable[[], bool] = lambda: False

    def agree(self, results: list[Any] | None = None, purpose: str = "agreeing on a step") -> list[Any]:
        """Exchange requests and results; return the results of all ranks, those of rank 0 first."""
        save, self._stop.save_requested = self._stop.save_requested or (self._world.leads and self.late()), False
        told = self._world.agree((self._stop.stop_requested, save, results or []), purpose)
        self.stop_requested |= any(stop for stop, _, _ in told)
        self.save_requested |= any(save for _, save, _ in told)
        return [result for _, _, found in told for result in found]
