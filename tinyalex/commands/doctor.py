"""Say what this machine can do, or check that a prepared set is as it was made."""

import json

from tinyalex.commands.common import say
from tinyalex.commands.options import threads
from tinyalex.errors import UsageError


def options(command):
    """Add the command's options to its parser."""
    command.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="a folder that tinyalex prepare made; without one the machine is looked at",
    )
    command.add_argument("--full", action="store_true", help="of DATA read every image too, compute the mean again")
    command.add_argument("--json", action="store_true", help="of the machine, as JSON")
    threads(command)


def run(options):
    """Say what was checked, line by line; faults are errors."""
    if options.data is None:
        _machine(options)
        return
    from tinyalex.datasets.shards import verify

    if options.json:
        raise UsageError("--json: is about the machine; leave DATA out")
    verify.verify(options.data, options.full, show=say)
    say("the set is as it was made" if options.full else "nothing wrong was found")


def _machine(options):
    from tinyalex.commands import machine_report

    if options.full:
        raise UsageError("--full: needs DATA, the folder of a prepared set")
    found = machine_report.look()
    say(json.dumps(found, indent=1) if options.json else machine_report.text(found))
