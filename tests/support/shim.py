"""CUDA kernels without a GPU: on `tinyalex.devices.emulated`, which runs them with g++'s sanitizers if these are
preloaded; and NVRTC compiles them for real GPUs."""

import ctypes
import functools
import importlib.util
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tinyalex.devices import bfloat16, emulated, launch
from tinyalex.devices.bfloat16 import BFLOAT16
from tinyalex.devices.device import Device
from tinyalex.errors import DeviceError
from tinyalex.kernels import cut, parts, patches, pooling, rectify, relu, response, softmax, update

_MODULES = bfloat16, cut, parts, patches, pooling, rectify, relu, response, softmax, update
SOURCES = {module.__name__.split(".")[-1]: module.SOURCE for module in _MODULES}

# Set in a process that preloads the sanitizers' libraries (`test_sanitizers`). Results must not depend on the order of
# the threads, so there the last one runs first.
SANITIZED = os.environ.get("TINYALEX_SANITIZED") == "1"
FLAGS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"] if SANITIZED else []
kernels = emulated.kernels
built = functools.partial(emulated.compiled, flags=FLAGS, backwards=SANITIZED)
run = functools.partial(emulated.run, flags=FLAGS, backwards=SANITIZED)


class ShimDevice(emulated.EmulatedDevice):
    """An `EmulatedDevice` for tests, which are skipped where there is no g++."""

    def __init__(self, *dtypes):
        if not shutil.which("g++"):
            pytest.skip("no g++ to compile the kernels with")
        super().__init__(*dtypes)

    @staticmethod
    def _run(*call):
        run(*call)


class AnySize(ShimDevice):
    """A `ShimDevice` that compiles each source once and sets the sizes before each start, for sweeps over many shapes.

    On a GPU sizes are macros. Here all but ``PART``, which C++ needs as a constant, are variables.
    """

    def _compile(self, code, name, real, constants):
        sizes = {key: value for key, value in constants.items() if key not in ("PART", "STORE")}
        if sizes:
            names = list(sizes)
            values = " ".join(f"{key} = values[{i}];" for i, key in enumerate(names))
            setter = f'extern "C" void set_sizes(const int *values) {{ {values} }}\n'
            code = f"static int {', '.join(names)};\n{setter}{code}"
        text = launch.source(code, real, {key: constants[key] for key in constants.keys() - sizes.keys()})

        def start(blocks, threads, arguments):
            if sizes:
                built(text).set_sizes((ctypes.c_int * len(sizes))(*sizes.values()))
            run(text, name, blocks, *threads, arguments)
            self.started.append(name)

        return start


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
    types = {0: np.float32, 1: np.float64, 14: BFLOAT16.type}
    factor, result, scale = types[a_type], types[c_type], np.float64 if a_type == 1 else np.float32
    assert a_type == b_type and c_type in {0: (0,), 1: (1,), 14: (14, 0)}[a_type]
    assert compute in {0: (68, 77), 1: (70,), 14: (68,)}[a_type]

    def matrix(pointer, rows, columns, leading, turn=0, dtype=factor):
        rows, columns = (columns, rows) if turn else (rows, columns)
        assert leading >= max(1, rows), "a leading dimension less than the column"
        memory = (ctypes.c_byte * (dtype().itemsize * leading * columns)).from_address(pointer)
        whole = np.frombuffer(memory, dtype, leading * columns - (leading - rows)) if columns else np.empty(0, dtype)
        view = np.lib.stride_tricks.as_strided(whole, (rows, columns), (whole.itemsize, whole.itemsize * leading))
        return view.T if turn else view

    assert scale(ctypes.cast(alpha, ctypes.POINTER(np.ctypeslib.as_ctypes_type(scale)))[0]) == 1
    assert scale(ctypes.cast(beta, ctypes.POINTER(np.ctypeslib.as_ctypes_type(scale)))[0]) == 0
    # Multiplied as row-major matrices, to give NumPy's bits.
    left, right = matrix(b, k, n, ldb, turn_b).T, matrix(a, m, k, lda, turn_a).T
    if a_type == 14:
        left, right = (bfloat16.widened(np, each) for each in (left, right))
    product = left @ right
    matrix(c, m, n, ldc, dtype=result).T[...] = product if c_type != 14 else bfloat16.rounded(np, product)


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
