"""Estimates of the memory that training takes, and the memory that the host has."""

from tinyalex.network import alexnet, memory
from tinyalex.recipes import recipe

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


def test_a_batch_that_may_not_fit_is_reported_with_one_that_fits(monkeypatch):
    net, machine = alexnet.describe(recipe.load("paper").net), [2 * GIB, GIB]
    monkeypatch.setattr(memory, "host", lambda: tuple(machine))
    line = memory.warning(net, 128)
    batch = int(line.rpartition("learning.batch=")[2])
    assert sum(memory.needed(net, batch)) <= GIB < sum(memory.needed(net, batch + 1))
    assert memory.warning(net, batch) is None and "but 1.0 of 2.0 GiB are free" in line
    monkeypatch.setattr(memory.container, "memory", lambda: (2 * GIB, GIB))
    assert "but 1.0 of 2.0 GiB, the limit of this container, are free" in memory.warning(net, 128)
    machine[1] = GIB // 2  # less than the weights with their gradients and momenta
    assert memory.warning(net, 1).endswith("use a smaller net")
    machine[:] = GIB, None  # not Linux
    assert "but 1.0 of 1.0 GiB" in memory.warning(net, 128)
    machine[:] = None, None
    assert memory.warning(net, 128) is None
