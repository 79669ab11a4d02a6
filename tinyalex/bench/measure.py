"""The measurement: every contender one action in turn, round after round, and what comes of it.

On a card the machine's rates are asked of two processes, one for each arithmetic, and a sample is at least `COUNT`
actions, after `LEAD` that do not count, between two moments when the card has nothing to do.
"""

import contextlib
import math

from tinyalex.bench import net, samples, traffic
from tinyalex.bench.contenders import ALL, Contender, surrounded
from tinyalex.bench.floor import floors, plain
from tinyalex.bench.talk import started
from tinyalex.errors import DivergedError
from tinyalex.recipes import recipe

RATES = {name: ("machine", name) for name in ("sgemm_one", "sgemm_all", "copy")}
ACTIONS = ("step", "forward", "predict", "layers")
CARD_ACTIONS = ("step", "forward", "layers", "kernels")
OWN = {*ACTIONS, *CARD_ACTIONS}  # of the contenders, not of the machine
CARD_RATES = {
    "TF32": ("machine-tf32", "product_tf32"), "float32": ("machine", "product_float32"), "copy": ("machine", "copy"),
}  # fmt: skip
LEAD, COUNT = 3, 20
SAME = 1e-3  # how far two fingerprints of one net may lie apart: far more than float32 does, far less than a bug
SAME_ROUNDED = 2e-2  # when products round their factors to 11 bits, through 8 layers


def measure(made, contenders, batch, rounds, threads, least, show, start=started, device="cpu", kernels=True):
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
    device : str
        Where the contenders compute.
    kernels : bool
        Whether tinyalex may use the fast forms of `tinyalex.kernels`.

    Returns
    -------
    dict
        What `bench.json` holds.

    Raises
    ------
    DivergedError
        When a loss is not finite: no measure of anything.
    """
    common = {"recipe": recipe.to_toml(made), "batch": batch, "threads": threads, "least": least, "kernels": kernels}
    if device.startswith("cuda"):
        common |= {"lead": LEAD, "count": COUNT}
    with contextlib.ExitStack() as stack:
        talks = {}
        for each in [*contenders, *(MACHINES if device == "cpu" else card_machines(device))]:
            task = {"kind": each.kind, "devices": list(each.devices), "convolution": each.convolution}
            task |= {"tf32": each.tf32, **common}
            talks[each.name] = stack.enter_context(start(each.name, task, each.environment))
        same_net({each.name: talks[each.name].ready["fingerprint"] for each in contenders})
        everyone = [talks[each.name] for each in contenders]
        taken, peaks, rates = {}, {}, RATES if device == "cpu" else CARD_RATES
        for action in ACTIONS if device == "cpu" else CARD_ACTIONS:
            turn = [(talks[each.name], action) for each in contenders if action != "kernels" or each.kind == "ours"]
            turn += [(talks[name], what) for name, what in rates.values()] if action == "step" else []
            taken |= in_turn(turn, rounds, show) if turn else {}
            if action == "step":
                peaks = {talk.name: talk.ask("peak")["bytes"] for talk in everyone}
        ready = {name: talk.ready for name, talk in talks.items()}
    ready = {name: ready[name] for name in sorted(ready, key=lambda name: not name.startswith("machine"))}
    return result(made, contenders, batch, rounds, ready, taken, peaks, device)


MACHINES = [Contender("machine", "", "machine")]


def card_machines(device):
    """Return who measures a card's own rates: one for each arithmetic."""
    names = {"machine": False, "machine-tf32": True}
    return [
        Contender(name, "", "card", (device,), tf32=tf32, environment=surrounded(tf32)) for name, tf32 in names.items()
    ]


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
            told.append(f"{talk.name if action in (*ACTIONS, 'kernels') else action} {sample['seconds']:.3g} s")
        show(f"{turn[0][1]}, {f'round {number} of {rounds}' if number else 'warming up'}: {', '.join(told)}")
    return taken


def same_net(fingerprints):
    """Refuse nets whose first answers differ: their times would compare nothing.

    Two columns normalize each its own maps, so they are not held to the others.
    """
    grouped = {name: print_ for name, print_ in fingerprints.items() if len(ALL[name].devices) == 1}
    first = next((name for name in grouped if not ALL[name].tf32), next(iter(grouped), None))
    for name, found in grouped.items():
        wanted = grouped[first]
        if not math.isfinite(found):
            raise DivergedError(f"{name}: what it answers is not finite; change init or data.scale")
        same = SAME_ROUNDED if ALL[name].tf32 or ALL[first].tf32 else SAME
        if not math.isclose(found, wanted, rel_tol=same):
            raise RuntimeError(f"{name} and {first} are not the same net: they answer {found:.6g} and {wanted:.6g}")


def result(made, contenders, batch, rounds, ready, taken, peaks, device="cpu"):
    """Sum everything up.

    Parameters
    ----------
    ready : dict
        What everybody said at first, machines before contenders: "work" in operations or bytes, and "versions".
    taken : dict
        From `in_turn`.
    peaks : dict
        Bytes, by contender.
    """
    summed = {key: samples.summary(each) for key, each in taken.items()}
    names = RATES if device == "cpu" else CARD_RATES
    rates = {rate: ready[name]["work"][what] / summed[name, what]["seconds"] for rate, (name, what) in names.items()}
    described = net.describe(made)
    return {
        "versions": {key: value for each in ready.values() for key, value in each.get("versions", {}).items()},
        "device": device,
        "recipe": made.name,
        "toml": recipe.to_toml(made),
        "data": made.data.set,
        "layers": list(dict.fromkeys(plain(layer.name) for _, layer in described.layers())),
        "batch": batch,
        "rounds": rounds,
        "rates": rates | {"samples": {rate: summed[key]["samples"] for rate, key in names.items()}},
        **(
            {"floor": floors(described, batch, rates["sgemm_all"], rates["copy"])}
            if device == "cpu"
            else traffic.summary(described, batch, rates)
        ),
        "contenders": [
            {
                "name": each.name,
                "title": each.title,
                "kind": each.kind,
                "devices": list(each.devices),
                "environment": dict(each.environment),
                "tf32": each.tf32,
                "peak": peaks[each.name],
            }
            | {action: summed[each.name, action] for action in OWN if (each.name, action) in summed}
            for each in contenders
        ],
        "notes": samples.notes(summed) + arithmetic(contenders, ready, device),
    }


def arithmetic(contenders, ready, device):
    """Tell of those whose products on a card are not what they were asked for."""
    kinds = {True: "TF32", False: "float32"}
    asked = [*contenders, *card_machines(device)] if device.startswith("cuda") else []
    return [
        f"{each.name}: products were {kinds[not each.tf32]}, not {kinds[each.tf32]} as they should have been"
        for each in asked
        if ready[each.name]["rounds"] != each.tf32
    ]
