"""Read weights that another library wrote, as a file that evaluate, predict, figures and train --init-from read."""

from pathlib import Path

from tinyalex.commands.common import print_line
from tinyalex.commands.options import user_path
from tinyalex.errors import UsageError
from tinyalex.words import counted


def options(command):
    """Add the command's options to its parser."""
    command.add_argument("source", type=user_path, metavar="FILE", help="a file of weights, recognized by its content")
    command.add_argument("out", type=user_path, metavar="OUT", help="file to write; its name must end in .safetensors")
    command.add_argument("--deploy", type=user_path, metavar="FILE", help="Caffe's description of the net")
    command.add_argument(
        "--mean", type=user_path, metavar="FILE", help="Caffe's mean image (default: the mean colour of ImageNet)"
    )
    command.add_argument(
        "--words",
        type=user_path,
        metavar="FILE",
        help="a text file with the name of each class, such as synset_words.txt (default: their numbers)",
    )
    command.add_argument(
        "--input",
        choices=("torchvision", "caffe", "pixels"),
        help="what an ONNX graph reads: RGB from 0 to 1, normalized as torchvision does; BGR from 0 to 255 minus a "
        "mean, as Caffe does; or RGB from 0 to 255 (default: by the program that wrote it, as far as it is known)",
    )
    command.add_argument(
        "--like",
        type=user_path,
        metavar="RUN",
        help="a run, or its file of weights, whose net, mean image and classes a file of deep compression belongs to "
        "(default: Caffe's bvlc_alexnet)",
    )
    command.add_argument(
        "--recipe", type=user_path, metavar="FILE", help="also write the net's recipe, to train on with --init-from OUT"
    )


def run(options):
    """Import weights; print what was read, and what had to be assumed."""
    from tinyalex.interop import formats, imported
    from tinyalex.recipes import recipe as recipes
    from tinyalex.system import storage

    path, recipe = Path(options.out), options.recipe and Path(options.recipe)
    for name, target, ending in (("OUT", path, ".safetensors"), ("--recipe", recipe, ".toml")):
        if target and target.suffix != ending:
            raise UsageError(f"{name} {target}: the name does not end in {ending}; give one that does")
    imported.check_target(path)
    if recipe:
        storage.check(recipe, lambda _: False)
    given = imported.Options(options.deploy, options.mean, options.words, options.input, options.like)
    read = formats.read(options.source, given)
    imported.write(read, path)
    print_line(f"{path}: {read.source}, {counted(len(read.classes), 'class')}")
    for note in read.notes:
        print_line(f"  {note}")
    if recipe:
        storage.write_bytes(recipe, recipes.to_toml(read.recipe).encode(), may_replace=lambda _: False)
        print_line(f"{recipe}: its recipe")
