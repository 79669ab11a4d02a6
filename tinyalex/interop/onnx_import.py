"""Imports an AlexNet from an ONNX file.

A file that `tinyalex export` wrote is read back as it was. Any other one has to be a chain of layers
(`tinyalex.interop.onnx_graph`) that is an AlexNet (`tinyalex.interop.chain`). Columns are convolutions of two groups.
What the graph's input means, an ONNX file does not say: see `INPUTS`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np

from tinyalex.errors import CheckpointError, UsageError
from tinyalex.interop import caffe, chain, onnx_export, onnx_graph, torchvision
from tinyalex.interop.imported import CHANNEL_MEANS, Imported, Options, named_classes, one_line, recipe_of
from tinyalex.interop.layout import swap_colours, to_state
from tinyalex.interop.onnx_graph import Chain, Step
from tinyalex.network import alexnet
from tinyalex.recipes.recipe import Net

INPUTS = {  # what a graph may read, and the programs whose graphs do
    "torchvision": ("RGB, from 0 to 1, minus a mean and divided by a deviation for each colour", ("pytorch",)),
    "caffe": ("BGR, from 0 to 255, minus a mean", ("onnx-caffe2", "caffe2onnx")),
    "pixels": ("RGB, from 0 to 255", ()),
}
_SAID_BY_OTHERS = ("Flatten", "Reshape", "Squeeze")  # fc6 reads maps as they are
_ARITHMETIC = ("Add", "Sub", "Mul", "Div")
_COLOURS = 3


@dataclass(frozen=True)
class _Part:
    """A layer of the chain: its step, and its weights, a row for each output, and biases."""

    step: Step
    W: np.ndarray | None = None
    b: np.ndarray | None = None


@dataclass(frozen=True)
class _Affine:
    """What is computed from pixels before the first layer: (pixels - mean) * factor, of RGB images or of BGR."""

    mean: np.ndarray  # (1, 1, 3) or (S, S, 3), float64, RGB
    factor: np.ndarray  # (3,), float64, RGB
    bgr: bool


def read(path: Path, options: Options) -> Imported:
    """Read an AlexNet: see `tinyalex.interop.onnx_format.read`."""
    if options.deploy is not None:
        raise UsageError(f"{path}: an ONNX file describes its net; leave out --deploy")
    model = onnx_graph.parse(path)
    ours = onnx_export.read(path, model)
    if ours is not None:
        if options.input is not None or options.mean is not None:
            raise UsageError(f"{path}: a net of tinyalex, which has its mean image; leave out --input and --mean")
        if options.words is not None:
            classes, words = named_classes(ours.recipe.net.classes, options.words)
            return replace(ours, classes=classes, words=words)
        return ours
    graph = onnx_graph.chain(path, model)
    before, steps = _split(graph)
    parts = _parts(path, steps)
    net = _net(path, parts, steps, graph.shape[1])
    affine, described = _preprocessing(path, graph, net, before, options)
    scale = float(affine.factor[0])
    if scale <= 0 or not (affine.factor == scale).all():
        scale = torchvision.SCALE
    classes, words = named_classes(net.classes, options.words)
    producer = one_line(graph.producer) or "an unknown program"
    notes = [f"its input is taken as {described}"]
    if not _has_dropout(steps):
        notes.append("dropout, which graphs for use leave out, is that of the paper, 0.5 after fc6 and fc7")
    return Imported(
        recipe_of("onnx", net, scale),
        to_state(net, _weights(parts, net, affine, scale)),
        _image(affine.mean, net.input),
        classes,
        words,
        f"a net of {producer} in ONNX, from {one_line(path.name)}",
        tuple(notes),
    )


def _refuse(path: Path, step: Step, problem: str) -> NoReturn:
    raise CheckpointError(f"{path}: node {step.name} {problem}; only AlexNets can be imported")


def _split(graph: Chain) -> tuple[list[Step], list[Step]]:
    # What is computed from the pixels, and the layers, up to the logits.
    steps = list(graph.steps)
    while steps and steps[-1].kind in ("Softmax", "LogSoftmax"):
        steps.pop()
    first = next((number for number, step in enumerate(steps) if step.kind not in _ARITHMETIC), len(steps))
    return steps[:first], steps[first:]


def _parts(path: Path, steps: list[Step]) -> list[_Part]:
    # The layers that a recipe names. Arithmetic between them is a bias, or goes into the weights that follow.
    parts: list[_Part] = []
    factor, last = 1.0, None
    for step in steps:
        if step.kind in _ARITHMETIC:
            value = step.settings["value"]
            if step.kind in ("Mul", "Div") and value.size == 1 and np.isfinite(value).all() and value.all():
                factor *= float(value.reshape(-1)[0]) ** (1 if step.kind == "Mul" else -1)
            elif step.kind == "Add" and parts and last is parts[-1].step and _is_bias(value, parts[-1]):
                part = parts[-1]
                parts[-1] = replace(part, b=(part.b + value.reshape(-1)).astype(np.float32))
            else:
                _refuse(path, step, "is neither a layer's bias nor a factor")
        elif step.kind not in (*_SAID_BY_OTHERS, "Dropout"):
            W, b = step.settings.get("W"), step.settings.get("b")
            if W is not None and factor != 1:
                W, factor = W * np.float32(factor), 1.0
            elif factor != 1 and (factor < 0 or step.kind not in ("Relu", "MaxPool")):
                _refuse(path, step, "follows a factor")
            parts.append(_Part(step, W, b))
        if step.kind not in (*_SAID_BY_OTHERS, "Dropout"):
            last = step
    if factor != 1:
        _refuse(path, steps[-1], "multiplies the logits")
    return parts


def _is_bias(value: np.ndarray, part: _Part) -> bool:
    return part.b is not None and value.size in (1, len(part.b)) and value.size == len(value)


def _net(path: Path, parts: list[_Part], steps: list[Step], side: int) -> Net:
    rounded = {"Conv": _roundings(path, parts, "Conv"), "MaxPool": _roundings(path, parts, "MaxPool")}
    found = [_said(path, step, rounded) for step in steps if step.kind not in (*_SAID_BY_OTHERS, *_ARITHMETIC)]
    try:
        net, _ = chain.to_net(found, side, (rounded["Conv"] or ["floor"])[0])
        alexnet.describe(net)
    except (CheckpointError, UsageError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    return net if _has_dropout(steps) else replace(net, dropout=0.5)


def _has_dropout(steps: list[Step]) -> bool:
    return any(step.kind == "Dropout" for step in steps)


def _said(path: Path, step: Step, rounded: dict[str, list[str]]) -> chain.Step:
    # A step in the words of `chain`.
    of, size = step.settings, step.settings.get("size", 1)
    if step.kind == "Conv":
        settings = {key: of[key] for key in ("kernel", "stride", "pad")} | {"groups": of["group"]}
        return chain.Step("conv", step.name, {"maps": step.after[0], **settings})
    if step.kind == "MaxPool" and of["pad"] == 0:
        rounding = rounded["MaxPool"].pop(0)
        return chain.Step("pool", step.name, {"window": of["kernel"], "stride": of["stride"], "rounding": rounding})
    if step.kind == "LRN" and size % 2:  # windows of an even size stand elsewhere than ours
        constants = {"k": of["k"], "alpha": of["alpha"] / size, "beta": of["beta"]}  # alpha multiplies ONNX's mean
        return chain.Step("norm", step.name, {"size": size, **constants})
    if step.kind in ("Gemm", "MatMul"):
        return chain.Step("linear", step.name, {"outputs": step.after[0]})
    if step.kind == "Dropout":
        return chain.Step("dropout", step.name, {"p": of["ratio"]})
    others = {"Relu": "relu", "MaxPool": "a pool with padding before it", "LRN": f"normalization over {size} maps"}
    return chain.Step(others.get(step.kind, f"of type {step.kind}"), step.name)


def _roundings(path: Path, parts: list[_Part], kind: str) -> list[str]:
    # How the number of windows is rounded in each layer of a kind, the same in all of them if that is possible.
    found = []
    for step in (part.step for part in parts if part.step.kind == kind):
        sides, kernel, stride = step.before[1:], step.settings["kernel"], step.settings["stride"]
        spans = [side + 2 * step.settings["pad"] - kernel for side in sides]
        counts = {"ceil": [1 - -span // stride for span in spans], "floor": [1 + span // stride for span in spans]}
        found.append([name for name, count in counts.items() if tuple(count) == step.after[1:]])
        if not found[-1]:
            problem = f"makes {step.after[1]} x {step.after[2]} of {sides[0]} x {sides[1]} pixels"
            _refuse(path, step, f"{problem} with padding that differs from side to side")
    common = [name for name in ("ceil", "floor") if all(name in names for names in found)]
    return common[:1] * len(found) if common else [names[0] for names in found]


def _preprocessing(path: Path, graph: Chain, net: Net, before: list[Step], options: Options) -> tuple[_Affine, str]:
    # What happens to pixels before conv1, outside and inside of the graph, and the words for what its input is.
    name = options.input
    if name is None:
        producers = {producer: key for key, (_, made_by) in INPUTS.items() for producer in made_by}
        name = "pixels" if before else producers.get(graph.producer)
    if name is None:
        by = repr(one_line(graph.producer, 40)) if graph.producer else "an unknown program"
        raise UsageError(
            f"{path}: written by {by}, does not say what images it reads; add --input {' or '.join(INPUTS)}"
        )
    if name == "torchvision":
        if options.mean is not None:
            raise UsageError(f"{path}: --input torchvision has a mean of its own; leave out --mean")
        subtracted, factor = 255 * np.array(torchvision.MEAN)[None, None], 1 / (255 * np.array(torchvision.STD))
    else:
        colour = np.array(CHANNEL_MEANS if name == "caffe" else (0.0, 0.0, 0.0))[None, None]
        subtracted = colour if options.mean is None else caffe.mean_image(options.mean, net.input)
        factor = np.ones(_COLOURS)
    bgr = name == "caffe"
    for step in before:
        value = step.settings["value"].transpose(1, 2, 0)  # (1 or S, 1 or S, 1 or 3)
        value = value[..., ::-1] if bgr else value
        if step.kind in ("Add", "Sub"):
            if 1 not in (len(value), len(subtracted)) and len(value) != len(subtracted):
                _refuse(path, step, f"subtracts a mean of {len(value)} pixels a side, and --mean has {len(subtracted)}")
            subtracted = subtracted + (value if step.kind == "Sub" else -value) / factor
        elif value.shape[:2] == (1, 1) and np.isfinite(value).all() and value.all():
            factor = factor * value[0, 0] if step.kind == "Mul" else factor / value[0, 0]
        else:
            _refuse(path, step, "multiplies pixels by different numbers")
    return _Affine(subtracted, factor, bgr), f"{name}: {INPUTS[name][0]}"


def _image(mean: np.ndarray, side: int) -> np.ndarray:
    # The mean image; a mean colour as an image of the size of which crops like ImageNet's are cut.
    large = len(mean) if len(mean) > 1 else side * 256 // 224
    return np.broadcast_to(mean, (large, large, _COLOURS)).astype(np.float32)


def _weights(parts: list[_Part], net: Net, affine: _Affine, scale: float) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    # Each layer's weights and biases; conv1's read RGB, and hold what of the pixels' factors is not in data.scale.
    found = {}
    for name, part in zip(net.layers, [part for part in parts if part.W is not None], strict=True):
        assert part.W is not None and part.b is not None
        W = part.W
        if name == "conv1":
            W = swap_colours(W) if affine.bgr else W
            if (affine.factor != scale).any():
                W = W * (affine.factor / scale).astype(np.float32)[:, None, None]
        found[name] = W, part.b
    return found
