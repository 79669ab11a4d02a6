"""Show a net's layers: shapes, parameters, multiply-adds, bytes exchanged between columns."""

from tinyalex.commands.common import print_line, with_class_count
from tinyalex.commands.cuda_convnet import pair, side
from tinyalex.commands.options import rate_file, recipe
from tinyalex.errors import UsageError
from tinyalex.recipes import recipe as recipes


def options(command):
    """Add the command's options to its parser."""
    recipe(command, "original")
    rate_file(command)
    command.add_argument(
        "--ranks",
        dest="processes",
        type=int,
        nargs="?",
        const=8,
        metavar="N",
        help="also print the bytes that each of N processes (default: 8) receives in a training step, for three ways "
        "to divide the work",
    )


def run(options):
    """Print a net layer by layer and column by column, without allocating its weights."""
    from tinyalex.network import alexnet, cuda_convnet, files_summary
    from tinyalex.network import summary as tables
    from tinyalex.ranks import ledger

    if description := pair(options.recipe, options.rates):
        network = cuda_convnet.describe(description, side(description, options.set))
        print_line(files_summary.text(description, network))
        return
    recipe = with_class_count(recipes.load(options.recipe, options.set))
    print_line(tables.text(recipe, alexnet.describe(recipe.net, recipe.init, recipe.net.columns)))
    if options.processes is not None:
        if options.processes < 2:
            raise UsageError(f"--ranks {options.processes}: give 2 or more; a single process receives nothing")
        net = tables.for_ledger(alexnet.describe(recipe.net, recipe.init))
        counts = sorted({2, 4, 8, 16, 32, 64, options.processes})
        images = recipe.learning.batch
        print_line("\n".join(["", *ledger.table(net, [n for n in counts if n <= options.processes], images)]))
