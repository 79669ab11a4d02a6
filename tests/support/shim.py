"""CUDA kernels without a GPU: the same source compiled by g++ runs thread by thread on NumPy's memory; and NVRTC
compiles it for real GPUs."""

import ctypes
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tinyalex.devices import launch
from tinyalex.devices.device import Device
from tinyalex.errors import DeviceError
from tinyalex.kernels import cut, patches, pooling, rectify, response, softmax, update

SOURCES = {module.__name__.split(".")[-1]: module.SOURCE
           for module in (cut, patches, pooling, rectify, response, softmax, update)}  # fmt: skip

# No header: they would take longer to compile than the kernels.
SHIM = """
typedef unsigned long size_t;
struct Place { unsigned x, y; };
static thread_local Place blockIdx, threadIdx, blockDim;
#define __global__
#define __device__ static
#define FUNCTION(name) \\
    static inline float name(float x) { return __builtin_##name##f(x); } \\
    static inline double name(double x) { return __builtin_##name(x); }
FUNCTION(sqrt)
FUNCTION(exp)
FUNCTION(log)
static inline float pow(float x, float y) { return __builtin_powf(x, y); }
static inline double pow(double x, double y) { return __builtin_pow(x, y); }
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
template <class T> T rsqrt(T x) { return 1 / sqrt(x); }
"""

# Set in a process that preloads the sanitizers' libraries (`test_sanitizers`).
SANITIZED = os.environ.get("TINYALEX_SANITIZED") == "1"
FLAGS = ["-ffp-contract=off"]
if SANITIZED:
    FLAGS += ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]

KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')


def kernels(code):
    """Return ``{name: [the types of its parameters]}``."""
    return {
        name: [re.sub(r"\s*\b\w+$", "", parameter.strip()) for parameter in parameters.split(",")]
        for name, parameters in KERNEL.findall(code)
    }


def runner(name, types):
    """C++ that runs a kernel for every thread of a grid; ``args`` point to the arguments.

    Sanitized, the last thread runs first: results must not depend on the order.
    """
    arguments = ", ".join(f"*({type_} *)args[{i}]" for i, type_ in enumerate(types))
    loop = "for ({0} = {1}; {0}-- > 0;)" if SANITIZED else "for ({0} = 0; {0} < {1}; ++{0})"
    indices = {"blockIdx.x": "rows", "blockIdx.y": "parts", "threadIdx.x": "threads"}
    loops = " ".join(loop.format(index, count) for index, count in indices.items())
    return f"""
extern "C" void run_{name}(unsigned rows, unsigned parts, unsigned threads, void **args) {{
    blockDim.x = threads;
    {loops} {name}({arguments});
}}
"""


