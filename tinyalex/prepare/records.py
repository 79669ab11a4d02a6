"""The record of a finished shard, kept until the set is complete: a resumed preparation skips shards that have one.

16 bytes of hash over all that follows; the sum of the shard's images, uint32 (S, S, 3), little-endian; then JSON.
"""

import hashlib
import json
from typing import NamedTuple

import numpy as np

from tinyalex.system import storage


class Record(NamedTuple):
    """What a worker found out about the images of a shard.

    Attributes
    ----------
    count : int
        Number of images in the shard.
    hash : str
        The shard's hash.
    products : list of list of int, (3, 3)
        Of the shard's pixels, as `tinyalex.datasets.statistics.pixel_sums` returns them.
    skipped : list of [name, reason]
        Images that could not be decoded.
    odd : dict of str to int
        Number of images with each unusual property.
    decoder : dict of str to str
        Versions of the libraries on which the pixels depend.
    total : integers (S, S, 3)
        Sum of the shard's images.
    jpeg : dict of str to int
        The shard's part of the manifest's "jpeg"; empty if pixels are stored.
    """

    count: int  # type: ignore[assignment]  # hides tuple.count; files of records have it under this name
    hash: str
    products: list
    skipped: list
    odd: dict
    decoder: dict
    total: np.ndarray
    jpeg: dict = {}  # noqa: RUF012  # nobody changes it


def write(path, record):
    """Write a record, completely or not at all."""
    fields = record._asdict()
    content = fields.pop("total").astype("<u4").tobytes() + json.dumps(fields).encode()
    with storage.atomic_write(path) as file:
        file.write(_digest(content) + content)


def read(path, size):
    """Read the record of a shard of images of side ``size``; None if there is none or it is damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    sums = 12 * size**2
    if content[:16] != _digest(content[16:]) or len(content) <= 16 + sums:
        return None
    total = np.frombuffer(content, "<u4", 3 * size**2, 16).reshape(size, size, 3)
    return Record(total=total, **json.loads(content[16 + sums :]))


def _digest(content):
    return hashlib.blake2b(content, digest_size=16).digest()
