"""Compiles and starts the CUDA kernels of `tinyalex.kernels`.

A kernel runs over the rows of a matrix: ``row`` is the row's index, ``t`` the index within it, and each thread computes
one number of the result (or four neighbours) from all the inputs that it needs. No two threads write to the same
address and none waits for another, so results are reproducible bit by bit. Sizes are macros, in capitals, so that the
compiler divides by constants; a net has few different ones.
"""

import functools
import re

import numpy as np

from tinyalex.errors import DeviceError

PREAMBLE = """
typedef REAL real;

template <int count> struct alignas(count == 4 ? 16 : sizeof(real)) Reals { real at[count]; };  // 4 are read at once

#define EACH(row, t, count) \\
    const int row = blockIdx.x, t = blockIdx.y * blockDim.x + threadIdx.x; \\
    if (t >= count) return
"""

REALS = {"f": "float", "d": "double"}
THREADS = 256  # in a block, at most
_MISSING = re.compile(
    "nvrtc.*(not found|No such file|cannot open|cannot be loaded)|cannot open source file", re.I | re.S
)


def grid(rows, count):
    """Return the blocks, (rows, parts of a row), and the threads of each."""
    threads = min(THREADS, -(-count // 32) * 32)
    return (rows, -(-count // threads)), threads


def width(*sizes):
    """Return how many numbers a thread takes together: 4 if all sizes divide by 4, else 1."""
    return 1 if any(size % 4 for size in sizes) else 4


_word = functools.lru_cache(np.uint32)  # a net uses the same few numbers


def typed(count, arguments):
    """Return a kernel's arguments in its order (arrays, ``count``, the other numbers), and the type of its ``real``.

    The first array of a floating type determines what a ``real`` is.
    """
    arrays, numbers, real = [], [_word(count)], None
    for argument in arguments:
        if isinstance(argument, int):
            numbers.append(_word(argument & 0xFFFFFFFF))
        elif isinstance(argument, float):
            numbers.append(real.type(argument))
        else:
            if argument.size >= 1 << 31:
                raise DeviceError("a kernel was given more than 2^31 numbers at once; use a smaller learning.batch")
            if argument.dtype.kind == "f":
                real = real or argument.dtype
                if argument.dtype != real:
                    raise TypeError(f"{real} and {argument.dtype} in one kernel")
            arrays.append(argument)
    return arrays + numbers, real


def source(code, real, constants):
    """Return the CUDA source of an operation for a type of real, with its macros."""
    macros = {"REAL": REALS[real.char], **constants}
    return "".join(f"#define {name} {value}\n" for name, value in macros.items()) + PREAMBLE + code


def compiled(cupy, code, name, real, constants):
    """Return a kernel that CuPy has compiled, with NVRTC, for the GPU that is current when it is started."""
    try:
        return cupy.RawModule(code=source(code, real, constants)).get_function(name)
    except Exception as error:
        if not _MISSING.search(f"{type(error).__name__}: {error}"):
            raise
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DeviceError(
            f"kernel {name}: cannot be compiled, as NVRTC or CUDA's headers are missing ({line:.120}); pip install "
            "'tinyalex[cuda13]' or [cuda12], which bring them"
        ) from error
