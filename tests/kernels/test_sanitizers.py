"""Kernels compiled by g++ with its sanitizers: no thread accesses memory outside its arrays, makes an unaligned access
of 16 bytes, or reads memory that was not written. New memory is filled with NaN, and the last thread runs first."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KERNELS = "kernels and not cpu and not cuda and not planted and not compile and not gemm"
PLANTED = """
import importlib, sys, pytest
module = importlib.import_module("tinyalex.{module}")
plain = module.{name}
module.{name} = plain.replace({right!r}, {wrong!r})
assert module.{name} != plain
sys.exit(pytest.main(sys.argv[1:]))
"""
PROBE = """
import numpy
from tests.support import shim
from tinyalex.devices import launch
assert numpy.isnan(numpy.empty(1000)).all(), "memory is not filled"
code = 'extern "C" __global__ void late(real *x, int count) { EACH(row, t, count); *x = t; }'
x = numpy.full(1, -1.0)
shim.run(launch.source(code, x.dtype, {}), "late", (2, 3), 32, [x, numpy.uint32(70)])
assert x[0] == 0, "the last thread came last"
"""


def libraries():
    """Return the libraries to preload, without which Python cannot load a sanitized library."""
    if not shutil.which("g++"):
        pytest.skip("no g++ to compile the kernels with")
    found = [
        subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libstdc++.so")
    ]
    if not all(os.path.isabs(path) for path in found):
        pytest.skip("g++ has no AddressSanitizer")
    return " ".join(found)


def sanitized(*pytest_arguments, program=("-m", "pytest")):
    """Run tests in another process, and return the finished process."""
    environment = os.environ | {
        "TINYALEX_SANITIZED": "1",
        "LD_PRELOAD": libraries(),
        "ASAN_OPTIONS": "detect_leaks=0:max_malloc_fill_size=1000000000:malloc_fill_byte=255",
    }
    quiet = ["-q", "-s", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return subprocess.run(
        [sys.executable, *program, *quiet, *pytest_arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_kernels_access_only_their_arrays():
    files = ["tests/layers/test_layers.py", "tests/kernels/test_kernels.py", "tests/kernels/test_bfloat16.py"]
    done = sanitized(*files, "-k", KERNELS)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 400


@pytest.mark.slow
@pytest.mark.parametrize("module, name, right, wrong, case, found", [
    ("kernels.patches", "SOURCE", "z < W;", "z <= W;", "conv 3x3 pad 1", "READ of size"),
    ("devices.launch", "PREAMBLE", "t >= count", "t > count", "max pool 3/2 ceil", "WRITE of size"),
    ("kernels.pooling", "SOURCE", "* PART;", "* PART - 1;", "max pool of fours", "misaligned address"),
])  # fmt: skip
def test_planted_access_outside_an_array_is_found(module, name, right, wrong, case, found):
    done = sanitized(
        f"tests/layers/test_layers.py::test_layer_matches_the_reference_implementation[{case}-kernels]",
        program=("-c", PLANTED.format(module=module, name=name, right=right, wrong=wrong)),
    )
    assert done.returncode and found in done.stderr, (done.stdout + done.stderr)[-5000:]


@pytest.mark.slow
def test_memory_is_filled_and_the_last_thread_comes_first():
    done = sanitized(program=("-c", PROBE))
    assert done.returncode == 0, done.stderr
