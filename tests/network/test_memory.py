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


def test_host_memory_respects_the_limit_of_a_container(monkeypatch):
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
    texts["memory.max"] = "9000000000"  # a limit above the memory that there is
    assert memory.host() == (2000 * 1024, 1500 * 1024)
    texts.clear()
    monkeypatch.setattr(memory.os, "sysconf", lambda name: 4096, raising=False)
    assert memory.host() == (4096 * 4096, None)
