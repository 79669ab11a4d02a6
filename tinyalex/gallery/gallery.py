"""The pictures that can be drawn from a run folder, by name, each with a line that gives its contents in numbers."""

from pathlib import Path

import numpy as np

from tinyalex import randomness
from tinyalex.datasets.loading.loader import prepare_image
from tinyalex.datasets.sample import share
from tinyalex.errors import PictureError
from tinyalex.figures.architecture import architecture
from tinyalex.figures.colourfulness import colourfulness, specialisation
from tinyalex.figures.kernel_grid import kernels
from tinyalex.figures.learning_curves import curves
from tinyalex.figures.neighbours import neighbours
from tinyalex.figures.top_five import panel
from tinyalex.gallery import retrieval
from tinyalex.gallery.autoencoder import AutoEncoder, hamming
from tinyalex.network import alexnet
from tinyalex.recipes import recipe as recipes
from tinyalex.recipes.settings import FILES
from tinyalex.runs import run_folder

NAMES = ("curves", "architecture", "kernels", "panel", "neighbours", "codes")
QUICK = ("curves", "kernels", "panel")  # drawn at the end of training
WITHOUT_CHECKPOINT = ("curves", "architecture")  # drawn from the log and the recipe
WITH_IMAGES = ("panel", "neighbours", "codes")  # need a data set
SHOWN_QUERIES, SHOWN_RESULTS = 5, 6  # Figure 4, right: number of queries drawn, and of images found for each
QUERIES = 1000  # test images over which retrieval is scored


class Gallery:
    """Draws the pictures of one run.

    Parameters
    ----------
    folder : str or Path
        Run folder, or a file of weights, which has no log to draw curves from.
    dataset : Dataset, optional
        The data set that the run was trained on; needed for the pictures in `WITH_IMAGES`.
    among : int
        Search the nearest images among at most this many training images.
    devices : sequence of str
    """

    def __init__(self, folder, dataset=None, among=10_000, devices=("cpu",)):
        self.folder, self.dataset, self.among, self.devices = Path(folder), dataset, among, devices
        self._run = self._features = None

    @property
    def run(self):
        """The run, a `tinyalex.runs.run_folder.Run`; loaded on first use."""
        self._run = self._run or run_folder.load(self.folder, self.devices)
        return self._run

    def draw(self, name):
        """Draw one of `NAMES`.

        Returns
        -------
        figure : matplotlib.figure.Figure
        line : str
            What the picture shows, in numbers.
        """
        return getattr(self, f"_{name}")()

    def _curves(self):
        return curves(run_folder.read_log(self.folder)), "loss and error rates over epochs"

    def _architecture(self):
        is_folder = self.folder.is_dir()
        return of_recipe(recipes.load(self.folder / run_folder.RECIPE) if is_folder else self.run.recipe)

    def _kernels(self):
        columns = retrieval.first_kernels(self.run.network)
        if not columns:
            raise PictureError(f"{self.folder}: no convolution reads the image, so there are no kernels to draw")
        if len(columns) != 2:
            means = [f"{name} {np.nanmean(colourfulness(each)):.2f}".strip() for name, each in columns.items()]
            return kernels(columns), f"colourfulness {', '.join(means)}"
        found = specialisation(columns)
        means = ", ".join(f"column {name} {mean:.2f}" for name, mean in found.means.items())
        chance = f"below {found.by_chance:.2f} in 95 % of random splits of the same kernels"
        return kernels(columns), f"colourfulness: {means}; difference {found.difference:.2f} ({chance})"

    def _panel(self):
        test = self.dataset.need("test")
        order = randomness.permutation(randomness.key(0, "panel"), len(test))
        labels = np.asarray(test.labels)[order]
        first = np.sort(np.unique(labels, return_index=True)[1])[:8]  # at most one image per class
        images = test.read(order[first])
        inputs = np.stack([prepare_image(image, self.run.mean, self.run.recipe) for image in images])
        figure = panel(images, labels[first], self.run.network.predict(inputs), self.run.words)
        return figure, "test images and their most probable classes"

    def _neighbours(self):
        images, queries, features, query_features = self._last_hidden_layer()
        found = retrieval.nearest(query_features, features, SHOWN_RESULTS)
        by_pixels = retrieval.nearest(_flat(queries), _flat(images), SHOWN_RESULTS)
        same, same_by_pixels = (retrieval.precision(f, images.labels, queries.labels) for f in (found, by_pixels))
        heading = (
            f"Nearest of {len(images):,} training images in the last hidden layer ({features.shape[1]} numbers). "
            f"Same class: {100 * same:.0f} %; by pixels: {100 * same_by_pixels:.0f} %."
        )
        return self._draw_found(images, queries, found, heading), heading

    def _codes(self):
        images, queries, features, query_features = self._last_hidden_layer()
        coder = AutoEncoder(features.shape[1])
        coder.fit(features)
        codes, query_codes = coder.codes(features), coder.codes(query_features)
        found = hamming(query_codes, codes, SHOWN_RESULTS)
        same = retrieval.precision(found, images.labels, queries.labels)
        heading = (
            f"Nearest of {len(images):,} training images by codes of {codes.shape[1]} bits instead of "
            f"{features.shape[1]} numbers. Same class: {100 * same:.0f} %."
        )
        return self._draw_found(images, queries, found, heading, (query_codes, codes)), heading

    def _last_hidden_layer(self):
        # Training images to search, test images as queries, and the features of both.
        if self._features is None:
            images = share(self.dataset.need("train"), "shelf", self.among)
            queries = share(self.dataset.need("test"), "queries", QUERIES)
            values = [
                retrieval.features_of(self.run.network, s, self.run.mean, self.run.recipe) for s in (images, queries)
            ]
            self._features = images, queries, *values
        return self._features

    def _draw_found(self, images, queries, found, heading, codes=None):
        order = randomness.permutation(randomness.key(0, "pictured"), len(queries))
        labels = queries.labels[order]
        chosen = order[np.sort(np.unique(labels, return_index=True)[1])[:SHOWN_QUERIES]]  # at most one query per class
        found = found[chosen]
        pixels = images.read(found.ravel()).reshape(*found.shape, *images.images.shape[1:])
        codes = codes and (codes[0][chosen], codes[1][found])
        shown = queries.read(chosen), pixels, queries.labels[chosen], images.labels[found]
        return neighbours(*shown, self.run.words, heading, codes)


def of_recipe(recipe):
    """Draw the architecture of a recipe; its ``net.classes`` must not be 0.

    Returns
    -------
    figure : matplotlib.figure.Figure
    line : str
    """
    from tinyalex.network.summary import exchanged

    network, net = alexnet.describe(recipe.net, recipe.init, recipe.net.columns), recipe.net
    titles = [f"GPU {gpu}" for gpu in net.files.gpus] if net.kind == FILES else ["column a", "column b"]
    count = sum(parameter.size for parameter in network.parameters())
    crossing = exchanged(network, 1)
    exchange = f", {crossing:,} bytes per image are exchanged between the columns" if crossing else ""
    return architecture(network, titles), f"{count:,} parameters{exchange}"


def _flat(images):
    # Pixels as float32 vectors (n, h w c), centred.
    return images.images.reshape(len(images), -1).astype(np.float32) - 128
