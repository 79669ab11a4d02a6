"""Show a net's layers: shapes, parameters, multiply-adds, bytes exchanged between columns."""

from tinyalex.commands.common import print_line, with_class_count
from tinyalex.commands.cuda_convnet import pair, side
from tinyalex.commands.options import rate_file, recipe
from tinyalex.recipes import recipe as recipes


def options(command):
    """Add the command's options to its parser."""
    recipe(command, "original")
    rate_file(command)


def run(options):
    """Print a net layer by layer and column by column, without allocating its weights."""
    from tinyalex.network import alexnet, cuda_convnet, files_summary
    from tinyalex.network import summary as tables

    if description := pair(options.recipe, options.rates):
        network = cuda_convnet.describe(description, side(description, options.set))
        print_line(files_summary.text(description, network))
        return
    recipe = with_class_count(recipes.load(options.recipe, options.set))
    print_line(tables.text(recipe, alexnet.describe(recipe.net, recipe.init, recipe.net.columns)))
