"""CUDA kernels on a CPU, as users of the package run them; tests/kernels has the kernels of the package itself."""

import shutil

import numpy as np
import pytest

from tinyalex.devices import emulated, launch
from tinyalex.errors import DeviceError
from tinyalex.layers import MaxPool

TWICE = """
extern "C" __global__ void twice(const real *x, real *y, int count, real factor)
{
    EACH(row, t, count);
    y[row * count + t] = factor * x[row * count + t];
}
"""
needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="no g++ to compile the kernels with")


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 31, 32, 33, 300])
def test_every_number_has_its_thread_and_no_other_is_written(count, dtype):
    device, x = emulated.EmulatedDevice(dtype), np.arange(3 * count).astype(dtype)
    memory = np.full(3 * count + 64, -1, dtype)
    device.launch(TWICE, "twice", 3, count, x, memory, 2.0)
    assert np.array_equal(memory[: 3 * count], 2 * x) and (memory[3 * count :] == -1).all()
    assert device.started == ["twice"]


@needs_compiler
def test_layers_take_their_kernels_for_the_given_types_only():
    device, x = emulated.EmulatedDevice("float32"), np.arange(16.0).reshape(1, 4, 4, 1)
    layer = MaxPool(2, 2).build(device)
    assert layer.forward(x).ravel().tolist() == [5, 7, 13, 15] and device.started == []
    assert layer.forward(x.astype("float32")).ravel().tolist() == [5, 7, 13, 15] and device.started == ["max_pool"]


@needs_compiler
def test_a_mistake_in_a_kernel_shows():
    device, x = emulated.EmulatedDevice("float64"), np.arange(6.0)
    y = np.zeros(6)
    device.launch(TWICE.replace("x[row * count + t]", "x[t]"), "twice", 2, 3, x, y, 2.0)
    assert y.tolist() == [0, 2, 4, 0, 2, 4]


@needs_compiler
@pytest.mark.parametrize("wrong, said", [
    ("factr * x", r"^kernels twice: g\+\+ error: .*factr"),
    ("(t || row && count) * x", r"^kernels twice: g\+\+ warning: "),
])  # fmt: skip
def test_a_source_that_does_not_compile_is_one_line(wrong, said):
    device, x = emulated.EmulatedDevice("float64"), np.zeros(4)
    with pytest.raises(DeviceError, match=said) as caught:
        device.launch(TWICE.replace("factor * x", wrong), "twice", 2, 2, x, x.copy(), 2.0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments, said", [
    ([np.zeros(4), np.zeros(4), np.uint32(2)], "twice takes 4 arguments, got 3"),
    ([np.zeros(4), np.zeros(4, "float32"), np.uint32(2), np.float64(2)], r"twice: an array of float32 for real \*"),
    ([np.zeros(4), np.float64(0), np.uint32(2), np.float64(2)], r"twice: a float64 for real \*"),
    ([np.zeros(4), np.zeros(4), np.float32(2), np.float64(2)], "twice: a float32 for int"),
])  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(arguments, said):
    with pytest.raises(TypeError, match=f"^{said}$"):
        emulated.run(launch.source(TWICE, np.dtype("float64"), {}), "twice", (2, 1), 32, arguments)


@pytest.mark.parametrize("blocks, threads", [((0, 1), 32), ((2, 1 << 16), 32), ((2, 1), 33), ((2, 1), 2048)])
def test_a_grid_that_no_gpu_runs_is_refused(blocks, threads):
    arguments = [np.zeros(4), np.zeros(4), np.uint32(2), np.float64(2)]
    with pytest.raises(ValueError, match=r"^twice: .* no GPU runs such a grid$"):
        emulated.run(launch.source(TWICE, np.dtype("float64"), {}), "twice", blocks, threads, arguments)


def test_without_a_compiler_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(DeviceError, match=r"^no g\+\+.*install it"):
        emulated.EmulatedDevice("float32")
