"""The parts of a report that need only the run's log and its recipe: cheap enough to be written after every epoch."""

import re
import shlex
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyalex.errors import TinyalexError
from tinyalex.figures.run_curves import COLORS, run_curves
from tinyalex.network import alexnet, memory
from tinyalex.recipes import recipe as recipes
from tinyalex.recipes.recipe import Recipe
from tinyalex.report.elements import bar, element, in_page_colors, svg, table
from tinyalex.runs import run_folder
from tinyalex.words import counted

SHOWN_EPOCHS = 12  # the last ones; the others can be unfolded


@dataclass(frozen=True)
class LoggedRun:
    """What a run folder says without its weights.

    Attributes
    ----------
    folder : Path
        As it was given: commands name it so.
    recipe : Recipe or None
        None if there is no recipe that can be read.
    records : list of dict
        The lines of its log.
    """

    folder: Path
    recipe: Recipe | None
    records: list[dict[str, Any]]

    @classmethod
    def read(cls, folder: str | Path) -> "LoggedRun":
        """Read a run folder's log and recipe."""
        folder = Path(folder)
        try:
            recipe = recipes.load(folder / run_folder.RECIPE) if (folder / run_folder.RECIPE).is_file() else None
        except (TinyalexError, OSError, UnicodeDecodeError):
            recipe = None
        records = [record for record in run_folder.read_log(folder) if isinstance(record.get("epoch"), int | float)]
        return cls(folder, recipe, records)

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return the records of one kind of event, one for each step; of a repeated step the last one."""
        return list({record["step"]: record for record in self.records if record["event"] == event}.values())

    @property
    def last_test(self) -> dict[str, Any]:
        """The record of the last test; empty if there was none."""
        return (self.of("test") or [{}])[-1]

    @property
    def best_test(self) -> dict[str, Any]:
        """The record of the test with the lowest error that the run is judged by, the first of several; or empty."""
        tests = [record for record in self.of("test") if record.get(self.judged) is not None]
        return min(tests, key=lambda record: record[self.judged], default={})

    @property
    def judged(self) -> str:
        """The field of a test's record by which epochs and checkpoints are compared."""
        weighted = self.recipe is not None and self.recipe.judged_by != "test error"
        return "mean_class_error" if weighted else "top1_error"

    @property
    def epochs(self) -> int | None:
        """The epochs that the recipe asks for, if it is known."""
        return self.recipe.learning.epochs if self.recipe else None


def percent(value: float | None) -> str:
    """Return an error rate as text; "not a number" for None, which the log holds in its place.

    >>> percent(0.3531), percent(None)
    ('35.31 %', 'not a number')
    """
    return "not a number" if value is None else f"{100 * value:.2f} %"


def number(value: float | None) -> str:
    """Return a loss as text."""
    return "not a number" if value is None else f"{value:.4f}"


