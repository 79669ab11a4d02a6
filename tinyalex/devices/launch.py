"""Compiles and starts the CUDA kernels of `tinyalex.kernels`.

A kernel runs over the rows of a matrix: ``row`` is the row's index, ``t`` the index within it, and each thread computes
one number of the result (or four neighbours) from all the inputs that it needs. No two threads write to the same
address and none waits for another, so results are reproducible bit by bit. Sizes are macros, in capitals, so that the
compiler divides by constants; a net has few different ones.

A kernel computes in ``real``, float or double. Arrays of activations and of their gradients are of type ``store``: the
same, or ``bf16`` of half the size, which is rounded when it is written and becomes a float when it is read.
"""

import functools
import re

import numpy as np

from tinyalex.devices.bfloat16 import BFLOAT16
from tinyalex.errors import DeviceError

PREAMBLE = """
// The upper half of a float, rounded to the nearest; of two that are equally near, to the even one.
struct bf16 {
    unsigned short bits;
    bf16() = default;
    __device__ bf16(float x)
    {
        const unsigned all = __float_as_uint(x);
        bits = x != x ? 0x7FFF : (all + 0x7FFF + (all >> 16 & 1)) >> 16;  // else some NaNs would become infinite or 0
    }
    __device__ operator float() const { return __uint_as_float((unsigned)bits << 16); }
};

typedef REAL real;
typedef STORE store;

// Neighbours, of which 4 are read at once.
template <class T, int count> struct alignas(count < 4 ? sizeof(T) : sizeof(T) < 4 ? 8 : 16) Vector { T at[count]; };

template <int count> __device__ Vector<store, count> stored(const Vector<real, count> &values)
{
    Vector<store, count> result;
    for (int e = 0; e < count; ++e) result.at[e] = values.at[e];
    return result;
}

#define EACH(row, t, count) \\
    const int row = blockIdx.x, t = blockIdx.y * blockDim.x + threadIdx.x; \\
    if (t >= count) return
"""

REALS = {"f": "float", "d": "double"}
FLOAT = np.dtype("float32")
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

    The first array of a floating type determines what a ``real`` is; beside arrays of bfloat16 it is float32.
    """
    arrays, numbers, real = [], [_word(count)], FLOAT if stores_bfloat16(arguments) else None
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


def real_of(dtype):
    """Return the type that kernels compute in, for a type of stored arrays: float32 for bfloat16, else the same."""
    return FLOAT if dtype == BFLOAT16 else dtype


def stores_bfloat16(arguments):
    """Whether one of a kernel's arguments is an array stored in bfloat16."""
    return any(getattr(argument, "dtype", None) == BFLOAT16 for argument in arguments)


def source(code, real, constants):
    """Return the CUDA source of an operation for a type of real, with its macros; ``STORE`` is ``real`` by default."""
    macros = {"REAL": REALS[real.char], "STORE": "real", **constants}
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
