"""Recipes: files that keep the settings of a run together; change one alone and training may stall.

A recipe is a TOML file with the net, its initialization, the scale of its input and its learning rates, in ``recipes/``
or anywhere else. `load` reads one, checks every key, and returns frozen dataclasses. `to_toml` writes the resolved
recipe, with all overrides, to the run folder.
"""

import codecs
import contextlib
import json
import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tinyalex.errors import UsageError
from tinyalex.recipes.ranges import RULES, check, unknown
from tinyalex.recipes.settings import FILES, LAYERS, Data, Init, Learning, Net, Phase, Recipe, build
from tinyalex.words import counted

__all__ = ["LAYERS", "Data", "Init", "Learning", "Net", "Phase", "Recipe"]
__all__ += ["load", "names", "parse", "to_toml", "with_classes", "with_epochs", "with_rate", "with_steps"]


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
        ``"section.key=value"``, the value as in TOML, where quotes may be missing, and ``.5``, ``yes`` and ``1,2,3``
        are read as well. With another ``learning.epochs`` or ``learning.rate`` the phases change in proportion;
        ``learning.epochs`` also takes the place of ``learning.steps``.

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
        raise _no_recipe(name)
    try:
        content = source.read_bytes()
    except OSError as error:
        raise UsageError(f"{name}: cannot be read ({error.strerror}); give a TOML file") from None
    try:
        tables = tomllib.loads(_decoded(content, name))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name}: {error}; correct the TOML") from None
    return _built(tables, Path(name).stem, overrides)


def _no_recipe(name: str) -> UsageError:
    if Path(name).is_dir():
        data = f"to train on its images: tinyalex train --data {shlex.quote(name)}"
        if (Path(name) / "recipe.toml").is_file():
            data = f"for the recipe of a run, give {shlex.quote(str(Path(name) / 'recipe.toml'))}"
        return UsageError(f"{name}: is a folder, not a recipe; {data}")
    if re.fullmatch(r"[\w.]+=.*", name):
        return UsageError(f"{name}: is not a recipe; to change a key, write --set {shlex.quote(name)}")
    if "/" in name or name.endswith(".toml"):
        return UsageError(f"{name}: no such file; give the path of a TOML file, or one of {', '.join(names())}")
    return unknown(name, names(), "recipe or file")


def _decoded(content: bytes, name: str) -> str:
    # Editors may put a byte order mark before UTF-8, and write lines that end with CR and LF, as TOML allows.
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UsageError(f"{name}: is written in UTF-16; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: is not text in UTF-8 (byte {error.start + 1:,}); give a TOML file") from None
    if "\0" in text:
        raise UsageError(f"{name}: holds bytes of 0, as UTF-16 does; save it as UTF-8, or give a TOML file")
    return text


def parse(text: str, name: str = "unnamed", overrides: Sequence[str] = ()) -> Recipe:
    """Build a recipe from TOML text, as `load` does from a file; `name` is used if the text has none."""
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"recipe {name}: {error}; correct the TOML") from None
    return _built(tables, name, overrides)


def _built(tables: dict[str, Any], name: str, overrides: Sequence[str]) -> Recipe:
    tables, notes = _renamed(tables)
    changes, change_notes = _renamed(dict(map(_split, overrides)))
    # Another number of epochs or another rate changes the phases in proportion, below, unless they are given as well.
    rescaled = ("learning.epochs", "learning.rate") if "learning.phases" not in changes else ()
    rescale = {key: changes.pop(key) for key in rescaled if key in changes}
    if "learning.epochs" in {*changes, *rescale} and "learning.steps" not in changes:
        changes["learning.steps"] = None
    for key, value in changes.items():
        _put(tables, key, value)
    sections = {part.section: part for part in (Net, Init, Data, Learning)}
    parts = {"name": tables.pop("name", name)}
    for section, table in tables.items():
        if section not in sections:
            raise unknown(f"{section}.{next(iter(table))}" if isinstance(table, dict) and table else section)
        parts[section] = build(sections[section], table)
    recipe = Recipe(**parts, notes=tuple(dict.fromkeys(notes + change_notes)))
    if "learning.rate" in rescale:
        recipe = with_rate(recipe, rescale["learning.rate"])
    return with_epochs(recipe, rescale["learning.epochs"]) if "learning.epochs" in rescale else recipe


OLD_NAMES = {  # keys of earlier versions: what they are called now
    "learning.decay": "learning.weight_decay",
    "learning.decays": "learning.layer_weight_decay",
    "learning.phases.slow": "learning.phases.lr_mult",
    "net.tf32": "net.precision",
}
_OLD_VALUES = {"net.tf32": {True: "tf32", False: "float32"}}  # and their values


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
            value = _old_value(old, value)
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


def _old_value(key: str, value: Any) -> Any:
    if key not in _OLD_VALUES:
        return value
    if not isinstance(value, bool):
        raise UsageError(f"{key}: {value!r} is not valid; give true or false, or {OLD_NAMES[key]} instead")
    return _OLD_VALUES[key][value]


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
    note = f"{counted(epochs, 'epoch')} instead of {old}: phases and warm-up changed in proportion"
    return replace(recipe, learning=learning, notes=(*recipe.notes, note))


