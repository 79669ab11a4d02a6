"""The parts of a report that need the weights: errors by class, mistakes, and what the net looks at."""

import shlex
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyalex import randomness
from tinyalex.datasets.loading.loader import prepare_image
from tinyalex.datasets.sample import chosen_indices, share
from tinyalex.explain.crop import crop_of
from tinyalex.explain.occlusion import occlusion
from tinyalex.explain.saliency import saliency
from tinyalex.explain.strongest import convolutions, main_part, strongest_units, unit_gradient
from tinyalex.figures.explanation import needed, overlay, salient
from tinyalex.gallery import retrieval
from tinyalex.gallery.gallery import first_kernels
from tinyalex.report.elements import bar, element, picture, png, table
from tinyalex.report.progress import percent, section, unfold
from tinyalex.training import confusion, evaluation
from tinyalex.words import counted

TABLE, MATRIX = 16, 2000  # classes up to which the confusion matrix is a table, and up to which it is a picture
WORST, BEST, ALL = 20, 5, 1000  # rows in the table of classes
MISTAKES, CLASSES, OF_EACH = 12, 10, 6  # mistakes shown; classes in the panel, and images of each
EXPLAINED, UNITS = 4, 4  # images whose occlusion and saliency are shown, and patches of each
QUERIES, FOUND = 5, 6  # images whose nearest ones are shown, and how many of these


@dataclass(frozen=True)
class Tested:
    """Test images with what a net makes of them.

    Attributes
    ----------
    run : tinyalex.runs.run_folder.Run
    images : ImageSet
        The test images, or as many as were asked for, equally many of each class.
    whole : int
        Test images in all.
    probabilities : ndarray, shape (n, classes)
    names : list of str
        Of the images' files, or numbers: see `tinyalex.datasets.Dataset.test_names`.
    """

    run: Any
    images: Any
    whole: int
    probabilities: np.ndarray
    names: list[str]

    @classmethod
    def compute(cls, run, dataset, most):
        """Predict at most ``most`` of a data set's test images."""
        images, names = dataset.need("test"), dataset.test_names()
        whole = len(images)
        if whole > most:
            names = [names[k] for k in chosen_indices(np.asarray(images.labels), "report", most)]
            images = share(images, "report", most)
        return cls(run, images, whole, evaluation.probabilities(run.network, images, run.mean, run.recipe), names)

    @property
    def labels(self):
        return np.asarray(self.images.labels).astype(np.int64)

    @property
    def predicted(self):
        return confusion.predictions(self.probabilities)

    def word(self, label):
        """Return the name of a class, as short as it may be: ImageNet lists synonyms after commas."""
        return self.run.words[label].split(",")[0].strip() or self.run.words[label]

    def crop(self, index):
        """Return what the net reads of a test image, uint8 (s, s, 3)."""
        (image,) = self.images.read(np.array([index]))
        return crop_of(image, len(self.run.mean), self.run.recipe.net.input)[0]

    def input(self, index):
        """Return the network's input of a test image."""
        (image,) = self.images.read(np.array([index]))
        return prepare_image(image, self.run.mean, self.run.recipe)


def line(tested, which):
    """Return a line about what was computed for the report; ``which`` says with which checkpoint."""
    score = evaluation.score(tested.probabilities, tested.labels)
    part = f"{score.count:,} of the {tested.whole:,}" if score.count < tested.whole else f"{score.count:,}"
    return f"Computed for this page, with {which}: test error {percent(score.top1_error)} on {part} test images."


def by_class(tested):
    """Return the section with the confusion matrix and each class's errors."""
    count = len(tested.run.words)
    parts = [element("div", _matrix(tested))] if count <= MATRIX else []
    pairs = confusion.confused(tested.probabilities, tested.labels)
    if pairs and count > 2:
        rows = [
            [tested.word(p.first), tested.word(p.second), str(p.times), str(p.first_as_second), str(p.second_as_first)]
            for p in pairs
        ]
        headings = ["first", "second", "confused", "first as second", "second as first"]
        parts.append(element("div", element("h3", "Most often confused"), table(headings, rows, class_="numbers")))
    return section("classes", "Errors by class", element("div", [*parts, *_classes(tested)], class_="side"))


