"""Train a network, or go on with a run that was stopped."""

import shlex
from pathlib import Path

from tinyalex.commands.common import describe, draw, load, say, score_line, with_data
from tinyalex.commands.options import DATA, RUN, kernels_note, machine, no_kernels, recipe
from tinyalex.errors import StorageError, UsageError
from tinyalex.recipes import recipe as recipes
from tinyalex.runs.resume import SAVE_EVERY, ResumeOptions
from tinyalex.runs.runlog import quietly


def options(command):
    """Add the command's options to its parser."""
    recipe(command, "shapes")
    command.add_argument("--data", metavar="DIR", help=f"{DATA} (default: the recipe's)")
    command.add_argument(
        "--out",
        metavar="RUN",
        help="folder for the log, the checkpoints and the pictures; a run that "
        "was stopped there goes on (default: runs/RECIPE)",
    )
    command.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="passes over the training images; the recipe's phases move in proportion (default: the recipe's)",
    )
    command.add_argument(
        "--init-from",
        metavar="RUN",
        help=f"begin with the weights of another run ({RUN}), layer by layer where they fit, as for other classes",
    )
    command.add_argument(
        "--footnote-3",
        action="store_true",
        help="train as the nets of footnote 3 were: on four fifths until the last one is told no better, on all until "
        "it is known as well, then at lower rates; a run for each of these stages in --out",
    )
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of everything random (default: 0)")
    command.add_argument("--fresh", action="store_true", help="refuse to go on with a run that is there")
    command.add_argument(
        "--change", action="store_true", help="go on although learning.* or net.convolution is not what it was"
    )
    command.add_argument(
        "--exact", action="store_true", help="refuse to go on where threads, versions or machine change the last bits"
    )
    command.add_argument(
        "--weak-signal", action="store_true", help="begin although the last layer can hardly tell images apart"
    )
    command.add_argument(
        "--save-every",
        type=float,
        default=SAVE_EVERY / 60,
        metavar="MINUTES",
        help=f"between checkpoints; one is written after every epoch too (default: {SAVE_EVERY / 60:g})",
    )
    machine(command)
    no_kernels(command)


def run(options):
    """Train, and draw the figures; in a folder with an unfinished run, go on with it."""
    from tinyalex.devices.device import Device
    from tinyalex.experiments import footnote3
    from tinyalex.gallery.gallery import QUICK, Gallery
    from tinyalex.runs import checkpoint, finetune, retention
    from tinyalex.runs import train as runs_train

    overrides = list(options.set) + ([] if options.epochs is None else [f"learning.epochs={options.epochs}"])
    recipe = with_data(recipes.load(options.recipe, overrides), options.data)
    for name in options.devices:
        Device(name, options.kernels)  # better to hear now than after the data are loaded that it is not there
    out = Path(options.out or Path("runs") / recipe.name)
    if not options.save_every > 0:
        raise UsageError(f"--save-every: {options.save_every:g} will not do; give minutes above 0")
    if out.exists() and not out.is_dir():
        raise StorageError(f"{out}: is a file; give --out a folder")
    first = out / footnote3.STAGES[0] if options.footnote_3 else out
    if options.init_from and not any(first.glob("checkpoint-*")):
        finetune.read(options.init_from)  # better to hear now, again
    dataset = load(recipe.data.set, options.seed)
    recipe = recipes.with_classes(recipe, len(dataset.classes))
    tell = quietly(say)
    tell(recipes.to_toml(recipe))
    where = f"{' and '.join(options.devices)}{kernels_note(options)}"
    tell(f"{describe(dataset)}; {out} gets the results; {where}, seed {options.seed}")
    resume_options = ResumeOptions(
        options.fresh, options.change, options.exact, options.weak_signal, 60 * options.save_every, _command(options),
        options.init_from,
    )  # fmt: skip
    train = footnote3.train if options.footnote_3 else runs_train.train
    result = train(recipe, dataset, out, options.devices, options.seed, tell, resume_options, kernels=options.kernels)
    last = out / footnote3.STAGES[-1] if options.footnote_3 else out
    pictures = [path for path, _ in draw(Gallery(last, dataset), QUICK, last)]
    for path, reason in retention.pinned(checkpoint.by_step(last)).items():
        tell(f"{path} is kept: {reason}")
    tell(score_line(result))
    tell(f"look at {', '.join(map(str, pictures))}")


def _command(options):
    # What to type to go on.
    return shlex.join(["tinyalex", *(word for word in options.argv if word not in ("--fresh", "--weak-signal"))])
