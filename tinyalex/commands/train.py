"""Train a network, or resume a run that was stopped."""

import contextlib
import functools
import shlex
from pathlib import Path

from tinyalex.commands import own_images, suggestion
from tinyalex.commands.common import (
    check_writable,
    describe_dataset,
    is_run,
    load_dataset,
    load_run,
    print_if_possible,
    print_warning,
    score_line,
    set_loader_threads,
    warn_of_slow_blas,
    with_data,
)
from tinyalex.commands.cuda_convnet import load_recipe
from tinyalex.commands.options import (
    DATA,
    RUN,
    kernels_note,
    loader_threads,
    machine,
    no_kernels,
    ranks,
    rate_file,
    recipe,
    test_share,
    user_path,
)
from tinyalex.errors import DataError, Interrupted, StorageError, UsageError
from tinyalex.recipes import recipe as recipes
from tinyalex.recipes.settings import FILES
from tinyalex.runs.resume import SAVE_EVERY, ResumeOptions
from tinyalex.words import counted


def options(command):
    """Add the command's options to its parser."""
    recipe(command, None, "shapes; with --data, the one that tinyalex advise names")
    rate_file(command)
    command.add_argument(
        "--data",
        type=user_path,
        metavar="DIR",
        help=f"{DATA}; images of other sizes and layouts are prepared first, next to --out (default: the recipe's)",
    )
    test_share(command, "the recipe's data.test_share, or a tenth to a fifth if the images have to be prepared")
    command.add_argument(
        "--no-prepare", action="store_true", help="stop if the images have to be prepared, and print the command for it"
    )
    command.add_argument(
        "--out",
        type=user_path,
        metavar="RUN",
        help="folder for the log, the checkpoints, the pictures and the report; a run that was stopped there is "
        "resumed (default: runs/RECIPE, or runs/DATA without a recipe)",
    )
    command.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="passes over the training images; the epochs at which the recipe changes the learning rate are scaled in "
        "proportion (default: the recipe's)",
    )
    command.add_argument(
        "--init-from",
        type=user_path,
        metavar="RUN",
        help=f"start with the weights of another run ({RUN}); layers whose shapes differ, for example because the "
        "classes do, start from random weights",
    )
    command.add_argument(
        "--footnote-3",
        action="store_true",
        help="train in the three stages of the paper's footnote 3: on four fifths of the images until the error on the "
        "last fifth stops improving; on all until the loss on the last fifth is as low as on the others; at lower "
        "learning rates; --out gets one run folder per stage",
    )
    command.add_argument("--seed", type=int, default=0, metavar="S", help="random seed (default: 0)")
    command.add_argument("--fresh", action="store_true", help="do not resume: stop if --out already holds a run")
    command.add_argument(
        "--change", action="store_true", help="resume even if learning.*, net.convolution or net.precision was changed"
    )
    command.add_argument(
        "--exact",
        action="store_true",
        help="resume only if the result is the same to the last bit: same number of threads, versions and processor",
    )
    command.add_argument(
        "--weak-signal",
        action="store_true",
        help="start even if different images give nearly equal outputs (default: stop before the first step)",
    )
    command.add_argument(
        "--save-every",
        type=float,
        default=SAVE_EVERY / 60,
        metavar="MINUTES",
        help=f"minutes between checkpoints; one is also saved after every epoch (default: {SAVE_EVERY / 60:g})",
    )
    machine(command)
    loader_threads(command)
    ranks(command)
    command.add_argument(
        "--sum",
        choices=("ordered", "fast"),
        default="ordered",
        help="how the processes of --ranks sum their gradients: in a fixed order, which gives the same bits for any "
        "number of processes (ordered, the default), or by MPI's own all-reduce (fast)",
    )
    no_kernels(command)