def duration(seconds: float) -> str:
    """Return a time in words.

    >>> duration(42), duration(100), duration(5000), duration(200000)
    ('42 s', '2 min', '1 h 23 min', '2 d 7 h')
    """
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 1440:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def overview(run: LoggedRun, state: str | None, result: Any = None, step: int | None = None):
    """Return the section that says where a run stands.

    Parameters
    ----------
    run : LoggedRun
    state : str or None
        "running"; or why it has stopped; or None, if that is not known.
    result : list of str, optional
        Lines about what was computed for this report.
    step : int, optional
        That of the checkpoint that the report is about (default: the one that was tested last).
    """
    last, best, epochs = run.last_test, run.best_test, run.epochs
    done = max(record.get("epoch") or 0 for record in (last, *run.of("epoch")[-1:]))
    shown = next((record for record in run.of("test") if record["step"] == step), last)
    facts = []
    if shown:
        facts.append(
            _fact(percent(shown.get("top1_error")), "test error (top-1)" if "top5_error" in shown else "test error")
        )
        if "top5_error" in shown:
            facts.append(_fact(percent(shown["top5_error"]), "test error (top-5)"))
        mean = shown.get("mean_class_error")
        if mean is not None and mean != shown.get("top1_error"):
            facts.append(_fact(percent(mean), "mean of the classes"))
        facts.append(_fact(number(shown.get("loss")), "test loss"))
        facts.append(_fact(f"{shown['epoch']:,g}", "epoch of these numbers"))
    facts.append(_fact(f"{done:,g}" + (f" of {epochs:,}" if epochs else ""), "epochs trained"))
    lines = []
    if state == "running":
        lines.append(
            f"Training. {_left(run, done)}Written at {_at(time.time())} after each epoch; this page reloads itself."
        )
    elif state:
        lines.append(f"{state[0].upper()}{state[1:]}" if state.startswith("stopped") else f"Stopped: {state}")
    elif epochs and done < epochs:
        lines.append(f"Trained for {done:,g} of {counted(epochs, 'epoch')}.")
    if last and best and best["step"] != last["step"]:
        what = run.recipe.judged_by if run.recipe else "test error"
        lines.append(f"The lowest {what} was {percent(best[run.judged])}, after epoch {best['epoch']:g}.")
    if last:
        last_error = f": test error {percent(last.get('top1_error'))}" if last is not shown else ""
        lines.append(
            f"Tested on {counted(last['count'], 'image')} after epoch {last['epoch']:g}, at "
            f"{_at(last['time'])}{last_error}."
        )
    else:
        lines.append("No epoch has been tested yet.")
    for record in run.of("diverged"):
        lines.append(f"Numbers stopped being finite at step {record['step']}: {record.get('what', 'see the log')}")
    share = min(1.0, done / epochs) if epochs else 1.0
    progress = element("div", bar(share, f"{share:.0%} of the epochs"), class_="progress") if epochs else None
    facts = element("div", facts, class_="facts")
    return section(
        "overview", "Where it stands", facts, progress, (element("p", line) for line in [*lines, *(result or [])])
    )


def _fact(value, label):
    return element("div", element("b", value), element("span", label))


def _left(run, done):
    # "About 3 min to go. ", from the time that the last epoch took with its test.
    tests = [record["time"] for record in run.of("test")]
    if not run.epochs or len(tests) < 2 or tests[-1] <= tests[-2]:
        return ""
    return f"About {duration((run.epochs - done) * (tests[-1] - tests[-2]))} to go. "


def _at(seconds):
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def section(name, title, *children):
    """Return a section of the page with its heading."""
    return element("section", element("h2", title), *children, id=name)


def curves(runs: Sequence[LoggedRun]):
    """Return the section with the learning curves of one run or of several, or None if there is nothing to draw."""
    if not any(run.of(event) for run in runs for event in ("train", "epoch", "test")):
        return None
    kinds = {"loss": "loss", "top1_error": "error rate"}
    figures = [
        element("figure", svg(run_curves([run.records for run in runs], field), f"c{i}", f"{words} over epochs"))
        for i, (field, words) in enumerate(kinds.items())
    ]
    legend = None
    if len(runs) > 1:
        names = (
            element("li", element("i", style=f"background:{in_page_colors(COLORS[i % len(COLORS)])}"), run.name)
            for i, run in enumerate(runs)
        )
        note = element("p", "Solid: test images. Dashed: training images, as they are augmented and with dropout.")
        legend = [element("ul", names, class_="legend"), note]
    return section("curves", "Learning curves", element("div", figures, class_="pair"), legend, _epochs(runs[0]))


def _epochs(run):
    # A table of all epochs, newest first.
    tests = {record["epoch"]: record for record in run.of("test")}
    with_top5 = any("top5_error" in record for record in tests.values())
    rows = []
    for record in reversed(run.of("epoch")):
        test = tests.get(record["epoch"], {})
        cells = [number(record.get("loss")), percent(record.get("top1_error"))]
        cells += [number(test.get("loss")), percent(test.get("top1_error"))] if test else ["", ""]
        cells += [percent(test["top5_error"]) if "top5_error" in test else ""] if with_top5 else []
        speed = record.get("images_per_s")
        waited = record.get("waited")
        cells += [
            f"{record.get('rate', 0):.3g}",
            f"{speed:,.0f}" if speed else "",
            f"{waited:.1%}" if waited is not None else "",
        ]
        rows.append([f"{record['epoch']:g}", *cells])
    if not rows:
        return None
    top5 = ["test top-5"] if with_top5 else []
    headings = [
        "epoch",
        "training loss",
        "training error",
        "test loss",
        "test error",
        *top5,
        "rate",
        "images/s",
        "waiting",
    ]
    shown = table(headings, rows[:SHOWN_EPOCHS], class_="numbers")
    if len(rows) <= SHOWN_EPOCHS:
        return shown
    return [
        shown,
        unfold(
            f"{counted(len(rows) - SHOWN_EPOCHS, 'earlier epoch')}",
            table(headings, rows[SHOWN_EPOCHS:], class_="numbers"),
        ),
    ]


