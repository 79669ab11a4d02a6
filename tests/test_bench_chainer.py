"""The Chainer-style port that `bench` compares with: the same numbers as our net, and its CUDA the same as its arrays.

The bodies of its kernels are compiled with g++ and run one thread after the other.
"""

import ctypes
import re
import shutil
import subprocess

import numpy as np
import pytest

from tinyalex import layers, recipe
from tinyalex.backend import Device
from tinyalex.bench import chainer_elementwise, chainer_kernels, net
from tinyalex.bench.chainer_kernels import Kernel
from tinyalex.bench.chainer_port import port
from tinyalex.bench.chainer_side import ChainerSide
from tinyalex.errors import UsageError
from tinyalex.optimizer import Optimizer
from tinyalex.randomness import Step, key, normal

# 94 pixels: a last place of conv1 hangs over the edge, and a last window of pool1.
SMALL = ["net.input=94", "net.maps=[6, 16, 24, 24, 16]", "net.hidden=32", "net.classes=10"]
COUNT = 4


def side(made, device="cpu", dtype="float64"):
    task = {"recipe": recipe.to_toml(made), "threads": 2, "devices": [device], "tf32": False, "batch": COUNT}
    return ChainerSide(task, dtype)


def like_ours(part, which):
    """A part's parameters, or their gradients, in our shapes."""
    W, b = (part.device.get(pair[which]) for pair in part.parameters.values())
    if W.ndim == 4:
        return W.transpose(2, 3, 1, 0), b
    h, w, c = (1, 1, *part.layer.inputs) if len(part.layer.inputs) == 1 else part.layer.inputs
    return W.reshape(len(W), -1, h, w).transpose(2, 3, 1, 0).reshape(-1, len(W)), b


def agree(ours, parts, kind, which):
    for (_, layer), part in zip(ours.layers(), parts, strict=True):
        assert part.name == layer.name or part.parameters
        for parameter, its in zip(layer.parameters, like_ours(part, which) if part.parameters else (), strict=True):
            np.testing.assert_allclose(getattr(parameter, kind), its, rtol=1e-10, atol=1e-12, err_msg=layer.name)


@pytest.mark.parametrize("device", ["cpu", "fake:0"])
@pytest.mark.parametrize("overrides", [[], ["net.columns=1"], ["net.pool=2"], ['net.talk=["fc6"]', "net.fc8=split"]])
def test_three_training_steps(device, overrides):
    made = recipe.load("paper", [*SMALL, *overrides, "net.dropout=0", "learning.bias_rate=2.0"])
    its, ours = side(made, device), net.describe(made).build(dtype="float64")
    images, labels = net.batch(made, COUNT, dtype=np.float64)
    update, rate = Optimizer(ours, made.learning.momentum, made.learning.decay), made.learning.rate
    assert its.ready()["fingerprint"] == pytest.approx(net.fingerprint(ours.forward(images)), rel=1e-10)
    for number in range(3):
        agree(ours, its.parts, "value", 0)
        loss, _ = ours.gradient(images, labels, Step(0, number))
        its.step()
        its.settle()
        assert its.last()["loss"] == pytest.approx(float(loss), rel=1e-10)
        agree(ours, its.parts, "grad", 1)
        update.update(rate, 2 * rate)


def test_normalization_within_columns():
    made = recipe.load("paper", [*SMALL, "net.dropout=0"])
    described, ours = net.describe(made), net.describe(made)
    for each in (described, ours):
        for _, layer in each.layers():
            if "norm" in layer.name:
                layer.groups, layer.alpha = 2, 1.0
    ours, x = ours.build(dtype="float64"), net.batch(made, COUNT, dtype=np.float64)[0]
    y = x.transpose(0, 3, 1, 2)
    for part in port(described, Device("cpu"), dtype="float64"):
        y = part.forward(y, False)
    np.testing.assert_allclose(y, ours.forward(x), rtol=1e-10)


