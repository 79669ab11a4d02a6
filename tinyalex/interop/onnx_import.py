"""Imports an AlexNet from an ONNX file.

A file that `tinyalex export` wrote is read back as it was. Of any other one the recipe is guessed from its layers, and
then its net is compared with them, layer by layer; the first that differs is named. Columns are convolutions of two
groups. What the graph's input means, an ONNX file does not say: see `INPUTS`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tinyalex.errors import CheckpointError, ShapeError, UsageError
from tinyalex.interop import onnx_export, onnx_graph, onnx_layout, torchvision
from tinyalex.interop.imported import CHANNEL_MEANS, Imported, Options, named_classes, recipe_of
from tinyalex.interop.layout import swap_colours, to_state
from tinyalex.interop.onnx_graph import Chain, Step
from tinyalex.layers import LRN, Conv2d, Dropout, Linear, MaxPool, ReLU, Tanh
from tinyalex.layers.layer import Layer
from tinyalex.network import alexnet
from tinyalex.recipes.recipe import Net

INPUTS = {  # what a graph may read, and the programs whose graphs do
    "torchvision": ("RGB, from 0 to 1, minus a mean and divided by a deviation for each colour", ("pytorch",)),
    "caffe": ("BGR, from 0 to 255, minus a mean", ("onnx-caffe2", "caffe2onnx")),
    "pixels": ("RGB, from 0 to 255", ()),
}
_ACTIVATIONS = {"Relu": "relu", "Tanh": "tanh"}
_SAID_BY_OTHERS = ("Dropout", "Flatten", "Reshape", "Squeeze")  # layers of ours say what these do
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
    chain = onnx_graph.chain(path, model)
    before, steps = _split(chain)
    parts = _parts(path, steps)
    net = _net(path, parts, steps, chain.shape[1])
    _compare(path, parts, net)
    affine, described = _preprocessing(path, chain, before, options)
    scale = float(affine.factor[0])
    if scale <= 0 or not (affine.factor == scale).all():
        scale = torchvision.SCALE
    classes, words = named_classes(net.classes, options.words)
    return Imported(
        recipe_of("onnx", net, scale),
        to_state(net, _weights(parts, net, affine, scale)),
        _image(affine.mean, net.input),
        classes,
        words,
        f"a net of {chain.producer or 'an unknown program'} in ONNX, from {path.name}",
        (f"its input is taken as {described}",),
    )


def _refuse(path: Path, step: Step, problem: str) -> NoReturn:
    raise CheckpointError(f"{path}: node {step.name} {problem}; only an AlexNet can be imported")


def _split(chain: Chain) -> tuple[list[Step], list[Step]]:
    # What is computed from the pixels, and the layers, up to the logits.
    steps = list(chain.steps)
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
        elif step.kind not in _SAID_BY_OTHERS:
            W, b = step.settings.get("W"), step.settings.get("b")
            if W is not None and factor != 1:
                W, factor = W * np.float32(factor), 1.0
            elif factor != 1 and (factor < 0 or step.kind not in ("Relu", "MaxPool")):
                _refuse(path, step, "follows a factor")
            parts.append(_Part(step, W, b))
        if step.kind not in _SAID_BY_OTHERS:
            last = step
    if factor != 1:
        _refuse(path, steps[-1], "multiplies the logits")
    return parts


def _is_bias(value: np.ndarray, part: _Part) -> bool:
    return part.b is not None and value.size in (1, len(part.b)) and value.size == len(value)


def _net(path: Path, parts: list[_Part], steps: list[Step], side: int) -> Net:
    convolutions = [part.step for part in parts if part.step.kind == "Conv"]
    linear = [part.step for part in parts if part.step.kind in ("Gemm", "MatMul")]
    pools = [part.step for part in parts if part.step.kind == "MaxPool"]
    norms = [part.step for part in parts if part.step.kind == "LRN"]
    for kind, found, most in (("convolution", convolutions, 6), ("fully connected layer", linear, 3)):
        if len(found) > most:
            _refuse(path, found[most], f"is {kind} number {most + 1} of {len(found)}; an AlexNet has at most {most}")
    if len(convolutions) < 5 or len(linear) < 3 or not pools:
        raise CheckpointError(
            f"{path}: {len(convolutions)} convolutions, {len(linear)} fully connected layers and {len(pools)} max "
            "pools; an AlexNet has 5, 3 and 3"
        )
    groups = {step.settings["group"] for step in convolutions}
    grouped = next((step for step in convolutions if step.settings["group"] > 2), None)
    if grouped is not None:
        _refuse(path, grouped, f"has {grouped.settings['group']} groups; an AlexNet has 1 or 2")
    names = [f"conv{number}" for number in range(1, len(convolutions) + 1)]
    settings: dict[str, Any] = {}
    if norms:
        of = norms[0].settings
        settings = {"norm": "paper", "norm_size": of["size"], "norm_k": of["k"], "norm_beta": of["beta"]}
        settings["norm_alpha"] = of["alpha"] / of["size"]  # ours multiplies the sum, ONNX's the mean
        order = [part.step.kind for part in parts]
        settings["norm_order"] = "norm-pool" if order.index("LRN") < order.index("MaxPool") else "pool-norm"
        settings["norm_window"] = "all" if 2 in groups else "column"
    ratios = {step.settings["ratio"] for step in steps if step.kind == "Dropout"}
    activations = [_ACTIVATIONS[part.step.kind] for part in parts if part.step.kind in _ACTIVATIONS]
    try:
        return Net(
            input=side,
            columns=max(groups),
            maps=tuple(step.after[0] for step in convolutions),
            kernels=tuple(step.settings["kernel"] for step in convolutions),
            stride=convolutions[0].settings["stride"],
            pads=tuple(step.settings["pad"] for step in convolutions),
            conv_rounding=_rounding(path, convolutions[:1]),
            pool=pools[0].settings["kernel"],
            pool_rounding=_rounding(path, pools),
            hidden=linear[0].after[0],
            classes=linear[2].after[0],
            talk=tuple(
                name for name, step in zip(names[1:], convolutions[1:], strict=True) if step.settings["group"] == 1
            )
            + ("fc6", "fc7", "fc8")
            if 2 in groups
            else (),
            activation=activations[0] if activations else "relu",
            dropout=ratios.pop() if len(ratios) == 1 else 0.5,
            **({"norm": "none"} | settings),
        )
    except UsageError as error:
        raise CheckpointError(f"{path}: no recipe can say this net: {error}") from None


def _rounding(path: Path, windows: list[Step]) -> Any:
    # How the number of windows is rounded, or a list of that if not in all layers alike.
    found = []
    for step in windows:
        sides, pad, (kernel, stride) = step.before[1:], step.settings["pad"], _window(step)
        spans = [side + 2 * pad - kernel for side in sides]
        counts = {"ceil": [1 - -span // stride for span in spans], "floor": [1 + span // stride for span in spans]}
        found.append([name for name, count in counts.items() if tuple(count) == step.after[1:]])
        if not found[-1]:
            _refuse(path, step, f"has {step.after[1]} x {step.after[2]} outputs of {sides[0]} x {sides[1]} inputs")
    common = [name for name in ("ceil", "floor") if all(name in names for names in found)]
    return common[0] if common else [names[0] for names in found]


def _window(step: Step) -> tuple[int, int]:
    return step.settings["kernel"], step.settings["stride"]


def _compare(path: Path, parts: list[_Part], net: Net) -> None:
    # Refuses the first part that differs from the net's layer at its place.
    try:
        network = alexnet.describe(replace(net, convolution="im2col"))
    except ShapeError as error:
        raise CheckpointError(f"{path}: no recipe can say this net: {error}") from None
    shape = network.input_shape
    layers = [layer for _, layer in network.layers() if not isinstance(layer, Dropout)]
    for part, layer in zip(parts, layers, strict=False):
        wanted, step, after = _said(layer), part.step, layer.output_shape(shape)
        name = onnx_layout.base(layer)
        if wanted != _given(part):
            _refuse(path, step, f"is {_shown(_given(part))}, where an AlexNet has {name}, {_shown(wanted)}")
        theirs = (*step.after[1:], step.after[0]) if len(step.after) == 3 else step.after
        if theirs != after:
            _refuse(path, step, f"has outputs {theirs}, where an AlexNet has {after} of {name}")
        shape = after
    if len(parts) != len(layers):
        if len(parts) > len(layers):
            _refuse(path, parts[len(layers)].step, "follows the last layer of an AlexNet")
        raise CheckpointError(f"{path}: ends before {onnx_layout.base(layers[len(parts)])}; give the whole net")


def _said(layer: Layer) -> tuple[Any, ...]:
    # A layer of ours in the words of `_given`.
    if isinstance(layer, Conv2d):
        kernel, stride, pad, _ = layer.geometry.values()
        return "convolution", kernel, stride, pad, layer.groups
    if isinstance(layer, MaxPool):
        return "max pool", layer.window, layer.stride, 0
    if isinstance(layer, LRN):
        odd = layer.size if layer.size % 2 else None  # ONNX puts windows of an even size elsewhere
        return "normalization", odd, layer.k, np.float32(layer.alpha * layer.size), layer.beta
    kinds = {ReLU: "ReLU", Tanh: "tanh", Linear: "fully connected"}
    return (next(word for kind, word in kinds.items() if isinstance(layer, kind)),)


def _given(part: _Part) -> tuple[Any, ...]:
    of, kind = part.step.settings, part.step.kind
    if kind == "Conv":
        return "convolution", of["kernel"], of["stride"], of["pad"], of["group"]
    if kind == "MaxPool":
        return "max pool", of["kernel"], of["stride"], of["pad"]
    if kind == "LRN":
        return "normalization", of["size"], of["k"], np.float32(of["alpha"]), of["beta"]
    return ({"Relu": "ReLU", "Tanh": "tanh", "Gemm": "fully connected", "MatMul": "fully connected"}.get(kind, kind),)


def _shown(said: tuple[Any, ...]) -> str:
    words = {"convolution": ("kernel", "stride", "pad", "groups"), "max pool": ("window", "stride", "pad")}
    words["normalization"] = ("size", "k", "alpha", "beta")
    pairs = zip(words.get(said[0], ()), said[1:], strict=True)
    return " ".join([said[0], *(f"{word} {value}" for word, value in pairs)])


def _preprocessing(path: Path, chain: Chain, before: list[Step], options: Options) -> tuple[_Affine, str]:
    # What happens to pixels before conv1, outside and inside of the graph, and the words for what its input is.
    name = options.input
    if name is None:
        producers = {producer: key for key, (_, made_by) in INPUTS.items() for producer in made_by}
        name = "pixels" if before else producers.get(chain.producer)
    if name is None:
        by = f"{chain.producer!r:.40}" if chain.producer else "an unknown program"
        raise UsageError(
            f"{path}: written by {by}, does not say what images it reads; add --input {' or '.join(INPUTS)}"
        )
    if name == "torchvision":
        if options.mean is not None:
            raise UsageError(f"{path}: --input torchvision has a mean of its own; leave out --mean")
        subtracted, factor = 255 * np.array(torchvision.MEAN)[None, None], 1 / (255 * np.array(torchvision.STD))
    else:
        colour = np.array(CHANNEL_MEANS if name == "caffe" else (0.0, 0.0, 0.0))[None, None]
        subtracted = colour if options.mean is None else _mean_of(options.mean)
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


def _mean_of(path: str) -> np.ndarray:
    raise NotImplementedError


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
