"""Lay out a measurement on a CPU as tables of texts, for a terminal or for Markdown."""

from typing import NamedTuple

from tinyalex.bench.contenders import SHIPPED
from tinyalex.words import counted

EPOCHS = {"cifar10": 50_000}  # training images of data sets with a fixed size


class Table(NamedTuple):
    """A table of texts.

    Attributes
    ----------
    title : str
    heads : list of str
        The first is empty: its column has the names.
    rows : list of list of str
    notes : list of str
        Sentences below the table.
    """

    title: str
    heads: list
    rows: list
    notes: list


def tables(result):
    """Lay out all tables of a result of `tinyalex.bench.measure.measure`; those that it lacks are left out."""
    batch, floor = result["batch"], result["floor"]
    more = {"peak GiB": lambda each: f"{each['peak'] / 2**30:.2f}"}
    epoch = EPOCHS.get(result["data"])
    if epoch:
        more["s/epoch"] = lambda each: f"{each['step']['seconds'] / batch * epoch:.1f}"
    step = _speeds(result, "step", f"Training step, {counted(batch, 'image')}", batch, floor["step"], more)
    if epoch:
        step.notes.append(f"s/epoch: the steps of {counted(epoch, 'image')}, without the time to read them.")
    found = [step]
    if measured(result, "forward"):
        title = f"Forward alone, as in testing, {counted(batch, 'image')}"
        found.append(_speeds(result, "forward", title, batch, floor["forward"]))
    if measured(result, "predict"):
        found.append(_speeds(result, "predict", "One image, in a warm process", 1))
    if any("layers" in each for each in result["contenders"]):
        found.append(_layers(result))
    return found


def measured(result, action):
    """Whether all contenders have been measured at an action."""
    return all(action in each for each in result["contenders"])


def _speeds(result, action, title, images, floor=None, more=None):
    contenders = result["contenders"]
    seconds = {each["name"]: each[action]["seconds"] for each in contenders}
    of_torch = {each["title"]: seconds[each["name"]] for each in contenders if each["kind"] == "torch"}
    best = min(of_torch, key=of_torch.get) if of_torch else None
    columns = {
        "ms": lambda own: f"{1000 * own:,.1f}",
        "images/s": lambda own: f"{images / own:,.1f}",
        "x best": lambda own: f"{of_torch[best] / own:.2f}",
        "x shipped": lambda own: f"{seconds[SHIPPED] / own:.2f}",
        "time/floor": lambda own: f"{own / images / floor:.2f}",
    }
    for head, known in (("x best", best), ("x shipped", SHIPPED in seconds), ("time/floor", floor)):
        if not known:
            del columns[head]
    rows = [
        [each["title"], *(text(seconds[each["name"]]) for text in columns.values())]
        + [text(each) for text in (more or {}).values()]
        for each in contenders
    ]
    notes = [f"x best: times as fast as the fastest PyTorch here, {best}."] if best else []
    if "x shipped" in columns:
        notes.append("x shipped: times as fast as PyTorch as shipped.")
    if floor:
        notes.append(f"The floor of direct convolution: {1000 * images * floor:,.1f} ms, {1 / floor:,.1f} images/s.")
    return Table(title, ["", *columns, *(more or {})], rows, notes)


def _layers(result):
    batch, floor = result["batch"], result["floor"]["layers"]
    contenders = [each for each in result["contenders"] if "layers" in each]
    values = [each["layers"]["values"] for each in contenders]
    whole = [each["layers"]["seconds"] for each in contenders]

    def cells(numbers):
        return [f"{1000 * number / batch:.3f}" for number in numbers]

    rows = []
    for name in [*result["layers"], "loss", "update"]:
        keys = [name] if name == "update" else [f"{name}/forward", f"{name}/backward"]
        pairs = [" / ".join(cells(own[key] for key in keys)) for own in values]
        rows.append([name, *pairs, f"{1000 * floor[name]:.3f}" if name in floor else ""])
    rest = [step - sum(own.values()) for own, step in zip(values, whole, strict=True)]
    rows.append(["rest", *cells(rest), ""])
    rows.append(["all", *cells(whole), f"{1000 * sum(floor.values()):.3f}"])
    notes = ["tinyalex: the time within a layer's methods, summed over the workers and divided by their number."]
    if any(each["kind"] == "torch" for each in contenders):
        notes.append(
            "PyTorch: forward from module to module, backward from one output's gradient to the previous one's."
        )
    heads = ["", *(each["title"] for each in contenders), "floor"]
    return Table("Layer by layer in a training step: ms an image, forward / backward", heads, rows, notes)


def text(table):
    """Write a table for a terminal."""
    lines = [table.heads, *table.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.heads))]
    written = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines]
    return "\n".join([table.title, *(f"  {line}" for line in [*written, *table.notes])])


def markdown(table):
    """Write a table in Markdown."""
    lines = [table.heads, ["---"] + ["---:"] * (len(table.heads) - 1), *table.rows]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"**{table.title}**\n\n{rows}\n\n{' '.join(table.notes)}".rstrip()
