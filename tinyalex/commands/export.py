"""Write a run's weights into one file: of tinyalex, which other commands read, or of ONNX, which other programs run."""

from pathlib import Path

from tinyalex.commands.common import load_run, print_line
from tinyalex.commands.options import RUN, user_path
from tinyalex.errors import UsageError
from tinyalex.words import counted

_ENDINGS = {"safetensors": ".safetensors", "onnx": ".onnx"}  # by format


def options(command):
    """Add the command's options to its parser."""
    command.add_argument("run", type=user_path, metavar="RUN", help=RUN)
    command.add_argument(
        "file", type=user_path, metavar="FILE", help="file to write; its name must end in .safetensors or .onnx"
    )
    command.add_argument(
        "--format",
        choices=tuple(_ENDINGS),
        help="safetensors: weights, classes, recipe and mean image, for the commands of tinyalex; onnx: the same, and "
        "the net as a graph that reads images (n, 3, S, S), RGB, 0 to 255 (default: by the ending of FILE)",
    )


def run(options):
    """Write weights, classes, recipe and mean image into a file."""
    path = Path(options.file)
    given = next((name for name, ending in _ENDINGS.items() if path.suffix == ending), None)
    name = options.format or given
    if name is None:
        raise UsageError(f"{path}: the name does not end in {' or '.join(_ENDINGS.values())}; give one that does")
    if given != name:
        raise UsageError(f"{path}: the name does not end in {_ENDINGS[name]}, as --format {name}; give one that does")
    check, write = _writer(name)
    check(path)
    run = load_run(options.run)
    write(run, path)
    size, step = path.stat().st_size, run.metadata["step"]
    print_line(f"{path}: {size:,} bytes, weights after step {step}, {counted(len(run.classes), 'class')}")
    if name == "onnx":
        side = run.recipe.net.input
        print_line(f"  input: images, float32 (n, 3, {side}, {side}), RGB, 0 to 255; outputs: logits, probabilities")


def _writer(name):
    # What checks that a format's file can be written, and what writes it.
    if name == "onnx":
        from tinyalex.interop import onnx_format

        return onnx_format.check_target, onnx_format.write
    from tinyalex.runs import run_folder

    return run_folder.check_export, run_folder.export
