"""Reads nets of Caffe (Jia et al., 2014): bvlc_alexnet, CaffeNet, and nets that were fine-tuned from them.

A .caffemodel holds the weights and the net that was trained; a deploy.prototxt says the net as it is used. In Caffe,
colours are in the order BGR, convolutions are rounded down and pools up, alpha of normalization is divided by the size
of its window, and the window crosses from one group of maps to the other.
"""

from pathlib import Path
from typing import Any

import numpy as np

from tinyalex.errors import CheckpointError, DataError, UsageError
from tinyalex.interop import caffe_messages, chain, layout
from tinyalex.interop.imported import CHANNEL_MEANS, Imported, Options, flat_mean, named_classes, one_line, recipe_of
from tinyalex.recipes.recipe import Net

NAME = "Caffe (.caffemodel)"

# Types of layers that compute nothing that counts here: they feed data in, score, or only give an array another name.
_SOURCES = {"Data", "ImageData", "WindowData", "HDF5Data", "MemoryData", "DummyData", "Input", "Python"}
_RENAMES = {"Split", "Flatten"}
_SCORES = {"Softmax", "SoftmaxWithLoss", "MultinomialLogisticLoss", "InfogainLoss", "HingeLoss", "EuclideanLoss"}
_SCORES |= {"Accuracy", "ArgMax", "Silence"}
_OLD_TYPES = {  # of V1 layers, whose types are in capitals
    "RELU": "ReLU", "LRN": "LRN", "HDF5_DATA": "HDF5Data", "SOFTMAX_LOSS": "SoftmaxWithLoss", "ARGMAX": "ArgMax",
}  # fmt: skip
_TAGS = (b"\x12", b"\x1a", b"\x20", b"\x22", b"\x28", b"\x32", b"\x38", b"\x42", b"\xa2\x06")  # first fields of a net


def recognizes(head: bytes, size: int) -> bool:
    """Whether a file may be a .caffemodel: a name and then another field of a net, or one of these alone."""
    if head[:1] == b"\x0a" and len(head) > 1:
        name = head[2 : 2 + head[1]]
        return head[1] < 128 and _is_text(name) and head[2 + head[1] :].startswith(_TAGS)
    return head.startswith((b"\x12", b"\xa2\x06")) and size > 64


def _is_text(name: bytes) -> bool:
    try:
        return name.decode().isprintable()
    except UnicodeDecodeError:
        return False


def read(path: Path, options: Options) -> Imported:
    """Read a .caffemodel, and the files that come with it.

    Parameters
    ----------
    path : Path
    options : Options
        `deploy` is a deploy.prototxt; without it the net is that of the .caffemodel. `mean` is a mean.binaryproto.

    Raises
    ------
    CheckpointError
        If a file is damaged, the net is no AlexNet, or its weights are missing or of other sizes.
    DataError
        If the mean image or the file of words does not fit.
    UsageError
        If protobuf is missing.
    """
    if options.input is not None:
        raise UsageError(f"{path}: --input is for ONNX files; Caffe's say what they read, so leave it out")
    model = caffe_messages.read_net(path)
    described = model if options.deploy is None else caffe_messages.read_text(options.deploy)
    source = path if options.deploy is None else options.deploy
    notes: list[str] = []
    try:
        side = _side(described, model, notes)
        net, names = chain.to_net(_steps(_layers(described)), side)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from None
    blobs = {_text(layer.name): layer.blobs for layer in _layers(model) if len(layer.blobs)}
    weights: layout.Weights = {}
    for (name, wanted), here in zip(layout.shapes(net).items(), names.values(), strict=True):
        if here not in blobs:
            raise CheckpointError(f"{path}: no weights for layer {here}; give the .caffemodel of {source}")
        first, *rest = blobs[here]
        W = _array(path, here, first, wanted)
        weights[name] = W, _array(path, here, rest[0], wanted[:1]) if rest else np.zeros(wanted[0], np.float32)
    weights["conv1"] = layout.swap_colours(weights["conv1"][0]), weights["conv1"][1]
    transform = _transform(model)
    mean = mean_or_colour(options.mean, side, transform, notes)
    classes, words = named_classes(net.classes, options.words)
    if options.words is None:
        notes.append("classes are numbers, as no file of words was given: add --words synset_words.txt for their names")
    title = _text(described.name) or one_line(path.stem)
    recipe = recipe_of(title, net, transform.scale if transform is not None and transform.scale > 0 else 1.0)
    state = layout.to_state(net, weights)
    return Imported(recipe, state, mean, classes, words, f"Caffe's net {title} of {one_line(path.name)}", tuple(notes))


def describe(deploy: str) -> Net:
    """Return the net of a deploy.prototxt."""
    described = caffe_messages.read_text(deploy)
    try:
        return chain.to_net(_steps(_layers(described)), _side(described, described, []))[0]
    except CheckpointError as error:
        raise CheckpointError(f"{deploy}: {error}") from None


