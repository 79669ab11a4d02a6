"""AlexNet on one page: `lessons/alexnet.py` takes the same training steps as the package, and a mistake would show."""

import ast
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from tinyalex import randomness
from tinyalex.datasets import shapes
from tinyalex.layers import MaxPool
from tinyalex.network import alexnet
from tinyalex.recipes import recipe
from tinyalex.training.optimizer import Optimizer

PATH = Path(__file__).parents[2] / "lessons" / "alexnet.py"
SOURCE = PATH.read_text(encoding="utf-8")
TOLERANCE = 1e-9  # of each tensor's maximum: other orders of sums, in float64

STEPS, BATCH, TESTED, RATE, SEED = 10, 8, 12, 0.02, 3
# 49 x 49 pixels become 23 x 23 after conv1, then 11, 5 and 2 after the pools: no window hangs over an edge.
SIZES = {"maps": [8, 16, 24, 24, 16], "hidden": 32, "classes": 12}
SETTINGS = recipe.load(
    "shapes",
    [
        *("net.input=49", "net.kernels=[5, 5, 3, 3, 3]", "net.stride=2"),
        *(f"net.{key}={value}" for key, value in SIZES.items()),
        *('init.weights={default="he"}', "init.biases.default=0.1", "learning.weight_decay=0.0005"),
    ],
)
LAYERS = [f"{name}{column}" for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7") for column in "ab"]


def read(source=SOURCE):
    """Return the page, or a changed one, as a module."""
    page = types.ModuleType("page")
    exec(compile(source, str(PATH), "exec"), vars(page))
    return page


def layers(net):
    """Return the page's layers that have weights, by the package's names."""
    found = [layer for step in net if isinstance(step, list) for layer in step if hasattr(layer, "W")]
    return dict(zip([*LAYERS, "fc8"], found, strict=True))


def images(side):
    """Return the middles of drawn images, float64 (n, side, side, 3), as the recipe scales them, and their labels."""
    drawn, edge = shapes.load(0, STEPS * BATCH + TESTED, 0).train, (shapes.SIZE - side) // 2
    middles = drawn.images[:, edge : edge + side, edge : edge + side].astype(np.float64)
    return (middles - middles.mean(axis=0)) * SETTINGS.data.scale, drawn.labels


class Masks:
    """Stands in for the page's random numbers in one step: below 0.5 for the units that the package keeps."""

    def __init__(self, step):
        self.masks = []
        for name in ("fc6", "fc7"):
            key = randomness.key(step.seed, "dropout", name, step.number)
            kept = randomness.bits(key, np.arange(BATCH)[:, None], np.arange(SIZES["hidden"])) >= 2**31
            self.masks += np.split(kept, 2, axis=1)  # column a's units, column b's

    def random(self, shape):
        kept = self.masks.pop(0)
        assert kept.shape == shape
        return np.where(kept, 0.0, 0.9)


def by_the_package(devices, steps=STEPS):
    """Take the steps; return first values, and all that there is to compare."""
    network = alexnet.build(SETTINGS.net, SETTINGS.init, devices, seed=1, dtype="float64")
    optimizer = Optimizer(network, SETTINGS.learning.momentum, SETTINGS.learning.weight_decay)
    first, (x, labels), results = {name: value.copy() for name, value in network.state().items()}, images(49), {}
    for number in range(steps):
        batch = slice(number * BATCH, (number + 1) * BATCH)
        with network.step():
            loss, _ = network.loss_and_backward(x[batch], labels[batch], step=randomness.Step(SEED, number))
            results[f"loss {number}"] = np.array(loss)
        optimizer.update(RATE)
    results |= network.state() | {f"v of {name}": v for name, _, v in optimizer.tensors()}
    with network.step():
        results["logits in testing"] = network.forward(x[-TESTED:]).copy()
    return first, results


def by_the_page(page, first, steps=STEPS):
    """Take the same steps from the same first values with the same masks; return the same results."""
    net, (x, labels), results = page.alexnet(side=49, k=5, stride=2, **SIZES), images(49), {}
    for name, layer in layers(net).items():
        layer.W, layer.b = first[f"{name}/W"].reshape(layer.W.shape), first[f"{name}/b"]
    for number in range(steps):
        batch, page.rng = slice(number * BATCH, (number + 1) * BATCH), Masks(randomness.Step(SEED, number))
        results[f"loss {number}"] = page.learn(net, x[batch], labels[batch], RATE)
        assert not page.rng.masks
    for name, layer in layers(net).items():
        results |= {f"{name}/W": layer.W.reshape(first[f"{name}/W"].shape), f"{name}/b": layer.b}
        results |= {f"v of {name}/W": layer.vW.reshape(first[f"{name}/W"].shape), f"v of {name}/b": layer.vb}
    return results | {"logits in testing": page.forward(net, x[-TESTED:], training=False)[0]}


def different(mine, its):
    """Return the names of the tensors that differ, with the largest difference relative to the largest number."""
    assert mine.keys() == its.keys()
    found = {name: np.abs(mine[name] - value).max() / np.abs(value).max() for name, value in its.items()}
    return {name: difference for name, difference in found.items() if not difference <= TOLERANCE}


@pytest.fixture(scope="module")
def package():
    return by_the_package(("cpu", "cpu"))


@pytest.fixture(scope="module")
def three_steps():
    return by_the_package(("cpu", "cpu"), steps=3)


def test_ten_steps_are_those_of_the_package(package):
    first, results = package
    assert len(results) == STEPS + 2 * 2 * 15 + 1  # losses; values and velocities of 15 tensors a column; logits
    assert not different(by_the_page(read(), first), results)


def test_ten_steps_are_those_of_the_package_in_its_grouped_form(package):
    first, results = by_the_package(("cpu",))
    assert first.keys() == package[0].keys()
    assert not different(by_the_page(read(), first), results)


NO_EXCHANGE = """    if xs[0].shape[1:3] == (5, 5):  # before conv3
        doubled = [np.concatenate([x, x], axis=-1) for x in xs]
        return doubled, lambda dys: [sum(np.split(dy, 2, axis=-1)) for dy in dys]
    return [np.concatenate(xs"""
MISTAKES = {  # what is replaced, by what
    "no cross term in the normalization's backward": (" - 2 * alpha * beta * x * neighbours", " - 0 * neighbours"),
    "the neighbours across three maps": ("for i in range(5)", "for i in range(1, 4)"),
    "weight decay of biases": ("0.9 * self.vb -", "0.9 * self.vb - 0.0005 * rate * self.b -"),
    "no weight decay": (" - 0.0005 * rate * self.W", ""),
    "momentum with the wrong sign": ("0.9 * self.vW", "-0.9 * self.vW"),
    "no exchange before conv3": ("    return [np.concatenate(xs", NO_EXCHANGE),
    "gradients of one reader only": ("np.split(sum(dys)", "np.split(dys[0]"),
    "dropout not scaled in testing": ("else 0.5", "else 1.0"),
    "dropout forgotten in backward": ("lambda dy: dy * m ", "lambda dy: dy "),
    "overlapping windows overwrite each other": ("dx[pixels[i]] += dy", "dx[pixels[i]] = dy"),
    "loss's gradient summed over the images": ("(p - right) / len(p)", "(p - right)"),
    "padding cut off at one side": ("[:, p:p + h, p:p + w]", "[:, :h, :w]"),
}  # fmt: skip


def changed(old, new):
    assert SOURCE.count(old) == 1
    return read(SOURCE.replace(old, new))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_would_show(mistake, three_steps):
    first, results = three_steps
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        assert different(by_the_page(changed(*MISTAKES[mistake]), first, steps=3), results)


def test_without_a_mistake_three_steps_agree(three_steps):
    first, results = three_steps
    assert not different(by_the_page(read(), first, steps=3), results)


# In training, equal largest pixels are zeros, and the ReLU before the pool stops the gradient of a zero. So the steps
# above do not show which of them gets the gradient; this does.


def pools_alike(page):
    x = randomness.below(randomness.key(0, "page"), 3, np.arange(2 * 7 * 7 * 4)).reshape(2, 7, 7, 4).astype(float)
    dy, pool = np.arange(2 * 3 * 3 * 4.0).reshape(2, 3, 3, 4) + 1, MaxPool()
    y, backward = page.max_pool(x, training=True)
    return np.array_equal(y, pool.forward(x)) and np.array_equal(backward(dy), pool.backward(dy))


def test_of_several_largest_pixels_the_first_gets_the_gradient():
    assert pools_alike(read())
    first, last = "pixels.argmax(axis=3, keepdims=True)", "8 - pixels[:, :, :, ::-1].argmax(axis=3, keepdims=True)"
    assert not pools_alike(changed(first, last))


def test_it_learns_drawn_images_by_heart():
    page, (x, labels) = read(), images(33)
    net = page.alexnet(side=33, k=5, stride=2, maps=[16, 32, 32, 32, 32], hidden=256, classes=12)
    losses = [page.learn(net, x[:24].astype(np.float32), labels[:24], rate=0.03) for _ in range(48)]
    assert np.mean(losses[-5:]) < 0.9 * np.log(12)


def test_without_sizes_it_is_the_net_of_the_paper():
    page = read()
    net = page.alexnet()
    assert sum(layer.W.size + layer.b.size for layer in layers(net).values()) == 60_965_224
    logits, _ = page.forward(net, np.zeros((1, 227, 227, 3), np.float32), training=False)
    assert logits.shape == (1, 1000)


def test_it_is_a_page_and_needs_numpy_alone():
    lines = SOURCE.splitlines()
    assert len(lines) <= 150 and max(map(len, lines)) <= 120
    imports = [node for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= {"numpy"} | sys.stdlib_module_names
    assert "import_module" not in SOURCE and "__import__" not in SOURCE


def test_as_a_script_it_tells_how_the_loss_falls(tmp_path):
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(PATH), "320", "3"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = re.findall(r"^epoch (\d): loss (\d\.\d{3}), test error \d+\.\d% \(guessing: 87\.5%\)$", done.stdout, re.M)
    assert [epoch for epoch, _ in found] == ["1", "2", "3"]
    assert float(found[-1][1]) < float(found[0][1]) - 0.1
