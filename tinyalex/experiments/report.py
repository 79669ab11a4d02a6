"""An experiment's result beside the paper's: as text, as JSON and as a picture."""

import json
from pathlib import Path

import numpy as np

from tinyalex import figures
from tinyalex.experiments import ensemble
from tinyalex.experiments.race import GOAL
from tinyalex.system import lock, ownership, storage
from tinyalex.training.evaluation import shows_top5
from tinyalex.words import counted

FILES = ("result.json", "result.png")

_VERDICTS = {
    "higher": "these runs show it too",
    "lower": "these runs show the opposite",
    "open": "these runs do not show it",
}


def text(result):
    """Format a result as text.

    Parameters
    ----------
    result : dict
        As returned by `tinyalex.experiments.experiment.experiment`.

    Returns
    -------
    str
    """
    if "suggested" in result:
        return "\n".join(_rate(result))
    head = [
        f"{result['title']} (paper, section {result['section']})",
        f"{result['data']['shown']}; recipe {result['recipe']}, seeds: {result['seeds']}, epochs: {result['epochs']}",
        "",
    ]
    if "averaged" in result:
        return "\n".join([*head, *ensemble.text(result)])
    return "\n".join(head + (_race(result) if "ratio" in result else _comparison(result)))


def _comparison(result):
    columns = {"top1_error": "top-1 error", "top5_error": "top-5 error", "train_error": "training error"}
    if not _has_top5(result):
        del columns["top5_error"]
    lines = [" " * 22 + "".join(f"{column:>18}" for column in columns.values())]
    for arm in result["arms"]:
        cells = "".join(f"{_spread(arm[m]):>18}" for m in columns)
        lines.append(f"{arm['name']:<22}{cells}")
    lines += [
        "",
        "± is the standard deviation over the seeds; differences are paired by seed, with 95 % confidence intervals",
    ]
    counted_starts = any("starts" in arm for arm in result["arms"])
    if counted_starts:
        counts = [f"{arm['name']} {sum(arm['starts'])} of {len(arm['starts'])}" for arm in result["arms"]]
        lines += ["", f"seeds with which the net starts to learn: {', '.join(counts)}"]
    for effect in result["effects"]:
        lines += ["", f"{effect['name']} compared with {result['arms'][0]['name']}:"]
        for measure, name, paper in (
            ("top1_error", "top-1 error", result["paper"][0]),
            ("top5_error", "top-5 error", result["paper"][1]),
            ("train_error", "training error", None),
            ("gap", "test minus training error", None),
        ):
            if measure == "train_error" and (result.get("found") or ("", ""))[1] != "train_error":
                continue
            if measure == "top5_error" and not _has_top5(result):
                continue
            lines.append(f"  {name:<26}{_difference(effect[measure])}" + (f"; paper +{paper} points" if paper else ""))
        if not counted_starts:
            lines.append(f"  {_sentence(result, effect)}")
    return [*lines, f"the paper: {result['source']}"]


def _rate(result):
    rates, taken, own = result["rates"], len(result["mean"]), result["recipe_rate"]
    yield f"learning-rate range test of recipe {result['recipe']}; {result['data']['shown']}"
    yield f"{counted(taken, 'step')} with rates from {rates[0]:g} to {rates[taken - 1]:g}, seeds: {result['seeds']}"
    if taken < len(rates):
        yield f"ended there, before {rates[-1]:g}: the loss had grown or was not finite"
    if result["suggested"] is None:
        yield "the loss falls at no rate; try more --steps, or check net, init and data.scale with tinyalex gradcheck"
        return
    first, lowest = result["mean"][0], min(result["mean"])
    yield f"the loss, {first:.3f} at first, is lowest, {lowest:.3f}, at rate {result['lowest']:g}"
    yield f"suggested: a third of that, --set learning.rate={result['suggested']:g}; the recipe's rate is {own:g}"


def _has_top5(result):
    return shows_top5(result["data"].get("classes", 6))  # earlier versions did not save their number


