"""What this machine can do: ten lines whatever is there or missing, and whether a recipe fits."""

import builtins
import contextlib
import json
import sys
import types

import pytest

from tinyalex.cli import main
from tinyalex.commands import machine_report
from tinyalex.devices import cuda
from tinyalex.network import alexnet, memory
from tinyalex.recipes import recipe

GIB = 2**30


def stub(count=1, driver=13000, built=13000, apart=(), name=b"NVIDIA H200", free=100 * GIB):
    """A CuPy of some cards; ``apart`` are pairs that do not reach each other."""

    class CUDARuntimeError(RuntimeError):
        pass

    def counted():
        if isinstance(count, str):
            raise CUDARuntimeError(count)
        return count

    class Card(contextlib.nullcontext):
        def __init__(self, number):
            super().__init__()
            here.append(number)

    here = []
    runtime = types.SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=counted,
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: built,
        memGetInfo=lambda: (free - here[-1] * GIB, 140 * GIB),
        getDeviceProperties=lambda number: {"name": name},
        deviceCanAccessPeer=lambda a, b: {a, b} not in [set(pair) for pair in apart],
    )
    return types.SimpleNamespace(__version__="14.2.0", cuda=types.SimpleNamespace(runtime=runtime, Device=Card))


@pytest.fixture
def with_cupy(monkeypatch):
    return lambda cupy: monkeypatch.setitem(sys.modules, "cupy", cupy)


# Cards.


def test_cards_and_whom_they_reach(with_cupy):
    with_cupy(stub(count=3, apart=[(0, 2)]))
    found = cuda.look()
    assert (found["cupy"], found["built"], found["driver"], found["missing"]) == ("14.2.0", "13.0", "13.0", None)
    assert [card["reaches"] for card in found["cards"]] == [[1], [0, 2], [1]]
    assert found["cards"][2] == {"name": "NVIDIA H200", "total": 140 * GIB, "free": 98 * GIB, "reaches": [1]}


@pytest.mark.parametrize(
    ("cupy", "words"),
    [
        (None, "CuPy is not installed; pip install 'tinyalex[cuda13]' or [cuda12]"),
        (stub("insufficient driver", driver=0), "there is no NVIDIA driver; install one"),
        (stub("insufficient driver", driver=12080), "pip install 'tinyalex[cuda12]'"),
        (stub("no device is detected"), "no device is detected"),
        (stub(0), "this machine has none"),
    ],
    ids=["no CuPy", "no driver", "old driver", "no device", "none"],
)
def test_what_is_missing_takes_a_line_and_is_no_error(cupy, words, with_cupy, capsys):
    with_cupy(cupy)
    assert words in cuda.look()["missing"] and cuda.look()["cards"] == []
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert words.removeprefix("CuPy is ") in lines[4 if cupy is None else 6]


# Memory.


def test_memory_of_a_net_by_hand():
    net = recipe.load("paper", ["net.columns=1"]).net
    outputs = 2 * 55 * 55 * 96 + 55 * 55 * 96 + 27 * 27 * 96 + 3 * 27 * 27 * 256 + 13 * 13 * (256 + 4 * 384 + 2 * 256)
    outputs += 6 * 6 * 256 + 6 * 4096 + 1000
    image = 224 * 224 * 3 + outputs + 2 * 55 * 55 * 96 + 27 * 27 * 25 * 96
    weights = 62_378_344
    assert memory.needed(alexnet.describe(net), 10) == [4 * (3 * weights + 10 * image)]


def test_columns_share_the_memory():
    net = recipe.load("original").net
    one, two = (memory.needed(alexnet.describe(net, devices=devices), 128) for devices in (1, 2))
    assert len(one) == 1 and len(two) == 2
    assert max(two) < one[0] < sum(two)
    assert one[0] < 3 * GIB


