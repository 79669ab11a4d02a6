"""PyTorch's side: the twin of a recipe's net, eager, one action at a time. PyTorch is imported when it is made."""

import time

import numpy as np

from tinyalex.bench import net
from tinyalex.bench.pytorch.torch_twin import twin
from tinyalex.recipes import recipe


class TorchSide:
    """The twin with its optimizer; the actions of `tinyalex.bench.ours.Ours`.

    Parameters
    ----------
    task : dict
        As `tinyalex.bench.measure` sends it.
    """

    def __init__(self, task):
        import torch

        made, self.torch, self.loss = recipe.parse(task["recipe"]), torch, None
        self.card = task["devices"][0].startswith("cuda")
        place = task["devices"][0] if self.card else "cpu"
        torch.set_num_threads(task["threads"])
        if self.card:
            torch.cuda.set_device(place)
            arithmetic(torch, task["tf32"])
            torch.backends.cudnn.benchmark = True
        self.net = twin(net.describe(made)).to(place)
        self.optimizer = optimizer(self.net, made.learning)
        images, labels = net.batch(made, task["batch"])
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        self.images, self.labels = (torch.from_numpy(each).to(place) for each in (images, labels))

    def ready(self):
        """Say what the net answers at first, with which arithmetic, and which PyTorch it is."""
        self.net.eval()
        with self.torch.no_grad():
            logits = self.net(self.images[:4]).cpu().numpy()
            ones = self.torch.ones((512, 512), device=self.images.device)
            rounds = bool(self.torch.matmul(ones * (1 + 2.0**-12), ones)[0, 0].item() < 512.1)  # see net.rounds
        versions = {"PyTorch": self.torch.__version__}
        if self.card:
            versions["cuDNN"] = self.torch.backends.cudnn.version()
        return {"fingerprint": net.fingerprint(logits), "rounds": rounds, "versions": versions}

    def step(self):
        """Take a training step: forward, loss, backward, update."""
        self.net.train()
        self.optimizer.zero_grad()
        loss = self.torch.nn.functional.cross_entropy(self.net(self.images), self.labels)
        loss.backward()
        self.optimizer.step()
        self.loss = loss.detach()

    def settle(self):
        """Wait for the card."""
        if self.card:
            self.torch.cuda.synchronize()

    def last(self):
        """Return the loss of the last step."""
        return {"loss": self.loss.item()}

    def peak(self):
        """Return the most memory that was held, bytes: of the card, or of this process."""
        from tinyalex.bench.machine import peak

        return self.torch.cuda.max_memory_reserved() if self.card else peak()

    def forward(self):
        """Compute the logits as at test, without a graph."""
        self.net.eval()
        with self.torch.no_grad():
            self.net(self.images)

    def predict(self):
        """Compute one image's probabilities."""
        self.net.eval()
        with self.torch.no_grad():
            self.torch.softmax(self.net(self.images[:1]), 1).cpu().numpy()

    def layers(self):
        """Take a training step and time each module in it: backward from one output's gradient to the one before."""
        if self.card:  # one that is busy does not wait to be asked
            self.step()
        self.net.train()
        self.optimizer.zero_grad()
        forwards, backwards = [("", self._stamp())], []
        x = self.images
        for name, module in self.net.named_children():
            x = module(x)
            forwards.append((f"{name}/forward", self._stamp()))
            x.register_hook(lambda _, name=name: backwards.append((f"{name}/backward", self._stamp())))
        loss = self.torch.nn.functional.cross_entropy(x, self.labels)
        forwards.append(("loss/forward", self._stamp()))
        loss.backward()
        end, names = self._stamp(), ["loss/backward", *(name for name, _ in backwards)]
        begins = [forwards[-1][1], *(begin for _, begin in backwards)]
        self.optimizer.step()
        last = self._stamp()
        moments = [*forwards, *zip(names, [*begins[1:], end], strict=True), ("update", last)]
        return {name: self._between(a, b) for (_, a), (name, b) in zip(moments, moments[1:], strict=False)}

    def _stamp(self):
        if not self.card:
            return time.perf_counter()
        event = self.torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, start, end):
        if not self.card:
            return end - start
        end.synchronize()
        return start.elapsed_time(end) / 1000


def arithmetic(torch, tf32):
    """Let products and convolutions on a card round their factors as TF32 does, or not."""
    for part in (torch.backends.cuda.matmul, torch.backends.cudnn.conv):
        part.fp32_precision = "tf32" if tf32 else "ieee"


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
        {"params": weights, "weight_decay": learning.weight_decay},
        {"params": biases, "lr": learning.rate * learning.bias_rate},
    ]
    return SGD(groups, lr=learning.rate, momentum=learning.momentum)
