"""The pictures that can be drawn from a run folder, by name, each with a line that gives its contents in numbers."""

from pathlib import Path

import numpy as np

from tinyalex import randomness
from tinyalex.datasets.loading.loader import prepare_image
from tinyalex.datasets.sample import share
from tinyalex.errors import PictureError
from tinyalex.explain.crop import crop_of
from tinyalex.explain.deconvolution import deconvolution, obstacle
from tinyalex.explain.occlusion import occlusion
from tinyalex.explain.saliency import saliency
from tinyalex.explain.strongest import convolutions, main_part, strongest_images, strongest_units, unit_gradient
from tinyalex.figures.architecture import architecture
from tinyalex.figures.colourfulness import colourfulness, specialisation
from tinyalex.figures.explanation import heat_maps, needed, overlay, projected, salient
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
from tinyalex.words import counted

NAMES = (
    *("curves", "architecture", "kernels", "panel", "neighbours", "codes"),
    *("occlusion", "saliency", "patches", "deconvolution"),
)
QUICK = ("curves", "kernels", "panel")  # drawn at the end of training
WITHOUT_CHECKPOINT = ("curves", "architecture")  # drawn from the log and the recipe
WITH_IMAGES = ("panel", "neighbours", "codes", "occlusion", "saliency", "patches", "deconvolution")  # need a data set
SHOWN_QUERIES, SHOWN_RESULTS = 5, 6  # Figure 4, right: number of queries drawn, and of images found for each
QUERIES = 1000  # test images over which retrieval is scored
PIXELS = 32  # side, at most, of the images whose pixels are coded
EXPLAINED, UNITS = 5, 5  # test images for which occlusion, saliency and patches are drawn, and patches of each
MAPS, OF_EACH, SEARCHED = 6, 4, 512  # maps whose deconvolutions are drawn, images of each, test images searched


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
        return first_kernels(self.run.network)

    def _panel(self):
        images, labels, inputs = self._test_images(8)
        figure = panel(images, labels, self.run.network.predict(inputs), self.run.words)
        return figure, "test images and their most probable classes"

    def _test_images(self, count):
        # Test images, at most one of each class; their labels; the network's inputs of them.
        test = self.dataset.need("test")
        order = randomness.permutation(randomness.key(0, "panel"), len(test))
        labels = np.asarray(test.labels)[order]
        first = np.sort(np.unique(labels, return_index=True)[1])[:count]
        images = test.read(order[first])
        inputs = np.stack([prepare_image(image, self.run.mean, self.run.recipe) for image in images])
        return images, labels[first], inputs

    def _explained(self):
        # For some test images: the crop that the net reads, the input, the most probable class, a caption.
        images, labels, inputs = self._test_images(EXPLAINED)
        size, side, words = len(self.run.mean), self.run.recipe.net.input, self.run.words
        for image, label, x, p in zip(images, labels, inputs, self.run.network.predict(inputs), strict=True):
            best = int(p.argmax())
            name, right = (words[each].split(",")[0] for each in (best, label))
            caption = f"{p[best]:.0%} {name}" + ("" if best == label else f" (is {right})")
            yield crop_of(image, size, side)[0], x, best, caption

    def _occlusion(self):
        rows, lows = [], []
        for crop, x, best, caption in self._explained():
            found = occlusion(self.run.network, x, best)
            lows.append(found.covered.min() - found.whole)
            low = f"covered: {found.covered.min():.0%} to {found.covered.max():.0%}"
            rows.append(([crop, overlay(crop, found.drop, needed(found))], [caption, low]))
        falls = f"lowers the probability by up to {-np.mean(lows):.1%}, on average of {counted(len(rows), 'image')}"
        line = f"covering {found.patch} x {found.patch} pixels, every {found.stride} pixels, {falls}"
        return heat_maps(rows, ["what the net reads", "occlusion (orange: needed)"]), line

    def _saliency(self):
        rows = []
        for crop, x, best, caption in self._explained():
            found = saliency(self.run.network, x[None], [best])[0]
            rows.append(([crop, overlay(crop, found, salient(found))], [caption, f"largest {found.max():.3g}"]))
        line = "the gradient of the most probable class's score with respect to each pixel"
        return heat_maps(rows, ["what the net reads", "saliency"]), line

    def _patches(self):
        rows, layer = [], convolutions(self.run.network)[-1]
        for crop, x, _, caption in self._explained():
            units = strongest_units(self.run.network, x, UNITS)
            cut = [main_part(unit_gradient(self.run.network, x, unit)).of(crop) for unit in units]
            captions = [f"{u.layer} {u.map}: {u.value:.3g}" for u in units]
            blank = UNITS - len(units)  # maps that are 0 everywhere
            rows.append(([crop, *cut, *[np.full_like(crop, 255)] * blank], [caption, *captions, *["none"] * blank]))
        line = f"what the strongest units of {layer} answer to: the patches with most of their gradients"
        return heat_maps(rows, ["the net reads", *(f"unit {i + 1}" for i in range(UNITS))]), line

    def _deconvolution(self):
        network, test = self.run.network, self.dataset.need("test")
        if layer := obstacle(network):
            kind = type(layer).__name__
            raise PictureError(
                f"deconvolution: {layer.name} is a {kind}; it is defined for nets of ReLU; leave it out of --only"
            )
        chosen = np.sort(randomness.permutation(randomness.key(0, "deconvolution"), len(test))[:SEARCHED])
        images = test.read(chosen)
        inputs = np.stack([prepare_image(image, self.run.mean, self.run.recipe) for image in images])
        found = strongest_images(network, inputs, OF_EACH)
        alive = [best for best in found.values() if best]
        rows, size, side = [], len(self.run.mean), self.run.recipe.net.input
        for best in [alive[number * len(alive) // MAPS] for number in range(min(MAPS, len(alive)))]:
            pictures, captions = [], []
            for index, unit in best:
                crop = crop_of(images[index], size, side)[0]
                pictures += [unit.field.of(crop), projected(unit.field.of(deconvolution(network, inputs[index], unit)))]
                captions += [
                    self.run.words[int(test.labels[chosen[index]])],
                    f"{unit.layer} {unit.map}: {unit.value:.3g}",
                ]
            blank = 2 * OF_EACH - len(pictures)  # fewer images excite the map
            rows.append((pictures + [np.full_like(images[0], 255)] * blank, captions + ["none"] * blank))
        layer = convolutions(network)[-1]
        line = f"{len(rows)} maps of {layer}: the images, of {len(images):,}, that excite each most, deconvolved"
        return heat_maps(rows, ["image", "deconvolution"] * OF_EACH), line

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
        (codes, query_codes), found = _coded(features, query_features)
        same = retrieval.precision(found, images.labels, queries.labels)
        by_pixels = retrieval.precision(_coded(_small(images), _small(queries))[1], images.labels, queries.labels)
        heading = (
            f"Nearest of {len(images):,} training images by codes of {codes.shape[1]} bits for {features.shape[1]} "
            f"numbers. Same class: {100 * same:.0f} %; codes of pixels: {100 * by_pixels:.0f} %."
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


def first_kernels(network):
    """Draw the kernels of a network's first convolution.

    Returns
    -------
    figure : matplotlib.figure.Figure
    line : str
        How colourful they are.
    """
    columns = retrieval.first_kernels(network)
    if not columns:
        raise PictureError("no convolution reads the image, so there are no kernels to draw")
    if len(columns) != 2:
        means = [f"{name} {np.nanmean(colourfulness(each)):.2f}".strip() for name, each in columns.items()]
        return kernels(columns), f"colourfulness {', '.join(means)}"
    found = specialisation(columns)
    means = ", ".join(f"column {name} {mean:.2f}" for name, mean in found.means.items())
    chance = f"below {found.by_chance:.2f} in 95 % of random splits of the same kernels"
    return kernels(columns), f"colourfulness: {means}; difference {found.difference:.2f} ({chance})"


def _small(images):
    # The pixels of images, averaged to at most 32 x 32 as in the work on auto-encoders that the paper compares with.
    pixels = images.images
    n, side, _, channels = pixels.shape
    factor = -(-side // PIXELS)
    cut = side // factor * factor
    blocks = pixels[:, :cut, :cut].reshape(n, cut // factor, factor, cut // factor, factor, channels)
    return blocks.mean(axis=(2, 4), dtype=np.float32).reshape(n, -1)


def _coded(stored, queries):
    # Codes of both by an auto-encoder of the stored rows, and the stored rows nearest to each query by these codes.
    coder = AutoEncoder(stored.shape[1])
    coder.fit(stored)
    codes, query_codes = coder.codes(stored), coder.codes(queries)
    return (codes, query_codes), hamming(query_codes, codes, SHOWN_RESULTS)


def _flat(images):
    # Pixels as float32 vectors (n, h w c), centred.
    return images.images.reshape(len(images), -1).astype(np.float32) - 128
