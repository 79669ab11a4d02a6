"""Training runs of a second for the tests, on upright against level stripes, and helpers to compare and stop them."""

import json
import os

import numpy as np

from tinyalex.datasets import Dataset, ImageSet
from tinyalex.recipes import recipe
from tinyalex.runs import checkpoint, run_folder
from tinyalex.training import loop

NET = {"kind": "alexnet", "input": 20, "columns": 2, "maps": [4, 8, 8, 8, 8], "kernels": [5, 3, 3, 3, 3], "stride": 1,
       "hidden": 16, "classes": 0, "dropout": 0.25}  # fmt: skip


def small(*settings, **learning):
    """Return a small two-column recipe; keywords change its learning section."""
    changes = {"batch": 16, "epochs": 3, "rate": 0.03, "weight_decay": 0.0} | learning
    made = [f"net.{key}={json.dumps(value)}" for key, value in NET.items()]
    made += [f"learning.{key}={json.dumps(value)}" for key, value in changes.items()]
    return recipe.load("shapes", [*made, "data.set=memory", *settings])


def stripes(train=88, test=40):
    """Return a data set of upright and level stripes, 24 x 24; 88 images are six batches of 16."""
    rng = np.random.default_rng(0)

    def draw(count):
        labels = np.arange(count) % 2
        wave = 100 * np.sin(np.arange(24) * 1.3 + rng.random((count, 1)) * 6)
        images = np.where(labels[:, None, None] == 0, wave[:, None, :], wave[:, :, None])[..., None]
        noise = rng.normal(0, 20, (count, 24, 24, 3))
        return ImageSet(np.clip(128 + images + noise, 0, 255).astype(np.uint8), labels.astype(np.int64))

    return Dataset("stripes", ["upright", "level"], draw(train), draw(test))


def quiet(*_):
    pass


def final(folder):
    """Return all tensors of the newest checkpoint."""
    return checkpoint.read(checkpoint.newest(folder))[0]


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def timeless(folder):
    """Return a run's log without times and without the records of intermediate checkpoints."""
    timed = {"time", "images_per_s", "waited"}
    return [
        {key: record[key] for key in record.keys() - timed}
        for record in run_folder.read_log(folder)
        if record["event"] != "saved"
    ]


def after(monkeypatch, step, act):
    """Call ``act(training)`` after a number of steps."""
    train_step = loop.Training.train_step

    def counted(run, *arguments, **keywords):
        result = train_step(run, *arguments, **keywords)
        if run.step == step:
            act(run)
        return result

    monkeypatch.setattr(loop.Training, "train_step", counted)


def pressed_while_it_saves(monkeypatch, number, step):
    """Send this process a signal when a run starts to write the checkpoint of a given step."""
    save = run_folder.save

    def pressing(training, *arguments):
        if training.step == step:
            os.kill(os.getpid(), number)
        return save(training, *arguments)

    monkeypatch.setattr(run_folder, "save", pressing)


def pressed(monkeypatch, number, step):
    """Send this process a signal after a number of steps."""
    after(monkeypatch, step, lambda run: os.kill(os.getpid(), number))
