"""Hashes of texts and tensors, in memory and in a file: BLAKE2b, which is the fastest where no instruction does SHA."""

import hashlib
import os

import numpy as np

_CHUNK = 1 << 20  # bytes that are read at once


def text(content):
    """Hash a text; 64 hexadecimal digits."""
    return hashlib.blake2b(content.encode(), digest_size=32).hexdigest()


def array(content):
    """Hash a contiguous array: its type, its shape and its bytes."""
    digest = _begun(content.dtype.name, content.shape)
    digest.update(_bytes(content))
    return digest.hexdigest()


def in_file(descriptor, tensor):
    """Hash a `tensorfile.Tensor` where it lies in its file; the same as `array` of what was written there."""
    digest = _begun(tensor.dtype, tensor.shape)
    for begin in range(tensor.begin, tensor.end, _CHUNK):
        digest.update(os.pread(descriptor, min(_CHUNK, tensor.end - begin), begin))
    return digest.hexdigest()


def is_in_file(descriptor, tensor, content):
    """Tell whether a tensor in a file is an array in memory, byte for byte."""
    if (tensor.dtype, tensor.shape) != (content.dtype.name, content.shape):
        return False
    content = _bytes(content)
    for begin in range(0, len(content), _CHUNK):
        part = content[begin : begin + _CHUNK]
        found = np.frombuffer(os.pread(descriptor, len(part), tensor.begin + begin), np.uint8)
        if not np.array_equal(found, part):
            return False
    return True


def _begun(dtype, shape):
    return hashlib.blake2b(f"{dtype} {tuple(shape)} ".encode(), digest_size=32)


def _bytes(content):
    return content.reshape(-1).view(np.uint8)
