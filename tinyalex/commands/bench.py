"""Measure training steps side by side: im2col, Winograd, PyTorch, and what the machine could do at best."""

import shlex

from tinyalex import recipe as recipes
from tinyalex.commands.common import say, with_shown_classes
from tinyalex.commands.options import recipe, threads
from tinyalex.errors import UsageError


def options(command):
    """Add the command's options to its parser."""
    from tinyalex.bench.contenders import ALL, DEFAULT

    recipe(command, "paper")
    command.add_argument("--batch", type=int, default=128, metavar="N", help="images a step (default: 128)")
    command.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="samples of each, after one that does not count (default: 5)"
    )
    command.add_argument(
        "--contenders",
        nargs="+",
        choices=ALL,
        default=DEFAULT,
        metavar="C",
        help=f"who takes part, of {', '.join(ALL)} (default: {' '.join(DEFAULT)})",
    )
    command.add_argument(
        "--least", type=float, default=0.5, metavar="S", help="repeat what is quicker for S seconds (default: 0.5)"
    )
    command.add_argument("--out", metavar="DIR", help="folder for bench.json, bench.md and bench.png")
    threads(command)


def run(options):
    """Measure, show the tables and write them down."""
    from tinyalex import parallel
    from tinyalex.bench import contenders, report
    from tinyalex.bench.measure import measure

    if min(options.batch, options.rounds) < 1:
        raise UsageError(f"--batch {options.batch} --rounds {options.rounds}: give 1 or more of each")
    made = with_shown_classes(recipes.load(options.recipe, options.set))
    chosen, notes = contenders.choose(options.contenders, made.net.columns)
    for note in notes:
        say(note)
    count = parallel.workers().count
    result = measure(made, chosen, options.batch, options.rounds, count, options.least, say)
    result["notes"][:0] = notes
    result["command"] = command_line(options)
    say("\n" + report.text(result))
    for path in report.write(result, options.out) if options.out else []:
        say(path)


def command_line(options):
    """Write the command that measures the same again."""
    words = ["tinyalex", "bench", str(options.recipe), "--batch", str(options.batch), "--rounds", str(options.rounds)]
    if options.threads:
        words += ["--threads", str(options.threads)]
    for change in options.set:
        words += ["--set", change]
    return shlex.join([*words, "--contenders", *options.contenders])
