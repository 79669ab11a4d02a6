"""Show what this machine offers: processor, memory, GPUs, and which recipes fit."""

import argparse
import functools
import json
import shlex
from importlib import metadata

from tinyalex.commands.common import CLASSES, print_line
from tinyalex.commands.options import threads, user_path
from tinyalex.errors import UsageError

GIB = 2**30


def options(command):
    """Add the command's options to its parser."""
    command.add_argument("data", nargs="?", help=argparse.SUPPRESS)  # both only to name the command that checks data
    command.add_argument("--full", action="store_true", help=argparse.SUPPRESS)
    command.add_argument(
        "--disk",
        type=user_path,
        metavar="DIR",
        help="also measure for some seconds, with a file of 134 MB in this folder, how fast its disk delivers images, "
        "and say how long an epoch of ILSVRC-2012 takes and which order and format suit",
    )
    command.add_argument("--json", action="store_true", help="print a JSON object instead of text")
    threads(command)


def run(options):
    """Print eleven lines about the machine, and four about a disk if one is to be measured, or the same as JSON."""
    if options.data is not None or options.full:
        verify = shlex.join(["tinyalex", "verify", options.data or "DATA", *(["--full"] if options.full else [])])
        raise UsageError(f"doctor: looks at the machine only; to check a prepared set, type {verify}")
    report = inspect_machine()
    if options.disk:
        from tinyalex.datasets import speed

        report["disk"] = speed.of_folder(options.disk)._asdict()
    print_line(json.dumps(report, indent=1) if options.json else text(report))


def inspect_machine():
    """Collect what the machine offers.

    Returns
    -------
    dict
        "cpu"; "processors", those of the machine; "usable", those that this process may use; "blas", "slow_blas", from
        `tinyalex.devices.machine.slow_blas`, "numpy", "python", "threads"; "memory", with "total" and "free" bytes;
        "container", its limits of "cpus", "memory" in bytes, and "processes", each None if there is none; "cuda", from
        `tinyalex.devices.cuda.look`; "torch", PyTorch's version or None; "ranks", from
        `tinyalex.ranks.launch.engine`; "recipes", from `memory_of`.
    """
    from tinyalex.devices import container, cuda, parallel
    from tinyalex.devices.machine import slow_blas, versions
    from tinyalex.network import memory
    from tinyalex.ranks import launch
    from tinyalex.recipes import recipe

    found, (total, free) = versions(), memory.host()
    return {
        "cpu": found["CPU"],
        "processors": found["processors"],
        "usable": parallel.processors(),
        "blas": found["BLAS"],
        "slow_blas": slow_blas(),
        "numpy": found["NumPy"],
        "python": found["Python"],
        "threads": found["threads"],
        "memory": {"total": total, "free": free},
        "container": {
            "cpus": container.cpus(),
            "memory": container.memory()[0],
            "processes": container.processes(),
        },
        "cuda": cuda.look(),
        "torch": _version("torch"),
        "ranks": launch.engine(),
        "recipes": [memory_of(name) for name in recipe.names()],
    }


@functools.cache  # the fast forms of all recipes take seconds to count
def memory_of(name):
    """Estimate the memory that training a recipe takes.

    Returns
    -------
    dict
        "name"; "batch"; "bytes" on one GPU; "columns", a list of the bytes on each of two GPUs, a column each; "host",
        the bytes on the CPU, with tests and checkpoints.
    """
    from tinyalex.network import alexnet, memory
    from tinyalex.recipes import recipe

    made = recipe.load(name)
    if made.net.classes == 0:
        made = recipe.with_classes(made, CLASSES)
    batch = made.learning.images_at_once()
    network = alexnet.describe(made.net, made.init)
    return {
        "name": name,
        "batch": batch,
        "bytes": sum(memory.needed(network, batch)),
        "host": sum(memory.on_host(network, batch)) // 2,
        "columns": memory.needed(alexnet.describe(made.net, made.init, made.net.columns), batch),
    }


