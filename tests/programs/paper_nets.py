"""The nets of the paper, each as a recipe with overrides, and their numbers of parameters.

As a program it takes a training step of each net at full size, or checks all gradients of each net scaled down:

    python -m tests.programs.paper_nets [--batch 2] [NAME ...]
    python -m tests.programs.paper_nets --gradients [NAME ...]
"""

import argparse
import time
from typing import NamedTuple

import numpy as np

from tinyalex import gradcheck
from tinyalex.network import alexnet
from tinyalex.randomness import Step, bits, key
from tinyalex.recipes import recipe
from tinyalex.training.optimizer import Optimizer


class Paper(NamedTuple):
    """A net: the recipe, overrides, and the number of parameters as counted from the 2012 files or by hand."""

    recipe: str
    overrides: tuple
    parameters: int

    def load(self):
        return recipe.load(self.recipe, self.overrides)


ALL_OF_IMAGENET = ("net.classes=21843", "net.bottleneck=2048", "net.fc8=split")
NETS = {
    "two columns": Paper("original", (), 60_965_224),
    "one GPU": Paper("one-gpu", (), 59_798_312),
    "pools that do not overlap": Paper("original", ("net.pool=2",), 60_965_224),
    "no normalization": Paper("original", ("net.norm=none",), 60_965_224),
    "columns without an exchange": Paper("original", ("net.talk=[]",), 33_259_880),
    "without conv3": Paper("original", ("net.maps=[96, 256, 0, 384, 256]",), 60_301_288),
    "without conv4": Paper("original", ("net.maps=[96, 256, 384, 0, 256]",), 60_301_288),
    "without conv5": Paper("original", ("net.maps=[96, 256, 384, 384, 0]",), 79_396_968),
    "six convolutions": Paper("six-conv", (), 61_555_304),
    "six, 10,184 classes": Paper("six-conv", ("net.classes=10184",), 99_182_152),
    "six, 21,843 classes": Paper("six-conv", ALL_OF_IMAGENET, 110_605_267),
    "CIFAR-10, 13 %": Paper("cifar10-13pct", (), 1_116_490),
    "CIFAR-10, 11 %": Paper("cifar10-11pct", (), 1_116_490),
}


def a_step(made, batch):
    """Take one training step of a recipe's net.

    Returns
    -------
    dict
        "losses": the loss before and after the step on the same images. "idle": names of the tensors whose gradient is
        zero or which did not change.
    """
    network = alexnet.build(made.net, made.init)
    learning = made.learning
    optimizer = Optimizer(network, learning.momentum, learning.weight_decay, learning.layer_weight_decay)
    pixels = bits(key(0, "images"), np.arange(batch)[:, None], np.arange(made.net.input**2 * 3)) >> 24
    images = (pixels.reshape(batch, made.net.input, made.net.input, 3).astype(np.float32) - 128) * made.data.scale
    labels = np.arange(batch) * 61 % made.net.classes
    before = {name: value[..., ::8].copy() for name, value in network.state().items()}
    losses, idle = [], []
    for number in range(2):
        with network.step():
            loss, _ = network.loss_and_backward(images, labels, step=Step(0, 0))
        losses.append(float(loss))
        if number == 0:
            idle += [name for name, gradient in network.gradients().items() if not gradient.any()]
            optimizer.update(learning.rate / 10, learning.rate / 10)
    idle += [name for name, value in network.state().items() if np.array_equal(before[name], value[..., ::8])]
    return {"losses": losses, "idle": idle}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=list(NETS), metavar="NAME", help=f"of {', '.join(NETS)}")
    parser.add_argument("--batch", type=int, default=2, metavar="N")
    parser.add_argument("--gradients", action="store_true", help="check gradients instead")
    options = parser.parse_args()
    for name in options.names:
        started = time.perf_counter()
        if options.gradients:
            results = gradcheck.suite(NETS[name].recipe, overrides=NETS[name].overrides)
            bad = [result.parameter for result in results if result.verdict != "ok"]
            worst, size = max(result.error for result in results), sum(result.size for result in results)
            line = f"{size:,} derivatives, largest error {worst:.1e}; wrong {bad or 'none'}"
            print(f"{name}: {line}; {time.perf_counter() - started:.0f} s", flush=True)
            continue
        found = a_step(NETS[name].load(), options.batch)
        losses = " to ".join(f"{loss:.4f}" for loss in found["losses"])
        print(
            f"{name}: loss {losses}; idle {found['idle'] or 'none'}; {time.perf_counter() - started:.0f} s", flush=True
        )


if __name__ == "__main__":
    main()
