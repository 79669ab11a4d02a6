"""Lay out a measurement on a GPU as tables of texts: speeds, and the time of each layer and kernel beside the floor.

The floor is that of im2col (`tinyalex.bench.gpu_floor`) at the GPU's rates of copies and products, which were measured
in the same run, in the contender's own arithmetic: TF32, float32 or bf16.
"""

from tinyalex.bench.contenders import BEST_BF16, BEST_TF32, TORCH_FLOAT32, TORCH_TF32
from tinyalex.bench.tables import Table, measured
from tinyalex.words import counted

RATIOS = {"x best TF32": BEST_TF32, "x best bf16": BEST_BF16}
RATIOS |= {"x eager TF32": TORCH_TF32, "x eager float32": TORCH_FLOAT32}


def tables(result):
    """Lay out all tables of a result of `tinyalex.bench.measure.measure` on a GPU; those that it lacks are left out."""
    batch = result["batch"]
    step = _speeds(
        result, "step", f"Training step, {counted(batch, 'image')}", {"GiB": lambda each: f"{each['peak'] / 2**30:.2f}"}
    )
    step.notes.append("issue ms: how long the host took to issue a step; GiB: memory taken on the GPU.")
    found = [step]
    if measured(result, "forward"):
        found.append(_speeds(result, "forward", f"Forward alone, as in testing, {counted(batch, 'image')}"))
    if any("layers" in each for each in result["contenders"]):
        found.append(_layers(result))
        for each in result["contenders"]:
            if each["kind"] == "ours" and len(each["devices"]) == 1:
                found += [_where(result, each), *([_kernels(result, each)] if "kernels" in each else [])]
    return found


def kind(contender):
    """Return the name of a contender's arithmetic."""
    return "bf16" if contender.get("bf16") else "TF32" if contender["tf32"] else "float32"


def headline(result):
    """Return a sentence that compares training steps with those of PyTorch at its best, in the same arithmetic.

    That is a compiled net with the channels last, normalization across maps by shifted slices, and a fused SGD. "" if
    no such pair was measured.
    """
    alone = [each for each in result["contenders"] if len(each["devices"]) == 1]
    parts = []
    for best in (each for each in alone if each["name"] in (BEST_TF32, BEST_BF16)):
        for own in (each for each in alone if each["kind"] == "ours" and kind(each) == kind(best)):
            ratio = best["step"]["seconds"] / own["step"]["seconds"]
            parts.append(f"{ratio:.2f} times as fast as PyTorch at its best in {kind(best)}")
    return f"tinyalex trains {' and '.join(parts)}" if parts else ""


def _speeds(result, action, title, more=None):
    contenders, batch = result["contenders"], result["batch"]
    seconds = {each["name"]: each[action]["seconds"] for each in contenders}
    columns = {
        "ms": lambda each: f"{1000 * each[action]['seconds']:,.2f}",
        "images/s": lambda each: f"{batch / each[action]['seconds']:,.0f}",
        **{
            head: lambda each, name=name: f"{seconds[name] / each[action]['seconds']:.2f}"
            for head, name in RATIOS.items()
            if name in seconds
        },
        "time/floor": lambda each: _of_floor(each[action]["seconds"], result["floors"].get(kind(each), {}).get(action)),
        "issue ms": lambda each: f"{1000 * each[action]['issue']:,.2f}",
        **(more or {}),
    }
    rows = [[each["title"], *(text(each) for text in columns.values())] for each in contenders]
    notes = []
    if any(name in seconds for name in RATIOS.values()):
        notes.append(
            "x: times as fast as PyTorch. Best: compiled, with the channels last, normalization across maps by shifted "
            "slices and a fused SGD; eager: as shipped."
        )
    for name, what in (("floors", "im2col"), ("floors_without_patches", "convolution that writes no patches")):
        least = [f"{1000 * floor[action]:,.2f} ms in {kind_}" for kind_, floor in result[name].items()]
        notes.append(f"The floor of {what}: {', '.join(least)}.")
    return Table(title, ["", *columns], rows, notes)


def _of_floor(seconds, floor):
    return f"{seconds / floor:.2f}" if floor else ""