def run(options):
    """Train or resume, then draw the figures and print the test error."""
    from tinyalex.experiments import footnote3
    from tinyalex.gallery.gallery import QUICK
    from tinyalex.ranks import launch
    from tinyalex.report import pages
    from tinyalex.runs import finetune, run_folder
    from tinyalex.runs import train as runs_train
    from tinyalex.training import reference

    set_loader_threads(options)
    overrides = list(options.set) + ([] if options.epochs is None else [f"learning.epochs={options.epochs}"])
    advised = options.recipe is None and options.data not in (None, "shapes")
    options.recipe = options.recipe or "shapes"
    recipe = None if advised else load_recipe(options.recipe, options.rates, overrides)
    world = options.world
    options.devices = launch.own_devices(options.devices, world)
    _check_devices(options, recipe)
    if options.footnote_3 and recipe and recipe.net.kind == FILES:
        own = recipe.learning.phases[:1]
        if own and own[0].lr_mult:
            raise UsageError(
                f"--footnote-3: replaces the phases, of which the first has lr_mult for {', '.join(own[0].lr_mult)}; "
                "write the recipe with tinyalex convert, and move them to learning.lr_mult"
            )
    out = Path(options.out or Path("runs") / (own_images.default_name(options.data) if advised else recipe.name))
    if not options.save_every > 0:
        raise UsageError(f"--save-every {options.save_every:g}: give a number of minutes above 0")
    if out.exists() and not out.is_dir():
        raise StorageError(f"{out}: is a file; give a folder as --out")
    check_writable(out)
    for folder in [out / stage for stage in footnote3.STAGES] if options.footnote_3 else [out]:
        run_folder.check_files(
            folder, QUICK, [run_folder.REPORT]
        )  # raises StorageError now, not after days of training
    first_run = out / footnote3.STAGES[0] if options.footnote_3 else out
    if options.init_from and not any(first_run.glob("checkpoint-*")):
        finetune.read(options.init_from)  # raises CheckpointError now, before the data set is loaded
    show = print_if_possible if world.leads else lambda text: None
    if advised:
        recipe, dataset = _advised(options, overrides, out, show)
    else:
        recipe, dataset = _with_images(with_data(recipe, options.data, options.test_share), options, out, show)
    recipe = recipes.with_classes(recipe, len(dataset.classes))
    if world.leads and not any(first_run.glob("checkpoint-*")):
        _warn_of_steps(recipe, len(dataset.need("train")), overrides)
    recipe = recipes.with_steps(recipe, len(dataset.need("train")))
    if advised:
        show(f"recipe: {first_run / run_folder.RECIPE} has all of its settings")
    else:
        show(recipes.to_toml(recipe, texts=False))
    devices = f"devices {' '.join(options.devices)}{kernels_note(options)}"
    if world.size > 1:
        devices = f"{world.size} ranks, {devices}"
    show(f"{describe_dataset(dataset)}; results go to {out}; {devices}, seed {options.seed}")
    for line in reference.expectations(recipe, len(dataset.train), len(dataset.test)):
        show(line)
    if world.leads:
        warn_of_slow_blas(options.devices)
    resume_options = ResumeOptions(
        options.fresh, options.change, options.exact, options.weak_signal, 60 * options.save_every, _command(options),
        options.init_from,
    )  # fmt: skip
    train = footnote3.train if options.footnote_3 else runs_train.train
    progress = pages.Progress(show, _command(options)) if world.leads else None
    try:
        result = train(
            recipe, dataset, out, options.devices, options.seed, show, resume_options, kernels=options.kernels,
            world=world, how=options.sum, after_epoch=progress,
        )  # fmt: skip
    except Exception as error:
        together = isinstance(error, Interrupted)  # the ranks stop at the same step
        with world.apart() if together else contextlib.nullcontext():
            if progress:
                progress.stopped(str(error))
        raise
    with world.apart():
        if world.leads:
            _show_results(options, out, dataset, result, progress)


def _check_devices(options, recipe):
    # Raises DeviceError now, not after images have been prepared, unless the devices compute in the recipe's precision.
    from tinyalex.devices.device import Device

    for name in options.devices:
        Device(name, options.kernels).use(recipe.net.precision if recipe else "float32")


def _show_results(options, out, dataset, result, progress):
    # What comes after training: the pictures and the report.
    from tinyalex.experiments import footnote3
    from tinyalex.gallery.gallery import QUICK, Gallery
    from tinyalex.runs import checkpoint, retention, run_folder

    show = print_if_possible
    last_run = out / footnote3.STAGES[-1] if options.footnote_3 else out
    for path, reason in retention.pinned(checkpoint.by_step(last_run)).items():
        show(f"{path} is kept: {reason}")
    show(score_line(result, len(dataset.classes)))
    pictures, missing = _draw(Gallery(last_run, dataset), QUICK, last_run)
    if pictures:
        show(f"pictures: {', '.join(map(str, pictures))}")
    for reason, paths in missing.items():
        again = shlex.join(["tinyalex", "figures", str(last_run)])
        show(f"warning: not drawn: {', '.join(map(str, paths))} ({reason}); to draw them later: {again}")
    load = functools.partial(load_run, last_run, options.devices, options.kernels, best=True)
    if reason := progress.finished(last_run, dataset, load):
        again = shlex.join(["tinyalex", "report", str(last_run)])
        show(f"warning: {last_run / run_folder.REPORT}: {reason}; to write it again: {again}")
    else:
        show(f"report: {last_run / run_folder.REPORT}")


