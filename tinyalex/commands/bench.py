"""Measure training steps side by side: our forms, PyTorch, and what the processor or the card could do at best."""

import math
import shlex

from tinyalex.commands.common import say, with_shown_classes
from tinyalex.commands.options import kernels_note, no_kernels, recipe, threads
from tinyalex.errors import UsageError
from tinyalex.recipes import recipe as recipes


def options(command):
    """Add the command's options to its parser."""
    from tinyalex.bench.contenders import DEFAULT, ON_CARD, ON_PROCESSOR

    recipe(command, "paper")
    command.add_argument("--batch", type=int, default=128, metavar="N", help="images a step (default: 128)")
    command.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="samples of each, after one that does not count (default: 5)"
    )
    command.add_argument(
        "--device",
        default="cpu",
        metavar="D",
        help="where: cpu or cuda:0; fake:0 goes through what a card would do (default: cpu)",
    )
    command.add_argument(
        "--contenders",
        nargs="+",
        choices=[*ON_PROCESSOR, *ON_CARD],
        metavar="C",
        help=f"who takes part: on the processor of {', '.join(ON_PROCESSOR)} (default: {' '.join(DEFAULT)}); "
        f"on a card of {', '.join(ON_CARD)} (default: all)",
    )
    command.add_argument(
        "--least",
        type=float,
        default=0.5,
        metavar="S",
        help="repeat what is quicker for S seconds, on a card 20 times at least (default: 0.5)",
    )
    command.add_argument("--out", metavar="DIR", help="folder for bench.json, bench.md and bench.png")
    no_kernels(command)
    threads(command)


def run(options):
    """Measure, show the tables and write them down."""
    from tinyalex.bench import contenders, report
    from tinyalex.bench.measure import measure
    from tinyalex.devices import parallel
    from tinyalex.devices.device import Device

    if min(options.batch, options.rounds) < 1:
        raise UsageError(f"--batch {options.batch} --rounds {options.rounds}: give 1 or more of each")
    if not 0 <= options.least < math.inf:
        raise UsageError(f"--least {options.least}: give a number of seconds, 0 or more")
    made = with_shown_classes(recipes.load(options.recipe, options.set))
    Device(options.device, options.kernels)  # or a line about what is missing, before anything is started
    chosen, notes = contenders.choose(options.contenders, made.net.columns, options.device)
    for note in notes:
        say(note)
    count = parallel.workers().count
    result = measure(
        made, chosen, options.batch, options.rounds, count, options.least, say, device=options.device,
        kernels=options.kernels,
    )  # fmt: skip
    if not options.kernels:
        notes = [*notes, f"tinyalex computes with the{kernels_note(options)[1:]}"]
    result["notes"][:0] = notes
    result["command"] = command_line(options, [each.name for each in chosen])
    say("\n" + report.text(result))
    for path in report.write(result, options.out) if options.out else []:
        say(path)


def command_line(options, names):
    """Write the command that measures the same again, with the contenders that took part."""
    words = ["tinyalex", "bench", str(options.recipe), "--batch", str(options.batch), "--rounds", str(options.rounds)]
    if options.device != "cpu":
        words += ["--device", options.device]
    if not options.kernels:
        words += ["--no-kernels"]
    if options.threads:
        words += ["--threads", str(options.threads)]
    for change in options.set:
        words += ["--set", change]
    return shlex.join([*words, "--contenders", *names])