def _layers(result):
    contenders = [each for each in result["contenders"] if "layers" in each]  # a compiled net has none
    rows = []
    for name in _names(result):
        pairs = [_pair(each["layers"]["values"], name) for each in contenders]
        rows.append([name, *pairs, *(_pair(floor["layers"], name) for floor in result["floors"].values())])
    floors = [_ms(sum(floor["layers"].values())) for floor in result["floors"].values()]
    rest = [each["step"]["seconds"] - sum(each["layers"]["values"].values()) for each in contenders]
    rows.append(["rest", *map(_ms, rest), *("" for _ in floors)])
    rows.append(["a step", *(_ms(each["step"]["seconds"]) for each in contenders), *floors])
    heads = ["", *(each["title"] for each in contenders), *(f"floor, {name}" for name in result["floors"])]
    notes = [
        "From events in the GPU's stream. tinyalex runs bias, ReLU and dropout together with the layer before them. "
        "Two columns run at the same time; the times of their layers are added.",
    ]
    return Table("Layer by layer in a training step: ms, forward / backward", heads, rows, notes)


def _where(result, contender):
    floor, values, rows = result["floors"][kind(contender)]["layers"], contender["layers"]["values"], []
    counts = result["bytes_bf16" if kind(contender) == "bf16" else "bytes"], result["operations"]
    for names in _together(result, values):
        cells, over = [], 0.0
        for way in ("forward", "backward") if names != ["update"] else ("update",):
            keys = [key for name in names for key in _keys(name) if key.endswith(way)]
            own, least = (sum(each.get(key, 0.0) for key in keys) for each in (values, floor))
            cells, over = [*cells, _ms(own), _ms(least)], over + own - least
        cells += [""] * (4 - len(cells))
        size, work = (sum(count[key] for name in names for key in _keys(name)) / 1e9 for count in counts)
        rows.append([" ".join(names), *cells, _ms(over), f"{size:.3f}", f"{work:.1f}" if work else ""])
    size, work = (sum(count.values()) / 1e9 for count in counts)
    over = sum(values.values()) - sum(floor.values())
    rows.append(["all", "", "", "", "", _ms(over), f"{size:.3f}", f"{work:.1f}"])
    heads = ["", "forward ms", "floor", "backward ms", "floor", "above floor", "GB", "GF"]
    notes = ["GB and GF: the least that forward and backward move and compute (`tinyalex/bench/gpu_floor.py`)."]
    return Table(f"Where the time goes: {contender['title']}", heads, rows, notes)


def _together(result, values):
    # Group the layers' names: a layer that ran together with the one before it has no time of its own.
    found = []
    for name in _names(result):
        if found and not any(key in values for key in _keys(name)):
            found[-1].append(name)
        else:
            found.append([name])
    return found


SHARE = 0.005  # of all kernels' time: kernels that take less are summed


def _kernels(result, contender):
    values, rates = contender["kernels"]["values"], result["rates"]
    labels = [key.removesuffix("|seconds") for key in values if key.endswith("|seconds")]
    whole = sum(values[f"{label}|seconds"] for label in labels)
    large = [label for label in labels if values[f"{label}|seconds"] >= SHARE * whole]
    rows = []
    for label in large:
        seconds, size, work = (values[f"{label}|{what}"] for what in ("seconds", "bytes", "operations"))
        row = [label, _ms(seconds), f"{size / 1e9:.3f}", f"{size / seconds / 1e9:,.0f}"]
        row.append(f"{size / seconds / rates['copy']:.0%}")
        row += [f"{work / seconds / 1e12:.1f}", f"{work / seconds / rates[kind(contender)]:.0%}"] if work else ["", ""]
        rows.append(row)
    rest = whole - sum(values[f"{label}|seconds"] for label in large)
    rows.append([f"{len(labels) - len(large)} others", _ms(rest), *[""] * 5])
    rows.append(["all", _ms(whole), *[""] * 5])
    heads = ["", "ms", "GB", "GB/s", "of copy", "TF/s", "of product"]
    notes = [
        "GB: all arrays of a kernel, counted twice if read and written; of copy, of product: relative to large ones."
    ]
    return Table(f"Kernel by kernel: {contender['title']}", heads, rows, notes)


def _names(result):
    return [*result["layers"], "loss", "update"]


def _keys(name):
    return [name] if name == "update" else [f"{name}/forward", f"{name}/backward"]


def _pair(seconds, name):
    return " / ".join(_ms(seconds[key]) for key in _keys(name) if key in seconds)


def _ms(seconds):
    return "" if seconds is None else f"{1000 * seconds:.3f}"
