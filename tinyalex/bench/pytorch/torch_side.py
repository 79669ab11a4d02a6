"""The contender PyTorch: the same net as a `torch.nn.Module`, eager or compiled."""

import functools
import time

import numpy as np

from tinyalex.bench import net
from tinyalex.bench.memory import peak_memory
from tinyalex.bench.pytorch.torch_twin import twin
from tinyalex.recipes import recipe


class TorchSide:
    """The net in PyTorch with its optimizer, and the actions that are timed, as in `tinyalex.bench.ours.Ours`.

    Parameters
    ----------
    task : dict
        As `tinyalex.bench.measure` sends it.
    """

    def __init__(self, task):
        import torch

        made, self.torch, self.loss = recipe.parse(task["recipe"]), torch, None
        self.on_gpu = task["devices"][0].startswith("cuda")
        device = task["devices"][0] if self.on_gpu else "cpu"
        torch.set_num_threads(task["threads"])
        if self.on_gpu:
            torch.cuda.set_device(device)
            set_arithmetic(torch, task["tf32"])
            torch.backends.cudnn.benchmark = True
        self.net = twin(net.describe(made), shifted=task.get("tuned", False)).to(device)
        self.optimizer = optimizer(self.net, made.learning, fused=task.get("tuned", False))
        self._autocast = functools.partial(
            torch.autocast, "cuda" if self.on_gpu else "cpu", torch.bfloat16, enabled=task.get("bf16", False)
        )
        images, labels = net.batch(made, task["batch"])
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        self.images, self.labels = (torch.from_numpy(array).to(device) for array in (images, labels))
        if task.get("channels_last"):
            self.net = self.net.to(memory_format=torch.channels_last)
            self.images = self.images.contiguous(memory_format=torch.channels_last)
        self._net = torch.compile(self.net, dynamic=False) if task.get("compiled") else self.net

    def logits(self, images):
        """Compute the logits of images in float32, or with matrix products and convolutions in bf16."""
        with self._autocast():
            return self._net(images)

    def ready(self):
        """Return a fingerprint of the net's first outputs, whether it uses TF32, and PyTorch's version."""
        self.net.eval()
        with self.torch.no_grad():
            logits = self.logits(self.images[:4]).float().cpu().numpy()
            ones = self.torch.ones((512, 512), device=self.images.device)
            tf32 = bool(self.torch.matmul(ones * (1 + 2.0**-12), ones)[0, 0].item() < 512.1)  # see net.rounds_to_tf32
        versions = {"PyTorch": self.torch.__version__}
        if self.on_gpu:
            versions["cuDNN"] = self.torch.backends.cudnn.version()
        return {"fingerprint": net.fingerprint(logits), "tf32": tf32, "versions": versions}

    def step(self):
        """Take a training step: forward, loss, backward, update."""
        self.net.train()
        self.optimizer.zero_grad()
        loss = self.torch.nn.functional.cross_entropy(self.logits(self.images).float(), self.labels)
        loss.backward()
        self.optimizer.step()
        self.loss = loss.detach()

    def synchronize(self):
        """Wait for the GPU."""
        if self.on_gpu:
            self.torch.cuda.synchronize()

    def last_loss(self):
        """Return the loss of the last step."""
        return {"loss": self.loss.item()}

    def peak_memory(self):
        """Return the largest amount of memory used, in bytes: on the GPU, or of this process."""
        return self.torch.cuda.max_memory_reserved() if self.on_gpu else peak_memory()

    def forward(self):
        """Compute the logits as in testing, without building a graph."""
        self.net.eval()
        with self.torch.no_grad():
            self.logits(self.images)

    def predict(self):
        """Compute the probabilities of one image."""
        self.net.eval()
        with self.torch.no_grad():
            self.torch.softmax(self.logits(self.images[:1]).float(), 1).cpu().numpy()

    def layers(self):
        """Take a training step and time its modules; backward from one output's gradient to the previous one's."""
        if self.on_gpu:  # while the GPU computes this step, the timed one is issued: the GPU never waits for the host
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
        if not self.on_gpu:
            return time.perf_counter()
        event = self.torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, start, end):
        if not self.on_gpu:
            return end - start
        end.synchronize()
        return start.elapsed_time(end) / 1000


def set_arithmetic(torch, tf32):
    """Let matrix products and convolutions on a GPU use TF32, or float32."""
    for part in (torch.backends.cuda.matmul, torch.backends.cudnn.conv):
        part.fp32_precision = "tf32" if tf32 else "ieee"


def optimizer(module, learning, fused=False):
    """Return PyTorch's optimizer with a recipe's rates: biases have a rate of their own and no weight decay.

    Parameters
    ----------
    module : torch.nn.Module
    learning : recipe.Learning
    fused : bool
        Whether one kernel updates all weights.
    """
    from torch.optim import SGD

    named = list(module.named_parameters())
    weights = [value for name, value in named if not name.endswith("bias")]
    biases = [value for name, value in named if name.endswith("bias")]
    groups = [
        {"params": weights, "weight_decay": learning.weight_decay},
        {"params": biases, "lr": learning.rate * learning.bias_rate},
    ]
    return SGD(groups, lr=learning.rate, momentum=learning.momentum, fused=fused)
