"""Show what a net looks at in an image: occlusion, saliency, what its strongest units see, and deconvolutions."""

import os
from pathlib import Path

import numpy as np

from tinyalex.commands.common import (
    find_test_image,
    is_run,
    load_dataset_of_run,
    load_run,
    moved_data,
    print_line,
    print_to_stderr,
)
from tinyalex.commands.options import DATA, RUN, checkpoint, kernels_note, machine, no_kernels, test_share, user_path
from tinyalex.errors import DataError, UsageError
from tinyalex.words import did_you_mean

_UNITS = 6


def options(command):
    """Add the command's options to its parser."""
    command.add_argument(
        "image",
        type=user_path,
        metavar="IMAGE",
        help="an image file of any size, or the name of a test image as report.html shows it",
    )
    command.add_argument("--run", type=user_path, required=True, metavar="RUN", help=RUN)
    command.add_argument(
        "--class",
        dest="label",
        metavar="CLASS",
        help="the class that occlusion and saliency are about (default: the most probable one)",
    )
    command.add_argument(
        "--patch", type=int, metavar="P", help="occlusion: cover P x P pixels (default: a fifth of the side)"
    )
    command.add_argument(
        "--stride", type=int, metavar="S", help="occlusion: move by S pixels (default: 15 x 15 positions or more)"
    )
    command.add_argument(
        "--layer", metavar="NAME", help="the convolution whose strongest units are shown (default: the last)"
    )
    command.add_argument(
        "--out", type=user_path, metavar="FILE", help="PNG file for the picture (default: IMAGE-explained.png, here)"
    )
    command.add_argument(
        "--data", type=user_path, metavar="DIR", help=f"for the name of a test image: {DATA} (default: the run's)"
    )
    test_share(command, "the run's")
    checkpoint(command, best=True)
    machine(command)
    no_kernels(command)


def run(options):
    """Explain one image: print the numbers and draw the picture."""
    from tinyalex import figures
    from tinyalex.datasets import names
    from tinyalex.datasets.loading.loader import prepare_image
    from tinyalex.explain.crop import crop_of
    from tinyalex.explain.deconvolution import deconvolution, obstacle
    from tinyalex.explain.occlusion import occlusion
    from tinyalex.explain.saliency import saliency
    from tinyalex.explain.strongest import convolutions, main_part, strongest_units, unit_gradient
    from tinyalex.runs.classifier import read_image

    if is_run(options.image):
        raise UsageError(f"{options.image}: a run; write --run {options.image}, and the image without an option")
    out = Path(options.out or f"{Path(options.image).stem}-explained.png")
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out}: a PNG file is written; give a name that ends in .png")
    figures.check_files([out], marked=False)
    picture = read_image(options.image) if os.path.exists(options.image) else None
    run = load_run(options.run, options.devices, options.kernels, options.best)
    picture = _test_image(options, run) if picture is None else picture
    network, size = run.network, len(run.mean)
    x = prepare_image(picture, run.mean, run.recipe)
    crop, frame = crop_of(picture, size, run.recipe.net.input)
    probabilities = network.predict(x[None])[0]
    label = int(probabilities.argmax()) if options.label is None else _label(options.label, run)
    layer = options.layer or convolutions(network)[-1]
    units = strongest_units(network, x, _UNITS, layer)
    covered = occlusion(network, x, label, options.patch, options.stride)
    gradient = saliency(network, x[None], [label])[0]

    h, w, _ = picture.shape
    reads = f"the net reads {_rectangle(frame)}, as {len(x)} x {len(x)} pixels"
    print_line(f"{names.shown(options.image)}: {w} x {h} pixels; {reads}")
    if not options.kernels:
        print_line(f"computed on {' and '.join(options.devices)}{kernels_note(options)}")
    for i in np.argsort(-probabilities, kind="stable")[:5]:
        print_line(f"  {probabilities[i]:6.1%}  {run.words[i]}")
    print_line(_of_occlusion(covered, run.words[label]))
    print_line(f"saliency: half of it is in {_half(gradient):.0%} of the pixels")
    patches, projections, between = [], [], obstacle(network)
    if between:
        print_line(f"no deconvolution: {between.name} is a {type(between).__name__}, and it is defined for ReLU alone")
    for unit in units:
        part = main_part(unit_gradient(network, x, unit))
        print_line(
            f"{unit.layer}: map {unit.map} at ({unit.row}, {unit.column}) is {unit.value:.3g}; it sees "
            f"{_rectangle(unit.field)} of the net's input, most of its gradient is in {_rectangle(part)}"
        )
        patches.append((part.of(crop), f"{unit.layer} {unit.map}: {unit.value:.3g}"))
        if not between:
            projections.append(figures.projected(part.of(deconvolution(network, x, unit))))
    words = run.words
    figure = figures.explanation(
        picture, frame, crop, probabilities, words, label, covered, gradient, patches, layer, projections
    )
    figures.save(figure, out, marked=False)
    print_line(f"picture: {out}")


def _test_image(options, run):
    # The test image of the run's data that has the given name, as it is stored in the set.
    moved = moved_data(run) if options.data is None else ""
    if moved or not (options.data or run.recipe.data.set):
        remedy = f"; if it is a test image, add --data ({moved})" if moved else "; give the path of an image"
        raise DataError(f"{options.image}: No such file{remedy}")
    return find_test_image(options.image, load_dataset_of_run(run, options, print_to_stderr))


def _of_occlusion(found, name):
    from tinyalex.explain.receptive_field import Field

    row, column = np.unravel_index(found.covered.argmin(), found.covered.shape)
    top, left = found.tops[row], found.lefts[column]
    lowest = _rectangle(Field(top, left, top + found.patch, left + found.patch))
    line = (
        f"occlusion: {name} {found.whole:.1%}; with {found.patch} x {found.patch} pixels covered, at "
        f"{found.covered.size} positions {found.stride} pixels apart, {found.covered.min():.1%} to "
        f"{found.covered.max():.1%}, lowest at {lowest}"
    )
    if found.matters:
        return line
    larger = min(2 * found.patch, *found.drop.shape)
    remedy = f": cover more at a time, with --patch {larger}" if larger > found.patch else ""
    return f"{line}; no position changes that by a twentieth{remedy}"


def _rectangle(field):
    return f"rows {field.top} to {field.bottom - 1}, columns {field.left} to {field.right - 1}"


def _half(saliency):
    # The fraction of the pixels, those with the most of it, in which half of the sum is.
    values = np.sort(saliency.ravel().astype(np.float64))[::-1]
    total = values.sum()
    return float((np.searchsorted(values.cumsum(), total / 2) + 1) / len(values)) if total > 0 else 1.0


def _label(name, run):
    for known in (run.classes, run.words, [word.split(",")[0] for word in run.words]):
        if name in known:
            return known.index(name)
    raise UsageError(f"--class {name}: the run has no such class{did_you_mean(name, run.words)}")
