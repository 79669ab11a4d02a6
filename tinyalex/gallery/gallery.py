"""All pictures that one run can give, by name, each with a line that says in numbers what it shows."""

from pathlib import Path

import numpy as np

from tinyalex import randomness
from tinyalex.datasets.loading.loader import prepare_image
from tinyalex.datasets.sample import share
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
from tinyalex.runs import run_folder

QUICK = ("curves", "kernels", "panel")  # what training draws when it is done
NAMES = ("curves", "architecture", "kernels", "panel", "neighbours", "codes")
OF_FILES = ("curves", "architecture")  # from the log and the recipe; the others need a checkpoint
OF_IMAGES = ("panel", "neighbours", "codes")
PICTURED, BESIDE = 5, 6  # Figure 4, right: so many queries, and so many images beside each
QUERIES = 1000  # over how many test images retrieval is judged


class Gallery:
    """AugmentParams what a run folder allows.

    Parameters
    ----------
    folder : str or Path
        Of a run.
    dataset : Dataset, optional
        That of its training; without it there are no images to show.
    among : int
        How many training images, at most, neighbours are looked for in.
    devices : sequence of str
    """

    def __init__(self, folder, dataset=None, among=10_000, devices=("cpu",)):
        self.folder, self.dataset, self.among, self.devices = Path(folder), dataset, among, devices
        self._run = self._shelf = None

    @property
    def run(self):
        """The `runs.Run`, read when it is needed first."""
        self._run = self._run or run_folder.load(self.folder, self.devices)
        return self._run

    def draw(self, name):
        """Draw one of `NAMES`.

        Returns
        -------
        figure : matplotlib.figure.Figure
        line : str
        """
        return getattr(self, f"_{name}")()

    def _curves(self):
        return curves(run_folder.read_log(self.folder)), "loss and error rates over epochs"

    def _architecture(self):
        return of_recipe(recipes.load(self.folder / run_folder.RECIPE))

    def _kernels(self):
        columns = {
            name.split("/")[0][len("conv1") :]: device.get(value)
            for name, device, value in self.run.network.tensors()
            if name.startswith("conv1") and name.endswith("/W")
        }
        if len(columns) == 1:
            return kernels(columns), f"colourfulness {np.nanmean(colourfulness(*columns.values())):.2f}"
        found = specialisation(columns)
        means = ", ".join(f"column {name} {mean:.2f}" for name, mean in found.means.items())
        chance = f"95 % of random deals stay below {found.by_chance:.2f}"
        return kernels(columns), f"colourfulness: {means}; specialisation {found.apart:.2f} ({chance})"

    def _panel(self):
        test = self.dataset.need("test")
        order = randomness.permutation(randomness.key(0, "panel"), len(test))
        labels = np.asarray(test.labels)[order]
        first = np.sort(np.unique(labels, return_index=True)[1])[:8]  # no class twice
        images = test.read(order[first])
        inputs = np.stack([prepare_image(image, self.run.mean, self.run.recipe) for image in images])
        figure = panel(images, labels[first], self.run.network.predict(inputs), self.run.words)
        return figure, "test images and their most probable classes"

    def _neighbours(self):
        shelf, queries, on_shelf, asked = self._stored()
        found = retrieval.nearest(asked, on_shelf, BESIDE)
        pixels = retrieval.nearest(_flat(queries), _flat(shelf), BESIDE)
        good, plain = (retrieval.precision(f, shelf.labels, queries.labels) for f in (found, pixels))
        heading = (
            f"Nearest of {len(shelf):,} training images in the last hidden layer ({asked.shape[1]} numbers). "
            f"Of the query's class: {100 * good:.0f} %, by pixels {100 * plain:.0f} %."
        )
        return self._pictured(shelf, queries, found, heading), heading

    def _codes(self):
        shelf, queries, on_shelf, asked = self._stored()
        coder = AutoEncoder(on_shelf.shape[1])
        coder.fit(on_shelf)
        codes, query_codes = coder.codes(on_shelf), coder.codes(asked)
        found = hamming(query_codes, codes, BESIDE)
        good = retrieval.precision(found, shelf.labels, queries.labels)
        heading = (
            f"Nearest of {len(shelf):,} training images by codes of {codes.shape[1]} bits instead of "
            f"{asked.shape[1]} numbers. Of the query's class: {100 * good:.0f} %."
        )
        return self._pictured(shelf, queries, found, heading, (query_codes, codes)), heading

    def _stored(self):
        # Training images to find, test images to ask for, and both's features.
        if self._shelf is None:
            shelf = share(self.dataset.need("train"), "shelf", self.among)
            queries = share(self.dataset.need("test"), "queries", QUERIES)
            values = [
                retrieval.features_of(self.run.network, s, self.run.mean, self.run.recipe) for s in (shelf, queries)
            ]
            self._shelf = shelf, queries, *values
        return self._shelf

    def _pictured(self, shelf, queries, found, heading, codes=None):
        order = randomness.permutation(randomness.key(0, "pictured"), len(queries))
        labels = queries.labels[order]
        chosen = order[np.sort(np.unique(labels, return_index=True)[1])[:PICTURED]]  # no class twice
        beside = found[chosen]
        images = shelf.read(beside.ravel()).reshape(*beside.shape, *shelf.images.shape[1:])
        codes = codes and (codes[0][chosen], codes[1][beside])
        shown = queries.read(chosen), images, queries.labels[chosen], shelf.labels[beside]
        return neighbours(*shown, self.run.words, heading, codes)


def of_recipe(recipe):
    """Draw the architecture of a recipe whose classes are known.

    Returns
    -------
    figure : matplotlib.figure.Figure
    line : str
    """
    from tinyalex.network.summary import exchanged

    network = alexnet.describe(recipe.net, recipe.init, recipe.net.columns)
    count = sum(parameter.size for parameter in network.parameters())
    crossing = exchanged(network, 1)
    talk = f", {crossing:,} bytes cross between the columns an image" if crossing else ""
    return architecture(network), f"{count:,} parameters{talk}"


def _flat(images):
    return images.images.reshape(len(images), -1).astype(np.float32) - 128
