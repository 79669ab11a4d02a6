"""A run of a second for the tests: upright against level stripes, and what it leaves."""

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
    """A small two-column recipe; keywords change its learning section."""
    changes = {"batch": 16, "epochs": 3, "rate": 0.03, "weight_decay": 0.0} | learning
    made = [f"net.{key}={json.dumps(value)}" for key, value in NET.items()]
    made += [f"learning.{key}={json.dumps(value)}" for key, value in changes.items()]
    return recipe.load("shapes", [*made, "data.set=memory", *settings])


def stripes(train=88, test=40):
    """Upright against level stripes, images of 24 x 24; 88 are six batches of 16."""
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
    """All tensors of the newest checkpoint."""
    return checkpoint.read(checkpoint.newest(folder))[0]


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def timeless(folder):
    """A run's log without what a clock has to do with, and without the checkpoints in between."""
    timed = {"time", "images_per_s", "waited"}
    return [
        {key: each[key] for key in each.keys() - timed}
        for each in run_folder.read_log(folder)
        if each["event"] != "saved"
    ]


def after(monkeypatch, step, act):
    """Have something happen when a run has taken so many steps."""
    learn = loop.Training.train_step

    def counted(run, *arguments, **keywords):
        result = learn(run, *arguments, **keywords)
        if run.step == step:
            act(run)
        return result

    monkeypatch.setattr(loop.Training, "train_step", counted)


def pressed_while_it_saves(monkeypatch, number, step):
    """Send this process a signal when a run begins to save what it is after a number of steps."""
    save = run_folder.save

    def pressing(training, *arguments):
        if training.step == step:
            os.kill(os.getpid(), number)
        return save(training, *arguments)

    monkeypatch.setattr(run_folder, "save", pressing)


def pressed(monkeypatch, number, step):
    """Send this process a signal after a number of steps, as a person or a scheduler would."""
    after(monkeypatch, step, lambda run: os.kill(os.getpid(), number))
