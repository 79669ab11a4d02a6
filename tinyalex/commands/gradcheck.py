"""Compare every gradient with one found another way."""

from tinyalex.commands.common import say
from tinyalex.commands.options import changes, threads


def options(command):
    """Add the command's options to its parser."""
    command.add_argument(
        "what",
        nargs="?",
        metavar="LAYER|RECIPE",
        help="a kind of layer (conv, lrn, maxpool, ...), or a recipe, whose net is made small "
        "(default: every layer, and the net of original with its two columns)",
    )
    command.add_argument(
        "--method",
        choices=["complex", "central"],
        default="complex",
        help="complex step, good to the last digits, or central differences (default: complex)",
    )
    changes(command)
    threads(command)


def run(options):
    """Check gradients and show the table; 1 if one is wrong."""
    from tinyalex import gradcheck as checker

    results = checker.suite(options.what, options.method, options.set)
    say(checker.table(results))
    return int(any(result.failed for result in results))
