"""What each command does, from parsed options to lines of text; errors are raised, and printed by `tinyalex.cli`."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinyalex import recipe as recipes
from tinyalex.errors import DataError, StorageError, UsageError


def train(options):
    """Train, and draw the figures; in a folder with an unfinished run, go on with it."""
    from tinyalex import training
    from tinyalex.backend import Device

    overrides = list(options.set) + ([] if options.epochs is None else [f"learning.epochs={options.epochs}"])
    recipe = _with_data(recipes.load(options.recipe, overrides), options.data)
    for name in options.devices:
        Device(name)  # better to hear now than after the data are loaded that it is not there
    out = Path(options.out or Path("runs") / recipe.name)
    if out.exists() and not out.is_dir():
        raise StorageError(f"{out}: is a file; give --out a folder")
    dataset = _load(recipe.data.set, options.seed)
    recipe = recipes.with_classes(recipe, len(dataset.classes))
    say(recipes.to_toml(recipe))
    say(f"{_described(dataset)}; {out} gets the results; {' and '.join(options.devices)}, seed {options.seed}")
    result = training.train(recipe, dataset, out, options.devices, options.seed, show=say)
    pictures = _draw(out, dataset)
    say(_errors(result))
    say(f"look at {', '.join(str(path) for path in pictures)}")


def evaluate(options):
    """Say how often a trained network is wrong about test images."""
    from tinyalex import evaluation, runs

    run = runs.load(options.run, options.devices)
    dataset = _same_classes(run, _load(_with_data(run.recipe, options.data).data.set, run.metadata["seed"]))
    result = evaluation.evaluate(run.network, dataset, run.recipe)
    if options.json:
        say(json.dumps(result._asdict()))
    else:
        say(f"{_described(dataset)}; step {run.metadata['step']}\n{_errors(result)}")


def predict(options):
    """Name the five most probable classes of pictures; a picture that cannot be read does not stop the others."""
    from tinyalex import runs
    from tinyalex.datasets.loader import prepare_image

    run = runs.load(options.run, options.devices)
    pictures, errors = {}, {}
    for path in options.images:
        try:
            pictures[path] = _picture(path)
        except DataError as error:
            errors[path] = error
    inputs = [prepare_image(picture, run.mean, run.recipe) for picture in pictures.values()]
    shape = (-1, *run.network.input_shape)
    found = dict(zip(pictures, run.network.predict(np.array(inputs, np.float32).reshape(shape)), strict=True))
    answers = {
        path: [(run.classes[i], float(p[i])) for i in np.argsort(-p, kind="stable")[:5]] for path, p in found.items()
    }
    if options.json:
        items = [{"image": path, "error": str(error)} for path, error in errors.items()]
        for path, best in answers.items():
            items.append({"image": path, "top5": [{"class": name, "probability": p} for name, p in best]})
        items.sort(key=lambda item: options.images.index(item["image"]))
        say(json.dumps(items, indent=2, ensure_ascii=False))
    else:
        for path, best in answers.items():
            say("\n".join([path, *(f"  {p:6.1%}  {_bar(p)}  {name}" for name, p in best)]))
    if options.picture and pictures:
        from tinyalex import figures

        figures.save(
            figures.panel(list(pictures.values()), None, np.array(list(found.values())), run.classes), options.picture
        )
    if errors:
        raise ExceptionGroup("pictures", list(errors.values()))


def summary(options):
    """Show a recipe's net layer by layer and column by column; nothing is built."""
    from tinyalex import alexnet
    from tinyalex import summary as tables
    from tinyalex.datasets import shapes

    recipe = recipes.load(options.recipe, options.set)
    if recipe.net.classes == 0 and recipe.data.set == "shapes":
        recipe = recipes.with_classes(recipe, len(shapes.CLASSES))
    if recipe.net.classes == 0:
        raise UsageError("net.classes: 0 means as many as the data has; add --set net.classes=N to see N")
    say(tables.text(recipe, alexnet.describe(recipe.net, recipe.init, recipe.net.columns)))


