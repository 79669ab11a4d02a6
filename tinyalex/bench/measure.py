"""The measurement: every contender one action in turn, round after round, and what comes of it."""

import contextlib
import math

from tinyalex import recipe
from tinyalex.bench import net, samples
from tinyalex.bench.contenders import ALL
from tinyalex.bench.floor import floors, plain
from tinyalex.bench.talk import started
from tinyalex.errors import DivergedError

RATES = ("sgemm_one", "sgemm_all", "copy")
ACTIONS = ("step", "forward", "predict", "layers")
SAME = 1e-3  # how far two fingerprints of one net may lie apart: far more than float32 does, far less than a bug


def measure(made, contenders, batch, rounds, threads, least, show, start=started):
    """Measure contenders side by side.

    Parameters
    ----------
    made : Recipe
    contenders : list of Contender
    batch, rounds, threads : int
        One more round comes first, to warm up, and does not count.
    least : float
        Seconds that a sample lasts at least.
    show : callable
        Gets lines of text about the progress.
    start : callable
        Starts a process; see `tinyalex.bench.talk.started`.

    Returns
    -------
    dict
        What `bench.json` holds.

    Raises
    ------
    DivergedError
        When a loss is not finite: no measure of anything.
    """
    common = {"recipe": recipe.to_toml(made), "batch": batch, "threads": threads, "least": least}
    with contextlib.ExitStack() as stack:
        talks = {}
        for name, kind, devices, convolution, environment in [
            *((each.name, each.kind, each.devices, each.convolution, each.environment) for each in contenders),
            ("machine", "machine", ["cpu"], "", {}),
        ]:
            task = {"kind": kind, "devices": list(devices), "convolution": convolution, **common}
            talks[name] = stack.enter_context(start(name, task, environment))
        same_net({each.name: talks[each.name].ready["fingerprint"] for each in contenders})
        everyone = [talks[each.name] for each in contenders]
        taken, peaks = {}, {}
        for action in ACTIONS:
            turn = [(talk, action) for talk in everyone]
            turn += [(talks["machine"], rate) for rate in RATES] if action == "step" else []
            taken |= in_turn(turn, rounds, show)
            if action == "step":
                peaks = {talk.name: talk.ask("peak")["bytes"] for talk in everyone}
        ready = [talks["machine"].ready, *(talk.ready for talk in everyone)]
    versions = {key: value for each in ready for key, value in each.get("versions", {}).items()}
    return result(made, contenders, batch, rounds, versions, talks["machine"].ready["work"], taken, peaks)


def in_turn(turn, rounds, show):
    """Ask for actions in turn, A B A B; the first round is not kept.

    Parameters
    ----------
    turn : list of (talk, str)
    rounds : int
    show : callable

    Returns
    -------
    dict
        ``{(name, action): [sample, ...]}``
    """
    taken = {(talk.name, action): [] for talk, action in turn}
    for number in range(rounds + 1):
        told = []
        for talk, action in turn:
            sample = talk.ask(action)
            if not math.isfinite(sample["values"].get("loss", 0.0)):
                raise DivergedError(f"{talk.name}: the loss is not finite; measure with a smaller learning.rate")
            if number:
                taken[talk.name, action].append(sample)
            told.append(f"{talk.name if action in ACTIONS else action} {sample['seconds']:.3g} s")
        show(f"{turn[0][1]}, {f'round {number} of {rounds}' if number else 'warming up'}: {', '.join(told)}")
    return taken


def same_net(fingerprints):
    """Refuse nets whose first answers differ: their times would compare nothing.

    Two columns normalize each its own maps, so they are not held to the others.
    """
    grouped = {name: print_ for name, print_ in fingerprints.items() if len(ALL[name].devices) == 1}
    for name, found in grouped.items():
        first, wanted = next(iter(grouped.items()))
        if not math.isfinite(found):
            raise DivergedError(f"{name}: what it answers is not finite; change init or data.scale")
        if not math.isclose(found, wanted, rel_tol=SAME):
            raise RuntimeError(f"{name} and {first} are not the same net: they answer {found:.6g} and {wanted:.6g}")


def result(made, contenders, batch, rounds, versions, work, taken, peaks):
    """Sum everything up.

    Parameters
    ----------
    work : dict
        Of the machine's actions, in operations or bytes.
    taken : dict
        From `in_turn`.
    peaks : dict
        Bytes, by contender.
    """
    summed = {key: samples.summary(each) for key, each in taken.items()}
    rates = {rate: work[rate] / summed["machine", rate]["seconds"] for rate in RATES}
    described = net.describe(made)
    return {
        "versions": versions,
        "recipe": made.name,
        "toml": recipe.to_toml(made),
        "data": made.data.set,
        "layers": list(dict.fromkeys(plain(layer.name) for _, layer in described.layers())),
        "batch": batch,
        "rounds": rounds,
        "rates": rates | {"samples": {rate: summed["machine", rate]["samples"] for rate in RATES}},
        "floor": floors(described, batch, rates["sgemm_all"], rates["copy"]),
        "contenders": [
            {
                "name": each.name,
                "title": each.title,
                "devices": list(each.devices),
                "environment": dict(each.environment),
                "peak": peaks[each.name],
            }
            | {action: summed[each.name, action] for action in ACTIONS}
            for each in contenders
        ],
        "notes": samples.notes(summed),
    }