def _sentence(result, effect):
    # The paper's claim: the changed net has a higher error or, where the paper has no number, overfits more.
    by, measure = result.get("found") or ("the paper", "top1_error" if result["paper"][0] else "gap")
    claims = {"top1_error": "a higher top-1 error", "train_error": "a higher training error"}
    claim = claims.get(measure, "more overfitting")
    if result["seeds"] < 2:
        return f"{by} found {claim}; one seed cannot show a difference, use --seeds"
    return f"{by} found {claim}; {_VERDICTS[effect[measure]['verdict']]}"


def _race(result):
    lines = []
    for arm in result["arms"]:
        tried = ", ".join(f"{rate:g}" for rate in sorted(run["rate"] for run in arm["searched"]))
        needed = ", ".join("not reached" if n is None else f"{n:.2f}" for n in arm["needed"])
        lines.append(
            f"{arm['name']}: rate {arm['rate']:g} (tried {tried}); epochs to {GOAL:.0%} training error: {needed}"
        )
    ratios = [ratio for ratio in result["ratio"] if ratio]
    if not ratios:
        return [
            *lines,
            f"no ratio: a net did not reach {GOAL:.0%} within {counted(result['epochs'], 'epoch')}; the paper: 6 times",
        ]
    spread = f", ± {np.std(ratios, ddof=1):.2f} over {len(ratios)} seeds" if len(ratios) > 1 else ", one seed"
    return [*lines, f"tanh takes {np.mean(ratios):.2f} times as many epochs as relu{spread}; the paper: 6 times"]


def check_files(out):
    """Check before an experiment that no file that `write` replaces is somebody else's; StorageError if one is.

    The folder of an earlier version is recognised by its settings or its result.
    """
    out = Path(out)
    if not ownership.is_marked(out):
        known = {"settings.json": {"recipe", "data"}, FILES[0]: {"experiment", "made_with", "arms", "effects"}}
        found = [name for name, keys in known.items() if keys <= _json(out / name).keys()]
        if found:
            pictures = [name for name in FILES[1:] if ownership.is_picture(out / name)]
            ownership.adopt(out, [], [*found, *pictures], [lock.NAME] if lock.is_lock(out / lock.NAME) else [])
    for name in ("settings.json", *FILES):
        ownership.check(out / name)


def _json(path):
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write(result, out):
    """Save a result as JSON and as a picture.

    Parameters
    ----------
    result : dict
    out : Path
        The experiment's folder.

    Returns
    -------
    paths : list of Path
        Of the files.
    reason : str or None
        Why there is no picture.
    """
    paths = [Path(out) / name for name in FILES]
    storage.write_text(paths[0], json.dumps(result, indent=1) + "\n")
    reason = figures.attempt(lambda: picture(result), paths[1])
    return paths[: 1 if reason else 2], reason


def picture(result):
    """Draw a result.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if "suggested" in result:
        curve = (result[key] for key in ("rates", "losses", "mean", "suggested", "recipe_rate"))
        return figures.rate_test(*curve)
    if "averaged" in result:
        rows = result["averaged"]
        about = f"{result['recipe']}, {counted(result['views'], 'view')} of each image"
        return figures.averages([row["nets"] for row in rows], [row["top1_error"] for row in rows], about)
    if "ratio" in result:
        names = {"relu": "ReLU", "tanh": "tanh"}
        curves = [(f"{names[arm['name']]}, rate {arm['rate']:g}", arm["errors"][0]) for arm in result["arms"]]
        others = [[*arm["errors"][1:], *(run["errors"] for run in arm["searched"][1:])] for arm in result["arms"]]
        return figures.race(curves, GOAL, others)
    return figures.seeds(result)


def _spread(errors):
    deviation = f" ± {100 * np.std(errors, ddof=1):.2f}" if len(errors) > 1 else ""
    return f"{100 * np.mean(errors):.2f}{deviation} %"


def _difference(effect):
    mean = f"{100 * effect['mean']:+.2f}"
    if effect["half"] is None:
        return f"{mean} points, one seed"
    low, high = (100 * (effect["mean"] + side * effect["half"]) for side in (-1, 1))
    return f"{mean} points ({low:+.2f} to {high:+.2f})"
