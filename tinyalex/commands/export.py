"""Write a run's weights into one file that evaluate, predict and train --init-from read."""

from pathlib import Path

from tinyalex.commands.common import load_run, print_line, which_checkpoint
from tinyalex.commands.options import RUN, checkpoint, user_path
from tinyalex.errors import UsageError
from tinyalex.words import counted


def options(command):
    """Add the command's options to its parser."""
    command.add_argument("run", type=user_path, metavar="RUN", help=RUN)
    command.add_argument(
        "file", type=user_path, metavar="FILE", help="file to write; its name must end in .safetensors"
    )
    checkpoint(command, best=True)


def run(options):
    """Write weights, classes, recipe and mean image into a safetensors file."""
    from tinyalex.runs import run_folder

    path = Path(options.file)
    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: the name does not end in .safetensors; give one that does")
    run_folder.check_export(path)
    run = load_run(options.run, best=options.best)
    run_folder.export(run, path)
    size, classes = path.stat().st_size, counted(len(run.classes), "class")
    print_line(f"{path}: {size:,} bytes, weights after {which_checkpoint(run)}, {classes}")
