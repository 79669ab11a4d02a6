"""The manifest of a prepared set: a JSON file with its classes, counts, statistics and the hash of every shard.

Reading is strict: no key twice, exactly the fields of the format, each of its type, and whole numbers only. "check"
is a hash of all the other fields, so that any change is noticed. A set whose test images have no labels has a format of
its own, which versions that do not know it refuse: its labels are 0 and mean nothing. So has a set of JPEG files, with
a field "jpeg": their quality; how many are the sources' own files; the bytes of all; the sum of the squared differences
between their pixels and those they were made from, and the largest difference.
"""

import hashlib
import json
import re
from pathlib import Path

import numpy as np

from tinyalex.datasets.shards.shards import SPLITS, file_name
from tinyalex.errors import DataError
from tinyalex.system import storage, tensorfile

NAME, MEAN = "manifest.json", "mean.f32"
FORMAT = "tinyalex prepared set 1"
_UNLABELLED = "tinyalex prepared set 2"  # the same fields; its test images have no labels
_JPEG, _UNLABELLED_JPEG = "tinyalex prepared set 3", "tinyalex prepared set 4"  # with a field "jpeg" as well
_REMEDY = "copy the set again from an intact copy, or prepare it in another folder"

_HEX = re.compile("[0-9a-f]{32}")
_SPLIT = {
    "count": int,
    "shards": [{"file": str, "count": int, "hash": _HEX}],
    "skipped": [{"name": str, "reason": str}],
}
_FIELDS = {
    "format": str,
    "identity": _HEX,
    "plan": _HEX,
    "kind": str,
    "sources": [str],
    "size": int,
    "seed": int,
    "per_shard": int,
    "classes": [str],
    "words": [str],
    "splits": {split: _SPLIT for split in SPLITS},
    "statistics": {
        "from": str,
        "images": int,
        "pixels": int,
        "sum": [int],
        "products": [[int]],
        "mean": {"file": str, "hash": _HEX},
    },
    "odd": {str: int},
    "duplicates": [[str]],
    "decoder": {"pillow": str, "libjpeg": str, "filter": str},
    "check": _HEX,
}
_OF_JPEG = {"jpeg": {"quality": int, "kept": int, "bytes": int, "squares": int, "largest": int}}


def is_unlabelled(manifest):
    """Return whether the test images of a set have no labels."""
    return manifest["format"] in (_UNLABELLED, _UNLABELLED_JPEG)


def write(folder, fields, unlabelled=False):
    """Write a set's manifest; with it the set is complete.

    Parameters
    ----------
    folder : Path
    fields : dict
        All fields of the format except "format", "identity" and "check", which are added; "jpeg" for JPEG files alone.
    unlabelled : bool
        Whether the test images have no labels.

    Returns
    -------
    dict
        The manifest as `read` returns it.

    Raises
    ------
    StorageError
        If there is no space or no permission; then no file is left behind.
    """
    formats = (_JPEG, _UNLABELLED_JPEG) if "jpeg" in fields else (FORMAT, _UNLABELLED)
    made = {"format": formats[unlabelled], "identity": _identity(fields)} | fields
    made["check"] = _digest(_text(made))
    _check_all(Path(folder) / NAME, made)
    storage.write_text(Path(folder) / NAME, _text(made))
    return made


def read(folder):
    """Read a set's manifest.

    Returns
    -------
    dict

    Raises
    ------
    DataError
        If it is missing, of another version, or was changed; the message names the wrong field.
    """
    path = Path(folder) / NAME
    try:
        text = path.read_bytes().decode()
        found = tensorfile.parse(text)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {_REMEDY}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error}); {_REMEDY}") from error
    _check_all(path, found)
    if text != _text(found) or found.pop("check") != _digest(_text(found)):
        raise DataError(f"{path}: check: it was changed after it was written; {_REMEDY}")
    return found


def write_mean(folder, mean):
    """Write a set's mean image, float32 (S, S, 3); return its entry in the statistics."""
    content = np.asarray(mean, "<f4").tobytes()
    storage.write_bytes(Path(folder) / MEAN, content)
    return {"file": MEAN, "hash": _digest(content)}


def read_mean(folder, manifest):
    """Read a set's mean image, float32 (S, S, 3); DataError if it was changed."""
    path, size = Path(folder) / MEAN, manifest["size"]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {_REMEDY}") from error
    if len(content) != 12 * size**2:
        raise DataError(
            f"{path}: {len(content):,} bytes, but an image of {size} x {size} has {12 * size**2:,}; {_REMEDY}"
        )
    mean = np.frombuffer(content, "<f4").reshape(size, size, 3)
    if not ((mean >= 0) & (mean <= 255)).all():
        raise DataError(f"{path}: has values outside 0 to 255; {_REMEDY}")
    if _digest(content) != manifest["statistics"]["mean"]["hash"]:
        raise DataError(f"{path}: it was changed after it was written; {_REMEDY}")
    return mean.astype(np.float32)


