"""Training in the three stages of the nets of footnote 3 (2012: cuda-convnet's ``Methodology`` page and file headers).

1. Train on files 1 to 4 of CIFAR-10 until the error on file 5 stops improving, and note the loss on files 1 to 4.
2. Continue on files 1 to 5 until the loss on file 5 has fallen to the noted loss.
3. Divide the learning rate of the weights by 10 and train for 10 epochs; divide it by 10 again and train for 10 more.

The losses are measured on training images with random crops and reflections. Each stage is a run in a folder of its own
that starts with the weights of the previous stage; a stage that was stopped is resumed, as any run.
"""

from dataclasses import replace
from pathlib import Path

from tinyalex.datasets.loading.batches import training_batches
from tinyalex.datasets.parts import Subset, fifths, part
from tinyalex.ranks.world import ALONE
from tinyalex.recipes.recipe import Phase
from tinyalex.runs import run_folder
from tinyalex.runs.resume import ResumeOptions
from tinyalex.runs.train import train as train_run
from tinyalex.training import evaluation
from tinyalex.words import counted

STAGES = ("1-four-fifths", "2-all", "3-lower-rates")
EPOCHS = 10  # at each of the two lower rates of stage 3


def train(
    recipe, dataset, out, devices=("cpu",), seed=0, show=print, options=None, kernels=True, world=ALONE, how="ordered",
    after_epoch=None,
):  # fmt: skip
    """Train a network in the three stages; the parameters are those of `tinyalex.runs.train.train`.

    ``learning.epochs`` limits each of the first two stages. The first ends after ``learning.patience`` epochs without a
    lower error on file 5.

    Returns
    -------
    Score
        The errors on the test images after the last stage.
    """
    folders = [Path(out) / stage for stage in STAGES]
    four, fifth = (Subset(dataset.train, indices) for indices in fifths(dataset))
    common = {"devices": devices, "seed": seed, "show": show, "kernels": kernels, "after_epoch": after_epoch}
    common |= {"world": world, "how": how}
    options, show = options or ResumeOptions(), show if world.leads else lambda text: None

    show(f"{folders[0]}: {counted(len(four), 'image')}, until the error on {len(fifth):,} others stops improving")
    validated = part(dataset, four, fifth)
    train_run(_with(recipe, schedule="plateau", drops=0), validated, folders[0], **common, options=options)
    noted = _loss(run_folder.load(folders[0], devices, kernels).network, part(dataset, four, fifth), recipe, seed)

    show(f"{folders[1]}: all {counted(len(dataset.train), 'image')}, until the loss on the last fifth is {noted:.4f}")
    last_fifth = part(dataset, fifth, fifth)

    def loss_reached(training):
        return _loss(training.network, last_fifth, recipe, seed) <= noted

    constant = _with(recipe, schedule="phases")
    train_run(
        constant,
        dataset,
        folders[1],
        **common,
        options=options._replace(init_from=folders[0]),
        stop_condition=loss_reached,
    )

    show(f"{folders[2]}: {EPOCHS} epochs at a tenth of the learning rate and {EPOCHS} at a hundredth")
    rate, bias_rate = recipe.learning.rate, recipe.learning.rate * recipe.learning.bias_rate
    phases = tuple(Phase(float(EPOCHS * k), rate / 10 ** (k + 1), bias_rate) for k in (0, 1))
    lower = _with(recipe, schedule="phases", epochs=2 * EPOCHS, rate=rate / 10, phases=phases)
    return train_run(lower, dataset, folders[2], **common, options=options._replace(init_from=folders[1]))


def _with(recipe, **changes):
    return replace(recipe, learning=replace(recipe.learning, **{"phases": (), "warmup": 0.0} | changes))


def _loss(network, dataset, recipe, seed):
    # The mean loss on the training images, with the crops and reflections of the first epoch.
    total = 0.0
    for batch in training_batches(dataset, recipe, seed, epoch=0, devices=network.devices):
        found = evaluation.score(network.predict(batch.images, recipe.learning.batch), batch.labels)
        total += found.loss * found.count
    return total / len(dataset.train)