def _warn_of_steps(recipe, images, overrides):
    # learning.steps is a least number: a warning if the user gives one that changes nothing.
    from tinyalex.training import advice

    steps, epochs = advice.steps(recipe, images)
    given = any(value.partition("=")[0].strip() == "learning.steps" for value in overrides)
    if given and recipe.learning.steps and epochs == recipe.learning.epochs:
        print_warning(
            f"learning.steps={recipe.learning.steps} changes nothing: it is a least number, and the recipe's "
            f"{counted(epochs, 'epoch')} are {counted(steps, 'step')}; for fewer, give --epochs"
        )


def _advised(options, overrides, out, show):
    # The recipe that suits the data, or that of the run in ``out``, and the data, after three lines about them.
    from tinyalex.datasets import download
    from tinyalex.prepare import once
    from tinyalex.runs.run_folder import RECIPE

    path = str(download.cifar10()) if options.data == "cifar10" else options.data
    if not options.no_prepare and not own_images.is_finished(path) and Path(path).exists():
        again = _command(options, own_images.default_out(path))
        own_images.check_place(path, out.parent / once.FOLDER, f"to train: {again}")
    if is_run(out) and (out / RECIPE).is_file() and Path(path).exists():
        made = recipes.load(out / RECIPE, overrides)
        earlier = own_images.set_of_run(made, path, out.parent, options.test_share)
        if earlier is None:
            own_images.refuse_other_images(out, path, _command(options, own_images.free(out)))
        if once.is_complete(earlier):
            show(f"{out}: holds a run with recipe {made.name}; images: {earlier}, prepared from {path}")
            if not own_images.is_finished(path) and not own_images.prepared_earlier(
                path, made, out.parent, options.test_share
            ):
                again = _command(options, own_images.free(out))
                show(f"the images have not changed since; names of classes that did are those of a new run: {again}")
            return own_images.load(made, earlier, options.seed, show)
    with own_images.opened(path, options.test_share, show) as source:
        chosen = own_images.advised(source, options.devices, options.init_from)
        suited = chosen.overrides
        if any(value.startswith("learning.class_weights") for value in overrides):  # the other way to balance classes
            suited = [value for value in suited if not value.startswith("data.sampling")]
        made = recipes.load(chosen.name, [*suited, *overrides])
        made = own_images.with_run(made, out, options.init_from)
        _check_devices(options, made)
        if options.no_prepare and source.index is not None:
            remedy = suggestion.remedy(Path(path), made.image_size, options.test_share)
            raise DataError(f"{path}: has to be prepared (--no-prepare); {remedy}")
        for line in own_images.facts(source):
            show(line)
        show(f"recipe {made.name}: {chosen.reason}: {own_images.plan(made, source)}")
        earlier = own_images.prepared_earlier(path, made, out.parent, options.test_share)
        if options.world.leads:
            show(own_images.duration(made, source, options.devices, options.kernels, earlier is not None))
        place = own_images.prepare(source, made, out.parent, options.test_share, show)
        return own_images.load(made, place, options.seed, show)


def _with_images(made, options, out, show):
    # A recipe that was named, and its data, which are prepared first if they cannot be used as they are.
    made = own_images.with_run(made, out, options.init_from)
    try:
        dataset = load_dataset(made.data, options.seed, show, made.image_size)
        if options.no_prepare or _fits(dataset, made):
            return made, dataset
    except DataError:
        if options.no_prepare or not suggestion.prepare_command(Path(made.data.set)):
            raise
    with own_images.opened(made.data.set, made.data.test_share, show) as source:
        show(own_images.describe(source))
        place = own_images.prepare(source, made, out.parent, made.data.test_share, show)
        return own_images.load(made, place, options.seed, show)


def _fits(dataset, made):
    # Whether a set can be used as it is. One that has images of quite another size is prepared, unless it was made so.
    size = dataset.train.size if len(dataset.train) else 0
    own = hasattr(dataset, "manifest") or made.data.set in ("shapes", "cifar10")
    return own or len(dataset.test) and made.net.input <= size <= 1.5 * made.image_size


def _draw(gallery, names, folder):
    # Return the paths of the pictures, and of those that cannot be drawn, by the reason; the run is complete without.
    from tinyalex import figures

    paths, missing = [], {}
    for name in names:
        path = folder / f"{name}.png"
        reason = figures.attempt(lambda name=name: gallery.draw(name)[0], path)
        (paths if reason is None else missing.setdefault(reason, [])).append(path)
    return paths, missing


def _command(options, out=None):
    # The command that resumes the run; or, with ``out``, that trains the same in another folder.
    words = [word for word in options.argv if word not in ("--fresh", "--weak-signal")]
    if out is not None:
        at = [k for k, word in enumerate(options.argv) if word == "--out"]
        words = [word for k, word in enumerate(options.argv) if k not in at and k - 1 not in at]
        words = [*(word for word in words if not word.startswith("--out=")), "--out", str(out)]
    return shlex.join(["tinyalex", *words])