def with_steps(recipe: Recipe, images: int) -> Recipe:
    """Raise the epochs so that so many training images give ``learning.steps`` steps, or more.

    Examples
    --------
    >>> from tinyalex import recipe
    >>> shapes = recipe.load("shapes", ["learning.steps=1000"])
    >>> recipe.with_steps(shapes, 640).learning.epochs
    200
    >>> recipe.with_steps(shapes, 64000).learning.epochs
    8
    """
    steps, epochs = recipe.learning.steps, recipe.learning.epochs
    if not steps or not images:
        return recipe
    return with_epochs(recipe, max(epochs, -(-steps // -(-images // recipe.learning.batch))))


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


def differences(old: Recipe, new: Recipe) -> list[tuple[str, Any, Any]]:
    """Return ``(key, old value, new value)`` of every setting that differs, except the names and what finds the data.

    These are ``data.set`` and ``data.size``: runs record an identity of their images, which is compared instead.

    Examples
    --------
    >>> from tinyalex import recipe
    >>> recipe.differences(recipe.load("shapes"), recipe.load("shapes", ["learning.momentum=0.8"]))
    [('learning.momentum', 0.9, 0.8)]
    """
    found = []
    for part in ("net", "init", "data", "learning"):
        before, after = asdict(getattr(old, part)), asdict(getattr(new, part))
        found += [(f"{part}.{key}", before[key], after[key]) for key in before if key not in ("set", "size")]
    return [each for each in found if each[1] != each[2]]


def describe(changed: Iterable[tuple[str, Any, Any]]) -> str:
    """Format differences for a message: ``"learning.rate 0.01, now it is 0.02"``."""
    return ", ".join(_changed(*each) for each in changed)


def _changed(key: str, old: Any, new: Any) -> str:
    if isinstance(old, str) and isinstance(new, str) and "\n" in old + new:  # name the first line that differs
        lines = enumerate(zip_longest(old.split("\n"), new.split("\n"), fillvalue=""), start=1)
        number, (old, new) = next((n, pair) for n, pair in lines if pair[0] != pair[1])
        key, old, new = f"{key}, line {number}:", repr(old), repr(new)
    return f"{key} {_short(old)}, now it is {_short(new)}"


def _short(value: Any) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], dict):  # phases
        return " and ".join(f"{phase['rate']:g} from epoch {phase['epoch']:g}" for phase in value)
    text = counted(value.count("\n") + 1, "line") if isinstance(value, str) and "\n" in value else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def to_toml(recipe: Recipe, texts: bool = True) -> str:
    """Format a recipe as TOML that `load` and `parse` read back equal; its notes become comments.

    Without `texts`, the authors' files that a recipe may hold are left out, with a comment that counts their lines.
    """
    lines = [*(f"# {note}" for note in recipe.notes), f"name = {_value(recipe.name)}"]
    for part in (recipe.net, recipe.init, recipe.data, recipe.learning):
        if part is recipe.init and recipe.net.kind == FILES:  # such a net has its first values
            continue
        lines += ["", f"[{part.section}]", *_pairs(part, texts)]
    for phase in recipe.learning.phases:
        lines += ["", "[[learning.phases]]", *_pairs(phase)]
    return "\n".join(lines) + "\n"


def _pairs(part: Net | Init | Data | Learning | Phase, texts: bool = True) -> list[str]:
    pairs = {key: getattr(part, key) for key in part.keys if key != "phases"}
    values = {key: value for key, value in pairs.items() if value not in (None, {})}
    return [
        _document(key, value, texts) if key.endswith("_cfg") else f"{key} = {_value(value)}"
        for key, value in values.items()
    ]


def _document(key: str, text: str, whole: bool) -> str:
    # Text of several lines; the first line break after the quotes is not part of it.
    lines = text.split("\n")
    if not whole:
        return f"# {key}: {counted(len(lines), 'line')}, not shown"
    return "\n".join([f'{key} = """', *(json.dumps(line, ensure_ascii=False)[1:-1] for line in lines)]) + '"""'


def _value(value: Any) -> str:
    if isinstance(value, dict):
        pairs = [f"{_key(key)} = {_value(item)}" for key, item in value.items()]
        return "{ " + ", ".join(pairs) + " }" if pairs else "{}"
    # Text, numbers, booleans and lists are the same in TOML and JSON, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else _value(name)


def _folder() -> Traversable:
    return resources.files("tinyalex") / "recipes"


def _split(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    key, text = key.strip(), text.strip()
    if not equals or not key:
        raise UsageError(f"--set {override}: no value; write --set section.key=value, without spaces")
    if not text:
        raise UsageError(f"--set {override}: no value; write --set {key}=value")
    for value in _readings(text) if key in RULES else ():
        with contextlib.suppress(UsageError):
            check(key, value)
            return key, value
    return key, next(_readings(text))


_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _readings(text: str) -> Iterator[Any]:
    """Yield what a value on the command line may mean, the most likely meaning first.

    As TOML it may lack zeros (``.01``, ``1.``), quotes, which the shell removes, and the brackets of a list.
    """
    with_zeros = re.sub(r"(?<![\w.])\.(?=\d)", "0.", re.sub(r"(?<=\d)\.(?![\d.])", ".0", text))
    if re.fullmatch(r"\(.*\)", with_zeros):
        with_zeros = f"[{with_zeros[1:-1]}]"
    quoted = with_zeros if '"' in text else re.sub(r"(?<=[\[=,\s])([A-Za-z]\w*)(?=\s*[,\]}])", r'"\1"', with_zeros)
    for written in (text, with_zeros, quoted):
        with contextlib.suppress(tomllib.TOMLDecodeError, RecursionError):
            value = tomllib.loads(f"x = {written}")["x"]
            yield value
            if isinstance(value, float) and value.is_integer():
                yield int(value)
    if text.lower() in _FLAGS:
        yield _FLAGS[text.lower()]
    yield text
    yield [next(_readings(item.strip())) for item in text.split(",")]


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