@functools.cache
def library(text):
    """Compile C++ to a shared library."""
    folder = Path(tempfile.mkdtemp(prefix="tinyalex-shim-"))
    try:
        (folder / "kernels.cpp").write_text(text)
        done = subprocess.run(
            ["g++", "-O1", "-Wall", "-Wno-unused", "-Wno-unknown-pragmas", "-Wno-unused-result", "-shared", "-fPIC"]
            + [*FLAGS, "-o", folder / "kernels.so", folder / "kernels.cpp"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0 and not done.stderr, done.stderr
        return ctypes.CDLL(str(folder / "kernels.so"))
    finally:
        shutil.rmtree(folder)


def built(text):
    """Compile a source's kernels, and what runs them."""
    return library(SHIM + text + "".join(runner(*each) for each in kernels(text).items()))


def run(text, name, grid, threads, arguments):
    """Check a kernel's arguments and run it on NumPy's memory."""
    types = kernels(text)[name]
    assert len(types) == len(arguments), f"{name} takes {len(types)} arguments, got {len(arguments)}"
    real = re.search(r"#define REAL (\w+)", text)[1]
    held = []
    for type_, argument in zip(types, arguments, strict=True):
        if isinstance(argument, np.ndarray):
            pointed = type_.removeprefix("const ").removesuffix(" *").replace("real", real)
            assert DTYPES[pointed] == argument.dtype, f"{name}: an array of {argument.dtype} for {type_}"
            held.append(ctypes.c_void_p(argument.ctypes.data))
        else:
            wanted = DTYPES[type_.replace("real", real)]
            assert argument.dtype.itemsize == wanted.itemsize and (argument.dtype.kind == "f") == (
                wanted.kind == "f"
            ), f"{name}: a {argument.dtype} for {type_}"
            held.append(ctypes.c_void_p.from_buffer_copy(argument.tobytes().ljust(8, b"\0")))
    (rows, parts), pointers = grid, (ctypes.c_void_p * len(held))(*map(ctypes.addressof, held))
    assert 0 < rows < 1 << 31 and 0 < parts < 1 << 16 and 0 < threads <= 1024 and threads % 32 == 0
    built(text)[f"run_{name}"](ctypes.c_uint(rows), ctypes.c_uint(parts), ctypes.c_uint(threads), pointers)


DTYPES = {
    name: np.dtype(dtype)
    for name, dtype in {
        "float": "float32", "double": "float64", "unsigned char": "uint8", "int": "int32", "long long": "int64",
        "bool": "bool",
    }.items()
}  # fmt: skip


class ShimDevice(Device):
    """A CPU device that runs what a GPU runs: whole batches, and CUDA kernels for the given dtypes.

    Attributes
    ----------
    started : list of str
        Names of the kernels started so far.
    """

    on_host = False

    def __init__(self, *dtypes):
        if not shutil.which("g++"):
            pytest.skip("no g++ to compile the kernels with")
        super().__init__("cpu")
        self.kernel_dtypes, self.started = {np.dtype(dtype) for dtype in dtypes}, []

    def _start(self, code, name, real, constants, grid, arguments):
        blocks, threads = grid
        run(launch.source(code, real, constants), name, blocks, threads, arguments)
        self.started.append(name)


class AnySize(ShimDevice):
    """A `ShimDevice` that compiles each source once and sets the sizes before each start, for sweeps over many shapes.

    On a GPU sizes are macros. Here all but ``PART``, which C++ needs as a constant, are variables.
    """

    def _start(self, code, name, real, constants, grid, arguments):
        sizes = {key: value for key, value in constants.items() if key != "PART"}
        if sizes:
            names = list(sizes)
            values = " ".join(f"{key} = values[{i}];" for i, key in enumerate(names))
            setter = f'extern "C" void set_sizes(const int *values) {{ {values} }}\n'
            code = f"static int {', '.join(names)};\n{setter}{code}"
        text = launch.source(code, real, {key: constants[key] for key in constants.keys() - sizes.keys()})
        if sizes:
            built(text).set_sizes((ctypes.c_int * len(sizes))(*sizes.values()))
        blocks, threads = grid
        run(text, name, blocks, threads, arguments)
        self.started.append(name)


def device(name, kernels=True):
    """Return the device that a test asks for; skip the test where there is none.

    "kernels" runs the CUDA kernels on the CPU, in float32 and float64. On "cpu" and "cuda:0" float64 takes the readable
    layers; on "cpu kernels" and "cuda:0 kernels" it takes the fast forms too. ``kernels=False`` switches them off.
    """
    if name == "kernels":
        return ShimDevice(*(["float32", "float64"] if kernels else []))
    name, _, in_float64 = name.partition(" ")
    try:
        found = Device(name, kernels)
    except DeviceError as error:
        pytest.skip(str(error))
    if in_float64 and kernels:
        found.kernel_dtypes.add(np.dtype("float64"))
    return found


def gemm_ex(handle, turn_a, turn_b, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc, compute, _):
    """cuBLAS's gemmEx on the host: C = A B of column-major matrices with leading dimensions."""
    dtype = {0: np.float32, 1: np.float64}[c_type]
    assert a_type == b_type == c_type and compute in {0: (68, 77), 1: (70,)}[c_type]

    def matrix(pointer, rows, columns, leading, turn=0):
        rows, columns = (columns, rows) if turn else (rows, columns)
        assert leading >= max(1, rows), "a leading dimension less than the column"
        memory = (ctypes.c_byte * (dtype().itemsize * leading * columns)).from_address(pointer)
        whole = np.frombuffer(memory, dtype, leading * columns - (leading - rows)) if columns else np.empty(0, dtype)
        view = np.lib.stride_tricks.as_strided(whole, (rows, columns), (whole.itemsize, whole.itemsize * leading))
        return view.T if turn else view

    assert dtype(ctypes.cast(alpha, ctypes.POINTER(np.ctypeslib.as_ctypes_type(dtype)))[0]) == 1
    assert dtype(ctypes.cast(beta, ctypes.POINTER(np.ctypeslib.as_ctypes_type(dtype)))[0]) == 0
    # Multiplied as row-major matrices, to give NumPy's bits.
    matrix(c, m, n, ldc).T[...] = matrix(b, k, n, ldb, turn_b).T @ matrix(a, m, k, lda, turn_a).T


@functools.cache
def nvrtc():
    """NVIDIA's run-time compiler, from PyPI's nvidia-cuda-nvrtc; no driver needed."""
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in (spec.submodule_search_locations if spec else [])]
    found = [path for folder in folders for path in folder.glob("*/lib/libnvrtc.so.*")]
    return ctypes.CDLL(str(found[0])) if found else None


def compile_for(architecture, text):
    """Compile CUDA source with NVRTC for "sm_90" or the like; return the compiler's log, and whether it compiled."""
    program, size, compiler = ctypes.c_void_p(), ctypes.c_size_t(), nvrtc()
    compiler.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None)
    options = (ctypes.c_char_p * 2)(f"-arch={architecture}".encode(), b"--std=c++17")
    status = compiler.nvrtcCompileProgram(program, 2, options)
    compiler.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    compiler.nvrtcGetProgramLog(program, log)
    compiler.nvrtcDestroyProgram(ctypes.byref(program))
    return log.value.decode(), status == 0
