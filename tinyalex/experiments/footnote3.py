"""How the nets of footnote 3 were trained (2012: cuda-convnet's ``Methodology`` page and the heads of its files).

1. Train on files 1 to 4 of CIFAR-10 until the error on file 5 stops improving, and note the loss on files 1 to 4.
2. Go on with files 1 to 5 until the loss on file 5 has come down to the noted one.
3. Divide the weights' rate by 10 and train for 10 epochs; divide by 10 again, and train for 10 more.

The losses are those of training: of crops and reflections as an epoch draws them. Each stage is a run in a folder of
its own that begins with the weights of the one before, and goes on where it was stopped, as any run does.
"""

from dataclasses import replace
from pathlib import Path

from tinyalex.datasets.loading.batches import training_batches
from tinyalex.datasets.parts import Chosen, fifths, part
from tinyalex.recipes.recipe import Phase
from tinyalex.runs import run_folder
from tinyalex.runs.resume import ResumeOptions
from tinyalex.runs.train import train as train_run
from tinyalex.training import evaluation

STAGES = ("1-four-fifths", "2-all", "3-lower-rates")
EPOCHS = 10  # at each of the two lower rates


def train(recipe, dataset, out, devices=("cpu",), seed=0, show=print, options=None, kernels=True):
    """Train a network in these stages; the parameters are those of `tinyalex.runs.train.train`.

    ``learning.epochs`` is the most that each of the first two stages takes, and ``learning.patience`` how many epochs
    without a better error on file 5 end the first.

    Returns
    -------
    Score
        On the test images, at the end.
    """
    folders = [Path(out) / stage for stage in STAGES]
    four, fifth = (Chosen(dataset.train, indices) for indices in fifths(dataset))
    common, options = {"devices": devices, "seed": seed, "show": show, "kernels": kernels}, options or ResumeOptions()

    show(f"{folders[0]}: {len(four):,} images, until {len(fifth):,} others are told no better")
    validated = part(dataset, four, fifth)
    train_run(_with(recipe, schedule="plateau", drops=0), validated, folders[0], **common, options=options)
    noted = _loss(run_folder.load(folders[0], devices, kernels).network, part(dataset, four, fifth), recipe, seed)

    show(f"{folders[1]}: all {len(dataset.train):,} images, until the loss on the last fifth is {noted:.4f}")
    newcomers = part(dataset, fifth, fifth)

    def known(training):
        return _loss(training.network, newcomers, recipe, seed) <= noted

    constant = _with(recipe, schedule="phases")
    train_run(
        constant, dataset, folders[1], **common, options=options._replace(init_from=folders[0]), stop_condition=known
    )

    show(f"{folders[2]}: {EPOCHS} epochs at a tenth of the rate and {EPOCHS} at a hundredth")
    rate, bias_rate = recipe.learning.rate, recipe.learning.rate * recipe.learning.bias_rate
    phases = tuple(Phase(float(EPOCHS * k), rate / 10 ** (k + 1), bias_rate) for k in (0, 1))
    lower = _with(recipe, schedule="phases", epochs=2 * EPOCHS, rate=rate / 10, phases=phases)
    return train_run(lower, dataset, folders[2], **common, options=options._replace(init_from=folders[1]))


def _with(recipe, **changes):
    return replace(recipe, learning=replace(recipe.learning, **{"phases": (), "warmup": 0.0} | changes))


def _loss(network, dataset, recipe, seed):
    # The mean loss on a part's training images, varied as the first epoch varies them.
    total = 0.0
    for batch in training_batches(dataset, recipe, seed, epoch=0, devices=network.devices):
        found = evaluation.score(network.predict(batch.images, recipe.learning.batch), batch.labels)
        total += found.loss * found.count
    return total / len(dataset.train)
