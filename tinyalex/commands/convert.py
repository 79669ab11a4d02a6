"""Write the net of two of the authors' files of 2012 as a recipe, where a recipe can say it."""

from pathlib import Path

from tinyalex.commands.common import print_line
from tinyalex.commands.cuda_convnet import load_recipe
from tinyalex.commands.options import changes, user_path
from tinyalex.errors import UsageError


def options(command):
    """Add the command's options to its parser."""
    command.add_argument("layers", type=user_path, metavar="LAYERS.cfg", help="a file of layers of cuda-convnet")
    command.add_argument("rates", type=user_path, metavar="LAYER-PARAMS.cfg", help="its file of learning rates")
    command.add_argument(
        "file", type=user_path, metavar="RECIPE.toml", help="file to write; its name must end in .toml"
    )
    changes(command)


def run(options):
    """Write the recipe, and say what is not from the files."""
    from tinyalex.recipes import recipe as recipes
    from tinyalex.system import storage

    path = Path(options.file)
    if path.suffix != ".toml":
        raise UsageError(f"{path}: the name does not end in .toml; give one that does")
    made = load_recipe(options.layers, options.rates, options.set)
    storage.write_bytes(path, recipes.to_toml(made).encode(), may_replace=lambda _: False)
    print_line("\n".join([f"{path}: recipe {made.name}", *made.notes]))
