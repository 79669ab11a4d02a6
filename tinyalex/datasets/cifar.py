"""CIFAR-10 as its authors publish it: five training files and a test file, binary or python.

A record is a label and 3072 bytes: 32 x 32 of red, row by row, then green, then blue.
"""

import re

import numpy as np

from tinyalex.datasets import pickled
from tinyalex.datasets.dataset import Dataset, ImageSet
from tinyalex.errors import DataError

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
_PIXELS = 3 * 32 * 32
_FILE = re.compile(r"((data_batch_[1-5]|test_batch)(\.bin)?|batches\.meta(\.txt)?)")
_TRAIN, _TEST = [f"data_batch_{k}" for k in range(1, 6)], "test_batch"


def is_part(parts):
    """Return whether a file's name is one of CIFAR-10's."""
    return len(parts) <= 2 and _FILE.fullmatch(parts[-1]) is not None


def assemble(name, files):
    """Make the data set from its files.

    Parameters
    ----------
    name : str
        Where the files are from, for messages.
    files : dict of str to bytes
        ``data_batch_1.bin`` ... or ``data_batch_1`` ...; the binary ones are used if both are given.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If a file is missing or damaged.
    """
    binary = any(file.endswith(".bin") for file in files)
    extension, read = (".bin", _read_binary) if binary else ("", _read_python)
    for file in (*_TRAIN, _TEST):
        if file + extension not in files:
            raise DataError(
                f"{name}: {file}{extension} is missing; CIFAR-10 has five data_batch files and a test_batch"
            )
    sets = []
    for part in (_TRAIN, [_TEST]):
        pieces = [read(files[file + extension], f"{name}: {file}{extension}") for file in part]
        sets.append(ImageSet(np.concatenate([x for x, _ in pieces]), np.concatenate([labels for _, labels in pieces])))
    return Dataset("cifar10", _class_names(name, files, binary), *sets)


def _read_binary(content, file):
    records, rest = divmod(len(content), 1 + _PIXELS)
    if rest or not records:
        raise DataError(f"{file}: {len(content):,} bytes is not a whole number of 3,073-byte records; fetch it again")
    table = np.frombuffer(content, np.uint8).reshape(records, 1 + _PIXELS)
    return _images(table[:, 1:]), _labels(table[:, 0], file)


def _read_python(content, file):
    found = pickled.read(content, file)
    data, labels = found.get("data"), found.get("labels")
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != _PIXELS or not isinstance(labels, list):
        raise DataError(f"{file}: has no `data` of 3,072 bytes an image with `labels`; fetch it again")
    if len(labels) != len(data) or not all(type(label) is int for label in labels):
        raise DataError(f"{file}: {len(labels)} labels for {len(data)} images; fetch it again")
    return _images(data), _labels(np.array(labels), file)


def _images(table):
    return np.ascontiguousarray(table.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))  # planes to pixels


def _labels(labels, file):
    if labels.size and not 0 <= labels.min() <= labels.max() < len(CLASSES):
        raise DataError(f"{file}: label {labels.max()}, but CIFAR-10 has 0 to 9; fetch it again")
    return labels.astype(np.int64)


def _class_names(name, files, binary):
    if binary:
        names = files.get("batches.meta.txt", "\n".join(CLASSES).encode()).decode("utf-8", "replace").split()
    elif "batches.meta" in files:
        names = pickled.read(files["batches.meta"], f"{name}: batches.meta").get("label_names")
    else:
        names = CLASSES
    if not isinstance(names, list) or len(names) != len(CLASSES) or not all(isinstance(each, str) for each in names):
        raise DataError(f"{name}: batches.meta does not name ten classes; fetch it again")
    return list(names)