def unfold(title, *children):
    """Return what is shown only when the reader asks for it."""
    return element("details", element("summary", title), *children)


def comparison(runs: Sequence[LoggedRun]):
    """Return the section that sets several runs side by side, with the settings in which they differ."""
    rows = []
    for run in runs:
        last, best = run.last_test, run.best_test
        cells = [percent(last.get("top1_error")), number(last.get("loss"))] if last else ["", ""]
        of_classes = "mean of the classes, " if run.judged == "mean_class_error" else ""
        lowest = f"{percent(best[run.judged])} ({of_classes}epoch {best['epoch']:g})" if best else ""
        rows.append([run.name, f"{last.get('epoch', 0):g}", *cells, lowest])
    settings = [_flat(run.recipe) for run in runs]
    keys = list(dict.fromkeys(key for each in settings for key in each))
    differing = [key for key in keys if len({each.get(key) for each in settings}) > 1]
    table_ = table(["run", "epochs", "test error", "test loss", "lowest test error"], rows, class_="numbers")
    shown = element("p", "The recipes are the same.")
    if differing:
        values = ([key, *(each.get(key, "") for each in settings)] for key in differing)
        shown = table(["setting", *(run.name for run in runs)], values)
    return section("comparison", "The runs side by side", table_, element("h3", "Settings that differ"), shown)


def _flat(recipe):
    if recipe is None:
        return {}
    found = {}
    for name, value in tomllib.loads(recipes.to_toml(recipe)).items():
        pairs = value.items() if isinstance(value, dict) else [(None, value)]
        found |= {f"{name}.{key}" if key else name: _plain(each) for key, each in pairs}
    return found


def _plain(value):
    return value if isinstance(value, str) else re.sub(r"[{}']", "", str(value))


def units(run: LoggedRun):
    """Return the section about units that are 0 for every image of a training batch, or None if nothing is known."""
    dead = run.last_test.get("dead_relu")
    if not dead:
        return None
    history = {
        name: [record["dead_relu"].get(name, 0) for record in run.of("test") if record.get("dead_relu")]
        for name in dead
    }
    rows = [
        [name, bar(share, f"{share:.1%}", "red" if share > 0.5 else "blue"), f"{max(history[name]):.1%}"]
        for name, share in dead.items()
    ]
    text = (
        "The share of each layer's units, or maps after a convolution, that are 0 for every image of a training batch. "
        "They learn nothing from it. If most of a layer is dead, use a smaller learning.rate or larger init.biases."
    )
    return section("units", "Dead units", element("p", text), table(["layer", "dead now", "most so far"], rows))


