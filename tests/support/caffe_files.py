"""Writes files of Caffe, byte by byte, in the forms that its versions wrote; no library and no code of the package."""

import struct

import numpy as np

SMALL = {"maps": (8, 16, 12, 12, 8), "hidden": 16, "classes": 7, "side": 99}
FULL = {"maps": (96, 256, 384, 384, 256), "hidden": 4096, "classes": 1000, "side": 227}
_OLD = {"Convolution": 4, "Data": 5, "Dropout": 6, "InnerProduct": 14, "LRN": 15, "Pooling": 17, "ReLU": 18,
        "Softmax": 20, "SoftmaxWithLoss": 21, "Split": 22, "Concat": 3, "Eltwise": 25}  # fmt: skip
_OLD_TEXT = {"Convolution": "CONVOLUTION", "InnerProduct": "INNER_PRODUCT", "Pooling": "POOLING", "ReLU": "RELU",
             "Dropout": "DROPOUT", "Softmax": "SOFTMAX"}  # fmt: skip
# Type: its message's name and field in a new and in an old layer, and the fields of its settings.
_SETTINGS = {
    "Convolution": ("convolution_param", 106, 10, {"num_output": 1, "pad": 3, "kernel_size": 4, "group": 5, "stride": 6,
                                                   "dilation": 18, "pad_h": 9, "pad_w": 10}),
    "InnerProduct": ("inner_product_param", 117, 17, {"num_output": 1, "transpose": 6}),
    "LRN": ("lrn_param", 118, 18, {"local_size": 1, "alpha": 2, "beta": 3, "norm_region": 4, "k": 5}),
    "Pooling": ("pooling_param", 121, 19, {"pool": 1, "kernel_size": 2, "stride": 3, "pad": 4}),
    "Dropout": ("dropout_param", 108, 12, {"dropout_ratio": 1}),
    "ReLU": ("relu_param", 123, 30, {"negative_slope": 1}),
    "Data": ("transform_param", 100, 36, {"scale": 1, "crop_size": 3, "mean_value": 5}),
}  # fmt: skip


def layers(order="norm-pool", maps=SMALL["maps"], hidden=16, classes=7, last="fc8", dropout=0.5, alpha=1e-4, **_):
    """The layers of bvlc_alexnet ("norm-pool") or CaffeNet ("pool-norm"): (type, name, settings), one after another."""
    found = []
    for number, (count, kernel) in enumerate(zip(maps, (11, 5, 3, 3, 3), strict=True), 1):
        settings = {"num_output": count, "kernel_size": kernel}
        settings |= {"stride": 4} if number == 1 else {"pad": kernel // 2}
        settings |= {"group": 2} if number in (2, 4, 5) else {}
        found += [("Convolution", f"conv{number}", settings), ("ReLU", f"relu{number}", {})]
        norm = ("LRN", f"norm{number}", {"local_size": 5, "alpha": alpha, "beta": 0.75})
        pool = ("Pooling", f"pool{number}", {"pool": 0, "kernel_size": 3, "stride": 2})
        if number in (1, 2):
            found += [norm, pool] if order == "norm-pool" else [pool, norm]
        elif number == 5:
            found.append(pool)
    for number in (6, 7):
        found += [("InnerProduct", f"fc{number}", {"num_output": hidden}), ("ReLU", f"relu{number}", {}),
                  ("Dropout", f"drop{number}", {"dropout_ratio": dropout})]  # fmt: skip
    return [*found, ("InnerProduct", last, {"num_output": classes})]


def wired(net, first="data"):
    """Add to each layer what it reads and makes; ReLU and dropout write where they read."""
    before, found = first, []
    for kind, name, settings in net:
        top = before if kind in ("ReLU", "Dropout") else name
        found.append((kind, name, settings, [before], [top]))
        before = top
    return found


def weights(net, side, seed=0):
    """Random weights that keep the size of the signal: for each layer with weights, W as Caffe keeps it, and b."""
    generator, found, channels = np.random.default_rng(seed), {}, 3
    side = (side - 11) // 4 + 1
    for kind, name, settings in net:
        if kind == "Pooling":
            side = -(-(side - settings["kernel_size"]) // settings["stride"]) + 1
        if kind == "Convolution":
            k, o = settings["kernel_size"], settings["num_output"]
            shape = o, channels // settings.get("group", 1), k, k
        elif kind == "InnerProduct":
            o, shape = settings["num_output"], (settings["num_output"], channels * (side**2 if side else 1))
        else:
            continue
        side = 0 if kind == "InnerProduct" else side
        W = generator.standard_normal(shape, np.float32) * np.float32((2 / np.prod(shape[1:])) ** 0.5)
        found[name], channels = (W, generator.standard_normal(o).astype(np.float32) * np.float32(0.1)), o
    return found


def prototxt(net, side, name="AlexNet", old=False, input_as="input_dim", first="data"):
    """A deploy.prototxt: with the input as four numbers, as a shape, or as a layer."""
    lines = [f'name: "{name}"  # as of 2014']
    dims = (10, 3, side, side)
    if input_as == "layer":
        shape = " ".join(f"dim: {each}" for each in dims)
        lines.append(f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape: {{ {shape} }} }} }}')
    elif input_as == "shape":
        lines += ['input: "data"', "input_shape {", *(f"  dim: {each}" for each in dims), "}"]
    else:
        lines += ['input: "data"', *(f"input_dim: {each}" for each in dims)]
    for kind, layer, settings, bottoms, tops in wired(net, first):
        wires = " ".join([*(f'bottom: "{each}"' for each in bottoms), *(f'top: "{each}"' for each in tops)])
        kind_text = _OLD_TEXT.get(kind, kind) if old else f'"{kind}"'
        lines += [f"{'layers' if old else 'layer'} {{", f'  name: "{layer}" type: {kind_text} {wires}']
        if settings:
            inner = " ".join(f"{key}: {_text(key, value)}" for key, value in settings.items())
            lines.append(f"  {_SETTINGS[kind][0]} {{ {inner} }}")
        if kind == "Convolution":
            lines.append("  param { lr_mult: 1 decay_mult: 1 }" if not old else "  blobs_lr: 1 weight_decay: 0")
        lines.append("}")
    return "\n".join(lines) + "\n"


