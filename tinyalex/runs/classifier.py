"""A trained network that classifies pictures of any kind: files, Pillow's images and arrays."""

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from tinyalex.datasets import picture
from tinyalex.datasets.index.archives import is_archive
from tinyalex.datasets.loading.loader import prepare_image
from tinyalex.errors import DataError
from tinyalex.runs import run_folder
from tinyalex.words import counted

_LARGEST = 64 << 20  # bytes of a file
_AT_ONCE = 128  # images in memory


@dataclass(frozen=True, eq=False)
class Prediction:
    """The classes of one picture, the most probable first.

    Attributes
    ----------
    classes : list of str
        All classes; of equally probable ones the one with the lower label is first.
    words : list of str
        Their readable names: the classes themselves, unless the data set has others.
    probabilities : ndarray of float32, shape (classes,)
        In the same order; their sum is 1.
    """

    classes: list[str]
    words: list[str]
    probabilities: np.ndarray

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Return the ``count`` most probable classes as pairs of class and probability."""
        return [(name, float(p)) for name, p in zip(self.classes[:count], self.probabilities, strict=False)]

    def __iter__(self) -> Iterator[Any]:
        # classes, probabilities = net.predict("photo.jpg")
        return iter((self.classes, self.probabilities))

    def __repr__(self) -> str:
        pairs = zip(self.words[:5], self.probabilities, strict=False)
        best, more = ", ".join(f"{name[:40]} {p:.1%}" for name, p in pairs), len(self.classes) - 5
        return f"<Prediction: {best}{f' and {more:,} more' if more > 0 else ''}>"


class Classifier:
    """A trained network, with the classes, the mean image and the crop that belong to it; `load` makes one.

    It can be copied, pickled and sent to other processes.

    Parameters
    ----------
    run : Run

    Attributes
    ----------
    network : Network
    recipe : Recipe
    classes, words : list of str
        By label; the words are readable names of the classes.
    mean : ndarray, shape (S, S, 3)
    metadata : dict
        What the file says of the run: "step", "epoch", "errors" and more.
    path : Path
        The file that holds the weights.
    """

    def __init__(self, run: run_folder.Run) -> None:
        self.network, self.recipe, self.classes, self.words = run.network, run.recipe, run.classes, run.words
        self.mean, self.metadata, self.path = run.mean, run.metadata, run.path

    @overload
    def predict(self, images: str | os.PathLike[str]) -> Prediction: ...

    @overload
    def predict(self, images: list[Any] | tuple[Any, ...]) -> list[Prediction]: ...

    @overload
    def predict(self, images: Any) -> Any: ...

    def predict(self, images: Any) -> Any:
        """Classify one picture or several.

        A picture of any size is treated as in a test: its shorter side is resized to that of the training images, and
        the centre is cropped.

        Parameters
        ----------
        images : str, Path, PIL.Image.Image, ndarray, or list or tuple of these
            Arrays are (h, w, 3), or grey as (h, w) or (h, w, 1), of bytes from 0 to 255 or of floating numbers from 0
            to 1. An array (n, h, w, 3) is n pictures.

        Returns
        -------
        Prediction, or list of Prediction
            A list if several pictures were given.

        Raises
        ------
        DataError
            If a file or an array is not such a picture.
        """
        several = isinstance(images, list | tuple) or (isinstance(images, np.ndarray) and images.ndim == 4)
        given = list(images) if several else [images]
        found: list[Prediction] = []
        for begin in range(0, len(given), _AT_ONCE):
            pixels = [
                read_image(image, f"image {begin + number}" if several else "image")
                for number, image in enumerate(given[begin : begin + _AT_ONCE])
            ]
            found += map(self._prediction, self.probabilities(pixels))
        return found if several else found[0]

    def probabilities(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return the probabilities of the classes, by label, (n, classes), of n pictures uint8 (h, w, 3)."""
        inputs = [prepare_image(image, self.mean, self.recipe) for image in images]
        return self.network.predict(np.array(inputs, np.float32).reshape(-1, *self.network.input_shape))

    def _prediction(self, probabilities: np.ndarray) -> Prediction:
        order = np.argsort(-probabilities, kind="stable")
        classes, words = ([known[label] for label in order] for known in (self.classes, self.words))
        return Prediction(classes, words, probabilities[order])

    def __repr__(self) -> str:
        errors, (h, w, _) = self.metadata["errors"], self.network.input_shape
        judged_by = self.metadata.get("judged_by", "test error")
        tested = f", {judged_by} {errors[-1]:.2%}" if self.metadata.get("tested") and errors else ""
        net = f"{self.recipe.name}, {h} x {w} pixels, {counted(len(self.classes), 'class')}"
        return f"<Classifier: {net}, step {self.metadata['step']}{tested}, from {self.path}>"


