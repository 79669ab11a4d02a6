"""CUDA kernels without a GPU: g++ compiles the same source, and each thread of the grid runs on NumPy's memory.

The threads run one after the other, in float32 or float64 as on a GPU. A wrong index, a wrong size or a forgotten edge
gives a wrong result here too. How fast a kernel is, and what NVIDIA's compiler says, needs the real thing.
"""

import ctypes
import functools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinyalex.devices import launch
from tinyalex.devices.bfloat16 import BFLOAT16
from tinyalex.devices.device import Device
from tinyalex.errors import DeviceError

# What CUDA has and C++ lacks. No header: headers would take longer to compile than the kernels.
_CUDA = """
typedef unsigned long size_t;
struct Place { unsigned x, y; };
static thread_local Place blockIdx, threadIdx, blockDim;
#define __global__
#define __device__
#define FUNCTION(name) \\
    static inline float name(float x) { return __builtin_##name##f(x); } \\
    static inline double name(double x) { return __builtin_##name(x); }
static inline unsigned __float_as_uint(float x) { unsigned all; __builtin_memcpy(&all, &x, 4); return all; }
static inline float __uint_as_float(unsigned all) { float x; __builtin_memcpy(&x, &all, 4); return x; }
FUNCTION(sqrt)
FUNCTION(exp)
FUNCTION(log)
static inline float pow(float x, float y) { return __builtin_powf(x, y); }
static inline double pow(double x, double y) { return __builtin_pow(x, y); }
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
template <class T> T rsqrt(T x) { return 1 / sqrt(x); }
"""
_KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')
_DTYPES = {
    name: np.dtype(dtype)
    for name, dtype in {
        "float": "float32", "double": "float64", "unsigned char": "uint8", "int": "int32", "long long": "int64",
        "bool": "bool", "bf16": BFLOAT16.name,
    }.items()
}  # fmt: skip


class EmulatedDevice(Device):
    """A CPU device that runs what a GPU runs: whole batches, and CUDA kernels for arrays of the given types.

    Parameters
    ----------
    *dtypes : dtype
        The types of arrays for which layers use their CUDA kernels; for all others they use their readable forms.

    Attributes
    ----------
    started : list of str
        Names of the kernels started so far.

    Raises
    ------
    DeviceError
        If there is no g++.
    """

    on_host = False

    def __init__(self, *dtypes: DTypeLike) -> None:
        if not shutil.which("g++"):
            raise DeviceError("no g++, which compiles the kernels for the CPU; install it (Debian: apt install g++)")
        super().__init__("cpu")
        self.kernel_dtypes: set[np.dtype] = {np.dtype(dtype) for dtype in dtypes}
        self.started: list[str] = []

    def _compile(self, code, name, real, constants):
        text = launch.source(code, real, constants)

        def start(blocks, threads, arguments):
            self._run(text, name, blocks, *threads, arguments)
            self.started.append(name)

        return start

    @staticmethod
    def _run(*call):
        run(*call)


@functools.cache
def kernels(text: str) -> dict[str, list[str]]:
    """Return the kernels of a CUDA source by name, each with the types of its parameters.

    >>> kernels('extern "C" __global__ void twice(const real *x, real *y, int count) {}')
    {'twice': ['const real *', 'real *', 'int']}
    """
    return {
        name: [re.sub(r"\s*\b\w+$", "", parameter.strip()) for parameter in parameters.split(",")]
        for name, parameters in _KERNEL.findall(text)
    }


def compiled(text: str, flags: Sequence[str] = (), backwards: bool = False) -> ctypes.CDLL:
    """Compile a CUDA source for the CPU, with a function ``run_NAME`` for each of its kernels.

    Parameters
    ----------
    text : str
        With its macros, as `launch.source` returns it.
    flags : sequence of str
        For g++, besides its usual ones.
    backwards : bool
        Whether the last thread of a grid runs first.

    Raises
    ------
    DeviceError
        If g++ reports an error or warns.
    """
    return _library(_CUDA + text + "".join(_runner(*each, backwards) for each in kernels(text).items()), tuple(flags))


