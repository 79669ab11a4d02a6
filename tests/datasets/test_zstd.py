"""Archives packed by zstd: with any of the modules that read it, and without."""

import gzip
import io
import sys
import types

import numpy as np
import pytest

from tests.support import toy_imagenet
from tinyalex import datasets
from tinyalex.datasets import zstd
from tinyalex.datasets.index.sources import index
from tinyalex.errors import DataError

MODULES = ("compression.zstd", "backports.zstd", "zstandard")
FILES = {f"{split}/{name}/1.jpg": toy_imagenet.jpeg(np.random.default_rng(k), 16, 16)
         for k, name in enumerate(("cat", "dog")) for split in ("train", "test")}  # fmt: skip


@pytest.fixture
def without(monkeypatch):
    for name in MODULES:
        monkeypatch.setitem(sys.modules, name, None)


def archive(tmp_path, pack):
    path = tmp_path / "set.tar.zst"
    path.write_bytes(pack(toy_imagenet.tar(None, FILES)))
    return path


def check(path, tmp_path):
    assert datasets.load(path).classes == ["cat", "dog"]
    seen = index([path], tmp_path / "work", print)
    assert {f"train/{name}" for name in toy_imagenet.found(seen.splits["train"])} < FILES.keys()
    assert len(seen.splits["train"]) == len(seen.splits["test"]) == 2


@pytest.mark.parametrize("name", MODULES)
def test_an_archive_is_read_with_the_module_that_is_there(name, without, monkeypatch, tmp_path):
    """A stand-in module, whose frames are those of gzip behind zstd's first bytes."""

    def opened(file, **_):
        file.read(len(zstd.MAGIC))
        return gzip.open(io.BytesIO(file.read()))

    module = types.ModuleType(name)
    module.open = opened
    module.ZstdDecompressor = lambda: types.SimpleNamespace(stream_reader=opened)
    monkeypatch.setitem(sys.modules, name.split(".")[0], types.ModuleType(name.split(".")[0]))
    monkeypatch.setitem(sys.modules, name, module)
    check(archive(tmp_path, lambda content: zstd.MAGIC + gzip.compress(content)), tmp_path)


@pytest.mark.parametrize("name", MODULES)
def test_a_real_archive(name, tmp_path, monkeypatch):
    module = pytest.importorskip(name)
    for other in MODULES:
        monkeypatch.setitem(sys.modules, other, module if other == name else None)

    def pack(content):  # in two frames, as parallel packers do
        half = len(content) // 2
        compress = getattr(module, "compress", None) or module.ZstdCompressor().compress
        return compress(content[:half]) + compress(content[half:])

    path = archive(tmp_path, pack)
    check(path, tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    for read in (datasets.load, lambda path: index([path], tmp_path / "again", print)):
        with pytest.raises(DataError, match="fetch it again"):
            read(path)


def test_without_a_module_what_to_install_is_named(without, tmp_path):
    path = archive(tmp_path, lambda content: zstd.MAGIC + content)
    for read in (datasets.load, lambda path: index([path], tmp_path / "work", print)):
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(caught.value) == (
            f"{path}: packed by zstd, which this Python does not read; pip install backports.zstd, or unpack it with "
            "zstd -d"
        )
