"""Measure contenders: in each round every contender runs one action, one after the other; then summarize.

On a GPU its rates are measured by three processes, in TF32, in float32 and in bfloat16. A sample is at least `COUNT`
actions, after `WARMUP` unmeasured ones, and begins and ends when the GPU has finished its work.
"""

import contextlib
import math

from tinyalex.bench import gpu_floor, net, summarize
from tinyalex.bench.contenders import ALL, Contender, gpu_environment
from tinyalex.bench.cpu_floor import floors, without_column
from tinyalex.bench.process import start_process
from tinyalex.errors import DivergedError
from tinyalex.recipes import recipe

CPU_ACTIONS = ("step", "forward", "predict", "layers")
GPU_ACTIONS = ("step", "forward", "layers", "kernels")
OWN = {*CPU_ACTIONS, *GPU_ACTIONS}  # actions of the contenders; the others measure the hardware
CPU_RATES = {name: ("machine", name) for name in ("sgemm_one", "sgemm_all", "copy")}  # (process, action) of a rate
GPU_RATES = {
    "TF32": ("machine-tf32", "product_tf32"), "float32": ("machine", "product_float32"),
    "bf16": ("machine-bf16", "product_bf16"), "copy": ("machine", "copy"),
}  # fmt: skip
WARMUP, COUNT = 3, 20
TOLERANCE = 1e-3  # between fingerprints of one net: far above the rounding of float32, far below the effect of a bug
TOLERANCE_TF32 = 2e-2  # if one of them rounds factors to 11 bits in 8 layers
TOLERANCE_BF16 = 1e-1  # if one of them rounds factors and results to 8 bits


def measure(
    made, contenders, batch, rounds, threads, least, show, start=start_process, device="cpu", kernels=True,
    save=lambda result: None, actions=None,
):  # fmt: skip
    """Measure contenders side by side.

    Parameters
    ----------
    made : Recipe
    contenders : list of Contender
    batch, rounds, threads : int
        One more round comes first, as a warm-up, and is not kept.
    least : float
        The shortest sample, in seconds.
    show : callable
        Prints a line about the progress.
    start : callable
        Starts a process; see `tinyalex.bench.process.start_process`.
    device : str
        The contenders' device.
    kernels : bool
        Whether tinyalex may use the fast forms of `tinyalex.kernels`.
    save : callable
        Called after each kind of action with the result so far, which lacks the others.
    actions : tuple of str, optional
        Which kinds to measure; "step" is the first. By default all.

    Returns
    -------
    dict
        The content of `bench.json`.

    Raises
    ------
    DivergedError
        If a loss is not finite, because such steps may take another time.
    """
    common = {"recipe": recipe.to_toml(made), "batch": batch, "threads": threads, "least": least, "kernels": kernels}
    if device.startswith("cuda"):
        common |= {"warmup": WARMUP, "count": COUNT}
    with contextlib.ExitStack() as stack:
        processes = {}
        for contender in [*contenders, *rate_processes(device)]:
            task = {"kind": contender.kind, "devices": list(contender.devices), "convolution": contender.convolution}
            task |= {"tf32": contender.tf32, "channels_last": contender.channels_last, "compiled": contender.compiled}
            task |= {"bf16": contender.bf16, "tuned": contender.tuned} | common
            processes[contender.name] = stack.enter_context(start(contender.name, task, contender.environment))
        check_same_net({each.name: processes[each.name].ready["fingerprint"] for each in contenders})
        taken, peaks, rates = {}, {}, CPU_RATES if device == "cpu" else GPU_RATES
        for action in actions or (CPU_ACTIONS if device == "cpu" else GPU_ACTIONS):
            turns = [
                (processes[each.name], action)
                for each in contenders
                if not (action == "kernels" and each.kind != "ours" or action == "layers" and each.compiled)
            ]
            turns += [(processes[name], what) for name, what in rates.values()] if action == "step" else []
            taken |= interleave(turns, rounds, show) if turns else {}
            if action == "step":
                peaks = {each.name: processes[each.name].request("peak")["bytes"] for each in contenders}
            ready = {name: process.ready for name, process in processes.items()}
            ready = {name: ready[name] for name in sorted(ready, key=lambda name: not name.startswith("machine"))}
            result = collect(made, contenders, batch, rounds, ready, taken, peaks, device)
            save(result)
    return result


