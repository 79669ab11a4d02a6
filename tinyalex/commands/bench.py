"""Measure the time of training steps: tinyalex, PyTorch if it is installed, and the limits of the hardware."""

import math
import shlex

from tinyalex.commands.common import print_line, print_warning, warn_of_slow_blas, with_class_count
from tinyalex.commands.options import among, kernels_note, no_kernels, recipe, several, threads, user_path
from tinyalex.errors import UsageError
from tinyalex.recipes import recipe as recipes
from tinyalex.recipes.settings import FILES


def options(command):
    """Add the command's options to its parser."""
    from tinyalex.bench.contenders import DEFAULT, ON_CPU, ON_GPU

    recipe(command, "paper")
    command.add_argument(
        "--all",
        action="store_true",
        help="measure all recipes that are made for a CPU, each with its own batch, and print one table",
    )
    command.add_argument(
        "--batch", type=int, metavar="N", help="images per step (default: 128; with --all each recipe's own)"
    )
    command.add_argument(
        "--rounds",
        type=int,
        default=5,
        metavar="N",
        help="samples of each contender, after a warm-up sample (default: 5)",
    )
    command.add_argument(
        "--device",
        default="cpu",
        metavar="D",
        help="device to measure: cpu or cuda:0; fake:0 simulates a GPU on the CPU, to try the command (default: cpu)",
    )
    several(
        command,
        "--contenders",
        **among([*ON_CPU, *ON_GPU], "contender"),
        metavar="C",
        help=f"what to measure; on the CPU: {', '.join(ON_CPU)} (default: {' '.join(DEFAULT)}); "
        f"on a GPU: {', '.join(ON_GPU)} (default: all)",
    )
    command.add_argument(
        "--least",
        type=float,
        default=0.5,
        metavar="S",
        help="repeat a step until a sample takes S seconds, on a GPU at least 20 times (default: 0.5)",
    )
    command.add_argument(
        "--out",
        type=user_path,
        metavar="DIR",
        help="folder in which to save bench.json, bench.md and bench.png (default: do not save)",
    )
    no_kernels(command)
    threads(command)


def run(options):
    """Measure, print the tables and save them."""
    from tinyalex.bench import contenders, report
    from tinyalex.bench.measure import measure
    from tinyalex.devices import parallel
    from tinyalex.devices.device import Device
    from tinyalex.network import alexnet, memory

    if options.all:
        return run_all(options)
    options.batch = 128 if options.batch is None else options.batch
    if min(options.batch, options.rounds) < 1:
        raise UsageError(f"--batch {options.batch} --rounds {options.rounds}: give 1 or more for each")
    if not 0 <= options.least < math.inf:
        raise UsageError(f"--least {options.least}: give a number of seconds, 0 or more")
    made = with_class_count(recipes.load(options.recipe, options.set))
    if made.net.kind == FILES:
        raise UsageError(f"{made.name}: bench measures the nets of other kinds than {FILES}; give another recipe")
    device = Device(options.device, options.kernels)  # raises DeviceError before anything is started
    if device.on_host and (line := memory.check(alexnet.describe(made.net, made.init), options.batch, "--batch ")):
        print_warning(line)
    warn_of_slow_blas([options.device])
    chosen, notes = contenders.choose(options.contenders, made.net.columns, options.device)
    for note in notes:
        print_line(note)
    if options.out:
        report.check_files(options.out)
    count = parallel.workers().count
    if not options.kernels:
        notes = [*notes, f"tinyalex computes with the{kernels_note(options)[1:]}"]

    def complete(result, *more):
        result["notes"] = [*more, *notes, *result["notes"]]
        result["command"] = command_line(options, [contender.name for contender in chosen])
        return result

    def save(result):  # what a run that is killed keeps
        if options.out:
            report.write_texts(complete(dict(result), "not measured to the end"), options.out)

    result = complete(
        measure(
            made, chosen, options.batch, options.rounds, count, options.least, print_line, device=options.device,
            kernels=options.kernels, save=save,
        )
    )  # fmt: skip
    print_line("\n" + report.text(result))
    if options.out:
        paths, reason = report.write(result, options.out)
        print_line("\n".join(map(str, paths)))
        if reason:
            print_line(f"warning: bench.png is not drawn ({reason})")


def run_all(options):
    """Measure every recipe for a CPU, and print one table."""
    from tinyalex.bench import overview, report, tables
    from tinyalex.bench.measure import measure
    from tinyalex.devices import parallel

    given = [
        f"--{name}"
        for name, value, default in (
            ("contenders", options.contenders, None), ("device", options.device, "cpu"), ("out", options.out, None),
        )
        if value != default
    ]  # fmt: skip
    if given or not options.kernels:
        raise UsageError(f"{' '.join(given) or '--no-kernels'}: not with --all; leave it out, or give one recipe")
    if options.rounds < 1 or (options.batch is not None and options.batch < 1):
        raise UsageError(f"--batch {options.batch} --rounds {options.rounds}: give 1 or more for each")
    warn_of_slow_blas(["cpu"])
    results, count = [], parallel.workers().count
    try:
        for made in overview.recipes(options.set):
            chosen, notes = overview.contenders(made)
            print_line("\n".join([f"{made.name}: {'; '.join(each.title for each in chosen)}", *notes]))
            batch, actions = options.batch or made.learning.batch, tuple(overview.ACTIONS)
            results.append(
                measure(made, chosen, batch, options.rounds, count, options.least, print_line, actions=actions)
            )
    finally:  # also what was measured before an error, or before Ctrl-C
        if results:
            print_line("\n" + tables.text(overview.table(results)))
            print_line("\n".join([report.rates(results[-1]), report.describe(results[-1])]))


def command_line(options, names):
    """Return the command that repeats this measurement with the same contenders."""
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
