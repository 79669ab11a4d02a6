"""Show a net's layers: shapes, parameters, work, bytes between columns."""

from tinyalex import recipe as recipes
from tinyalex.commands.common import say
from tinyalex.commands.options import recipe
from tinyalex.errors import UsageError


def options(command):
    """Add the command's options to its parser."""
    recipe(command, "original")


def run(options):
    """Show a recipe's net layer by layer and column by column; nothing is built."""
    from tinyalex import alexnet
    from tinyalex import summary as tables
    from tinyalex.datasets import shapes

    recipe = recipes.load(options.recipe, options.set)
    if recipe.net.classes == 0 and recipe.data.set == "shapes":
        recipe = recipes.with_classes(recipe, len(shapes.CLASSES))
    if recipe.net.classes == 0:
        raise UsageError("net.classes: 0 means as many as the data has; add --set net.classes=N to see N")
    say(tables.text(recipe, alexnet.describe(recipe.net, recipe.init, recipe.net.columns)))
