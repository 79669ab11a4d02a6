"""Recipes: files that keep the settings of a run together; change one alone and training may stall.

A recipe is a TOML file with the net, its initialization, the scale of its input and its learning rates, in ``recipes/``
or anywhere else. `load` reads one, checks every key, and returns frozen dataclasses. `to_toml` writes the resolved
recipe, with all overrides, to the run folder.
"""

import json
import tomllib
from collections.abc import Sequence
from dataclasses import fields, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from tinyalex.errors import UsageError
from tinyalex.recipes.ranges import check, unknown
from tinyalex.recipes.settings import LAYERS, Data, Init, Learning, Net, Phase, Recipe, build

__all__ = ["LAYERS", "Data", "Init", "Learning", "Net", "Phase", "Recipe"]
__all__ += ["load", "names", "parse", "to_toml", "with_classes", "with_epochs", "with_rate"]


def names() -> list[str]:
    """Return the names of the recipes that come with the package."""
    return sorted(file.name[:-5] for file in _folder().iterdir() if file.name.endswith(".toml"))


def load(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and check it.

    Parameters
    ----------
    name_or_path : str or Path
        One of `names`, or the path of a TOML file.
    overrides : sequence of str
        ``"section.key=value"``, the value as in TOML (a bare word is text). With another ``learning.epochs`` or
        ``learning.rate`` the phases change in proportion.

    Raises
    ------
    UsageError
        For an unknown recipe or key (the message names the most similar one), a wrong type, or a value out of range.

    Examples
    --------
    >>> from tinyalex import recipe
    >>> original = recipe.load("original", ["learning.batch=64", "learning.rate=0.02"])
    >>> original.net.maps
    (96, 256, 384, 384, 256)
    >>> original.learning.batch
    64
    >>> original.notes
    ('learning rate 0.02 instead of 0.01: all phases changed in proportion',)
    """
    name = str(name_or_path)
    source = _folder() / f"{name}.toml" if name in names() else Path(name)
    if not source.is_file():
        raise unknown(name, names(), "recipe or file")
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{name}: cannot be read as text ({error}); give a TOML file") from None
    return parse(text, Path(name).stem, overrides)


def parse(text: str, name: str = "unnamed", overrides: Sequence[str] = ()) -> Recipe:
    """Build a recipe from TOML text, as `load` does from a file; `name` is used if the text has none."""
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"recipe {name}: {error}; correct the TOML") from None
    tables, notes = _renamed(tables)
    changes, change_notes = _renamed(dict(map(_split, overrides)))
    # Another number of epochs or another rate changes the phases in proportion, below, unless they are given as well.
    rescaled = ("learning.epochs", "learning.rate") if "learning.phases" not in changes else ()
    rescale = {key: changes.pop(key) for key in rescaled if key in changes}
    for key, value in changes.items():
        _put(tables, key, value)
    sections = {part.section: part for part in (Net, Init, Data, Learning)}
    parts = {"name": tables.pop("name", name)}
    for section, table in tables.items():
        if section not in sections:
            raise unknown(section)
        parts[section] = build(sections[section], table)
    recipe = Recipe(**parts, notes=tuple(dict.fromkeys(notes + change_notes)))
    if "learning.rate" in rescale:
        recipe = with_rate(recipe, rescale["learning.rate"])
    return with_epochs(recipe, rescale["learning.epochs"]) if "learning.epochs" in rescale else recipe


OLD_NAMES = {  # keys of earlier versions: what they are called now
    "learning.decay": "learning.weight_decay",
    "learning.decays": "learning.layer_weight_decay",
    "learning.phases.slow": "learning.phases.lr_mult",
}


def _renamed(tables: dict[str, Any], section: str = "") -> tuple[dict[str, Any], list[str]]:
    # Renames keys of earlier versions, in nested tables and in "section.key" overrides. Returns the tables and notes.
    renamed, notes = {}, []
    for key, value in tables.items():
        name = f"{section}{key}"
        old = next((old for old in OLD_NAMES if f"{name}.".startswith(f"{old}.")), None)
        if old:
            key = f"{OLD_NAMES[old]}{name.removeprefix(old)}".removeprefix(section)
            if key in tables:
                raise UsageError(f"{old}: was renamed to {OLD_NAMES[old]}, which is given too; remove {old}")
            notes.append(f"{old} is now called {OLD_NAMES[old]}; the old name is still read")
        elif any(old.startswith(f"{name}.") for old in OLD_NAMES):
            if isinstance(value, dict):
                value, found = _renamed(value, f"{name}.")
                notes += found
            elif isinstance(value, list) and all(isinstance(item, dict) for item in value):
                pairs = [_renamed(item, f"{name}.") for item in value]
                value = [table for table, _ in pairs]
                notes += [note for _, found in pairs for note in found]
        renamed[key] = value
    return renamed, notes


def with_classes(recipe: Recipe, classes: int) -> Recipe:
    """Give a recipe with 0 classes the data's number of classes; UsageError if it has another number."""
    if recipe.net.classes not in (0, classes):
        raise UsageError(
            f"net.classes: {recipe.net.classes} in recipe {recipe.name}, but the data has {classes}; "
            f"add --set net.classes={classes}"
        )
    return replace(recipe, net=replace(recipe.net, classes=classes))


def with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """Return the recipe with another number of epochs; phases and warm-up change in proportion."""
    old, epochs = recipe.learning.epochs, check("learning.epochs", epochs)
    if epochs == old:
        return recipe
    phases = tuple(replace(p, epoch=_rounded(p.epoch * epochs / old)) for p in recipe.learning.phases)
    learning = replace(
        recipe.learning, epochs=epochs, phases=phases, warmup=_rounded(recipe.learning.warmup * epochs / old)
    )
    note = f"{epochs} epochs instead of {old}: phases and warm-up changed in proportion"
    return replace(recipe, learning=learning, notes=(*recipe.notes, note))


def with_rate(recipe: Recipe, rate: float) -> Recipe:
    """Return the recipe with another learning rate; the phases' rates for weights and biases change in proportion."""
    old, rate = recipe.learning.rate, check("learning.rate", rate)
    if rate == old:
        return recipe
    phases = tuple(
        replace(
            p,
            rate=rate if p.rate == old else _rounded(p.rate * rate / old),
            bias_rate=p.bias_rate and _rounded(p.bias_rate * rate / old),
        )
        for p in recipe.learning.phases
    )
    note = f"learning rate {rate:g} instead of {old:g}: all phases changed in proportion"
    return replace(recipe, learning=replace(recipe.learning, rate=rate, phases=phases), notes=(*recipe.notes, note))


def to_toml(recipe: Recipe) -> str:
    """Format a recipe as TOML that `load` and `parse` read back equal; its notes become comments."""
    lines = [*(f"# {note}" for note in recipe.notes), f"name = {_value(recipe.name)}"]
    for part in (recipe.net, recipe.init, recipe.data, recipe.learning):
        lines += ["", f"[{part.section}]", *_pairs(part)]
    for phase in recipe.learning.phases:
        lines += ["", "[[learning.phases]]", *_pairs(phase)]
    return "\n".join(lines) + "\n"


def _pairs(part: Net | Init | Data | Learning | Phase) -> list[str]:
    pairs = {key.name: getattr(part, key.name) for key in fields(part) if key.name != "phases"}
    return [f"{key} = {_value(value)}" for key, value in pairs.items() if value not in (None, {})]


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }" if value else "{}"
    return json.dumps(value, ensure_ascii=False)  # text, numbers, booleans and lists are the same in TOML and JSON


def _folder() -> Traversable:
    return resources.files("tinyalex") / "recipes"


def _split(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals:
        raise UsageError(f"--set {override}: no value; write section.key=value")
    try:
        return key.strip(), tomllib.loads(f"x = {text}")["x"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return key.strip(), text.strip()


def _put(tables: dict[str, Any], key: str, value: Any) -> None:
    section, *path = key.split(".")
    for step in path:
        tables = tables.setdefault(section, {})
        if not isinstance(tables, dict):
            raise UsageError(f"--set {key}: {section} is not a table of keys; set it as a whole")
        section = step
    tables[section] = value


def _rounded(x: float) -> float:
    return float(f"{x:.9g}")
