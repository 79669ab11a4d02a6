"""Starts a command as several ranks with MPI's own launcher, and deals a machine's devices out to them."""

import ctypes
import importlib.util
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO

import tinyalex
from tinyalex.devices import parallel
from tinyalex.errors import DeviceError, Interrupted, UsageError
from tinyalex.ranks.world import HANGS, World
from tinyalex.words import counted

_ABORTED = re.compile(r"Abort\(\d+\) on node \d+ ")  # what MPICH says of ranks that have said themselves why they end
_AT_LEAST, _PER_PROCESSOR = 16, 4  # ranks that may be started, whatever they are good for
_SAME_REQUEST = 1.0  # seconds within which a signal that comes again counts as the same request
_BANNER, _BANNER_END = "=   BAD TERMINATION OF ONE OF YOUR APPLICATION", "Please see the FAQ page"


def mpiexec() -> str:
    """Return the path of the launcher that belongs to this Python's MPI, or else of the first one in PATH.

    Raises
    ------
    UsageError
        If there is none, or no mpi4py.
    """
    beside = Path(sys.executable).parent / "mpiexec"
    found = str(beside) if beside.is_file() else shutil.which("mpiexec")
    if not found or importlib.util.find_spec("mpi4py") is None:
        missing = "mpi4py" if found else "mpiexec"
        raise UsageError(f"--ranks: {missing} is not installed; install the extra: pip install '.[mpi]'")
    return found


def run(ranks: int, argv: Sequence[str]) -> int:
    """Run a tinyalex command as several ranks on this machine and return its exit code.

    Parameters
    ----------
    ranks : int
    argv : sequence of str
        The command's arguments, without the program's name.
    """
    if ranks > (most := max(_AT_LEAST, _PER_PROCESSOR * parallel.processors())):
        raise UsageError(
            f"--ranks {ranks}: this machine has {counted(parallel.processors(), 'processor')}; give {most} or fewer, "
            "or start them on several machines with mpiexec"
        )
    if ":" in argv:
        raise UsageError("':' separates programs for mpiexec; give './:' or another name")
    # The ranks find the modules that the launcher finds, and none in the folder that it is called in.
    safe = [] if Path(tinyalex.__file__).parents[1] == Path.cwd() else ["-P"]
    command = [mpiexec(), "-n", str(ranks), sys.executable, *safe, "-m", "tinyalex", *argv]
    hang_up = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # also in mpiexec, which would end with the terminal
    # mpiexec and the ranks outlive this process, if that is killed, until they have saved: mpiexec has the pipes' ends
    # that are read, too, as it would end at once when nobody has them.
    (output, into_output), (errors, into_errors) = os.pipe(), os.pipe()
    # A group of its own: a signal to the group of this process, such as Ctrl-C, reaches mpiexec once, from here.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=into_output,
        stderr=into_errors,
        pass_fds=(output, errors),
        process_group=0,
        preexec_fn=_asked_to_stop_after(os.getpid()),
    )
    os.close(into_output)
    os.close(into_errors)
    asked: list[int] = []  # signals that were handed on
    last: dict[int, float] = {}  # when each of them came

    def hand_on(number: int, _: object) -> None:
        again = time.monotonic() - last.get(number, -math.inf) < _SAME_REQUEST
        last[number] = time.monotonic()
        if not again:
            asked.append(number)
            process.send_signal(_FORWARDED[signal.Signals(number)])

    forwarded = [number for number in _FORWARDED if number != signal.SIGHUP or hang_up is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, hand_on) for number in forwarded} | {signal.SIGHUP: hang_up}
    killed: list[str] = []  # how a rank ended
    reported: list[str] = []  # what ranks said before they ended
    try:
        with open(output, "rb") as printed, open(errors, "rb") as complaints:
            pumps = [
                threading.Thread(target=_pump, args=(printed, sys.stdout.buffer, killed, reported)),
                threading.Thread(target=_pump, args=(complaints, sys.stderr.buffer, killed, reported)),
            ]
            for pump in pumps:
                pump.start()
            code = process.wait()
            for pump in pumps:
                pump.join()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return _outcome(code, asked, killed, reported)


def _asked_to_stop_after(launcher: int) -> Callable[[], object] | None:
    # For mpiexec, before it starts: the kernel sends it SIGTERM, which it hands on, when this process is killed.
    if sys.platform != "linux":
        return None
    prctl, on_parents_death = ctypes.CDLL(None).prctl, 1

    def ask() -> None:
        prctl(on_parents_death, signal.SIGTERM)
        if os.getppid() != launcher:  # it is gone already
            os.kill(os.getpid(), signal.SIGTERM)

    return ask