def rate_processes(device):
    """Return the processes that measure a device's own rates: on a GPU one for each arithmetic."""
    if device == "cpu":
        return [Contender("machine", "", "cpu-rates")]
    names = {"machine": (False, False), "machine-tf32": (True, False), "machine-bf16": (True, True)}
    return [
        Contender(name, "", "gpu-rates", (device,), tf32=tf32, bf16=bf16, environment=gpu_environment(tf32))
        for name, (tf32, bf16) in names.items()
    ]


def interleave(turns, rounds, show):
    """Run actions in turn, A B A B; the samples of the first round are not kept.

    Parameters
    ----------
    turns : list of (ContenderProcess, str)
    rounds : int
    show : callable

    Returns
    -------
    dict
        ``{(name, action): [sample, ...]}``
    """
    taken = {(process.name, action): [] for process, action in turns}
    for number in range(rounds + 1):
        times = []
        for process, action in turns:
            sample = process.request(action)
            if not math.isfinite(sample["values"].get("loss", 0.0)):
                raise DivergedError(f"{process.name}: the loss is not finite; measure with a smaller learning.rate")
            if number:
                taken[process.name, action].append(sample)
            times.append(f"{process.name if action in OWN else action} {sample['seconds']:.3g} s")
        show(f"{turns[0][1]}, {f'round {number} of {rounds}' if number else 'warming up'}: {', '.join(times)}")
    return taken


def check_same_net(fingerprints):
    """Raise an error if the contenders' first outputs differ, because they would not compute the same net.

    Nets in two columns are not compared: each column normalizes its own maps.
    """
    grouped = {name: value for name, value in fingerprints.items() if len(ALL[name].devices) == 1}
    first = next((name for name in grouped if not ALL[name].tf32), next(iter(grouped), None))
    for name, found in grouped.items():
        wanted = grouped[first]
        if not math.isfinite(found):
            raise DivergedError(f"{name}: its first outputs are not finite; change init or data.scale")
        tolerance = TOLERANCE_TF32 if ALL[name].tf32 or ALL[first].tf32 else TOLERANCE
        tolerance = TOLERANCE_BF16 if ALL[name].bf16 or ALL[first].bf16 else tolerance
        if not math.isclose(found, wanted, rel_tol=tolerance):
            raise RuntimeError(
                f"{name} and {first} are not the same net: the standard deviations of their first outputs are "
                f"{found:.6g} and {wanted:.6g}"
            )


def collect(made, contenders, batch, rounds, ready, taken, peaks, device="cpu"):
    """Put a result together.

    Parameters
    ----------
    ready : dict
        The first answers of all processes, those of the hardware before the contenders': "work" in operations or bytes,
        and "versions".
    taken : dict
        From `interleave`.
    peaks : dict
        Bytes, by contender.
    """
    summaries = {key: summarize.summary(samples) for key, samples in taken.items()}
    names = CPU_RATES if device == "cpu" else GPU_RATES
    rates = {rate: ready[name]["work"][what] / summaries[name, what]["seconds"] for rate, (name, what) in names.items()}
    described = net.describe(made)
    return {
        "versions": {key: value for answer in ready.values() for key, value in answer.get("versions", {}).items()},
        "device": device,
        "recipe": made.name,
        "toml": recipe.to_toml(made),
        "data": made.data.set,
        "layers": list(dict.fromkeys(without_column(layer.name) for _, layer in described.layers())),
        "batch": batch,
        "rounds": rounds,
        "rates": rates | {"samples": {rate: summaries[key]["samples"] for rate, key in names.items()}},
        **(
            {"floor": floors(described, batch, rates["sgemm_all"], rates["copy"])}
            if device == "cpu"
            else gpu_floor.summary(described, batch, rates)
        ),
        "contenders": [
            {
                "name": each.name,
                "title": each.title,
                "kind": each.kind,
                "devices": list(each.devices),
                "environment": dict(each.environment),
                "tf32": each.tf32,
                "bf16": each.bf16,
                "peak": peaks[each.name],
            }
            | {action: summaries[each.name, action] for action in OWN if (each.name, action) in summaries}
            for each in contenders
        ],
        "notes": summarize.notes(summaries) + arithmetic_notes(contenders, ready, device),
    }


def arithmetic_notes(contenders, ready, device):
    """Name the processes whose matrix products on a GPU did not have the requested arithmetic."""
    kinds = {True: "TF32", False: "float32"}
    requested = [*contenders, *rate_processes(device)] if device.startswith("cuda") else []
    return [
        f"{each.name}: matrix products were computed in {kinds[not each.tf32]}, but {each.arithmetic} was requested"
        for each in requested
        if ready[each.name]["tf32"] != each.tf32
    ]
