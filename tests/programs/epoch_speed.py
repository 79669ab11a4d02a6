"""Time whole runs: ``tinyalex train`` beside a training loop in PyTorch over the same images, in turns.

Run: ``python -m tests.programs.epoch_speed shapes cifar10-relu=CIFAR tiny-imagenet=PREPARED --rounds 3``. In each round
both sides start anew, read the images, train some epochs, test after each, and save weights and momenta after each.
PyTorch has the form that is its fastest on this processor, as ``tinyalex bench`` measures it: ``--form``. Its batches
are cropped, reflected and scaled as the recipe says, on another thread, as in tinyalex. The time of a whole run counts
from the start of the process; tinyalex also draws its pictures and its report in it. An epoch is the median time from
the end of one to the end of the next.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tinyalex import datasets
from tinyalex.bench import net
from tinyalex.bench.contenders import MALLOC
from tinyalex.recipes import recipe as recipes

FORMS = {  # whether channels come last, and whether the net is compiled
    "eager": (False, False), "channels-last": (True, False), "compiled": (False, True),
    "compiled-channels-last": (True, True),
}  # fmt: skip
SIDES = "tinyalex", "PyTorch"


class Feed:
    """Batches for PyTorch, cropped as a recipe says; the next one is made while the last one is used."""

    def __init__(self, dataset, made):
        import torch

        self.made, self.rng, self.crop = made, np.random.default_rng(0), made.net.input
        self.mean = torch.from_numpy(dataset.mean).permute(2, 0, 1)
        self.colour = dataset.colour if made.data.colour != "none" else None

    def epoch(self, images, training):
        """Yield (images (n, c, h, w), labels) of one pass."""
        order = self.rng.permutation(len(images)) if training else np.arange(len(images))
        size = self.made.learning.batch
        parts = [order[low : low + size] for low in range(0, len(order), size)]
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self._batch, images, parts[0], training)
            for rows in [*parts[1:], None]:
                current = coming.result()
                if rows is not None:
                    coming = pool.submit(self._batch, images, rows, training)
                yield current

    def _batch(self, images, rows, training):
        import torch

        whole, crop, data = torch.from_numpy(images.read(rows)).permute(0, 3, 1, 2), self.crop, self.made.data
        room, out = images.size - crop, torch.empty((len(rows), 3, crop, crop))
        corners = self.rng.integers(0, room + 1, (len(rows), 2)) if training else np.full((len(rows), 2), room // 2)
        flips = self.rng.random(len(rows)) < (0.5 if training and data.flip else 0)
        for row, ((top, left), flip) in enumerate(zip(corners, flips, strict=True)):
            place = (slice(None), slice(top, top + crop), slice(left, left + crop))
            part = whole[row][place] - self.mean[place]
            out[row] = part.flip(-1) if flip else part
        if training and self.colour:
            deviations, vectors = self.colour
            shifts = (data.colour_noise * self.rng.normal(size=(len(rows), 3)) * deviations) @ vectors.T
            out += torch.from_numpy(shifts.astype(np.float32))[:, :, None, None]
        return out.mul_(data.scale), torch.from_numpy(np.asarray(images.labels)[rows])


def train_in_torch(name, where, epochs, form):
    """Train in PyTorch; return the times at which the epochs, with test and checkpoint, ended, and the test error."""
    import torch

    from tinyalex.bench.pytorch.torch_side import optimizer
    from tinyalex.bench.pytorch.torch_twin import twin

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    dataset = datasets.load(where, show=lambda line: None)
    made = recipes.with_classes(recipes.load(name), len(dataset.classes))
    feed, ends = Feed(dataset, made), []
    last, compiled = FORMS[form]
    layout = torch.channels_last if last else torch.contiguous_format
    module = twin(net.describe(made)).to(memory_format=layout)
    whole, update = torch.compile(module, dynamic=False) if compiled else module, optimizer(module, made.learning)

    def logits(images):  # a compiled net is one for a full batch
        run = whole if len(images) == made.learning.batch else module
        return run(images.contiguous(memory_format=layout))

    for _ in range(epochs):
        module.train()
        for images, labels in feed.epoch(dataset.train, training=True):
            update.zero_grad()
            loss = torch.nn.functional.cross_entropy(logits(images), labels)
            loss.backward()
            update.step()
            loss.item()  # tinyalex looks at each loss, too
        module.eval()
        with torch.no_grad():
            tested = feed.epoch(dataset.test, training=False)
            wrong = sum(int((logits(images).argmax(1) != labels).sum()) for images, labels in tested)
        with tempfile.TemporaryDirectory() as folder:
            torch.save([module.state_dict(), update.state_dict()], Path(folder, "checkpoint"))
        ends.append(time.time())
    return ends, wrong / len(dataset.test)


def train_in_tinyalex(name, where, epochs):
    """Run ``tinyalex train``; return the times at which the epochs ended, and the test error."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tinyalex", "train", name, "--data", where, "--epochs", str(epochs)]
        subprocess.run([*command, "--out", f"{folder}/run"], check=True, capture_output=True)
        lines = map(json.loads, Path(folder, "run", "log.jsonl").read_text().splitlines())
        tests = [line for line in lines if line["event"] == "test"]
        return [line["time"] for line in tests], tests[-1]["top1_error"]


def measured(side, name, where, epochs, form):
    """Run one side; return the seconds of the whole run, those of an epoch, and the test error."""
    started = time.time()
    if side == "tinyalex":
        ends, error = train_in_tinyalex(name, where, epochs)
    else:
        command = [sys.executable, "-m", "tests.programs.epoch_speed", f"{name}={where}", "--worker"]
        command += ["--epochs", str(epochs), "--form", form]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | MALLOC)
        ends, error = json.loads(done.stdout)
    return time.time() - started, statistics.median(np.diff(ends)), error


def main(options):
    """Measure, and print a line for each recipe and side."""
    for pair in options.pairs:
        name, where = pair.split("=", 1) if "=" in pair else (pair, "shapes")
        found = {side: [] for side in SIDES}
        for _ in range(options.rounds):
            for side in SIDES:
                found[side].append(measured(side, name, where, options.epochs, options.form))
        medians = {side: [statistics.median(each) for each in zip(*runs, strict=True)] for side, runs in found.items()}
        for side, (whole, epoch, error) in medians.items():
            print(
                f"{name}, {side}: {whole:.1f} s for the whole run of {options.epochs} epochs, {epoch:.1f} s an epoch, "
                f"test error {error:.1%}"
            )
        (ours, our_epoch, _), (theirs, their_epoch, _) = medians.values()
        print(f"{name}: {theirs / ours:.2f} times as fast, {their_epoch / our_epoch:.2f} in an epoch")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="+", metavar="RECIPE[=DATA]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--form", choices=FORMS, default="channels-last")
    parser.add_argument("--worker", action="store_true")
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(train_in_torch(*given.pairs[0].split("=", 1), given.epochs, given.form)))
    else:
        main(given)
