"""Show a net's layers: shapes, parameters, multiply-adds, bytes exchanged between columns."""

from tinyalex.commands.common import print_line, with_class_count
from tinyalex.commands.options import recipe
from tinyalex.recipes import recipe as recipes


def options(command):
    """Add the command's options to its parser."""
    recipe(command, "original")


def run(options):
    """Print a recipe's net layer by layer and column by column, without allocating its weights."""
    from tinyalex.network import alexnet
    from tinyalex.network import summary as tables

    recipe = with_class_count(recipes.load(options.recipe, options.set))
    print_line(tables.text(recipe, alexnet.describe(recipe.net, recipe.init, recipe.net.columns)))