def test_dropout_silences_about_half_and_the_same_backward():
    its = side(recipe.load("paper", SMALL))
    drop = next(part for part in its.parts if part.name == "drop6")
    x = np.ones((300, 70))
    first, second = drop.forward(x, True), drop.forward(x, True)
    assert set(np.unique(first)) == {0.0, 1.0} and (first != second).any()
    assert abs(second.mean() - 0.5) < 0.02
    assert (drop.backward(x) == second).all()
    assert (drop.forward(x, False) == 0.5).all()


def test_its_layers_are_ours():
    its = side(recipe.load("paper", SMALL))
    seconds = its.layers()
    names = {part.name for part in its.parts}
    directions = {f"{name}/{way}" for name in names for way in ("forward", "backward")}
    assert seconds.keys() == directions | {"loss/forward", "update"} and min(seconds.values()) > 0


def test_a_layer_that_the_port_has_not():
    with pytest.raises(UsageError, match="norm2s: the Chainer-style port has no SpatialNorm"):
        port(net.describe(recipe.load("original", SMALL)), Device("cpu"))


# Its CUDA.

KERNELS = {
    each.name: each
    for module in (chainer_kernels, chainer_elementwise)
    for each in vars(module).values()
    if isinstance(each, Kernel)
}
C_TYPES = {"T": "double", "int32": "int", "uint32": "unsigned int", "float32": "float"}
SHIM = "#include <cmath>\n#include <algorithm>\nusing std::max; using std::min; using std::pow; typedef double T;\n"


def parameters(kernel):
    """(raw, C type, name, whether it is written) of a kernel's parameters."""
    for text, written in ((kernel.inputs, False), (kernel.outputs, True)):
        for each in text.split(", "):
            raw, kind, name = re.fullmatch(r"(raw )?(\w+) (\w+)", each).groups()
            yield bool(raw), C_TYPES[kind], name, written


def source(kernel, name, body):
    """A function that loops over a kernel's threads."""
    names, inside = ["long size"], []
    for raw, kind, parameter, written in parameters(kernel):
        if raw:
            names.append(f"{kind}* {parameter}")
        elif written or parameter in ARRAYS:
            names.append(f"{kind}* all_{parameter}")
            inside.append(f"{kind}& {parameter} = all_{parameter}[i];")
        else:
            names.append(f"{kind} {parameter}")
    loop = f"for (long i = 0; i < size; ++i) {{ {' '.join(inside)} {body} }}"
    return f'extern "C" void {name}({", ".join(names)}) {{ {loop} }}'


ARRAYS = {"x", "y", "dy", "dw", "scale", "total", "drawn"}  # inputs that are not raw, and no single numbers


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """All bodies, and those with a planted bug, compiled."""
    if not shutil.which("g++"):
        pytest.skip("g++ is not installed")
    folder = tmp_path_factory.mktemp("kernels")
    functions = [source(each, each.name, each.body) for each in KERNELS.values()]
    for name, right, wrong in BUGS:
        assert right in KERNELS[name].body
        functions.append(source(KERNELS[name], f"wrong_{name}", KERNELS[name].body.replace(right, wrong)))
    (folder / "kernels.cpp").write_text(SHIM + "\n".join(functions))
    command = ["g++", "-O1", "-shared", "-fPIC", "-o", folder / "kernels.so", folder / "kernels.cpp"]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(folder / "kernels.so"))


def run_cuda(function, kernel, arguments, size=None):
    """Run a compiled body over copies of the arguments, and return those that it writes."""
    copies = [each.copy() if isinstance(each, np.ndarray) else each for each in arguments]
    single = {"double": ctypes.c_double, "int": ctypes.c_int, "unsigned int": ctypes.c_uint, "float": ctypes.c_float}
    values = [
        value.ctypes.data_as(ctypes.c_void_p) if isinstance(value, np.ndarray) else single[kind](value)
        for (_, kind, _, _), value in zip(parameters(kernel), copies, strict=True)
    ]
    written = [each for (*_, out), each in zip(parameters(kernel), copies, strict=True) if out]
    function(ctypes.c_long(size or written[0].size), *values)
    return written


def run_plain(kernel, arguments):
    copies = [each.copy() if isinstance(each, np.ndarray) else each for each in arguments]
    kernel.plain(np, *copies)
    return [each for (*_, out), each in zip(parameters(kernel), copies, strict=True) if out]


