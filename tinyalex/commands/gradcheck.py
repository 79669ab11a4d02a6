"""Check the gradients that backward computes against numerical derivatives."""

from tinyalex.commands.common import print_line
from tinyalex.commands.cuda_convnet import pair
from tinyalex.commands.options import changes, rate_file, threads, user_path
from tinyalex.errors import UsageError


def options(command):
    """Add the command's options to its parser."""
    command.add_argument(
        "what",
        nargs="?",
        type=user_path,
        metavar="LAYER|RECIPE",
        help="a kind of layer (conv, lrn, maxpool, ...), or a recipe, whose net is checked at a reduced size "
        "(default: every kind of layer, and the two-column net of the recipe original)",
    )
    rate_file(command)
    command.add_argument(
        "--method",
        choices=["complex", "central"],
        default="complex",
        help="how to compute the numerical derivatives: complex step, accurate to the last digits, or central "
        "differences (default: complex)",
    )
    changes(command)
    threads(command)


def run(options):
    """Check gradients and print a table; return 1 if a gradient is wrong, or more than half of a tensor is excused."""
    from tinyalex import gradcheck as checker

    if description := pair(options.what, options.rates):
        if options.set:
            raise UsageError(f"--set {options.set[0]}: changes a recipe's net, not that of cuda-convnet's files")
        results = checker.cuda_convnet.check(description, options.method)
    else:
        results = checker.suite(options.what, options.method, options.set)
    print_line(checker.table(results))
    return int(any(result.failed for result in results))