def test_memory_of_the_host(monkeypatch):
    total, free = memory.host()
    assert total is None or (total > 2**27 and (free is None or 0 < free <= total))
    texts = {"meminfo": "MemTotal: 2000 kB\nMemAvailable: 1500 kB\nHugePages_Total: 0\n", "memory.max": "max"}

    def read(path, encoding):
        if path.name not in texts:
            raise FileNotFoundError(path)
        return texts[path.name]

    monkeypatch.setattr(memory.Path, "read_text", read)
    assert memory.host() == (2000 * 1024, 1500 * 1024)
    texts |= {"memory.max": "1000000\n", "memory.current": "400000\n"}
    assert memory.host() == (1_000_000, 600_000)
    texts["memory.max"] = "9000000000"  # more than there is
    assert memory.host() == (2000 * 1024, 1500 * 1024)
    texts.clear()
    monkeypatch.setattr(memory.os, "sysconf", lambda name: 4096, raising=False)
    assert memory.host() == (4096 * 4096, None)


# The ten lines.


def found(cuda=None, free=20 * GIB):
    return machine_report.look() | {"memory": {"total": 24 * GIB, "free": free}, "cuda": cuda or cuda.look()}


def line(text, name):
    (one,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return one.removeprefix(name).strip()


def test_ten_lines_with_cards(with_cupy):
    with_cupy(stub(count=2, apart=[(0, 1)]))
    text = machine_report.text(found())
    assert [each.split()[0] for each in text.splitlines()] == [
        "CPU", "BLAS", "threads", "memory", "CuPy", "driver", "cards", "peers", "PyTorch", "recipes",
    ]  # fmt: skip
    assert line(text, "memory") == "20.0 of 24.0 GiB free"
    assert line(text, "CuPy") == "14.2.0, for CUDA 13.0" and line(text, "driver") == "knows CUDA 13.0"
    assert line(text, "cards").startswith("cuda:0 NVIDIA H200, 100.0 of 140.0 GiB free; cuda:1 NVIDIA H200, 99.0")
    assert line(text, "peers").startswith("not between cuda:0 cuda:1")
    assert line(text, "recipes").startswith("every one fits on cuda:0; modern takes about 2.5 GiB, 1.6 a column")
    with_cupy(stub(count=2))
    assert line(machine_report.text(found()), "peers") == "every card reads every other's memory"
    with_cupy(stub(count=1))
    assert line(machine_report.text(found()), "peers").endswith("--devices cuda:0 cuda:0")


def test_which_recipes_fit(with_cupy):
    with_cupy(None)
    assert line(machine_report.text(found()), "recipes").startswith("every one fits on cpu")
    small = line(machine_report.text(found(free=GIB)), "recipes")
    fit, large = (part.split(": ")[1].split(", ") for part in small.split("; ")[:2])
    assert {"cifar10-relu", "cifar10-tanh", "shapes", "tiny-imagenet"} <= {*fit} and {"modern", "original"} <= {*large}
    assert "none; too large" in line(machine_report.text(found(free=1000)), "recipes")
    with_cupy(stub(free=2 * GIB))
    assert line(machine_report.text(found()), "recipes").startswith("on cuda:0: cifar10-")
    assert line(machine_report.text(found() | {"memory": {"total": None, "free": None}}), "memory") == "? of ? GiB free"


def test_as_json(with_cupy, capsys):
    with_cupy(stub())
    assert main(["doctor", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["cuda"]["cards"][0]["name"] == "NVIDIA H200"
    assert {each["name"] for each in said["recipes"]} == set(recipe.names())
    assert said["recipes"][0].keys() == {"name", "batch", "bytes", "columns"}


def test_the_machine_is_looked_at_without_pytorch(with_cupy, monkeypatch, capsys):
    with_cupy(None)
    imported, real = [], builtins.__import__
    monkeypatch.setattr(builtins, "__import__", lambda name, *rest: (imported.append(name), real(name, *rest))[1])
    assert main(["doctor"]) == 0
    assert "torch" not in imported and "PyTorch" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--full"], ["--json", "folder"]])
def test_options_that_do_not_belong_together(options, capsys):
    assert main(["doctor", *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1
