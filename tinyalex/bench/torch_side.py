"""PyTorch's side: the twin of a recipe's net, eager, one action at a time. PyTorch is imported when it is made."""

import time

import numpy as np

from tinyalex import recipe
from tinyalex.bench import net
from tinyalex.bench.torch_twin import twin


class TorchSide:
    """The twin with its optimizer; the actions of `tinyalex.bench.ours.Ours`.

    Parameters
    ----------
    task : dict
        As `tinyalex.bench.measure` sends it.
    """

    def __init__(self, task):
        import torch

        made, self.torch = recipe.parse(task["recipe"]), torch
        torch.set_num_threads(task["threads"])
        self.net = twin(net.describe(made)).to(task["devices"][0])
        self.optimizer = optimizer(self.net, made.learning)
        images, labels = net.batch(made, task["batch"])
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        self.images, self.labels = (torch.from_numpy(each).to(task["devices"][0]) for each in (images, labels))

    def ready(self):
        """Say what the net answers at first, and which PyTorch it is."""
        self.net.eval()
        with self.torch.no_grad():
            logits = self.net(self.images[:4]).cpu().numpy()
        return {"fingerprint": net.fingerprint(logits), "versions": {"PyTorch": self.torch.__version__}}

    def step(self):
        """Take a training step: forward, loss, backward, update."""
        self.net.train()
        self.optimizer.zero_grad()
        loss = self.torch.nn.functional.cross_entropy(self.net(self.images), self.labels)
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.item()}

    def forward(self):
        """Compute the logits as at test, without a graph."""
        self.net.eval()
        with self.torch.no_grad():
            self.net(self.images)

    def predict(self):
        """Compute one image's probabilities."""
        self.net.eval()
        with self.torch.no_grad():
            self.torch.softmax(self.net(self.images[:1]), 1).numpy()

    def layers(self):
        """Take a training step and time each module in it: backward from one output's gradient to the one before."""
        self.net.train()
        self.optimizer.zero_grad()
        clock, seconds, stamps = time.perf_counter, {}, []
        x = self.images
        for name, module in self.net.named_children():
            start = clock()
            x = module(x)
            seconds[f"{name}/forward"] = clock() - start
            x.register_hook(lambda _, name=name: stamps.append((name, clock())))
        start = clock()
        loss = self.torch.nn.functional.cross_entropy(x, self.labels)
        seconds["loss/forward"] = clock() - start
        stamps.append(("loss", clock()))
        loss.backward()
        ends = [stamp for _, stamp in stamps[1:]] + [clock()]
        for (name, start), end in zip(stamps, ends, strict=True):
            seconds[f"{name}/backward"] = end - start
        start = clock()
        self.optimizer.step()
        return seconds | {"update": clock() - start}


def optimizer(module, learning):
    """Return PyTorch's optimizer with a recipe's rates: biases have their own and do not decay.

    Parameters
    ----------
    module : torch.nn.Module
    learning : recipe.Learning
    """
    from torch.optim import SGD

    named = list(module.named_parameters())
    weights = [value for name, value in named if not name.endswith("bias")]
    biases = [value for name, value in named if name.endswith("bias")]
    groups = [
        {"params": weights, "weight_decay": learning.decay},
        {"params": biases, "lr": learning.rate * learning.bias_rate},
    ]
    return SGD(groups, lr=learning.rate, momentum=learning.momentum)