def text(report):
    """Format what `inspect_machine` returned, one line per subject."""
    cuda, host = report["cuda"], report["memory"]
    cupy = f"{cuda['cupy']}, for CUDA {cuda['built']}" if cuda["cupy"] else cuda["missing"].removeprefix("CuPy is ")
    driver = f"supports CUDA {cuda['driver']}" if cuda["driver"] else "none" if cuda["cupy"] else "unknown without CuPy"
    gpus = "; ".join(map(_gpu, cuda["gpus"], range(len(cuda["gpus"]))))
    lines = {
        "CPU": f"{report['cpu']}, {report['processors']} processors{_share(report)}",
        "BLAS": f"{report['blas']}, in NumPy {report['numpy']}{_slow(report)}",
        "threads": f"{report['threads']} for training on the CPU (--threads or TINYALEX_THREADS changes it)",
        "memory": f"{_gib(host['free'])} of {_gib(host['total'])} GiB free{_limit(report)}",
        "CuPy": cupy,
        "driver": driver,
        "GPUs": gpus or (cuda["missing"] if cuda["cupy"] else "unknown without CuPy"),
        "peers": _peers(cuda["gpus"]),
        "ranks": _engine(report["ranks"]),
        "PyTorch": f"{report['torch'] or 'not installed'}; used only by the tests and tinyalex bench",
        "recipes": _fits(report),
    }
    return "\n".join([*(f"{name:<9}{line}" for name, line in lines.items()), *_disk(report)])


def _disk(report):
    from tinyalex.datasets import speed

    return (
        speed.lines(speed.Speed(**report["disk"]), speed.IMAGENET, column=9, memory=report["memory"]["free"])
        if "disk" in report
        else []
    )


def _slow(report):
    return "; " + report["slow_blas"].removeprefix("BLAS: ") if report.get("slow_blas") else ""


def _share(report):
    cpus = report["container"]["cpus"]
    if cpus is not None and cpus <= report["usable"]:
        return f", of which the container may use {cpus:g}"
    return f", of which this process may use {report['usable']}" if report["usable"] < report["processors"] else ""


def _limit(report):
    limit = report["container"]["memory"]
    return ", the container's limit" if limit is not None and limit == report["memory"]["total"] else ""


def _gpu(gpu, number):
    return f"cuda:{number} {gpu['name']}, {_gib(gpu['free'])} of {_gib(gpu['total'])} GiB free"


def _peers(gpus):
    if not gpus:
        return "no GPU; --devices fake:0 fake:1 simulates two on the CPU"
    if len(gpus) == 1:
        return "one GPU; it can compute both columns: --devices cuda:0 cuda:0"
    pairs = [(a, b) for a in range(len(gpus)) for b in range(a + 1, len(gpus)) if b not in gpus[a]["reaches"]]
    if not pairs:
        return "every GPU can read the memory of every other"
    return f"no peer access between {', '.join(f'cuda:{a} cuda:{b}' for a, b in pairs)}: copies go through host memory"


def _fits(report):
    # On the GPU with the most free memory, or on the CPU if there is none.
    free = [gpu["free"] for gpu in report["cuda"]["gpus"]]
    device = f"cuda:{free.index(max(free))}" if free else "cpu"
    room = max(free) if free else report["memory"]["free"] or report["memory"]["total"]
    needed = "bytes" if free else "host"
    largest = max(report["recipes"], key=lambda entry: entry[needed])
    about = f"{largest['name']} takes about {_gib(largest[needed])} GiB"
    if free and len(largest["columns"]) > 1:
        about += f", or {_gib(max(largest['columns']))} per device on two devices"
    too_large = [entry["name"] for entry in report["recipes"] if room is not None and entry[needed] > room]
    if too_large:
        fitting = ", ".join(entry["name"] for entry in report["recipes"] if entry["name"] not in too_large) or "none"
        return f"fit on {device}: {fitting}; too large: {', '.join(too_large)} ({about}; use a smaller learning.batch)"
    return f"all fit on {device}; {about}"


def _engine(engine):
    if not engine["mpi4py"]:
        return "one process only (for --ranks: pip install 'tinyalex[mpi]')"
    if not engine["launcher"]:
        return f"mpi4py {engine['mpi4py']}, but no mpiexec (pip install 'tinyalex[mpi]')"
    nccl = f"NCCL {engine['nccl']}" if engine["nccl"] else "no NCCL"
    return f"mpi4py {engine['mpi4py']}, {engine['library']}, {engine['launcher']}; {nccl}"


def _gib(size):
    return "?" if size is None else f"{size / GIB:.1f}"


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