def _identity(fields):
    shards = [shard["hash"] for split in SPLITS for shard in fields["splits"][split]["shards"]]
    return _digest(json.dumps([fields["classes"], shards]))


def _check_all(path, found):
    # The format first: in another one the other fields may mean anything.
    try:
        version = found["format"]
    except (TypeError, KeyError):
        raise DataError(f"{path}: format: missing; not the manifest of a prepared set") from None
    if version not in (FORMAT, _UNLABELLED, _JPEG, _UNLABELLED_JPEG):
        newer = isinstance(version, str) and re.fullmatch(FORMAT[:-1] + "[0-9]+", version)
        what = "written by another version of tinyalex; use that one" if newer else "not the manifest of a prepared set"
        raise DataError(f"{path}: format: {version!r}, not {FORMAT!r}; {what}")
    for field, wrong in _wrong(found):
        raise DataError(f"{path}: {field}: {wrong}; {_REMEDY}")


def _wrong(found):
    # Yield (field, what is wrong), types before values.
    with_jpeg = found["format"] in (_JPEG, _UNLABELLED_JPEG)
    yield from _wrong_types(found, _FIELDS | (_OF_JPEG if with_jpeg else {}), "")
    size, classes, statistics = found["size"], found["classes"], found["statistics"]
    if not 1 <= size <= 1 << 12:
        yield "size", f"{size} is not from 1 to 4096"
    if len(classes) < 2 or len(set(classes)) != len(classes):
        yield "classes", "fewer than two, or one is repeated"
    if len(found["words"]) != len(classes):
        yield "words", f"{len(found['words'])} for {len(classes)} classes"
    for split, part in found["splits"].items():
        for number, shard in enumerate(part["shards"]):
            if shard["file"] != file_name(split, number):
                yield f"splits.{split}.shards.{number}.file", f"{shard['file']!r}, not {file_name(split, number)!r}"
            if shard["count"] == 0:
                yield f"splits.{split}.shards.{number}.count", "0"
        if part["count"] != sum(shard["count"] for shard in part["shards"]):
            yield f"splits.{split}.count", f"{part['count']} is not the sum of its shards'"
    if found["identity"] != _identity(found):
        yield "identity", "not that of the classes and shards"
    source, images = statistics["from"], statistics["images"]
    if source not in SPLITS and not _HEX.fullmatch(source):
        yield "statistics.from", f"{source!r} is neither train, test nor the identity of another set"
    if source in SPLITS and images != found["splits"][source]["count"]:
        yield "statistics.images", f"{images}, not the number of {source} images"
    if statistics["pixels"] != images * size**2 or not images:
        yield "statistics.pixels", f"{statistics['pixels']} in {images} images"
    if [len(statistics["sum"]), *map(len, statistics["products"])] != [3, 3, 3, 3]:
        yield "statistics", "not 3 sums and 3 x 3 products"
    if statistics["mean"]["file"] != MEAN:
        yield "statistics.mean.file", f"{statistics['mean']['file']!r}, not {MEAN!r}"
    if with_jpeg and not 1 <= found["jpeg"]["quality"] <= 100:
        yield "jpeg.quality", f"{found['jpeg']['quality']} is not from 1 to 100"


def _wrong_types(found, wanted, where):
    # Compare with a pattern: a type, a regular expression, [pattern], {name: pattern} or {str: pattern}.
    if isinstance(wanted, re.Pattern):
        if type(found) is not str or not wanted.fullmatch(found):
            yield where, f"{_short(found)} is not 32 hexadecimal digits"
    elif isinstance(wanted, type):
        if type(found) is not wanted or wanted is int and not 0 <= found < 1 << 63:
            yield where, f"{_short(found)} is not {'text' if wanted is str else 'a whole number'}"
    elif type(found) is not type(wanted):
        yield where, f"{_short(found)} is not {'a list' if isinstance(wanted, list) else 'an object'}"
    elif isinstance(wanted, list):
        for number, each in enumerate(found):
            yield from _wrong_types(each, wanted[0], f"{where}.{number}")
    elif str in wanted:
        for name, each in found.items():
            yield from _wrong_types(each, wanted[str], f"{where}.{name}")
    else:
        for name in sorted(wanted.keys() ^ found.keys()):
            yield f"{where}.{name}".lstrip("."), "missing" if name in wanted else "not a field of this format"
        for name, pattern in wanted.items():
            yield from _wrong_types(found[name], pattern, f"{where}.{name}".lstrip("."))


def _short(value):
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _text(fields):
    return json.dumps(fields, indent=1) + "\n"


def _digest(content):
    return hashlib.blake2b(content.encode() if isinstance(content, str) else content, digest_size=16).hexdigest()
