"""Reads torchvision's AlexNet, the net of "One weird trick" (arXiv:1404.5997) in one column: its state dict.

A file of ``torch.save`` or of safetensors, with ``features.0.weight`` and so on, alone, under ``state_dict`` or
``model``, or with ``module.`` before every name. The tensors do not say strides and padding; they are those of
torchvision. Any number of maps, hidden units and classes is read.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from tinyalex.errors import CheckpointError, UsageError
from tinyalex.interop import torch_file
from tinyalex.interop.imported import Imported, Options, flat_mean, named_classes, one_line, recipe_of
from tinyalex.interop.layout import to_state
from tinyalex.recipes.recipe import Net
from tinyalex.system import tensorfile

# Of torchvision's transforms for its weights, on pixels from 0 to 1: (x - mean) / std for red, green and blue.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCALE = 0.017  # of the recipe; conv1's weights hold the rest of 1 / (255 std), which differs from colour to colour
_INPUT, _IMAGE = 224, 256  # pixels of the crop, and of the image that it is cut from
_LAYERS = {  # ours: theirs
    "conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8", "conv5": "features.10",
    "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6",
}  # fmt: skip
_KERNELS, _SIDE = (11, 5, 3, 3, 3), 6  # after the last pool the maps have 6 x 6 pixels
NAME = "torchvision (.pth, .safetensors)"


def recognizes(head: bytes, size: int) -> bool:
    """Return whether a file that begins with ``head`` may be one of torch.save or of safetensors."""
    header = int.from_bytes(head[:8], "little")
    return torch_file.is_archive(head) or torch_file.is_older(head) or (head[8:9] == b"{" and header <= size - 8)


def read(path: str | Path, options: Options | None = None) -> Imported:
    """Read the weights, and make the recipe that computes the same from pixels from 0 to 255.

    Parameters
    ----------
    path : str or Path
    options : Options, optional
        Only words are read.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or a tensor is not one of such a net; the message names it.
    UsageError
        For options that describe what the file holds itself.
    """
    path, options = Path(path), options or Options()
    for key in ("deploy", "mean"):
        if getattr(options, key) is not None:
            raise UsageError(f"{path}: torchvision's AlexNet has its own net and mean; leave out --{key}")
    tensors = _state_dict(path)
    net = _net(path, tensors)
    weights = {ours: (tensors[f"{name}.weight"].array(), tensors[f"{name}.bias"].array())
               for ours, name in _LAYERS.items()}  # fmt: skip
    W, b = weights["conv1"]
    weights["conv1"] = W * (1 / (255 * SCALE * np.array(STD))).astype(np.float32)[:, None, None], b
    classes, words = named_classes(net.classes, options.words)
    return Imported(
        recipe_of("torchvision", net, SCALE),
        to_state(net, weights),
        flat_mean(_IMAGE, [255 * mean for mean in MEAN]),
        classes,
        words,
        f"AlexNet of torchvision, from {one_line(path.name)}",
        (
            f"conv1: its weights hold 1 / std of each colour, so that all pixels are multiplied by {SCALE}",
            "dropout: in training it follows fc6 and fc7 here, and comes before them in torchvision",
        ),
    )


def _state_dict(path: Path) -> dict[str, Any]:
    with _opened(path) as file:
        start = file.read(14)
    found: dict[Any, Any]
    if torch_file.is_archive(start) or torch_file.is_older(start):
        found = torch_file.read(path)
        found = next((found[key] for key in ("state_dict", "model") if isinstance(found.get(key), dict)), found)
    else:
        found = _safetensors(path)
    tensors = {}
    for name, value in found.items():
        tensor = value if isinstance(value, _Lazy) else torch_file.tensor_of(value)
        if not isinstance(name, str) or tensor is None:
            raise CheckpointError(f"{path}: {name!r:.60} is not a tensor; save model.state_dict()")
        tensors[re.sub(r"^((module|_orig_mod)\.)+", "", name)] = tensor
    if len(tensors) < len(found):
        raise CheckpointError(f"{path}: holds tensors with and without `module.` before their names; give one net")
    return tensors


def _opened(path: Path) -> Any:
    try:
        return open(path, "rb")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); give another file") from error


class _Lazy:
    """A tensor of a safetensors file."""

    def __init__(self, path: Path, entry: tensorfile.Tensor) -> None:
        self.path, self.entry, self.shape = path, entry, entry.shape

    @property
    def floating(self) -> bool:
        return "float" in self.entry.dtype

    def array(self) -> np.ndarray:
        kind = "uint16" if self.entry.dtype == "bfloat16" else self.entry.dtype
        count = (self.entry.end - self.entry.begin) // np.dtype(kind).itemsize
        flat = np.fromfile(self.path, np.dtype(kind).newbyteorder("<"), count, offset=self.entry.begin)
        flat = torch_file.from_bfloat16(flat) if self.entry.dtype == "bfloat16" else flat.astype(np.float32)
        return flat.reshape(self.shape)


def _safetensors(path: Path) -> dict[str, _Lazy]:
    try:
        _, entries = tensorfile.read(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); give another file") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}; give a file of torch.save or safetensors") from error
    return {name: _Lazy(path, entry) for name, entry in entries.items()}


def _net(path: Path, tensors: dict[str, Any]) -> Net:
    wanted = {f"{layer}.{kind}": 1 if kind == "bias" else 4 if layer.startswith("features") else 2
              for layer in _LAYERS.values() for kind in ("weight", "bias")}  # fmt: skip
    for name in tensors:
        if name not in wanted:
            raise _other_net(path, f"it has a tensor {one_line(name)}")
    for name, dimensions in wanted.items():
        if name not in tensors:
            raise _other_net(path, f"it lacks {name}")
        if len(tensors[name].shape) != dimensions:
            raise _other_net(path, f"{name} has the shape {tensors[name].shape}")
        if not tensors[name].floating:
            raise _other_net(path, f"{name} has no floating numbers")
    outputs = {ours: tensors[f"{theirs}.weight"].shape[0] for ours, theirs in _LAYERS.items()}
    maps = tuple(outputs[f"conv{number}"] for number in range(1, 6))
    shapes: list[tuple[int, ...]] = [(o, c, k, k) for o, c, k in zip(maps, (3, *maps[:4]), _KERNELS, strict=True)]
    hidden = outputs["fc6"]
    shapes += [(hidden, maps[4] * _SIDE**2), (hidden, hidden), (outputs["fc8"], hidden)]
    for (ours, theirs), shape in zip(_LAYERS.items(), shapes, strict=True):
        for name, its in ((f"{theirs}.weight", shape), (f"{theirs}.bias", (outputs[ours],))):
            if tensors[name].shape != its or 0 in its:
                raise _other_net(path, f"{name} has the shape {tensors[name].shape}, not {its}")
    try:
        return Net(
            input=_INPUT, columns=1, maps=maps, kernels=_KERNELS, stride=4, hidden=hidden, classes=outputs["fc8"],
            talk=(), pads=(2, 2, 1, 1, 1), conv_rounding="floor", pool_rounding="floor", norm="none", dropout=0.5,
        )  # fmt: skip
    except UsageError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _other_net(path: Path, problem: str) -> CheckpointError:
    return CheckpointError(f"{path}: not the state_dict of torchvision's AlexNet: {problem}; give one of alexnet()")
