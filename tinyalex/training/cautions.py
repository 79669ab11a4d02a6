"""What may spoil a training run and can be seen before its first step: each finding is a line with the switch to use.

`tinyalex.training.health` has the checks of a run that has begun.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyalex.datasets.dataset import Dataset, Images
from tinyalex.errors import DataError
from tinyalex.recipes.recipe import Recipe
from tinyalex.words import counted

if TYPE_CHECKING:
    from tinyalex.datasets.survey import Survey  # imports Pillow, which training does without

FEW_STEPS = 500  # the recipe shapes takes 600
SMALL_CROP = 1 / 3  # of an image's area; 224 of 256 pixels are 77 %, 224 of 388 a third
UNEQUAL = 5  # times as many images of the largest class as of the smallest
FEW_IMAGES = 10  # training images of a class; the fewest that were measured are 40 (README)
_GREY = 4  # levels, of 256, by which the colours of a pixel may differ on average in an image that counts as grey
_SAMPLE = 128  # images looked at


def before_training(recipe: Recipe, dataset: Dataset, first_weights: bool = True) -> Iterator[str]:
    """Yield a line for each thing that may spoil a run.

    Parameters
    ----------
    recipe : Recipe
    dataset : Dataset
    first_weights : bool
        Whether the net starts from random weights. Few steps are enough if it starts from another run's.
    """
    train = dataset.need("train")
    lines = [
        crops(recipe.net.input, train.size),
        steps(recipe, len(train)) if first_weights else None,
        classes(np.asarray(train.labels), dataset.words) if recipe.judged_by == "test error" else None,
        grey(recipe, train),
    ]
    yield from (line for line in lines if line)


def crops(side: int, image: int) -> str | None:
    """Check that a crop of ``side`` pixels shows enough of an image of ``image`` pixels."""
    share = (side / image) ** 2
    if share >= SMALL_CROP:
        return None
    return (
        f"crops of {side} x {side} pixels show {share:.0%} of an image of {image} x {image}, and only the centre of a "
        f"test image is seen; prepare the images smaller: tinyalex prepare SOURCE OUT --size {round(side * 8 / 7)}"
    )


def steps(recipe: Recipe, images: int) -> str | None:
    """Check that there are enough updates for a net that starts from random weights."""
    batch, epochs = recipe.learning.batch, recipe.learning.epochs
    of_an_epoch = -(-images // batch)
    if (total := of_an_epoch * epochs) >= FEW_STEPS:
        return None
    more = f"--epochs {-(-FEW_STEPS // of_an_epoch)}"
    smaller = max(8, images * epochs // FEW_STEPS)
    if smaller < batch and images * epochs >= 8 * FEW_STEPS:
        more += f", or --set learning.batch={smaller} with a smaller learning.rate"
    return (
        f"only {counted(total, 'step')} in all, {counted(epochs, 'epoch')} of {of_an_epoch}; from random weights a net "
        f"needs at least about {FEW_STEPS}: add {more}"
    )


def classes(labels: np.ndarray, words: list[str]) -> str | None:
    """Check that no class has many times as many training images as another."""
    count = np.bincount(labels, minlength=len(words))
    most, least = int(count.argmax()), int(count.argmin())
    if count[most] <= UNEQUAL * count[least]:
        return None
    switches = "add --set data.sampling=balanced or --set learning.class_weights=balanced"
    remedy = switches if count[least] else f"add images of {words[least]}"
    return (
        f"{counted(int(count[most]), 'training image')} of {words[most]}, {count[least]:,} of {words[least]}: a net "
        f"learns to answer {words[most]} too often; {remedy}"
    )


def unequal(found: "Survey", words: list[str]) -> str | None:
    """Return what `classes` checks as a fact about images that were surveyed, for who trains them with advice."""
    if found.imbalance <= UNEQUAL:
        return None
    most, least = (words[found.counts.index(count)] for count in (max(found.counts), min(found.counts)))
    return (
        f"imbalance: the largest class, {most}, has {found.imbalance:.0f} times as many training images as the "
        f"smallest, {least}; always answering {most} is wrong for {1 - max(found.counts) / sum(found.counts):.1%}"
    )


def single(found: "Survey", words: list[str]) -> str | None:
    """Check that no class has a single training image; a stray picture in a folder of its own is one."""
    alone = [word for word, count in zip(words, found.counts, strict=True) if count == 1]
    if not alone:
        return None
    if len(alone) == 1:
        return f"warning: class {alone[0]} has 1 training image: remove its folder or add images"
    classes = f"{len(alone):,} classes, such as {alone[0]},"
    return f"warning: {classes} have 1 training image each: remove their folders or add images"


def few(found: "Survey", words: list[str]) -> str | None:
    """Check that most classes have enough images to learn from and to test on."""
    half = sorted(found.counts)[len(found.counts) // 2]
    if half >= FEW_IMAGES:
        return None
    return (
        f"warning: half of the classes have {counted(half, 'training image')} or fewer: too few to learn from, and an "
        f"error on {counted(found.test, 'test image')} says little; add images, some tens of each class"
    )


def grey(recipe: Recipe, images: Images) -> str | None:
    """Check that colours are augmented only where there are some."""
    if recipe.data.colour == "none" or not recipe.data.colour_noise:
        return None
    chosen = np.unique(np.linspace(0, len(images) - 1, min(_SAMPLE, len(images))).astype(np.int64))
    try:
        pixels = images.read(chosen).astype(np.int16)
    except DataError:  # of a disk that fails: training reports it if it needs that image
        return None
    spread: Any = (pixels.max(axis=3) - pixels.min(axis=3)).mean(axis=(1, 2))
    if (spread >= _GREY).any():
        return None
    return (
        f"the images are grey, and data.colour = '{recipe.data.colour}' varies only their brightness; to leave that "
        "out: --set data.colour=none"
    )
