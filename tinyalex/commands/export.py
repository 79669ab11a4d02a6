"""Write the weights of a run into one file, for others to evaluate and predict with."""

from pathlib import Path

from tinyalex.commands.common import say, trained
from tinyalex.commands.options import RUN
from tinyalex.errors import StorageError, UsageError


def options(command):
    """Add the command's options to its parser."""
    command.add_argument("run", metavar="RUN", help=RUN)
    command.add_argument("file", metavar="FILE", help="to write: FILE.safetensors")


def run(options):
    """Write weights, classes, recipe and mean image into a safetensors file."""
    from tinyalex.runs import run_folder

    path = Path(options.file)
    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: not a name for it; give one that ends in .safetensors")
    if path.exists():
        raise StorageError(f"{path}: is there already; give another name")
    run = trained(options.run)
    run_folder.export(run, path)
    say(f"{path}: {path.stat().st_size:,} bytes, weights after step {run.metadata['step']}, {len(run.classes)} classes")
