"""CIFAR-10 and CIFAR-100 as their authors publish them, binary or python.

A binary record is a label, for CIFAR-100 a coarse and then a fine one, and 3072 bytes: 32 x 32 of red, row by row, then
green, then blue. Of CIFAR-100 the 100 fine classes are used.
"""

from typing import NamedTuple

import numpy as np

from tinyalex.datasets import pickled
from tinyalex.datasets.dataset import Dataset, ImageSet
from tinyalex.errors import DataError

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
_PIXELS = 3 * 32 * 32


class _Kind(NamedTuple):
    title: str
    train: tuple  # names of files, without .bin
    test: str
    classes: int
    label_bytes: int  # of a binary record; the last one is the label
    labels_key: str
    meta: str  # files with the names of the classes: python and binary
    names_file: str
    names_key: str


_CIFAR_10 = _Kind(
    *("CIFAR-10", tuple(f"data_batch_{k}" for k in range(1, 6)), "test_batch", 10, 1),
    *("labels", "batches.meta", "batches.meta.txt", "label_names"),
)
_CIFAR_100 = _Kind(
    *("CIFAR-100", ("train",), "test", 100, 2, "fine_labels", "meta", "fine_label_names.txt", "fine_label_names")
)


def _files(kind):
    images = {*kind.train, kind.test}
    return images | {f"{name}.bin" for name in images} | {kind.meta, kind.names_file}


_OF_10, _OF_100 = _files(_CIFAR_10), _files(_CIFAR_100)


def is_part(parts):
    """Return whether a file's name is one of CIFAR-10's or CIFAR-100's; those of the latter may be of other files."""
    return len(parts) <= 2 and parts[-1] in _OF_10 | _OF_100


def is_set(names):
    """Return whether files with these names are CIFAR-10 or CIFAR-100, perhaps with some missing.

    The names of CIFAR-100, such as ``train``, are so usual that it takes two of them.
    """
    names = set(names)
    return bool(names & _OF_10) or {"train", "test"} <= names or {"train.bin", "test.bin"} <= names


def assemble(name, files):
    """Make the data set from its files.

    Parameters
    ----------
    name : str
        Where the files are from, for messages.
    files : dict of str to bytes
        ``data_batch_1.bin`` ... or ``data_batch_1`` ..., ``train.bin`` ... or ``train`` ...; the binary ones are used
        if both are given.

    Returns
    -------
    Dataset
        Named "cifar10" or "cifar100".

    Raises
    ------
    DataError
        If a file is missing or damaged.
    """
    kind = _CIFAR_10 if files.keys() & _OF_10 else _CIFAR_100
    binary = any(file.endswith(".bin") for file in files)
    extension, read = (".bin", _read_binary) if binary else ("", _read_python)
    for file in (*kind.train, kind.test):
        if file + extension not in files:
            what = "five data_batch files and a test_batch" if kind is _CIFAR_10 else "a file train and a file test"
            raise DataError(f"{name}: {file}{extension} is missing; {kind.title} has {what}")
    sets = []
    for part in (kind.train, [kind.test]):
        pieces = [read(files[file + extension], f"{name}: {file}{extension}", kind) for file in part]
        sets.append(ImageSet(np.concatenate([x for x, _ in pieces]), np.concatenate([labels for _, labels in pieces])))
    return Dataset(kind.title.replace("-", "").lower(), _class_names(name, files, binary, kind), *sets)


def _read_binary(content, file, kind):
    size = kind.label_bytes + _PIXELS
    records, rest = divmod(len(content), size)
    if rest or not records:
        raise DataError(
            f"{file}: {len(content):,} bytes is not a whole number of {size:,}-byte records; fetch it again"
        )
    table = np.frombuffer(content, np.uint8).reshape(records, size)
    return _images(table[:, kind.label_bytes :]), _labels(table[:, kind.label_bytes - 1], file, kind)


def _read_python(content, file, kind):
    found, key = pickled.read(content, file), kind.labels_key
    data, labels = found.get("data"), found.get(key)
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != _PIXELS or not isinstance(labels, list):
        raise DataError(f"{file}: has no `data` of 3,072 bytes an image with `{key}`; fetch it again")
    if len(labels) != len(data) or not all(type(label) is int for label in labels):
        raise DataError(f"{file}: {len(labels)} labels for {len(data)} images; fetch it again")
    return _images(data), _labels(np.array(labels), file, kind)


def _images(table):
    return np.ascontiguousarray(table.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))  # planes to pixels


def _labels(labels, file, kind):
    if labels.size and not 0 <= labels.min() <= labels.max() < kind.classes:
        raise DataError(f"{file}: label {labels.max()}, but {kind.title} has 0 to {kind.classes - 1}; fetch it again")
    return labels.astype(np.int64)


def _class_names(name, files, binary, kind):
    file = kind.names_file if binary else kind.meta
    if file not in files:
        names = CLASSES if kind is _CIFAR_10 else None
    elif binary:
        names = files[file].decode("utf-8", "replace").split()
    else:
        names = pickled.read(files[file], f"{name}: {file}").get(kind.names_key)
    if names is None:
        raise DataError(f"{name}: {file}, with the names of the classes, is missing; fetch it again")
    if not isinstance(names, list) or len(names) != kind.classes or not all(isinstance(each, str) for each in names):
        count = "ten" if kind is _CIFAR_10 else kind.classes
        raise DataError(f"{name}: {file} does not name {count} classes; fetch it again")
    return list(names)
