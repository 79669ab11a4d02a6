"""The processes of a run, called ranks, and what they say to each other: over MPI, or not at all if there is only one.

MPI is an extra (``pip install '.[mpi]'``). It is imported only in a process that a launcher such as mpiexec has
started.
"""

import contextlib
import os
import platform
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinyalex.errors import DataError, DeviceError, Interrupted, UsageError
from tinyalex.ranks.heartbeats import Heartbeats

PATIENCE = 300.0  # seconds that a rank waits for the others
_SIZES = {  # variables in which launchers say how many processes they have started
    "PMI_SIZE": "mpiexec of MPICH",
    "OMPI_COMM_WORLD_SIZE": "mpiexec of Open MPI",
    "PMIX_RANK": "a PMIx launcher",
    "SLURM_STEP_NUM_TASKS": "srun",
}
_SPEAKS_AFTER = 0.75  # seconds that each rank leaves the rank before it to report an error first
_STOPS_WITHIN = 10.0  # seconds that a rank that was stopped leaves the others to stop by themselves
_HEARD_WITHIN = 0.3  # seconds that the launcher needs to read the last lines before the ranks are ended
HANGS = "hangs or was stopped"  # in what ranks report of another one


class World:
    """The ranks of a run, seen from one of them.

    Parameters
    ----------
    communicator : mpi4py.MPI.Comm, optional
        None: this process is the only rank.
    patience : float
        Seconds to wait for the other ranks, before this one ends the run.
    finalize : callable, optional
        Ends MPI in this process.

    Attributes
    ----------
    rank, size : int
        The number of this rank, from 0 on, and how many there are.
    local_rank, local_size : int
        The same among the ranks on this machine.
    sent, received : int
        Bytes of gradients that this rank has sent and received.
    seconds : float
        Time spent with sums of gradients.
    """

    def __init__(
        self, communicator: Any = None, patience: float = PATIENCE, finalize: Callable[[], object] | None = None
    ) -> None:
        self.communicator, self.patience, self._finalize = communicator, patience, finalize
        self.rank = communicator.rank if communicator else 0
        self.size = communicator.size if communicator else 1
        self.local_rank, self.local_size = 0, 1
        self.sent = self.received = 0
        self.seconds = 0.0
        self._waiting: tuple[str] | None = None  # for what; another object each time
        self._left = threading.Event()
        if communicator:
            machines = communicator.allgather(platform.node())
            self.local_rank = machines[: self.rank].count(machines[self.rank])
            self.local_size = machines.count(machines[self.rank])
        if self.size > 1:
            threading.Thread(target=self._watch, name="tinyalex ranks", daemon=True).start()

    def __reduce__(self) -> tuple[type["World"], tuple[None, float]]:
        # For deep copies and for pickling, as of a training: other ranks cannot be copied.
        if self.size > 1:
            raise TypeError("World: several ranks cannot be copied or pickled")
        return World, (None, self.patience)

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which writes the run folder and the log, and prints."""
        return self.rank == 0

    @contextlib.contextmanager
    def waiting(self, purpose: str) -> Iterator[None]:
        """In the block, this rank waits for the others; if that takes longer than `patience`, the run ends."""
        self._waiting = (purpose,)
        try:
            yield
        finally:
            self._waiting = None

    def agree(self, value: Any, purpose: str = "agreeing") -> list[Any]:
        """Return the values that all ranks gave, in the order of the ranks: the same list in every rank.

        Raises
        ------
        DataError
            In all ranks, if one has called `share_error` instead.
        """
        if self.size == 1:
            return [value]
        with self.waiting(purpose):
            found = self.communicator.allgather(value)
        for rank, given in enumerate(found):
            if isinstance(given, _Failure):
                raise _SharedError(f"rank {rank}: {given.message}")
        return found

    def share_error(self, error: DataError) -> DataError:
        """Let all ranks raise an error of this one, where they would `agree` next; return what they raise.

        An error that all have raised already is returned as it is.
        """
        if self.size == 1 or isinstance(error, _SharedError):
            return error
        try:
            self.agree(_Failure(str(error)))
        except _SharedError as shared:
            return shared
        return error

    def join_lists(self, own: list[Any]) -> list[Any]:
        """Return the items that all ranks gave, those of rank 0 first."""
        return [item for found in self.agree(own, "agreeing on a step") for item in found]

    def broadcast(self, value: Any, purpose: str = "what rank 0 knows") -> Any:
        """Return the value that rank 0 gave."""
        if self.size == 1:
            return value
        with self.waiting(purpose):
            return self.communicator.bcast(value)

    def broadcast_array(self, array: np.ndarray, purpose: str = "the weights of rank 0") -> np.ndarray:
        """Return the array of rank 0; the others give one of the same shape and dtype."""
        if self.size == 1:
            return array
        array = np.ascontiguousarray(array)
        with self.waiting(purpose):
            self.communicator.Bcast(array)
        return array

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """In the block, this rank works by itself; at its end it waits for all others, as long as they show life.

        One that has shown none for `patience` seconds, because it hangs or was stopped by SIGSTOP, ends the run.
        A rank that is asked to stop in the block (`Interrupted`) waits for a short while only, as the same signal may
        have reached the others, and then ends them.

        Raises
        ------
        Interrupted
            If this rank or another one was stopped.
        """
        if self.size == 1:
            yield
            return
        heartbeats = Heartbeats(self.communicator, self.patience)
        try:
            with heartbeats:
                yield
        except Interrupted as stop:
            self._meet(heartbeats, stop.exit_code)
            raise
        if any(self._meet(heartbeats)):
            raise Interrupted("stopped, as another rank was; the same command goes on")

    def leave(self) -> None:
        """Wait for all ranks, as at the end of `apart`, and end MPI; nothing else may be called after it."""
        if self.size == 1:
            return
        self._meet(Heartbeats(self.communicator, self.patience))
        with self.waiting("leaving"):
            if self._finalize:
                self._finalize()
        self.close()

    def close(self) -> None:
        """End the thread that watches how long this rank waits."""
        self._left.set()

    def _meet(self, heartbeats: Heartbeats, code: int = 0) -> list[int]:
        # Wait for all ranks, without keeping a processor busy; return their codes. With a code, wait only for a while.
        request, began = self.communicator.Ibarrier(), time.monotonic()
        while not request.Test():
            if lost := heartbeats.exchange():
                self._give_up(f"rank {lost[0]} has shown no sign of life for {self.patience:g} s; it")
            if code and time.monotonic() - began > _STOPS_WITHIN:
                sys.stderr.write(f"tinyalex: stopped, as rank {self.rank} was; the same command goes on\n")
                self.abort(code)
            time.sleep(0.02)
        return self.agree(code)

    def check_equal(self, facts: dict[str, str]) -> None:
        """Raise a UsageError, in all ranks, that names the first rank with other facts than rank 0.

        Parameters
        ----------
        facts : dict of str to str
            What has to be equal, by its name in the message.
        """
        ours, *others = self.agree(facts, "comparing the ranks")
        for rank, theirs in enumerate(others, 1):
            for name, value in ours.items():
                if theirs.get(name) != value:
                    raise UsageError(
                        f"rank {rank}: {name} is {theirs.get(name)}, but on rank 0 it is {value}; start all ranks with "
                        "the same command, data and versions"
                    )

    def abort(self, code: int) -> None:
        """End all ranks with an exit code; returns if there is only one."""
        if self.size > 1:
            sys.stdout.flush()
            sys.stderr.flush()
            time.sleep(_HEARD_WITHIN)
            self.communicator.Abort(code)
            os._exit(code)  # MPICH may return from Abort before the launcher has ended this process

    def let_lower_ranks_speak(self) -> None:
        """Wait a moment for each lower rank: if all have the same error, the lowest reports it and ends the others."""
        time.sleep(min(3.0, _SPEAKS_AFTER * self.rank))

    def _watch(self) -> None:
        # Counts its own short waits: the time in which all ranks were suspended is not in them.
        every, counted, times = min(1.0, self.patience / 4), None, 0
        while not self._left.wait(every):
            waiting = self._waiting
            counted, times = waiting, times + 1 if waiting and waiting is counted else 0
            if waiting and times * every >= self.patience:
                self._give_up(f"the other ranks did not answer for {self.patience:g} s ({waiting[0]}); one of them")

    def _give_up(self, what: str) -> None:
        # Report a rank that hangs, and end this process at once: an orderly end would wait for the others again.
        self.let_lower_ranks_speak()
        line = f"rank {self.rank}: {what} {HANGS}; the last checkpoint is whole, the same command resumes the run"
        with contextlib.suppress(OSError):
            sys.stderr.write(f"tinyalex: error: {line}\n")
            sys.stderr.flush()
        time.sleep(_HEARD_WITHIN)
        os._exit(DeviceError.exit_code)


class _Failure(NamedTuple):
    # What a rank gives in place of a value if it has none.
    message: str


class _SharedError(DataError):
    """Data that a rank could not read; all ranks raise it."""


ALONE = World()


def launcher() -> str | None:
    """Return what has started this process as one of several, or None."""
    if any(os.environ.get(variable) == "1" for variable in _SIZES if not variable.endswith("RANK")):
        return None  # one process alone needs no MPI
    return next((name for variable, name in _SIZES.items() if variable in os.environ), None)


def join(patience: float = PATIENCE, communicator: Callable[[], Any] | None = None) -> World:
    """Return the `World` of this process: the ranks that a launcher has started, or this process alone.

    Raises
    ------
    UsageError
        If mpi4py is missing or cannot load an MPI library, or if that is not the one of the launcher.
    """
    found = launcher()
    if communicator is None and found is None:
        return ALONE
    # Until the ranks have met, a call of MPI may keep Python from running: the alarm ends the process even then.
    signal.setitimer(signal.ITIMER_REAL, patience)
    try:
        return _meeting(found, patience, communicator)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _meeting(found: str | None, patience: float, communicator: Callable[[], Any] | None) -> World:
    finalize = None
    if communicator is None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of a launcher of another MPI: see below
                from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UsageError(
                f"{found}: has started this process, but mpi4py cannot be used ({reason}); install it: pip install "
                "'.[mpi]'"
            ) from None
        whole, finalize = MPI.COMM_WORLD, MPI.Finalize
    else:
        whole = communicator()
    told = next((os.environ[name] for name in _SIZES if name.endswith(("SIZE", "TASKS")) and name in os.environ), "1")
    if communicator is None and whole.size == 1 and told not in ("0", "1"):
        raise UsageError(
            f"{found}: has started {told} processes, but each finds itself alone: the launcher belongs to another MPI "
            "than mpi4py uses; use --ranks, or the mpiexec beside this Python"
        )
    world = World(whole, patience, finalize)
    if communicator is None:  # all ranks have met: they have exchanged the names of their machines
        _free_names()
    return world


def _free_names() -> None:
    # MPICH leaves its files in /dev/shm behind if a rank ends by an error. When all ranks have opened them the names
    # are not needed, and without a name a file goes when the last rank does.
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:  # another system than Linux
        return
    for name in set(re.findall(r"/dev/shm/mpich_shm_\w+", maps)):
        with contextlib.suppress(OSError):
            os.unlink(name)
