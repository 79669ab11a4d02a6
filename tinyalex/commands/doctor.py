"""Check that a prepared set is as it was made."""

from tinyalex.commands.common import say
from tinyalex.commands.options import threads


def options(command):
    """Add the command's options to its parser."""
    command.add_argument("data", metavar="DATA", help="a folder that tinyalex prepare made")
    command.add_argument("--full", action="store_true", help="read every image too, and compute the mean again")
    threads(command)


def run(options):
    """Say what was checked, line by line; faults are errors."""
    from tinyalex.datasets import doctor

    doctor.check(options.data, options.full, show=say)
    say("the set is as it was made" if options.full else "nothing wrong was found")
