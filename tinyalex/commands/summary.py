"""Show a net's layers: shapes, parameters, work, bytes between columns."""

from tinyalex import recipe as recipes
from tinyalex.commands.common import say, with_shown_classes
from tinyalex.commands.options import recipe


def options(command):
    """Add the command's options to its parser."""
    recipe(command, "original")


def run(options):
    """Show a recipe's net layer by layer and column by column; nothing is built."""
    from tinyalex import alexnet
    from tinyalex import summary as tables

    recipe = with_shown_classes(recipes.load(options.recipe, options.set))
    say(tables.text(recipe, alexnet.describe(recipe.net, recipe.init, recipe.net.columns)))