def _text(key, value):
    return {"pool": ["MAX", "AVE"], "norm_region": ["ACROSS_CHANNELS", "WITHIN_CHANNEL"]}[key][value] if (
        key in ("pool", "norm_region")) else str(value).lower()  # fmt: skip


def varint(value):
    """A number in groups of seven bits, the lowest first."""
    value, found = value % (1 << 64), b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def field(number, value):
    """A field of a message: bytes, text, a whole number, or a float in single precision."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(int(value))
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def blob(array, form="legacy"):
    """A BlobProto: "legacy" sizes in four fields, or "shape"; "loose" numbers are not packed; "double" precision."""
    array = np.asarray(array)
    sizes = (1,) * (4 - array.ndim) + array.shape
    found = b"".join(field(number, size) for number, size in enumerate(sizes, 1)) if form != "shape" else b""
    if form == "shape":
        found += field(7, field(1, b"".join(varint(size) for size in array.shape)))
    if form == "loose":
        return found + b"".join(field(5, float(number)) for number in array.ravel())
    if form == "double":
        return found + field(8, array.astype("<f8").tobytes())
    return found + field(5, array.astype("<f4").tobytes())


def caffemodel(net, arrays, name="AlexNet", old=False, form="legacy", data=None, extra=()):
    """A .caffemodel of layers and their weights, as after training: with a layer of data and one that scores.

    ``data`` are settings of the data layer's transform; ``extra`` are layers to add at the end.
    """
    found = field(1, name)
    ends = [("Data", "data", data or {}, [], ["data", "label"])]
    scores = [("SoftmaxWithLoss", "loss", {}, [net[-1][1], "label"], ["loss"])]
    for kind, layer, settings, bottoms, tops in [*ends, *wired(net), *extra, *scores]:
        wires = [(3 if not old else 2, each) for each in bottoms] + [(4 if not old else 3, each) for each in tops]
        content = field(4, layer) + field(5, _OLD[kind]) if old else field(1, layer) + field(2, kind)
        content += b"".join(field(number, each) for number, each in wires)
        if settings:
            _, new_field, old_field, numbers = _SETTINGS[kind]
            inner = b""
            for key, value in settings.items():
                inner += b"".join(field(numbers[key], each) for each in (value if isinstance(value, list) else [value]))
            content += field(old_field if old else new_field, inner)
        content += b"".join(field(6 if old else 7, blob(array, form)) for array in arrays.get(layer, ()))
        found += field(2 if old else 100, content)
    return found
