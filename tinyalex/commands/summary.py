"""Show a net's layers: shapes, parameters, work, bytes between columns."""

from tinyalex.commands.common import say, with_shown_classes
from tinyalex.commands.options import recipe
from tinyalex.recipes import recipe as recipes


def options(command):
    """Add the command's options to its parser."""
    recipe(command, "original")


def run(options):
    """Show a recipe's net layer by layer and column by column; nothing is built."""
    from tinyalex.network import alexnet
    from tinyalex.network import summary as tables

    recipe = with_shown_classes(recipes.load(options.recipe, options.set))
    say(tables.text(recipe, alexnet.describe(recipe.net, recipe.init, recipe.net.columns)))