def _outcome(code: int, asked: Sequence[int], killed: Sequence[str], reported: Sequence[str]) -> int:
    # The exit code of all ranks, from that of mpiexec and from what was seen of the ranks; or a DeviceError, if none of
    # them has said why they ended.
    if code == 0:
        return code
    if any(line.startswith("tinyalex: stopped") for line in reported):
        return Interrupted.exit_code
    if reported:  # mpiexec may have the code of a rank that it ended itself
        return code if code in _CODES else DeviceError.exit_code
    if signal.SIGINT in asked:
        raise KeyboardInterrupt
    if signal.SIGTERM in asked:
        raise DeviceError("ended by SIGTERM when there was nothing to save")
    if killed and f"signal {signal.SIGALRM:d})" in killed[0]:
        raise DeviceError("the ranks did not find each other within --patience; one of them hangs or was stopped")
    if code in _CODES and not killed:
        return code
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    what = f"a rank ended without a message ({killed[0]})" if killed else f"mpiexec {how}, and with it all ranks"
    if killed and f"signal {signal.SIGTERM:d})" in killed[0]:  # as mpiexec does to the others when one has ended
        what = f"a rank was ended, or did not find the others within --patience ({killed[0]})"
    raise DeviceError(f"{what}; a checkpoint is whole if there is one, and the same command goes on from it")


# By signal, what mpiexec gets for it. A rank that is still starting ends at SIGTERM without a traceback. A closed
# terminal is a request to save, which mpiexec hands on as SIGUSR1 only.
_FORWARDED = {
    signal.SIGINT: signal.SIGTERM,
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGUSR1: signal.SIGUSR1,
    signal.SIGHUP: signal.SIGUSR1,
}
_CODES = {0, 1, 130, 141, Interrupted.exit_code, *range(2, 9)}  # of tinyalex: see `tinyalex.cli`
_OF_MPICH = ("[mpiexec@", "[proxy:")  # lines about signals that it hands on


def _pump(source: IO[bytes], target: IO[bytes], killed: list[str], reported: list[str]) -> None:
    # Hand lines on, without those in which MPICH reports that a rank has ended.
    inside, rule = False, b""
    for line in source:
        text = line.decode(errors="replace")
        if text.startswith("=====") and not inside:
            rule = line
            continue
        if text.startswith(_BANNER):
            inside, rule = True, b""
        elif rule:
            _write(target, rule)
            rule = b""
        if inside:
            if "EXIT STRING: " in text:
                killed.append(text.split("EXIT STRING: ")[1].strip().lower())
            inside = _BANNER_END not in text
        elif not _ABORTED.match(text) and not text.startswith(_OF_MPICH):
            if text.startswith(("tinyalex: error:", "tinyalex: stopped")):
                reported.append(text)
                if HANGS in text and len(reported) > 1:  # a rank leaves the others time to report first: not enough
                    continue
            _write(target, line)


def _write(target: IO[bytes], line: bytes) -> None:
    try:
        target.write(line)
        target.flush()
    except OSError:  # the reader of our output has closed it
        pass


def engine() -> dict[str, str | None]:
    """Return what this Python has for several ranks, without starting MPI.

    Returns
    -------
    dict
        "mpi4py", its version; "library", the MPI that was installed with it; "launcher", the path of mpiexec; "nccl",
        the version of NCCL, which CuPy can load. Each is None if it is missing.
    """
    found: dict[str, str | None] = {name: _version(name) for name in ("mpi4py", "mpich")}
    try:
        launcher: str | None = mpiexec()
    except UsageError:
        launcher = None
    nccl = next(filter(None, map(_version, ("nvidia-nccl-cu13", "nvidia-nccl-cu12"))), None)
    library = f"MPICH {found['mpich']}" if found["mpich"] else "the system's MPI"
    return {"mpi4py": found["mpi4py"], "library": library, "launcher": launcher, "nccl": nccl}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def own_devices(devices: Sequence[str], world: World) -> list[str]:
    """Return the devices of this rank: all ranks of a machine share the CPU, GPUs are dealt out to them in order.

    Parameters
    ----------
    devices : sequence of str
        Those of this machine, as many for each of its ranks.

    Raises
    ------
    UsageError
        If they cannot be divided evenly, or two ranks would get the same GPU.
    """
    if world.size == 1 or all(name == "cpu" for name in devices):
        return list(devices)
    if "cpu" in devices:
        raise UsageError("--devices: ranks on the CPU and on GPUs do not train together; give GPUs, or only cpu")
    each, rest = divmod(len(devices), world.local_size)
    if rest or not each:
        raise UsageError(
            f"--devices: {len(devices)} for {world.local_size} ranks on this machine; give each rank as many, for "
            "example one GPU or two"
        )
    dealt = [tuple(devices[each * rank : each * (rank + 1)]) for rank in range(world.local_size)]
    for rank, others in enumerate(dealt):
        for name in others:
            earlier = next((number for number in range(rank) if name in dealt[number]), None)
            if earlier is not None:
                raise UsageError(
                    f"--devices: ranks {earlier} and {rank} would share {name}; give each rank its own GPU"
                )
    return list(dealt[world.local_rank])