def drawn(*shape):
    return normal(key(0, "kernels", *shape), np.arange(np.prod(shape))).reshape(shape)


N, C, H, W = 2, 5, 9, 7


def example(name, k=3, s=2, p=1):
    """Arguments for a kernel, and the threads that it needs where all arrays are raw."""
    x, like = drawn(N, C, H, W), np.empty((N, C, H, W))
    ho, wo = (layers.patches.positions(side, k, s, p, "ceil") for side in (H, W))
    pooled = [layers.patches.positions(side, k, s, 0, "ceil") for side in (H, W)]
    windows = (H, W, *pooled, k, s)
    y, winner = np.empty((N, C, *pooled)), np.empty((N, C, *pooled), np.int32)
    if name == "unpool":
        y, winner = run_plain(KERNELS["pool"], (x, *windows, y, winner))
    dy, scale = drawn(C, H, N, W).reshape(x.shape), 2 + x * x
    return {
        "im2col": ((x, H, W, ho, wo, k, s, p, np.empty((N, C, k, k, ho, wo))), None),
        "col2im": ((drawn(C, k, k, N, ho, wo), N, C, H, W, ho, wo, k, s, p, like), None),
        "pool": ((x, *windows, y, winner), None),
        "unpool": ((y, winner, *windows, like), None),
        "window": ((x, C, H * W, 5, like), N * H * W),
        "norm": ((x, scale, 2.0, 0.3, 0.75, like, like), None),
        "summand": ((x, dy, scale, like), None),
        "norm_back": ((x, dy, scale, scale * x, 0.3, 0.75, like), None),
        "relu_back": ((x, dy, like), None),
        "draw": ((0x89ABCDEF, 12345, np.empty((30, 40), np.float32)), None),
        "silence": ((x, np.abs(dy).astype(np.float32), 0.5, like, like), None),
        "move": ((x, 0.1, 0.9, 0.01, dy, scale), None),
    }[name]


GEOMETRIES = [(3, 2, 1), (3, 1, 1), (2, 2, 0), (5, 3, 2), (3, 3, 0)]
WINDOWED = ("im2col", "col2im", "pool", "unpool")


BUGS = [
    ("im2col", "row < h", "row < h - 2"),
    ("col2im", "(down - k + s) / s", "(down - k + s) / s + 1"),
    ("pool", "value > best", "value > best + 0.1"),
    ("unpool", "* k + across", "* s + across"),
    ("window", "map >= span", "map > span"),
    ("draw", "if (turn) state += high;", ""),
    ("move", "w += v", "w -= v"),
]


@pytest.mark.parametrize(
    ("name", "geometry"),
    [(name, each) for name in WINDOWED for each in GEOMETRIES]
    + [(name, GEOMETRIES[0]) for name in KERNELS if name not in WINDOWED],
    ids=str,
)
def test_cuda_computes_as_the_arrays_do(name, geometry, library):
    arguments, size = example(name, *geometry)
    mine = run_cuda(getattr(library, name), KERNELS[name], arguments, size)
    for one, other in zip(mine, run_plain(KERNELS[name], arguments), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name, *_ in BUGS])
def test_a_planted_bug_in_the_cuda_shows(name, library):
    arguments, size = example(name)
    mine = run_cuda(getattr(library, f"wrong_{name}"), KERNELS[name], arguments, size)
    plain = run_plain(KERNELS[name], arguments)
    assert not all(np.allclose(a, b, rtol=1e-9) for a, b in zip(mine, plain, strict=True))


def test_a_card_gets_the_kernel_once_with_its_size():
    made = []

    class CuPy:
        @staticmethod
        def ElementwiseKernel(*arguments):
            made.append(arguments)
            return lambda *given, **named: made.append((given, named))

    class Card:
        on_host, xp = False, CuPy

    kernel = Kernel("twice", "raw T x", "raw T y", "y[i] = 2 * x[i];", None)
    kernel(Card, 1, 2, size=3)
    kernel(Card, 4, 5)
    assert made == [
        ("raw T x", "raw T y", "y[i] = 2 * x[i];", "port_twice"), ((1, 2), {"size": 3}), ((4, 5), {}),
    ]  # fmt: skip