def resources(run: LoggedRun):
    """Return the section about time and memory."""
    epochs, rows = run.of("epoch"), []
    tests = {record["epoch"]: record["time"] for record in run.of("test")}
    if run.records and run.records[-1].get("time") and run.records[0].get("time"):
        rows.append(["first and last record", f"{_at(run.records[0]['time'])} and {_at(run.records[-1]['time'])}"])
    if epochs:
        speeds = sorted(record["images_per_s"] for record in epochs if record.get("images_per_s"))
        if speeds:
            rows.append(
                ["training", f"{speeds[len(speeds) // 2]:,.0f} images/s, the median of {counted(len(speeds), 'epoch')}"]
            )
        waited = [record["waited"] for record in epochs if record.get("waited") is not None]
        if waited:
            rows.append(["waiting for data", f"{sum(waited) / len(waited):.1%} of the time"])
        tested = [tests[record["epoch"]] - record["time"] for record in epochs if record["epoch"] in tests]
        if tested:
            rows.append(["testing", f"{duration(sorted(tested)[len(tested) // 2])} after each epoch"])
    if run.recipe and run.recipe.net.classes:
        network = alexnet.describe(run.recipe.net, run.recipe.init)
        count = sum(parameter.size for parameter in network.parameters())
        batch = run.recipe.learning.batch
        on_gpu, on_host = sum(memory.needed(network, batch)), sum(memory.on_host(network, batch)) / 2
        rows.append(["parameters", f"{count:,}, {4 * count / 2**20:,.1f} MiB"])
        rows.append(
            [
                "memory",
                f"about {on_host / 2**30:.2f} GiB on the CPU, {on_gpu / 2**30:.2f} GiB on a GPU, for batches of "
                f"{counted(batch, 'image')}",
            ]
        )
    return section("resources", "Time and memory", table(["what", "how much"], rows)) if rows else None


def configuration(run: LoggedRun):
    """Return the section with the recipe."""
    if run.recipe is None:
        return section("configuration", "Configuration", element("p", "The folder has no recipe that can be read."))
    net, learning = run.recipe.net, run.recipe.learning
    columns = f"{counted(net.columns, 'column')}" + (
        f", exchange before {', '.join(net.exchanges)}" if net.exchanges else ""
    )
    line = (
        f"Recipe {run.recipe.name}: {net.kind}, {columns}; {net.input} x {net.input} pixels in, "
        f"{counted(net.classes, 'class')} out; batches of {learning.batch}, rate {learning.rate:g}, schedule "
        f"{learning.schedule}."
    )
    whole = element("pre", element("code", recipes.to_toml(run.recipe)))
    return section("configuration", "Configuration", element("p", line), unfold("the whole recipe", whole))


def commands(
    run: LoggedRun,
    seed: int | None,
    state: str | None,
    again: str | None = None,
    choice: Sequence[str] = (),
    given: Sequence[str] = (),
):
    """Return the section with the commands that lead on from here.

    Parameters
    ----------
    run : LoggedRun
    seed : int or None
        The run's, if it is known.
    state : str or None
        As in `overview`.
    again : str, optional
        The command that resumes the run, if it is known.
    choice : sequence of str
        ``--best`` or ``--last``, with which the commands take the checkpoint that the report is about.
    given : sequence of str
        Options that name the data.
    """
    folder = str(run.folder)
    evaluated = [option for option in choice if option == "--best"]  # --last is the default there, and --best elsewhere
    others = [option for option in choice if option == "--last"]
    epochs, done = run.epochs, run.last_test.get("epoch") or 0
    lines: list[tuple[str, str | list[str]]] = []
    if again is None and run.recipe is not None:
        options = ["--seed", str(seed)] if seed else []
        again = shlex.join(["tinyalex", "train", f"{folder}/{run_folder.RECIPE}", "--out", folder, *options])
    if again and epochs and done < epochs:
        lines.append(("resume the training", again))
    lines += [
        ("errors class by class", ["tinyalex", "evaluate", folder, *evaluated, "--classes", *given]),
        ("the average of ten crops", ["tinyalex", "evaluate", folder, *evaluated, "--views", "10", *given]),
        ("classify your own images", ["tinyalex", "predict", "IMAGE", "--run", folder, *others]),
        ("what the net looks at in an image", ["tinyalex", "explain", "IMAGE", "--run", folder, *others]),
        ("all pictures, in files", ["tinyalex", "figures", folder, *given]),
        ("this page again", ["tinyalex", "report", folder, *others, *given]),
        ("this run beside another", ["tinyalex", "report", folder, "OTHER-RUN", "--out", "comparison.html"]),
        ("the weights alone, in one file", ["tinyalex", "export", folder, "weights.safetensors", *others]),
    ]
    cells = [(what, words if isinstance(words, str) else shlex.join(words)) for what, words in lines]
    listed = (element("li", element("span", what), element("pre", element("code", words))) for what, words in cells)
    return section("commands", "How to go on", element("ul", listed, class_="commands"))