def _matrix(tested):
    counts = confusion.matrix(tested.probabilities, tested.labels)
    totals = np.maximum(1, counts.sum(axis=1, keepdims=True))
    rates, count = counts / totals, len(counts)
    if count <= TABLE:
        names = [tested.word(i) for i in range(count)]
        heads = (element("th", element("span", name), scope="col", title=name) for name in names)
        body = [
            element(
                "tr",
                element("th", names[i], scope="row"),
                (_cell(int(counts[i, j]), rates[i, j], i == j) for j in range(count)),
            )
            for i in range(count)
        ]
        grid = element("table", element("thead", element("tr", element("th"), heads)), element("tbody", body))
        grid.set("class", "matrix")
        shown = element("div", grid, class_="scroll")
        note = "Rows: what an image is. Columns: what the net takes it for."
    else:
        strength = np.sqrt(rates)
        colors = np.where(np.eye(count, dtype=bool)[..., None], (0, 114, 178), (213, 94, 0))
        pixels = np.concatenate([colors, np.rint(255 * strength)[..., None]], axis=2).astype(np.uint8)
        times = max(1, 600 // count)
        pixels = pixels.repeat(times, axis=0).repeat(times, axis=1)
        shown = picture(pixels, f"confusion matrix of {count} classes", class_="matrix")
        note = (
            f"Rows: what an image is, from {tested.word(0)} at the top to {tested.word(count - 1)} at the bottom. "
            "Columns: what the net takes it for. Blue: right. Orange: wrong. The stronger, the larger its share."
        )
    return [element("h3", "Confusion matrix"), element("p", note), shown]


def _cell(count, rate, right):
    color = "--blue-rgb" if right else "--red-rgb"
    style = f"background:rgba(var({color}),{0.75 * rate**0.5:.2f})" if count else None
    return element("td", str(count) if count else "", style=style, title=f"{rate:.1%} of the row")


def _classes(tested):
    rows = [row for row in confusion.by_class(tested.probabilities, tested.labels) if row.count]
    rows.sort(key=lambda row: (-row.top1_error, -row.top5_error, row.label))
    with_top5 = len(tested.run.words) > 5
    headings = ["class", "images", "error", *(["top-5 error"] if with_top5 else []), "most often taken for"]
    words = [tested.word(label) for label in range(len(tested.run.words))]

    def cells(row):
        top5 = [percent(row.top5_error)] if with_top5 else []
        return [
            tested.word(row.label),
            f"{row.count:,}",
            bar(row.top1_error, percent(row.top1_error), "red"),
            *top5,
            row.mistaken_for(words),
        ]

    def part(title, chosen):
        return element("div", element("h3", title), table(headings, map(cells, chosen), class_="numbers named"))

    if len(rows) <= WORST + BEST:
        return [part("Each class", rows)]
    between = rows[WORST:-BEST][:ALL]
    rest = unfold(counted(len(between), "other class"), table(headings, map(cells, between), class_="numbers named"))
    worst = part(f"The {WORST} classes with the most errors", rows[:WORST])
    return [worst, element("div", part(f"The {BEST} with the fewest", rows[-BEST:][::-1]), rest)]


def mistakes(tested, options):
    """Return the section with the wrong predictions in which the net was surest.

    Parameters
    ----------
    tested : Tested
    options : list of str
        Those of the command that explains one of them: ``--run`` and the run, and others that it needs.
    """
    wrong = np.flatnonzero((tested.predicted != tested.labels) & (tested.predicted >= 0))
    if not len(wrong):
        return section(
            "mistakes", "Worst mistakes", element("p", "There is no wrong prediction among these test images.")
        )
    sure = tested.probabilities[wrong, tested.predicted[wrong]] - tested.probabilities[wrong, tested.labels[wrong]]
    worst = wrong[np.argsort(-sure, kind="stable")][:MISTAKES]
    cards = element("div", (_card(tested, index) for index in worst), class_="cards")
    which = (
        f"Of {counted(len(wrong), 'mistake')}, those in which the net was surest: sorted by how much more probable the "
        "wrong class is than the right one."
    )
    text = f"{which} The name below an image, and the pink bar, are the right class; below that is the image's file."
    command = shlex.join(["tinyalex", "explain", tested.names[worst[0]], *options])
    explain = [
        element("p", "What the net looks at in one of them, here the first; put the name of another one in its place:"),
        element("pre", element("code", command)),
    ]
    return section("mistakes", "Worst mistakes", element("p", text), cards, explain)


def _card(tested, index):
    label, p = int(tested.labels[index]), tested.probabilities[index]
    best = np.argsort(-p, kind="stable")[:5]
    bars = [
        element("li", bar(float(p[i]), f"{p[i]:.0%} {tested.word(i)}", "pink" if i == label else "blue")) for i in best
    ]
    if label not in best:
        bars.append(element("li", bar(float(p[label]), f"{p[label]:.1%} {tested.word(label)}", "pink")))
    name = element("figcaption", tested.word(label), title=tested.run.words[label])
    file = element("p", tested.names[index], class_="file")
    return element("figure", picture(tested.crop(index), tested.word(label)), name, element("ul", bars), file)


def panel(tested):
    """Return the section with several test images of some classes, and what the net takes them for."""
    order = randomness.permutation(randomness.key(0, "report panel"), len(tested.labels))
    labels = tested.labels[order]
    present = np.unique(labels)
    if len(present) > CLASSES:
        present = np.sort(present[randomness.permutation(randomness.key(0, "report classes"), len(present))[:CLASSES]])
    rows = []
    for label in present:
        members = order[labels == label][:OF_EACH]
        figures = []
        for index in members:
            found, name = int(tested.predicted[index]), tested.word(label)
            p, kind = f"{tested.probabilities[index, found]:.0%}", "right" if found == label else "wrong"
            caption = p if found == label else f"{p} {tested.word(found)}" if found >= 0 else "not a number"
            image = picture(tested.crop(index), name)
            figures.append(element("figure", image, element("figcaption", caption), class_=kind))
        rows.append(element("div", element("h3", tested.word(label)), element("div", figures, class_="row")))
    chosen = f", {len(present)} classes of {len(tested.run.words):,}" if len(present) < len(tested.run.words) else ""
    text = f"Test images chosen at random{chosen}, with the most probable class; wrong ones have a frame."
    return section("images", "Test images", element("p", text), element("div", rows, class_="classes"))


def looks(tested):
    """Return the section with occlusion, saliency and patches for some right predictions and for the worst mistakes."""
    right = np.flatnonzero(tested.predicted == tested.labels)
    wrong = np.flatnonzero((tested.predicted != tested.labels) & (tested.predicted >= 0))
    right = right[randomness.permutation(randomness.key(0, "report looks"), len(right))]
    wrong = wrong[np.argsort(-tested.probabilities[wrong].max(axis=1), kind="stable")]
    wrong = _one_a_class(tested, wrong, EXPLAINED // 2)
    chosen = [*_one_a_class(tested, right, EXPLAINED - len(wrong)), *wrong]
    network, rows, found = tested.run.network, [], None
    for index in chosen:
        crop, x, best = tested.crop(index), tested.input(index), int(tested.predicted[index])
        found, gradient = occlusion(network, x, best), saliency(network, x[None], [best])[0]
        name, label = tested.word(best), int(tested.labels[index])
        what = f"{tested.probabilities[index, best]:.0%} {name}" + (
            "" if best == label else f", but is {tested.word(label)}"
        )
        shown = [
            (crop, what),
            (
                overlay(crop, found.drop, needed(found)),
                f"occlusion: {name} falls to {found.covered.min():.0%}"
                + ("" if found.matters else ", so no position matters"),
            ),
            (overlay(crop, gradient, salient(gradient)), f"saliency of {name}"),
        ]
        for unit in strongest_units(network, x, UNITS):
            patch = main_part(unit_gradient(network, x, unit)).of(crop)
            shown.append((patch, f"{unit.layer}, map {unit.map}: {unit.value:.3g}"))
        figures = (element("figure", picture(pixels, text), element("figcaption", text)) for pixels, text in shown)
        rows.append(element("div", figures, class_="row looks"))
    if not rows:
        return None
    text = (
        f"Occlusion covers {found.patch} x {found.patch} pixels, at positions {found.stride} pixels apart, with the "
        "mean of the training images: orange where that lowers the probability, blue where it raises it. Saliency is "
        "the gradient of the class's score. The patches are what the strongest units of "
        f"{convolutions(network)[-1]} answer to: where most of their gradient is."
    )
    return section("looks", "What the net looks at", element("p", text), rows)


def _one_a_class(tested, indices, count):
    _, first = np.unique(tested.labels[indices], return_index=True)
    return indices[np.sort(first)][:count]


def kernels(run):
    """Return the section with the first layer's kernels."""
    figure, text = first_kernels(run.network)
    return section(
        "kernels", "The first layer's kernels", element("p", f"{text[0].upper()}{text[1:]}."), png(figure, "kernels")
    )


def neighbours(tested, dataset, among):
    """Return the section with the training images nearest to some test images in the last hidden layer."""
    stored = share(dataset.need("train"), "shelf", among)
    order = randomness.permutation(randomness.key(0, "report queries"), len(tested.labels))
    queries = order[np.sort(np.unique(tested.labels[order], return_index=True)[1])[:QUERIES]]
    run = tested.run
    features = retrieval.features_of(run.network, stored, run.mean, run.recipe)
    inputs = np.stack([tested.input(index) for index in queries])
    found = retrieval.nearest(retrieval.features(run.network, inputs, run.recipe.learning.batch), features, FOUND)
    rows = []
    for index, nearest in zip(queries, found, strict=True):
        label = tested.labels[index]
        figures = [
            element(
                "figure",
                picture(tested.crop(index), "query"),
                element("figcaption", tested.word(label)),
                class_="query",
            )
        ]
        for image, other in zip(stored.read(nearest), np.asarray(stored.labels)[nearest], strict=True):
            kind = "right" if other == label else "wrong"
            figures.append(
                element("figure", picture(image, kind), element("figcaption", tested.word(other)), class_=kind)
            )
        rows.append(element("div", figures, class_="row nearest"))
    same = retrieval.precision(found, stored.labels, tested.labels[queries])
    text = (
        f"A test image, and the nearest of {len(stored):,} training images in the last hidden layer "
        f"({features.shape[1]:,} numbers). {same:.0%} of those shown have its class; the others have a frame."
    )
    return section("neighbours", "Nearest training images", element("p", text), rows)