def _layers(net: Any) -> list[Any]:
    layers = [*net.layers, *net.layer]
    if not layers:
        raise CheckpointError("holds no layers; give a file of a trained net")
    if any(layer.layer for layer in net.layers):
        raise CheckpointError("is of a Caffe of 2013; convert it with Caffe's upgrade_net_proto_binary or _text")
    return layers


def _text(value: str | bytes) -> str:
    # A name, on one line; protobuf gives those that are not UTF-8 as bytes.
    return one_line(value if isinstance(value, str) else value.decode(errors="replace"))


def _type(layer: Any) -> str:
    if isinstance(layer.type, str | bytes):
        return _text(layer.type)
    name = layer.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number[layer.type].name
    return _OLD_TYPES.get(name) or "".join(word.capitalize() for word in name.split("_"))


def _steps(layers: list[Any]) -> list[chain.Step]:
    # The layers that compute, in order; each has to read what the one before it made.
    steps: list[chain.Step] = []
    current: str | None = None
    same: dict[str, str] = {}  # other names of arrays
    for layer in layers:
        kind = _type(layer)
        name = _text(layer.name) or "without a name"
        bottoms, tops = [_text(each) for each in layer.bottom], [_text(each) for each in layer.top]
        if kind in _SOURCES or kind in _SCORES:
            continue
        read = {same.get(bottom, bottom) for bottom in bottoms}
        if kind in _RENAMES:
            same |= dict.fromkeys(tops, *read) if len(read) == 1 else {}
            continue
        if current is not None and read and read != {current}:
            other = one_line(", ".join(bottoms))
            raise CheckpointError(f"layer {name} reads {other}, where an AlexNet has one layer after the other")
        steps.append(_STEPS[kind](name, layer) if kind in _STEPS else chain.Step(f"of type {kind or 'unknown'}", name))
        current = tops[0] if tops else None
        same.pop(current or "", None)
    return steps


def _convolution(name: str, layer: Any) -> chain.Step:
    about = layer.convolution_param
    sides = {
        what: _square(name, what, *_pair(about, what, list(getattr(about, key)), default))
        for what, key, default in (("kernel", "kernel_size", None), ("stride", "stride", 1), ("pad", "pad", 0))
    }
    if any(each != 1 for each in about.dilation):
        raise CheckpointError(f"layer {name} is dilated, which an AlexNet's are not")
    return chain.Step("conv", name, {"maps": about.num_output, "groups": about.group, **sides})


def _pool(name: str, layer: Any) -> chain.Step:
    about = layer.pooling_param
    window = _square(name, "kernel", *_pair(about, "kernel", [about.kernel_size] * about.HasField("kernel_size"), None))
    stride = _square(name, "stride", *_pair(about, "stride", [about.stride], 1))
    pad = _square(name, "pad", *_pair(about, "pad", [about.pad], 0))
    if about.pool != 0 or pad or about.global_pooling:
        raise CheckpointError(f"layer {name} does not take the maximum of unpadded windows, as an AlexNet's pools do")
    return chain.Step(
        "pool", name, {"window": window, "stride": stride, "rounding": ["ceil", "floor"][about.round_mode]}
    )


def _norm(name: str, layer: Any) -> chain.Step:
    about = layer.lrn_param
    if about.norm_region:
        raise CheckpointError(f"layer {name} normalizes within a map, where an AlexNet does across maps")
    size = max(1, about.local_size)
    constants = {"k": _decimal(about.k), "alpha": _decimal(about.alpha) / size, "beta": _decimal(about.beta)}
    return chain.Step("norm", name, {"size": about.local_size, **constants})


def _relu(name: str, layer: Any) -> chain.Step:
    if layer.relu_param.negative_slope:
        raise CheckpointError(f"layer {name} is a leaky ReLU, which an AlexNet has not")
    return chain.Step("relu", name)


def _linear(name: str, layer: Any) -> chain.Step:
    about = layer.inner_product_param
    if about.transpose:
        raise CheckpointError(f"layer {name} is transposed, which an AlexNet's are not")
    return chain.Step("linear", name, {"outputs": about.num_output})


def _dropout(name: str, layer: Any) -> chain.Step:
    return chain.Step("dropout", name, {"p": _decimal(layer.dropout_param.dropout_ratio)})


_STEPS = {
    "Convolution": _convolution, "Pooling": _pool, "LRN": _norm, "ReLU": _relu, "InnerProduct": _linear,
    "Dropout": _dropout,
}  # fmt: skip


def _decimal(value: float) -> float:
    # What was written: a float32 of 0.0001 is 0.00009999999747 as a Python number.
    return float(f"{value:.7g}")


def _pair(about: Any, what: str, given: list[int], default: int | None) -> list[int]:
    # The settings of both axes, given together or apart.
    short = {"kernel": "kernel"}.get(what, what)
    apart = [getattr(about, f"{short}_{axis}") for axis in "hw" if about.HasField(f"{short}_{axis}")]
    return apart or given or ([default] if default is not None else [])


