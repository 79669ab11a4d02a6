"""Show the five most probable classes of images."""

import json
import sys

import numpy as np

from tinyalex.commands.common import load_run, print_line
from tinyalex.commands.options import RUN, kernels_note, machine, no_kernels
from tinyalex.errors import DataError, TinyalexError

_LARGEST = 64 << 20  # bytes of a file


def options(command):
    """Add the command's options to its parser."""
    command.add_argument("images", nargs="+", metavar="IMAGE", help="an image file of any size")
    command.add_argument("--run", required=True, metavar="RUN", help=RUN)
    command.add_argument("--json", action="store_true", help="print a JSON list with one object per image")
    command.add_argument(
        "--picture", metavar="FILE", help="draw the images with their five classes into a new PNG file"
    )
    machine(command)
    no_kernels(command)


def run(options):
    """Classify images; one that cannot be read is reported after the others."""
    from tinyalex.datasets.loading.loader import prepare_image

    run = load_run(options.run, options.devices, options.kernels)
    images, errors = {}, {}
    for path in options.images:
        try:
            images[path] = _read(path)
        except DataError as error:
            errors[path] = error
    inputs = [prepare_image(image, run.mean, run.recipe) for image in images.values()]
    shape = (-1, *run.network.input_shape)
    found = dict(zip(images, run.network.predict(np.array(inputs, np.float32).reshape(shape)), strict=True))
    answers = {path: [(i, float(p[i])) for i in np.argsort(-p, kind="stable")[:5]] for path, p in found.items()}
    if options.json:
        items = [{"image": path, "error": str(error)} for path, error in errors.items()]
        for path, best in answers.items():
            top5 = [{"class": run.classes[i], "words": run.words[i], "probability": p} for i, p in best]
            items.append({"image": path, "top5": top5})
        items.sort(key=lambda item: options.images.index(item["image"]))
        print_line(json.dumps(items, indent=2, ensure_ascii=False))
    else:
        if not options.kernels:
            print_line(f"computed on {' and '.join(options.devices)}{kernels_note(options)}")
        for path, best in answers.items():
            print_line("\n".join([path, *(f"  {p:6.1%}  {_bar(p)}  {run.words[i]}" for i, p in best)]))
    if options.picture and images:
        from tinyalex import figures

        try:
            figure = figures.panel(list(images.values()), None, np.array(list(found.values())), run.words)
            figures.save(figure, options.picture, new=True)
        except TinyalexError as error:
            errors[options.picture] = error
    if errors:
        raise ExceptionGroup("images", list(errors.values()))


def _read(path):
    """Read an image file of any size and format as RGB, uint8 (h, w, 3), as `tinyalex prepare` does."""
    from tinyalex.datasets import picture

    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise DataError(f"larger than {_LARGEST >> 20} MiB")
        return np.asarray(picture.decode(content)[0].convert("RGB"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a JPEG or PNG file") from error
    except DataError as error:
        raise DataError(f"{path}: {error}; give another file") from error


def _bar(probability, width=24):
    block = "█" if (sys.stdout.encoding or "").lower().startswith("utf") else "#"
    return (block * round(probability * width)).ljust(width)
