"""`tinyalex doctor`: eleven lines about the machine, whatever is installed or missing, and which recipes fit."""

import builtins
import contextlib
import json
import sys
import types

import pytest

from tinyalex.cli import main
from tinyalex.commands import doctor
from tinyalex.devices import cuda, parallel
from tinyalex.recipes import recipe

GIB = 2**30


def stub(count=1, driver=13000, built=13000, apart=(), name=b"NVIDIA H200", free=100 * GIB):
    """A stand-in for CuPy with ``count`` GPUs; ``apart`` lists pairs without peer access."""

    class CUDARuntimeError(RuntimeError):
        pass

    def device_count():
        if isinstance(count, str):
            raise CUDARuntimeError(count)
        return count

    class FakeDevice(contextlib.nullcontext):
        def __init__(self, number):
            super().__init__()
            current.append(number)

    current = []
    runtime = types.SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=device_count,
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: built,
        memGetInfo=lambda: (free - current[-1] * GIB, 140 * GIB),
        getDeviceProperties=lambda number: {"name": name},
        deviceCanAccessPeer=lambda a, b: {a, b} not in [set(pair) for pair in apart],
    )
    return types.SimpleNamespace(__version__="14.2.0", cuda=types.SimpleNamespace(runtime=runtime, Device=FakeDevice))


@pytest.fixture
def with_cupy(monkeypatch):
    return lambda cupy: monkeypatch.setitem(sys.modules, "cupy", cupy)


# GPUs.


def test_gpus_and_peer_access(with_cupy):
    with_cupy(stub(count=3, apart=[(0, 2)]))
    found = cuda.look()
    assert (found["cupy"], found["built"], found["driver"], found["missing"]) == ("14.2.0", "13.0", "13.0", None)
    assert [gpu["reaches"] for gpu in found["gpus"]] == [[1], [0, 2], [1]]
    assert found["gpus"][2] == {"name": "NVIDIA H200", "total": 140 * GIB, "free": 98 * GIB, "reaches": [1]}


@pytest.mark.parametrize(
    ("cupy", "message"),
    [
        (None, "CuPy is not installed; pip install 'tinyalex[cuda13]' or [cuda12]"),
        (stub("insufficient driver", driver=0), "there is no NVIDIA driver; install one"),
        (stub("insufficient driver", driver=12080), "pip install 'tinyalex[cuda12]'"),
        (stub("no device is detected"), "no device is detected"),
        (stub(0), "this machine has none"),
    ],
    ids=["no CuPy", "no driver", "old driver", "no device", "none"],
)
def test_missing_cupy_driver_or_gpu_is_reported_without_an_error(cupy, message, with_cupy, capsys):
    with_cupy(cupy)
    assert message in cuda.look()["missing"] and cuda.look()["gpus"] == []
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11
    assert message.removeprefix("CuPy is ") in lines[4 if cupy is None else 6]


# The eleven lines.


def report(free=20 * GIB):
    return doctor.inspect_machine() | {"memory": {"total": 24 * GIB, "free": free}}


def line(text, name):
    (found,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return found.removeprefix(name).strip()


def test_eleven_lines_with_gpus(with_cupy):
    with_cupy(stub(count=2, apart=[(0, 1)]))
    text = doctor.text(report())
    assert [row.split()[0] for row in text.splitlines()] == [
        "CPU", "BLAS", "threads", "memory", "CuPy", "driver", "GPUs", "peers", "ranks", "PyTorch", "recipes",
    ]  # fmt: skip
    assert line(text, "memory") == "20.0 of 24.0 GiB free"
    assert line(text, "CuPy") == "14.2.0, for CUDA 13.0" and line(text, "driver") == "supports CUDA 13.0"
    assert line(text, "GPUs").startswith("cuda:0 NVIDIA H200, 100.0 of 140.0 GiB free; cuda:1 NVIDIA H200, 99.0")
    assert line(text, "peers").startswith("no peer access between cuda:0 cuda:1")
    assert line(text, "recipes").startswith("all fit on cuda:0; modern takes about 2.5 GiB, or 1.6 per device")
    with_cupy(stub(count=2))
    assert line(doctor.text(report()), "peers") == "every GPU can read the memory of every other"
    with_cupy(stub(count=1))
    assert line(doctor.text(report()), "peers").endswith("--devices cuda:0 cuda:0")


@pytest.mark.slow
def test_which_recipes_fit(with_cupy, monkeypatch):
    monkeypatch.setattr(parallel, "_workers", None)
    parallel.set_threads(2)  # each thread's arrays count
    doctor.memory_of.cache_clear()
    with_cupy(None)
    assert line(doctor.text(report()), "recipes").startswith("all fit on cpu")
    small = line(doctor.text(report(free=GIB)), "recipes")
    fit, large = (part.split(": ")[1].split(", ") for part in small.split("; ")[:2])
    assert {"cifar10-relu", "shapes", "photos-64"} <= {*fit} and {"original", "six-conv"} <= {*large}
    assert "tiny-imagenet" not in fit  # its steps take 0.9 GiB, the end of an epoch 1.2
    assert "none; too large" in line(doctor.text(report(free=1000)), "recipes")
    with_cupy(stub(free=2 * GIB))
    assert line(doctor.text(report()), "recipes").startswith("fit on cuda:0: cifar10-")
    assert line(doctor.text(report() | {"memory": {"total": None, "free": None}}), "memory") == "? of ? GiB free"


def test_limits_of_a_container_are_named(with_cupy):
    with_cupy(None)
    limits = {"cpus": 1.5, "memory": 24 * GIB, "processes": 99}
    text = doctor.text(report() | {"processors": 64, "usable": 2, "container": limits})
    assert line(text, "CPU").endswith(", 64 processors, of which the container may use 1.5")
    assert line(text, "memory") == "20.0 of 24.0 GiB free, the container's limit"
    text = doctor.text(report() | {"processors": 64, "usable": 2, "container": {"cpus": None, "memory": None}})
    assert line(text, "CPU").endswith(", 64 processors, of which this process may use 2")
    assert line(text, "memory") == "20.0 of 24.0 GiB free"


def test_json_output(with_cupy, capsys):
    with_cupy(stub())
    assert main(["doctor", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["cuda"]["gpus"][0]["name"] == "NVIDIA H200"
    assert output["container"].keys() == {"cpus", "memory", "processes"} and output["usable"] >= 1
    assert {entry["name"] for entry in output["recipes"]} == set(recipe.names())
    assert output["recipes"][0].keys() == {"name", "batch", "bytes", "columns", "host"}


def test_doctor_does_not_import_pytorch(with_cupy, monkeypatch, capsys):
    with_cupy(None)
    imported, real = [], builtins.__import__
    monkeypatch.setattr(builtins, "__import__", lambda name, *rest: (imported.append(name), real(name, *rest))[1])
    assert main(["doctor"]) == 0
    assert "torch" not in imported and "PyTorch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "command"),
    [
        (["folder"], "tinyalex verify folder"),
        (["my set", "--full", "--json"], "tinyalex verify 'my set' --full"),
        (["--full"], "tinyalex verify DATA --full"),
    ],
)
def test_doctor_with_a_data_set_names_the_command_that_checks_it(options, command, capsys):
    assert main(["doctor", *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.endswith(f"type {command}\n")
