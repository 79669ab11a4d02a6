"""Estimates of the memory that training takes, and the memory that the host has."""

import os
import re
import subprocess
import sys

import pytest

from tests.support.small_runs import quiet, small, stripes
from tinyalex.cli import main
from tinyalex.datasets import shapes
from tinyalex.errors import DeviceError
from tinyalex.network import alexnet, memory
from tinyalex.recipes import recipe
from tinyalex.runs.train import train

GIB = 2**30


def test_memory_of_a_net_equals_a_count_by_hand():
    net = recipe.load("paper", ["net.columns=1"]).net
    outputs = 2 * 55 * 55 * 96 + 55 * 55 * 96 + 27 * 27 * 96 + 3 * 27 * 27 * 256 + 13 * 13 * (256 + 4 * 384 + 2 * 256)
    outputs += 6 * 6 * 256 + 6 * 4096 + 1000
    image = 224 * 224 * 3 + outputs + 2 * 55 * 55 * 96 + 27 * 27 * 25 * 96
    weights = 62_378_344
    assert memory.needed(alexnet.describe(net), 10) == [4 * (3 * weights + 10 * image)]


def test_two_columns_divide_the_memory():
    net = recipe.load("original").net
    one, two = (memory.needed(alexnet.describe(net, devices=devices), 128) for devices in (1, 2))
    assert len(one) == 1 and len(two) == 2
    assert max(two) < one[0] < sum(two)
    assert one[0] < 3 * GIB


def test_memory_of_the_machine(monkeypatch):
    total, free = memory.machine()
    assert total is None or (total > 2**27 and (free is None or 0 < free <= total))
    assert memory.host()[0] is None or memory.host()[0] <= total
    texts = {"meminfo": "MemTotal: 2000 kB\nMemAvailable: 1500 kB\nHugePages_Total: 0\n"}

    def read(path, encoding):
        if path.name not in texts:
            raise FileNotFoundError(path)
        return texts[path.name]

    monkeypatch.setattr(memory.Path, "read_text", read)
    assert memory.machine() == (2000 * 1024, 1500 * 1024)
    texts.clear()
    monkeypatch.setattr(memory.os, "sysconf", lambda name: 4096, raising=False)
    assert memory.machine() == (4096 * 4096, None)


@pytest.fixture
def machine(monkeypatch):
    """A list of the machine's bytes of memory and of the free ones, without swap."""
    sizes = [4 * GIB, 4 * GIB]
    monkeypatch.setattr(memory, "host", lambda: tuple(sizes))
    monkeypatch.setattr(memory, "swap", lambda: 0)
    monkeypatch.setattr(memory.container, "memory", lambda: (None, None))
    return sizes


@pytest.fixture(scope="module")
def net():
    return alexnet.describe(recipe.load("shapes", ["net.classes=12"]).net)


@pytest.mark.parametrize("fast", [True, False])
def test_a_batch_that_does_not_fit_is_refused_with_one_that_does(net, machine, fast):
    with pytest.raises(DeviceError, match="batches of 100,000 images take about .* but 4.0 of 4.0 GiB are free; ") as e:
        memory.check(net, 100_000, fast=fast)
    batch = int(str(e.value).rpartition("use --set learning.batch=")[2])
    assert memory.on_host(net, batch, fast)[1] <= 4 * GIB < memory.on_host(net, 2 * batch, fast)[1]
    assert memory.check(net, batch, fast=fast) is None and memory.fits(net, batch, fast) == batch


def test_a_batch_that_may_not_fit_is_warned_of(net, machine, monkeypatch):
    least, most = memory.on_host(net, 4096)
    machine[1] = (least + most) // 2
    line = memory.check(net, 4096, "--batch ")
    assert "if the system ends the command, use --batch " in line
    machine[1] = most
    assert memory.check(net, 4096) is None
    machine[1] = least - 1
    with pytest.raises(DeviceError):
        memory.check(net, 4096)
    monkeypatch.setattr(memory, "swap", lambda: 1)  # slow, but possible
    assert memory.check(net, 4096)


def test_memory_that_is_too_little_or_unknown(net, machine, monkeypatch):
    machine[1] = GIB // 1000  # less than the weights with their gradients and momenta
    with pytest.raises(DeviceError, match="use a smaller net"):
        memory.check(net, 1)
    monkeypatch.setattr(memory.container, "memory", lambda: (4 * GIB, GIB))
    with pytest.raises(DeviceError, match="of 4.0 GiB, the limit of this container, are free"):
        memory.check(net, 4096)
    machine[:] = GIB, None  # not Linux
    with pytest.raises(DeviceError, match="but 1.0 of 1.0 GiB"):
        memory.check(net, 8192)
    machine[:] = None, None
    assert memory.check(net, 10**6) is None and memory.fits(net, 10**6) == 10**6


PEAK = """
import os
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy as np
from tinyalex.network import alexnet, memory
from tinyalex.randomness import Step
from tinyalex.recipes import recipe
from tinyalex.training import health
made = recipe.load("shapes", ["net.classes=12"])
def peak():
    return next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
net, before = alexnet.build(made.net, made.init), peak()
images, labels = np.ones((512, 56, 56, 3), "float32"), np.zeros(512, int)
with net.step():
    net.loss_and_backward(images, labels, step=Step(0, 0))
net.predict(images, len(images))
health.dead_relu_fraction(net, images)
copies = 3 * sum(4 * parameter.size for parameter in net.parameters())
least, most = memory.on_host(alexnet.describe(made.net, made.init), len(images))
print(least, peak() - before + memory.AHEAD * images.nbytes + copies, most)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_estimate_is_near_what_a_step_and_the_end_of_an_epoch_take():
    environment = os.environ | {"TINYALEX_THREADS": "2"}
    words = [sys.executable, "-c", PEAK]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    least, measured, most = map(int, done.stdout.split())
    assert least <= measured <= most


def test_commands_refuse_a_batch_before_they_begin(machine, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(shapes, "load", lambda *_: stripes())
    monkeypatch.setattr(memory, "needed", lambda *_: [100 * GIB])  # so that the quick bound does not decide
    monkeypatch.setattr(memory, "on_host", lambda net, batch, fast: (int(0.8 * batch * GIB), batch * GIB))
    words = [
        "--set",
        "learning.batch=50",
        "--set",
        "net.input=24",
        "net.kernels=3,3,3,3,3",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(["train", *words]) == 8
    error = capsys.readouterr().err
    assert "batches of 50 images take about 45.0 GiB, but 4.0 of 4.0 GiB are free; use --set learning.batch=" in error
    assert not list(tmp_path.rglob("checkpoint*"))
    assert main(["bench", "shapes", "--batch", "50"]) == 8
    assert re.search("use --batch [34]\n", capsys.readouterr().err)


def test_evaluate_and_predict_compute_fewer_images_at_a_time(machine, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(shapes, "load", lambda *_: stripes())
    made = small("data.set=shapes", epochs=1)
    train(recipe.with_classes(made, 2), stripes(), tmp_path, show=quiet)
    assert main(["evaluate", str(tmp_path)]) == 0
    whole = capsys.readouterr()
    assert whole.err == ""
    monkeypatch.setattr(memory, "needed", lambda *_: [100 * GIB])
    monkeypatch.setattr(memory, "on_host", lambda net, batch, fast: (batch * GIB, batch * GIB))
    assert main(["evaluate", str(tmp_path)]) == 0
    parts = capsys.readouterr()
    assert "memory: not enough is free for 16 images at a time; 4 at a time are computed" in parts.err
    assert parts.out == whole.out