def _square(name: str, what: str, *values: int) -> int:
    if len(set(values)) != 1:
        got = " x ".join(map(str, values[:4])) or "not given"
        raise CheckpointError(f"layer {name}: its {what} is {got}, where an AlexNet's is as high as wide")
    return values[0]


def _array(path: Path, name: str, blob: Any, wanted: tuple[int, ...]) -> np.ndarray:
    # A blob's numbers in the shape that the net needs; sizes of 1 in front do not count.
    given, numbers = caffe_messages.shape(blob), caffe_messages.numbers(blob)
    significant = given
    while len(significant) > len(wanted) and significant[0] == 1:
        significant = significant[1:]
    if significant != wanted or numbers.size != int(np.prod(wanted)):
        sizes, needed = (" x ".join(map(str, shape)) for shape in (given, wanted))
        shown = one_line(sizes) or "no sizes"
        raise CheckpointError(
            f"{path}: layer {name} has {numbers.size:,} numbers of {shown}, but the net needs {needed}; "
            "give the files of one net"
        )
    return numbers.reshape(wanted)


def _side(described: Any, model: Any, notes: list[str]) -> int:
    # The pixels of a side of the images: said by the input, or by how large the training's crops were.
    shapes = [tuple(shape.dim) for shape in described.input_shape]
    shapes += [tuple(described.input_dim[:4])] if described.input_dim else []
    shapes += [tuple(shape.dim) for layer in described.layer for shape in layer.input_param.shape]
    for shape in shapes:
        if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or not 1 <= shape[2] <= _LARGEST_SIDE:
            sizes = " x ".join(map(str, shape[:6]))
            raise CheckpointError(f"its input is {sizes}, where an AlexNet reads images x 3 x side x side")
        return int(shape[2])
    transform = _transform(model)
    if transform is not None and 1 <= transform.crop_size <= _LARGEST_SIDE:
        return int(transform.crop_size)
    notes.append("images are taken to be 227 x 227, as no file says it: add --deploy deploy.prototxt to be sure")
    return 227


_LARGEST_SIDE = 1024


def _transform(model: Any) -> Any:
    # How the data layers prepared images; that of testing if there are two.
    found = [layer for layer in [*model.layers, *model.layer] if layer.HasField("transform_param")]
    testing = [layer for layer in found if any(rule.phase == 1 for rule in layer.include)]
    return (testing or found)[0].transform_param if found else None


def _image_size(side: int) -> int:
    # Pixels of a side of the images that the net's are cut from.
    return 256 if side in range(220, 257) else round(side * 256 / 227)


def mean_or_colour(file: str | None, side: int, transform: Any, notes: list[str]) -> np.ndarray:
    """Return a mean image, RGB: of a .binaryproto, or else one of the data layer's colour, or of the usual one.

    Parameters
    ----------
    file : str or None
    side : int
        Pixels of a side of the net's images.
    transform : message or None
        What the data layer did to images.
    notes : list of str
        Gets a line if the mean is not that of a file.
    """
    size = _image_size(side)
    if file is None:
        values = [] if transform is None else list(transform.mean_value)
        if len(values) in (1, 3):
            colours = (values * 3)[:3][::-1]
            notes.append(f"mean colour of the .caffemodel: red, green, blue {', '.join(f'{c:g}' for c in colours)}")
            return flat_mean(size, colours)
        notes.append("no mean image: the usual mean colour of ImageNet instead, red, green, blue 123, 117, 104")
        return flat_mean(size, CHANNEL_MEANS)
    return mean_image(file, side)


def mean_image(file: str | Path, side: int) -> np.ndarray:
    """Return the mean image of a mean.binaryproto, (S, S, 3) in RGB, for a net that reads images of ``side`` pixels.

    Raises
    ------
    DataError
        If the file cannot be read, or is not a square image of three colours that is large enough.
    """
    size = _image_size(side)
    try:
        blob = caffe_messages.read_blob(file)
    except CheckpointError as error:
        raise DataError(str(error)) from None
    shape, numbers = caffe_messages.shape(blob), caffe_messages.numbers(blob)
    *more, channels, height, width = (1, 1, 1, *shape)
    if any(each != 1 for each in more) or channels != 3 or height != width or numbers.size != 3 * height * width:
        sizes = one_line(" x ".join(map(str, shape)))
        raise DataError(f"{file}: {numbers.size:,} numbers of {sizes}, not a square mean image of three colours")
    image = numbers.reshape(3, height, width)[::-1].transpose(1, 2, 0)
    if height == 1:
        return flat_mean(size, image[0, 0].tolist())
    if height < side:
        raise DataError(
            f"{file}: {height} x {width}, smaller than the net's images of {side} x {side}; give its own mean"
        )
    return np.ascontiguousarray(image)
