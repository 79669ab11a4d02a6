"""A net that was made elsewhere, and the file of weights that `tinyalex import` makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tinyalex.errors import CheckpointError, DataError
from tinyalex.network import alexnet
from tinyalex.network.network import check_tensors
from tinyalex.recipes import recipe
from tinyalex.recipes.recipe import Data, Init, Net, Recipe
from tinyalex.runs import checkpoint
from tinyalex.system import storage
from tinyalex.training import health
from tinyalex.words import counted

CHANNEL_MEANS = 123.0, 117.0, 104.0  # of ILSVRC-2012's training images: red, green, blue
_INIT = Init({"default": 0.01}, {"default": 0.0, "conv2": 1.0, "conv4": 1.0, "conv5": 1.0, "fc6": 1.0, "fc7": 1.0})


@dataclass(frozen=True)
class Imported:
    """What a reader makes of a file.

    Attributes
    ----------
    recipe : Recipe
        See `recipe_of`.
    state : dict of str to ndarray
        float32, named as in `Network.state`.
    mean : ndarray, shape (S, S, 3)
        float32, RGB, in units of pixels from 0 to 255.
    classes : list of str
        One name for each class, all different.
    words : list of str
        Readable names of the classes.
    source : str
        One line: what this was read from.
    notes : tuple of str
        What had to be assumed, or differs from the file; one line each.
    """

    recipe: Recipe
    state: dict[str, np.ndarray]
    mean: np.ndarray
    classes: list[str]
    words: list[str]
    source: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    """What else a reader may be given.

    Attributes
    ----------
    deploy : str, optional
        A file that describes the net, for weights that do not: Caffe's deploy.prototxt.
    mean : str, optional
        A file with the mean image: Caffe's mean.binaryproto.
    words : str, optional
        A text file with a line for each class.
    input : str, optional
        What an ONNX graph's input is: see `tinyalex.interop.onnx_import.INPUTS`.
    like : str, optional
        A run whose net, mean image and classes the weights of a file of deep compression belong to.
    """

    deploy: str | None = None
    mean: str | None = None
    words: str | None = None
    input: str | None = None
    like: str | None = None


def one_line(text: str, most: int = 80) -> str:
    """Return text from a file as a part of a line: what cannot be printed becomes a question mark."""
    shown = "".join(each if each.isprintable() else "?" for each in text)
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


def recipe_of(name: str, net: Net, scale: float = 1.0) -> Recipe:
    """Return the recipe of a net made elsewhere: the paper's training, and the preprocessing of its weights.

    Parameters
    ----------
    name : str
    net : recipe.Net
    scale : float
        What a pixel is multiplied by after the mean was subtracted.
    """
    return Recipe(name, net, _INIT, Data(mean="image", scale=scale, colour="paper"))


def flat_mean(size: int, colours: Sequence[float] = CHANNEL_MEANS) -> np.ndarray:
    """Return a mean image (size, size, 3) of one colour, RGB."""
    return np.full((size, size, 3), colours, np.float32)


def named_classes(count: int, words: str | Path | None = None) -> tuple[list[str], list[str]]:
    """Return names and readable names of classes, from a file of words if there is one.

    Parameters
    ----------
    count : int
        The net's number of classes.
    words : str or Path, optional
        A text file with a line for each class, in order. A line that begins with a WordNet number (``n01440764 tench,
        Tinca tinca``, as in synset_words.txt) has this as the name of the class. Without a file the names are numbers
        from 0 on.

    Raises
    ------
    DataError
        If the file cannot be read, or does not have one line of text for each class.
    """
    if words is None:
        names = [str(number) for number in range(count)]
        return names, list(names)
    try:
        with open(words, "rb") as file:
            content = file.read(_LARGEST_WORDS + 1)
        lines = content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(
            f"{words}: cannot be read ({error.strerror}); give a text file with a line for each class"
        ) from None
    except UnicodeDecodeError:
        raise DataError(f"{words}: is not text in UTF-8; give a text file with a line for each class") from None
    lines = [line.strip() for line in lines if line.strip()]
    if len(content) > _LARGEST_WORDS or len(lines) != count:
        raise DataError(
            f"{words}: {counted(len(lines), 'line')} for {counted(count, 'class')}; give one for each class"
        )
    pairs = [line.split(None, 1) if _is_synset(line) else [line, line] for line in lines]
    names, readable = [pair[0] for pair in pairs], [pair[-1] for pair in pairs]
    if len(set(names)) < count:
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{words}: {twice!r:.60} stands in two lines; give each class a name of its own")
    return names, readable


_LARGEST_WORDS = 16 << 20  # bytes


def _is_synset(line: str) -> bool:
    first = line.split(None, 1)[0]
    return len(first) == 9 and first[0] == "n" and first[1:].isdigit()


def check(imported: Imported) -> None:
    """Raise a CheckpointError unless the tensors are those of the recipe's net, with finite numbers."""
    net = imported.recipe.net
    wanted: dict[str, tuple[int, ...]] = {}
    for parameter in alexnet.describe(net).parameters():
        shape = *parameter.shape[:-1], parameter.shape[-1] // len(parameter.names)
        wanted |= {f"{name}/{parameter.kind}": shape for name in parameter.names}
    check_tensors(imported.state, wanted, imported.source)
    if bad := health.not_finite(imported.state | {"mean image": imported.mean}):
        raise CheckpointError(f"{imported.source}: {bad} is not a finite number; give another file")
    mean = imported.mean
    if mean.ndim != 3 or mean.shape != (len(mean), len(mean), 3) or len(mean) < net.input:
        raise CheckpointError(
            f"{imported.source}: its mean image is {mean.shape}; give a square one of {net.input} pixels a side or more"
        )
    if not net.classes == len(imported.classes) == len(imported.words):
        raise CheckpointError(f"{imported.source}: {len(imported.classes)} names for {counted(net.classes, 'class')}")


def check_target(path: str | Path) -> None:
    """Raise ForeignFileError if `write` would have to replace a file that is not an unchanged one of its own."""
    storage.check(Path(path), checkpoint.is_export)


def write(imported: Imported, path: str | Path) -> Path:
    """Write a file of weights, as `tinyalex export` does; evaluate, predict, figures and train --init-from read it.

    Raises
    ------
    CheckpointError
        See `check`.
    """
    check(imported)
    made = replace(imported.recipe, notes=(*imported.recipe.notes, imported.source, *imported.notes))
    metadata = {
        "kind": "weights", "step": 0, "epoch": 0.0, "errors": [], "tested": False, "seed": 0,
        "recipe": recipe.to_toml(made), "classes": imported.classes, "words": imported.words,
        "dataset": "unknown", "fingerprint": None, "source": imported.source,
    }  # fmt: skip
    tensors = imported.state | {"data/mean": np.ascontiguousarray(imported.mean, np.float32)}
    checkpoint.write(Path(path), tensors, metadata, may_replace=checkpoint.is_export)
    return Path(path)
