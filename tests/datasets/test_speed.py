"""What a disk is good for: advice from given speeds, and measurements that read what they say."""

import json
import os

import pytest

from tests.support import folders, prepared_sets
from tinyalex import datasets
from tinyalex.cli import main
from tinyalex.commands import prepare
from tinyalex.datasets import speed
from tinyalex.datasets.shards.shards import Shard
from tinyalex.datasets.speed import Speed
from tinyalex.recipes import recipe

PIXELS, FILE = 196_608, 26_600  # bytes of an image of 256 x 256


def advice(one_by_one, in_order, decoded, stored=PIXELS, memory=None):
    found = Speed(one_by_one, in_order, decoded, 256, stored, FILE)
    lines = list(speed.lines(found, speed.IMAGENET, stored != PIXELS, memory=memory))
    assert [line.split()[0] for line in lines] == ["disk", "decoding", "epoch", "suits"]
    return lines[2].partition("least: ")[2], lines[3].partition(" ")[2].strip()


def test_a_hard_disk_suits_files_in_the_order_of_shards():
    times, suits = advice(100, 900, 8000)
    assert times == "3 h 34 min one by one, 24 min in the order of shards, 3 h 34 min as JPEG one by one, " + (
        "3 min as JPEG in the order of shards"
    )
    assert suits.startswith(
        "JPEG files in the order of shards: tinyalex prepare --jpeg, tinyalex train --set data.order"
    )


@pytest.mark.parametrize(
    ("speeds", "begin"),
    [
        ((20_000, 21_000, 8000), "images read one by one: nothing has to be changed"),
        ((20_000, 24_000, 8000), "images read one by one"),  # a fifth is not worth a change
        ((100, 21_000, 8000), "the order of shards: "),
        ((500, 600, 8000), "JPEG files in the order of shards: "),
        ((500, 600, 50), "images read one by one"),  # processors that decode too slowly
    ],
)
def test_the_advice_follows_the_slowest_part(speeds, begin):
    assert advice(*speeds)[1].startswith(begin)


@pytest.mark.parametrize(
    ("speeds", "begin"),
    [
        ((700, 6000, 5000), "the order of shards"),
        ((7000, 7500, 5000), "images read one by one"),
        ((20_000, 70_000, 500), "pixels in the order of shards: tinyalex prepare without --jpeg"),
    ],
)
def test_the_advice_for_a_set_of_files(speeds, begin):
    assert advice(*speeds, stored=FILE)[1].startswith(begin)


def test_a_set_that_fits_into_memory_needs_nothing():
    assert advice(100, 900, 8000, memory=1000 * 2**30)[1].startswith("any order: the images fit into memory")
    assert advice(100, 900, 8000, memory=200 * 2**30)[1].startswith("JPEG files")


@pytest.mark.parametrize("quality", [None, 90])
def test_a_set_is_read_one_by_one_and_in_order(tmp_path, monkeypatch, quality):
    monkeypatch.setattr(speed, "PIECE", 3 * 24**2 * 4)
    images = datasets.load(prepared_sets.make(tmp_path / "set", train=40, size=24, per_shard=10, quality=quality)).train
    read, fetch, dropped, drop = [], Shard.fetch, [], Shard.drop_cached
    monkeypatch.setattr(
        Shard, "fetch", lambda self, *span: (read.append((self.path.name, *span)), fetch(self, *span))[1]
    )
    monkeypatch.setattr(Shard, "drop_cached", lambda self, *span: (dropped.append(span), drop(self, *span))[1])
    found = speed.of_set(images, seconds=0.5)
    singles, rest = read[:40], read[40:]
    assert {count for _, _, count in singles} == {1} and len(set(singles)) == 40
    pieces = [span for span in rest if span[2] > 1]
    assert len(pieces) == 12 and sum(count for _, _, count in pieces) == 40 - 0 and len(dropped) == 40 + 12
    assert min(found.one_by_one, found.in_order, found.decoded) > 0 and found.size == 24
    assert found.stored == 3 * 24**2 if quality is None else found.stored == found.as_jpeg < 3 * 24**2


def test_another_format_is_compared_at_the_quality_of_prepare():
    assert speed._QUALITY == prepare.QUALITY


def test_the_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(recipe, "names", lambda: ["shapes"])  # the memory of all takes seconds to estimate
    monkeypatch.setattr(speed, "_SECONDS", 0.02)
    monkeypatch.setattr(speed.of_folder, "__defaults__", (256, 0.02))
    monkeypatch.setattr(speed.of_set, "__defaults__", (0.02,))
    monkeypatch.setattr(speed, "_FILE", 8 << 20)
    folder = prepared_sets.make(tmp_path / "set", size=24)
    assert main(["verify", str(folder), "--speed"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("suits          any order") and "epoch          of 20 images takes" in lines[-3]
    (tmp_path / "disk").mkdir()
    assert main(["doctor", "--disk", str(tmp_path / "disk")]) == 0
    assert "epoch    of 1,281,167 images takes at least: " in capsys.readouterr().out
    assert folders.names(tmp_path / "disk") == []
    assert main(["doctor", "--disk", str(tmp_path / "disk"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["disk"]["size"] == 256
    missing = tmp_path / "missing"
    assert main(["doctor", "--disk", str(missing)]) == 7
    line = f"tinyalex: error: {missing}: cannot be measured (No such file or directory); give a folder to write to\n"
    assert capsys.readouterr().err == line
    assert not os.path.exists(missing)
