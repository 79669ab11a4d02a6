"""The type and range of each key of a recipe, with a description for error messages."""

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from tinyalex.errors import UsageError
from tinyalex.words import did_you_mean

Rule: TypeAlias = tuple[str, Callable[[Any], Any]]  # a description, and a function that checks and converts a value


def _whole(low: int) -> Rule:
    def convert(value: Any) -> int:
        if type(value) is not int or value < low:
            raise ValueError
        return value

    return f"a whole number, {low} or more", convert


def _number(range_: str, fits: Callable[[float], bool]) -> Rule:
    def convert(value: Any) -> float:
        if type(value) not in (int, float) or not math.isfinite(value) or not fits(value):
            raise ValueError
        return float(value)

    return f"a number {range_}", convert


def _choice(*options: str | int, older: dict[str, str] | None = None) -> Rule:
    # `older` maps what a value was called in earlier versions to what it is called now.
    def convert(value: Any) -> str | int:
        value = (older or {}).get(value, value) if isinstance(value, str) else value
        value = str(value) if type(value) is int and type(options[0]) is str else value  # norm=2012, without quotes
        if type(value) is not type(options[0]) or value not in options:
            raise ValueError
        return value

    return " or ".join(repr(option) for option in options), convert


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError
    return value


def _path(value: Any) -> str:
    if not isinstance(value, str) or "\x7f" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError  # TOML has neither
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _sequence(rule: Rule | None = None) -> Rule:
    def convert(value: Any) -> tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError
        return tuple(value) if rule is None else tuple(rule[1](item) for item in value)

    return ("a list" if rule is None else f"a list, each {rule[0]}"), convert


def _by_layer(rule: Rule, **default: float) -> Rule:
    def convert(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError
        return default | {layer: rule[1](setting) for layer, setting in value.items()}

    return f"a table of layers, each {rule[0]}", convert


def _or(alternative: str | None, rule: Rule) -> Rule:
    def convert(value: Any) -> Any:
        return value if value == alternative and type(value) is type(alternative) else rule[1](value)

    return f"{rule[0]}, or {alternative!r}", convert


_NOT_NEGATIVE = _number("0 or above", lambda x: x >= 0)
_POSITIVE = _number("above 0", lambda x: x > 0)
_BELOW_ONE = _number("from 0 to below 1", lambda x: 0 <= x < 1)
_TEXT = ("text on one line", _text)
_PATH = ("a path in UTF-8: rename what is not", _path)
_YES_NO = ("true or false", _flag)

RULES: dict[str, Rule] = {
    "name": _TEXT,
    "net.kind": _choice("alexnet", "cifar10", "cifar10-local"),
    "net.input": _whole(1),
    "net.columns": _choice(1, 2),
    "net.maps": _sequence(_whole(0)),
    "net.kernels": _sequence(_whole(1)),
    "net.stride": _whole(1),
    "net.hidden": _whole(1),
    "net.bottleneck": _whole(0),
    "net.classes": _whole(0),
    "net.talk": _sequence(_TEXT),
    "net.norm": _choice("paper", "2012", "none"),
    "net.pool": _choice(2, 3),
    "net.fc8": _choice("a", "split"),
    "net.activation": _choice("relu", "tanh"),
    "net.convolution": _choice("auto", "im2col", older={"winograd": "auto"}),
    "net.tf32": _YES_NO,
    "net.dropout": _BELOW_ONE,
    "init.weights": _by_layer(_or("he", _NOT_NEGATIVE), default=0.01),
    "init.biases": _by_layer(_number("of any size", lambda x: True), default=0.0),
    "init.anew": _sequence(_TEXT),
    "init.like_run": _YES_NO,
    "data.set": _PATH,
    "data.test_share": _or(None, _BELOW_ONE),
    "data.size": _or(None, _whole(1)),
    "data.flip": _YES_NO,
    "data.shared_crop": _whole(1),
    "data.mean": _choice("image", "centre"),
    "data.scale": _POSITIVE,
    "data.colour": _choice("none", "2012", "paper"),
    "data.colour_noise": _NOT_NEGATIVE,
    "learning.batch": _whole(1),
    "learning.epochs": _whole(1),
    "learning.steps": _or(None, _whole(1)),
    "learning.rate": _POSITIVE,
    "learning.bias_rate": _NOT_NEGATIVE,
    "learning.momentum": _BELOW_ONE,
    "learning.weight_decay": _NOT_NEGATIVE,
    "learning.layer_weight_decay": _by_layer(_NOT_NEGATIVE),
    "learning.lr_mult": _by_layer(_NOT_NEGATIVE),
    "learning.schedule": _choice("phases", "plateau", "cosine"),
    "learning.warmup": _NOT_NEGATIVE,
    "learning.patience": _whole(1),
    "learning.drops": _whole(0),
    "learning.phases": _sequence(),
    "learning.phases.epoch": _NOT_NEGATIVE,
    "learning.phases.rate": _POSITIVE,
    "learning.phases.bias_rate": _or(None, _NOT_NEGATIVE),
    "learning.phases.colour_noise": _or(None, _NOT_NEGATIVE),
    "learning.phases.lr_mult": _by_layer(_NOT_NEGATIVE),
}


def check(key: str, value: Any) -> Any:
    """Check a value of a recipe key and convert it (lists to tuples, rates to floats).

    Raises
    ------
    UsageError
        The message names the key and what it may be.
    """
    description, convert = RULES[key]
    try:
        return convert(value)
    except ValueError:
        raise UsageError(f"{key}: {value!r} is not valid; give {description}") from None


def unknown(key: str, candidates: Iterable[str] = RULES, what: str = "key") -> UsageError:
    """Make the UsageError for a name that is not among the candidates; its message names a similar one, or all."""
    remedy = did_you_mean(key, candidates)
    if candidates is RULES and remedy.count(",") > 20:  # no such section either
        remedy = "; give a key of net, init, data or learning, such as learning.rate"
    return UsageError(f"{key}: no such {what}{remedy}")