def run(
    text: str,
    name: str,
    blocks: tuple[int, int],
    threads: int,
    arguments: list[Any],
    flags: Sequence[str] = (),
    backwards: bool = False,
) -> None:
    """Check a kernel's arguments, and run all threads of its grid on NumPy's memory.

    Parameters
    ----------
    text, flags, backwards
        As for `compiled`.
    name : str
    blocks : (int, int)
    threads : int
        Of each block.
    arguments : list of arrays and NumPy scalars
        In the order of the kernel's parameters.

    Raises
    ------
    TypeError
        If an argument is not of the type of its parameter, or there are too many or too few.
    ValueError
        If a GPU could not run a grid of this size.
    """
    types = kernels(text)[name]
    if len(types) != len(arguments):
        raise TypeError(f"{name} takes {len(types)} arguments, got {len(arguments)}")
    rows, parts = blocks
    macros = dict(re.findall(r"#define (REAL|STORE) (\w+)", text))
    real, store = macros["REAL"], macros["STORE"].replace("real", macros["REAL"])
    if not (0 < rows < 1 << 31 and 0 < parts < 1 << 16 and 0 < threads <= 1024 and threads % 32 == 0):
        raise ValueError(f"{name}: {rows} x {parts} blocks of {threads} threads; no GPU runs such a grid")
    held: list[Any] = []
    for type_, argument in zip(types, arguments, strict=True):
        wanted = _DTYPES[type_.removeprefix("const ").removesuffix(" *").replace("real", real).replace("store", store)]
        if type_.endswith("*"):
            fits = isinstance(argument, np.ndarray) and argument.dtype == wanted
        else:  # a word has no sign
            fits = (argument.dtype.itemsize, argument.dtype.kind == "f") == (wanted.itemsize, wanted.kind == "f")
        if not fits:
            kind = "an array of" if isinstance(argument, np.ndarray) else "a"
            raise TypeError(f"{name}: {kind} {argument.dtype} for {type_}")
        if isinstance(argument, np.ndarray):
            held.append(ctypes.c_void_p(argument.ctypes.data))
        else:
            held.append(ctypes.c_void_p.from_buffer_copy(argument.tobytes().ljust(8, b"\0")))
    pointers = (ctypes.c_void_p * len(held))(*map(ctypes.addressof, held))
    function = compiled(text, flags, backwards)[f"run_{name}"]
    function(ctypes.c_uint(rows), ctypes.c_uint(parts), ctypes.c_uint(threads), pointers)


def _runner(name, types, backwards):
    # C++ that runs a kernel for every thread of a grid; ``args`` point to the arguments.
    arguments = ", ".join(f"*({type_} *)args[{i}]" for i, type_ in enumerate(types))
    loop = "for ({0} = {1}; {0}-- > 0;)" if backwards else "for ({0} = 0; {0} < {1}; ++{0})"
    indices = {"blockIdx.x": "rows", "blockIdx.y": "parts", "threadIdx.x": "threads"}
    loops = " ".join(loop.format(index, count) for index, count in indices.items())
    return f"""
extern "C" void run_{name}(unsigned rows, unsigned parts, unsigned threads, void **args) {{
    blockDim.x = threads;
    {loops} {name}({arguments});
}}
"""


@functools.cache
def _library(text, flags):
    folder = Path(tempfile.mkdtemp(prefix="tinyalex-emulated-"))
    try:
        (folder / "kernels.cpp").write_text(text)
        done = subprocess.run(
            ["g++", "-O1", "-Wall", "-Wno-unused", "-Wno-unknown-pragmas", "-Wno-unused-result", "-shared", "-fPIC"]
            + ["-Wl,-Bsymbolic", "-ffp-contract=off", *flags]
            + ["-o", str(folder / "kernels.so"), str(folder / "kernels.cpp")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode or done.stderr:
            said = re.search(r"(error|warning): .*", done.stderr)
            raise DeviceError(f"kernels {', '.join(kernels(text))}: g++ {said[0] if said else done.stderr[-300:]}")
        return ctypes.CDLL(str(folder / "kernels.so"))
    finally:
        shutil.rmtree(folder)
