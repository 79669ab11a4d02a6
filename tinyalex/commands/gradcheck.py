"""Check the gradients that backward computes against numerical derivatives."""

from tinyalex.commands.common import print_line
from tinyalex.commands.options import changes, threads, user_path


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
    """Check gradients and print a table; return 1 if a gradient is wrong."""
    from tinyalex import gradcheck as checker

    results = checker.suite(options.what, options.method, options.set)
    print_line(checker.table(results))
    return int(any(result.failed for result in results))