def load(path: str | Path, devices: Sequence[str] = ("cpu",), *, best: bool = True, kernels: bool = True) -> Classifier:
    """Load a trained network, to classify pictures with it.

    Parameters
    ----------
    path : str or Path
        The folder of a run, one of its checkpoints, or a file that `tinyalex export` wrote.
    devices : sequence of str
    best : bool
        Of a folder, take the checkpoint with the lowest test error, as `tinyalex predict` does. False: the last.
    kernels : bool
        See `Network.build`.

    Returns
    -------
    Classifier

    Raises
    ------
    CheckpointError
        If there is no checkpoint, or it cannot be used.

    Examples
    --------
    Of a run folder with the initial weights of a net for two classes:

    >>> import tempfile
    >>> import numpy as np
    >>> import tinyalex
    >>> from tinyalex.runs import run_folder
    >>> images = tinyalex.datasets.ImageSet(np.zeros((2, 64, 64, 3), "uint8"), np.array([0, 1]))
    >>> data = tinyalex.datasets.Dataset("two", ["left", "right"], images, images)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = run_folder.save(tinyalex.Training(tinyalex.recipe.load("shapes"), data), folder)
    ...     net = tinyalex.load(folder)
    >>> classes, probabilities = net.predict(np.zeros((100, 80, 3), "uint8"))
    >>> classes, round(float(probabilities.sum()), 3)
    (['left', 'right'], 1.0)
    """
    return Classifier(run_folder.load(Path(path).expanduser(), devices, kernels, best))


def read_image(image: Any, name: str = "image") -> np.ndarray:
    """Return a picture as uint8 (h, w, 3).

    Parameters
    ----------
    image : str, Path, PIL.Image.Image or ndarray
        See `Classifier.predict`.
    name : str
        What the message of an error about an array or a Pillow image begins with.

    Raises
    ------
    DataError
        If it is not such a picture. The message names the file, or `name`.
    """
    from PIL import Image

    if isinstance(image, str | os.PathLike):
        return _from_file(os.fspath(image))
    if isinstance(image, Image.Image):
        return _from_pillow(image, name)
    if isinstance(image, np.ndarray):
        return _from_array(image, name)
    kind = type(image).__name__
    raise DataError(f"{name}: a {kind}; give the path of a file, a Pillow image, an array (h, w, 3), or a list of them")


def _from_file(path: Any) -> np.ndarray:
    if os.path.isdir(path):
        raise DataError(f"{path}: a folder; give image files")
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise DataError(f"larger than {_LARGEST >> 20} MiB")
        return np.asarray(picture.decode(content)[0].convert("RGB"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give an image file") from error
    except DataError as error:
        if is_archive(os.path.basename(path)):
            raise DataError(f"{path}: an archive; unpack it, and give the folder or an image file") from error
        raise DataError(f"{path}: {error}; give another file") from error


def _from_pillow(image: Any, name: str) -> np.ndarray:
    # Modes other than RGB and grey are decoded as a file would be: transparent pixels are laid over white.
    try:
        if image.mode in ("RGB", "L") and not image.has_transparency_data:
            return np.asarray(image.convert("RGB"))
        if image.mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
            return np.asarray(image.convert("RGB"))
        content = io.BytesIO()
        (image.convert("RGBA") if image.mode in ("RGBa", "La", "PA") else image).save(content, "PNG")
        return np.asarray(picture.decode(content.getvalue())[0].convert("RGB"))
    except (OSError, ValueError, DataError) as error:
        raise DataError(f"{name}: a Pillow image of mode {image.mode} that cannot be read ({error})") from error


def _from_array(array: np.ndarray, name: str) -> np.ndarray:
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    if not array.size or not (grey or (array.ndim == 3 and array.shape[2] == 3)):
        first = array.ndim == 3 and array.shape[0] in (1, 3)
        remedy = "use image.transpose(1, 2, 0)" if first else "give (height, width, 3), or grey as (height, width)"
        raise DataError(f"{name}: an array of shape {array.shape}; {remedy}")
    if array.dtype.kind == "f":
        inside = (array >= 0) & (array <= 1)
        if not inside.all():
            worst = float(array[~inside].flat[0])
            raise DataError(
                f"{name}: floating numbers have to be from 0 to 1, but one is {worst:g}; if they are from 0 to 255, "
                "use image.round().astype('uint8')"
            )
        array = np.round(array.astype(np.float64) * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise DataError(
            f"{name}: numbers of type {array.dtype}; give bytes from 0 to 255, image.astype('uint8'), or floating "
            "numbers from 0 to 1"
        )
    array = array.reshape(*array.shape[:2], -1)
    return np.ascontiguousarray(array if array.shape[2] == 3 else np.repeat(array, 3, axis=2))