def gradcheck(options):
    """Check gradients and show the table; 1 if one is wrong."""
    from tinyalex import gradcheck as checker

    results = checker.suite(options.what, options.method)
    say(checker.table(results))
    return int(any(result.failed for result in results))


def figures(options):
    """Draw a run's curves, first-layer kernels and top-five panel into its folder."""
    from tinyalex import runs

    run = runs.load(options.run)
    where = options.data or run.recipe.data.set
    dataset = _same_classes(run, _load(where, run.metadata["seed"])) if where else None
    for path in _draw(Path(options.run), dataset):
        say(path)
    if dataset is None:
        say("no data set is named in the run's recipe: add --data for the top-five panel")


def say(text):
    """Print, and let whoever reads a pipe or a log see it at once."""
    print(text, flush=True)


def _with_data(recipe, where):
    # The recipe that names the data set used, so that the run's folder and its checkpoints do.
    named = {"shapes", "cifar10"}
    where = where if where is None or where in named else str(Path(where).resolve())
    if not (where or recipe.data.set):
        raise UsageError(f"recipe {recipe.name}: names no data set; add --data with a folder or a tar of images")
    return recipe if where is None else replace(recipe, data=replace(recipe.data, set=where))


def _load(where, seed):
    from tinyalex import datasets

    return datasets.load(where, seed)


def _same_classes(run, dataset):
    if list(dataset.classes) != list(run.classes):
        raise DataError(f"{dataset.name}: not the {len(run.classes)} classes of the run; give the data of its training")
    return dataset


def _described(dataset):
    return (
        f"{dataset.name}: {len(dataset.train):,} training and {len(dataset.test):,} test images of "
        f"{dataset.train.size} x {dataset.train.size}, {len(dataset.classes)} classes"
    )


def _errors(score):
    return f"test error {score.top1_error:.2%}, top-5 error {score.top5_error:.2%}, loss {score.loss:.4f}"


def _draw(out, dataset):
    """Draw what a run folder allows; return the paths."""
    from tinyalex import figures, randomness, runs
    from tinyalex.datasets.loader import prepare_image

    run = runs.load(out)
    kernels = {
        name.split("/")[0][len("conv1") :]: np.asarray(value)
        for name, value in run.network.state().items()
        if name.startswith("conv1") and name.endswith("/W")
    }
    drawn = {"curves": figures.curves(runs.read_log(out)), "kernels": figures.kernels(kernels)}
    if dataset is not None:
        order = randomness.permutation(randomness.key(0, "panel"), len(dataset.test))
        labels = np.asarray(dataset.test.labels)[order]
        first = np.sort(np.unique(labels, return_index=True)[1])[:8]  # no class twice
        images = dataset.test.read(order[first])
        inputs = np.stack([prepare_image(image, run.mean, run.recipe) for image in images])
        drawn["panel"] = figures.panel(images, labels[first], run.network.predict(inputs), run.classes)
    for name, figure in drawn.items():
        figures.save(figure, out / f"{name}.png")
    return [out / f"{name}.png" for name in drawn]


def _picture(path):
    """Read a picture of any size and kind as RGB, uint8 (h, w, 3)."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            width, height = image.size
            if width * height <= Image.MAX_IMAGE_PIXELS:
                return np.asarray(image.convert("RGB"))
    except OSError as error:
        reason = error.strerror or "not a picture, or a damaged one"
        raise DataError(f"{path}: {reason}; give a JPEG or PNG file") from error
    except Exception as error:  # decoders of hostile bytes raise anything
        raise DataError(f"{path}: a damaged picture ({type(error).__name__}); give another") from error
    raise DataError(f"{path}: {width} x {height} pixels are too many; make it smaller")


def _bar(probability, width=24):
    block = "█" if (sys.stdout.encoding or "").lower().startswith("utf") else "#"
    return (block * round(probability * width)).ljust(width)
