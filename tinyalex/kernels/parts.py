"""Parts of wider rows on a GPU: an exchange between columns writes them side by side, takes them apart and adds them.

Where there are no kernels, NumPy or CuPy does this, by ``part[...] = array`` and ``a + b``.
"""

import math

SOURCE = """
// From one row to the next there are FROM_WIDE and TO_WIDE numbers.
extern "C" __global__ void copy_part(const store *from, store *to, int count, int from_wide, int to_wide)
{
    EACH(row, t, count);
    to[(size_t)row * to_wide + t] = from[(size_t)row * from_wide + t];
}

extern "C" __global__ void add_part(const store *a, const store *b, store *sum, int count, int a_wide, int b_wide)
{
    EACH(row, t, count);
    sum[(size_t)row * count + t] = a[(size_t)row * a_wide + t] + b[(size_t)row * b_wide + t];
}
"""


def copy(device, destination, source):
    """Write an array to another one of its shape; each may be a part of an array with a longer last axis."""
    if not _launch(device, "copy_part", (source, destination), source, destination):
        device.copy(destination, source)


def add(device, a, b):
    """Return the sum of two arrays of one shape; each may be a part of an array with a longer last axis."""
    if not device.has_cuda_kernels(a.dtype):
        return device.sum_of([a, b])
    total = device.empty(a.shape, a.dtype)
    return total if _launch(device, "add_part", (a, b), a, b, total) else device.sum_of([a, b])


def contiguous(device, array):
    """Return the array if it is contiguous, else a copy that is."""
    if array.flags.c_contiguous:
        return array
    whole = device.empty(array.shape, array.dtype)
    copy(device, whole, array)
    return whole


def _launch(device, name, maybe_parts, *arrays):
    # Start a kernel if there is one for the arrays; return whether it was started.
    first = arrays[0]
    if not device.has_cuda_kernels(first.dtype) or not first.size:
        return False
    wide, count = list(map(_wide, maybe_parts)), first.shape[-1]
    if None in wide:
        return False
    with device:
        device.launch(SOURCE, name, first.size // count, count, *arrays, *wide)
    return True


def _wide(array):
    # How many numbers lie between the beginnings of two rows; None if the array is no part of a contiguous one.
    strides = [stride // array.itemsize for stride in array.strides]
    wide = strides[-2]
    steps = [wide * math.prod(array.shape[axis + 1 : -1]) for axis in range(array.ndim - 1)]
    return wide if strides == [*steps, 1] else None
