"""Nets of the authors' files on a GPU's code: the kernels, several columns on one GPU, layers with several inputs."""

import numpy as np
import pytest

from tests.kernels.test_kernels import on_kernels  # noqa: F401  (a fixture)
from tests.support.cuda_convnet_files import read
from tests.support.files_as_recipes import as_recipe, parsed
from tests.support.layer_cases import close, noise
from tinyalex.gradcheck.cuda_convnet import batch, small_network
from tinyalex.network import alexnet, cuda_convnet
from tinyalex.randomness import Step
from tinyalex.recipes.cuda_convnet.description import Rates
from tinyalex.training.optimizer import Optimizer

SLOW = ["layers/layers-145", "layers/layers-120", "layers/layers-100", "layers/layers-177"]
NAMES = ["layers/layers-137", "layers-cifar/layers-18pct", "example-layers/layers.gc"]
NAMES += [pytest.param(name, marks=pytest.mark.slow) for name in SLOW]


def two_steps(made, devices):
    built = small_network(made, devices)
    rates = {
        name: Rates(1e-6 * (1 + number % 3), 0.9 - 0.1 * (number % 4), own.weight_decay)
        for number, (name, own) in enumerate(cuda_convnet.rates(made).items())
    }
    optimizer, (images, labels), seen = Optimizer(built), batch(built), {}
    for number in range(2):
        with built.step(), built.devices[0] as device:
            loss, logits = built.loss_and_backward(images, labels, step=Step(0, number))
            seen["loss", number], seen["logits", number] = device.get(loss), device.get(logits)
            seen |= {(number, name): device.get(g) for name, device, g in built.tensors("grad")}
        optimizer.update_each(rates)
    return seen | {("w", name): device.get(w) for name, device, w in built.tensors()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["kernels", "cuda:0 kernels"])
def test_two_steps_are_those_of_the_cpu(on_kernels, kind, name, cuda_convnet):  # noqa: F811
    made = read(cuda_convnet, name)
    expected = two_steps(made, [])
    got = two_steps(made, [kind] * len(made.gpus))
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        close(str(key), got[key], np.asarray(value), 1e-10)


@pytest.mark.parametrize("devices", [["kernels"], ["cuda:0 kernels"] * 2])
def test_a_recipe_of_the_files_learns_with_rates_and_momenta_of_its_tensors(on_kernels, devices):  # noqa: F811
    made = as_recipe(parsed(), 12, "net.convolution=im2col")
    section, own = made.learning, made.net.by_tensor
    tables = own(section.layer_weight_decay), own(section.layer_momentum), own(section.lr_mult)
    ends = []
    for names in (["cpu"], devices):
        network = alexnet.build(made.net, made.init, names, seed=2, dtype="float64")
        optimizer = Optimizer(network, section.momentum, section.weight_decay, *tables)
        images, labels = noise(4, 12, 12, 3), np.array([0, 1, 2, 3])
        for number in range(2):
            with network.step():
                network.loss_and_backward(30 * images, labels, step=Step(0, number))
            optimizer.update(section.rate, section.rate * section.bias_rate, own({"conv1b": 0.0, "fc16/W": 0.5}))
        ends.append({name: device.get(w) for name, device, w in network.tensors()})
    for name, value in ends[0].items():
        close(name, ends[1][name], value, 1e-10)
