"""The type and range of each key of a recipe, with a description for error messages."""

import math
import unicodedata
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


def _document(value: Any) -> str:
    # Text of several lines, without control characters, which TOML does not have; an editor's CR and LF become LF.
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    text = value.replace("\r\n", "\n")
    if any(unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t" for char in text):
        raise ValueError
    return text


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


def _by_class(rule: Rule, *words: str) -> Rule:
    def convert(value: Any) -> str | dict[str, Any]:
        if isinstance(value, dict):
            return {name: rule[1](setting) for name, setting in value.items()}
        return _choice(*words)[1](value)

    return f"{_choice(*words)[0]}, or a table of classes, each {rule[0]}", convert


def _or(alternative: str | None, rule: Rule) -> Rule:
    def convert(value: Any) -> Any:
        return value if value == alternative and type(value) is type(alternative) else rule[1](value)

    return f"{rule[0]}, or {alternative!r}", convert


def _or_list(rule: Rule) -> Rule:
    # One value, or a list of them.
    def convert(value: Any) -> Any:
        return tuple(rule[1](item) for item in value) if isinstance(value, (list, tuple)) else rule[1](value)

    return f"{rule[0]}, or a list of them", convert


_NOT_NEGATIVE = _number("0 or above", lambda x: x >= 0)
_POSITIVE = _number("above 0", lambda x: x > 0)
_BELOW_ONE = _number("from 0 to below 1", lambda x: 0 <= x < 1)
_TEXT = ("text on one line", _text)
_PATH = ("a path in UTF-8: rename what is not", _path)
_DOCUMENT = ("the text of a file of cuda-convnet, without control characters", _document)
_YES_NO = ("true or false", _flag)

RULES: dict[str, Rule] = {
    "name": _TEXT,
    "net.kind": _choice("alexnet", "cifar10", "cifar10-local", "cuda-convnet"),
    "net.input": _whole(1),
    "net.columns": ("1 or 2", _whole(1)[1]),  # the authors' nets have up to 4 GPUs: `settings` checks the others
    "net.maps": _sequence(_whole(0)),
    "net.kernels": _sequence(_whole(1)),
    "net.stride": _whole(1),
    "net.hidden": _whole(1),
    "net.bottleneck": _whole(0),
    "net.classes": _whole(0),
    "net.talk": _sequence(_TEXT),
    "net.pads": _sequence(_whole(0)),
    "net.conv_rounding": _choice("ceil", "floor"),
    "net.pool_rounding": _or_list(_choice("ceil", "floor")),
    "net.norm": _choice("paper", "2012", "none"),
    "net.norm_size": _whole(1),
    "net.norm_k": _POSITIVE,
    "net.norm_alpha": _NOT_NEGATIVE,
    "net.norm_beta": _NOT_NEGATIVE,
    "net.norm_window": _choice("column", "all"),
    "net.norm_order": _choice("norm-pool", "pool-norm"),
    "net.pool": _choice(2, 3),
    "net.fc8": _choice("a", "split"),
    "net.activation": _choice("relu", "tanh"),
    "net.convolution": _choice("auto", "im2col", older={"winograd": "auto"}),
    "net.precision": _choice("float32", "tf32", "bf16"),
    "net.dropout": _BELOW_ONE,
    "net.layers_cfg": _or(None, _DOCUMENT),
    "net.layer_params_cfg": _or(None, _DOCUMENT),
    "init.weights": _by_layer(_or("he", _NOT_NEGATIVE), default=0.01),
    "init.biases": _by_layer(_number("of any size", lambda x: True), default=0.0),
    "init.anew": _sequence(_TEXT),
    "init.like_run": _YES_NO,
    "data.set": _PATH,
    "data.test_share": _or(None, _number("from 0 to 1", lambda x: 0 <= x <= 1)),
    "data.size": _or(None, _whole(1)),
    "data.flip": _YES_NO,
    "data.shared_crop": _whole(1),
    "data.mean": _choice("image", "centre"),
    "data.scale": _POSITIVE,
    "data.colour": _choice("none", "2012", "paper"),
    "data.colour_noise": _NOT_NEGATIVE,
    "data.sampling": _choice("each image once", "balanced"),
    "data.order": _choice("random", "shards"),
    "data.shuffle_buffer": _whole(1),
    "learning.batch": _whole(1),
    "learning.parts": _whole(0),
    "learning.epochs": _whole(1),
    "learning.steps": _or(None, _whole(1)),
    "learning.rate": _POSITIVE,
    "learning.bias_rate": _NOT_NEGATIVE,
    "learning.lr_mult": _by_layer(_NOT_NEGATIVE),
    "learning.momentum": _BELOW_ONE,
    "learning.layer_momentum": _by_layer(_BELOW_ONE),
    "learning.weight_decay": _NOT_NEGATIVE,
    "learning.layer_weight_decay": _by_layer(_NOT_NEGATIVE),
    "learning.lars": _NOT_NEGATIVE,
    "learning.scale": _choice("none", "linear"),
    "learning.schedule": _choice("phases", "plateau", "cosine", "polynomial"),
    "learning.warmup": _NOT_NEGATIVE,
    "learning.patience": _whole(1),
    "learning.drops": _whole(0),
    "learning.class_weights": _by_class(_NOT_NEGATIVE, "none", "balanced"),
    "learning.stop_after": _whole(0),
    "learning.phases": _sequence(),
    "learning.phases.epoch": _NOT_NEGATIVE,
    "learning.phases.rate": _POSITIVE,
    "learning.phases.bias_rate": _or(None, _NOT_NEGATIVE),
    "learning.phases.colour_noise": _or(None, _NOT_NEGATIVE),
    "learning.phases.lr_mult": _by_layer(_NOT_NEGATIVE),
}


SYNONYMS = {  # names of settings in other programs
    **dict.fromkeys(("lr", "learning_rate", "eta", "rate", "lr0", "base_lr"), "learning.rate"),
    **dict.fromkeys(("batch_size", "batchsize", "bs", "b", "minibatch", "train_batch_size"), "learning.batch"),
    **dict.fromkeys(("num_epochs", "n_epochs", "max_epochs", "epoch"), "learning.epochs"),
    **dict.fromkeys(("wd", "decay", "l2"), "learning.weight_decay"),
    **dict.fromkeys(("scheduler", "lr_scheduler", "lr_schedule"), "learning.schedule"),
    **dict.fromkeys(("warmup_epochs", "lr_warmup"), "learning.warmup"),
    **dict.fromkeys(("num_classes", "n_classes", "nclasses", "nc"), "net.classes"),
    **dict.fromkeys(("img_size", "image_size", "input_size", "crop_size", "imgsz"), "net.input"),
    **dict.fromkeys(("drop", "dropout_rate"), "net.dropout"),
    **dict.fromkeys(("fliplr", "horizontal_flip", "hflip"), "data.flip"),
    **dict.fromkeys(("color", "color_jitter", "colour_jitter"), "data.colour"),
    **dict.fromkeys(("val_split", "test_split", "validation_split"), "data.test_share"),
    **dict.fromkeys(("dataset", "data"), "data.set"),
    **dict.fromkeys(("dtype", "amp", "bf16", "mixed_precision"), "net.precision"),
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
        shown = repr(value) if len(repr(value)) <= 200 else f"{repr(value)[:100]}..."
        raise UsageError(f"{key}: {shown} is not valid; give {description}") from None


def unknown(key: str, candidates: Iterable[str] = RULES, what: str = "key") -> UsageError:
    """Make the UsageError for a name that is not among the candidates; its message names a similar one, or all."""
    remedy = did_you_mean(key, candidates)
    other = SYNONYMS.get(key.rpartition(".")[2].lower().replace("-", "_"))
    if candidates is RULES and other:
        remedy = f'; did you mean "{other}"?'
    elif candidates is RULES and remedy.count(",") > 40:  # no such section either
        remedy = "; give a key of net, init, data or learning, such as learning.rate"
    return UsageError(f"{key}: no such {what}{remedy}")
