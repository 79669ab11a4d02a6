"""Writes a run as an ONNX file, and reads such a file back, bit for bit.

The graph's input is ``images``, float32 (n, 3, S, S): the central crop in RGB, pixels from 0 to 255. It subtracts the
mean image and scales by itself. Outputs are ``logits`` and ``probabilities``, (n, classes). The file's metadata hold
what a file of weights holds: the recipe, the names of the classes, where the weights come from.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from tinyalex import __version__
from tinyalex.errors import CheckpointError, UsageError
from tinyalex.interop import onnx_layout
from tinyalex.interop.imported import Imported, one_line
from tinyalex.network import alexnet
from tinyalex.recipes import recipe as recipes
from tinyalex.recipes.recipe import Recipe
from tinyalex.runs.run_folder import Run
from tinyalex.system import hashes, storage

PRODUCER = "tinyalex"
_LIMIT = 2_000_000_000  # bytes; protobuf reads no message of 2 GiB
_METADATA, _HASHES = "tinyalex", "tinyalex.blake2b"
_KEPT = ("step", "epoch", "errors", "judged_by", "tested", "seed", "recipe", "dataset")


def write(run: Run, path: str | Path) -> Path:
    """Write a run's weights as an ONNX file; one that was written so before is replaced, any other file is not.

    Raises
    ------
    UsageError
        If ONNX cannot say the net; the message names the layer.
    StorageError
        See `tinyalex.system.storage.atomic_write`.
    """
    path = Path(path)
    content = model(run).SerializeToString(deterministic=True)
    with storage.atomic_write(path, may_replace=is_ours) as file:
        file.write(content)
    return path


def model(run: Run) -> ModelProto:
    """Return a run as a checked ONNX model."""
    net = run.recipe.net
    graph = _graph(run.recipe, len(run.mean))
    state = {name: device.get(view) for name, device, view in run.network.tensors()} | {"data/mean": run.mean}
    arrays = {name: weights.stored(state) for name, weights in graph.weights.items()} | graph.constants
    if (size := sum(array.nbytes for array in arrays.values())) > _LIMIT:
        raise UsageError(f"{run.recipe.name}: {size:,} bytes, and an ONNX file holds 2 GB; write .safetensors instead")
    made = _model(graph, net.input, net.classes, arrays)
    metadata = {key: run.metadata[key] for key in _KEPT if key in run.metadata}
    recipe_text = recipes.to_toml(run.recipe)
    texts = {
        _METADATA: json.dumps(metadata | {"recipe": recipe_text, "mean": len(run.mean)}),
        "input": f"{onnx_layout.INPUT}: float32 (n, 3, {net.input}, {net.input}), the central crop of an image of "
        f"{len(run.mean)} pixels a side, RGB, 0 to 255; the graph subtracts the mean image and scales",
        "output": "logits and probabilities: float32 (n, classes), in the order of `classes`",
        "classes": json.dumps(run.classes),
        "words": json.dumps(run.words),
    }
    stored = {name: hashes.array(array) for name, array in sorted(arrays.items())}
    texts[_HASHES] = json.dumps({"metadata": hashes.text(_joined(texts)), "tensors": stored})
    helper.set_model_props(made, texts)
    checker.check_model(made)
    return made


def check_target(path: str | Path) -> None:
    """Raise ForeignFileError if `write` would have to replace a file that is not an unchanged one of its own."""
    storage.check(Path(path), is_ours)


def is_ours(path: str | Path) -> bool:
    """Return whether a file is one that `write` wrote and nobody changed."""
    try:
        content = Path(path).read_bytes()
        found = ModelProto.FromString(content)
        return found.producer_name == PRODUCER and _restored(Path(path), found) is not None
    except Exception:  # not a file of ONNX
        return False


def read(path: Path, found: ModelProto) -> Imported | None:
    """Read a model that `write` wrote: the same weights, recipe and classes. None if it is another one.

    Raises
    ------
    CheckpointError
        If its tensors are not as they were written.
    """
    return _restored(path, found) if found.producer_name == PRODUCER else None


def _restored(path: Path, found: ModelProto) -> Imported | None:
    texts = {entry.key: entry.value for entry in found.metadata_props}
    try:
        wanted = json.loads(texts.pop(_HASHES))
        if wanted["metadata"] != hashes.text(_joined(texts)):
            raise ValueError("metadata")
        metadata = json.loads(texts[_METADATA])
        recipe, side = recipes.parse(metadata["recipe"]), metadata["mean"]
        graph = _graph(recipe, side)
    except (KeyError, ValueError, TypeError, RecursionError, UsageError) as error:
        raise CheckpointError(f"{path}: its metadata are truncated or damaged; export the run again") from error
    shapes = {name: weights.shape for name, weights in graph.weights.items()}
    shapes |= {name: value.shape for name, value in graph.constants.items()}
    if {tensor.name: tuple(tensor.dims) for tensor in found.graph.initializer} != shapes:
        return None  # a tool has changed it since
    empty = _model(graph, recipe.net.input, recipe.net.classes, {})
    for part in ("node", "input", "output"):
        if list(getattr(found.graph, part)) != list(getattr(empty.graph, part)):
            return None
    state: dict[str, np.ndarray] = {}
    for tensor in found.graph.initializer:
        try:
            array = numpy_helper.to_array(tensor)
        except Exception as error:  # its numbers are fewer or of another type than it says
            raise CheckpointError(f"{path}: tensor {tensor.name} is damaged; export the run again") from error
        if hashes.array(np.asarray(array, order="C")) != wanted["tensors"].get(tensor.name):
            raise CheckpointError(f"{path}: tensor {tensor.name} is not as it was written; export the run again")
        if tensor.name in graph.weights:
            state |= graph.weights[tensor.name].restored(array)
    mean, classes, words = state.pop("data/mean"), json.loads(texts["classes"]), json.loads(texts["words"])
    return Imported(recipe, state, mean, classes, words, f"a net of tinyalex in ONNX, from {one_line(path.name)}")


def _joined(texts: dict[str, str]) -> str:
    return json.dumps(texts, sort_keys=True)


def _graph(recipe: Recipe, mean_side: int) -> onnx_layout.Graph:
    return onnx_layout.lay_out(alexnet.describe(recipe.net), recipe.data.scale, mean_side)


def _model(graph: onnx_layout.Graph, side: int, classes: int, arrays: dict[str, Any]) -> ModelProto:
    images = helper.make_tensor_value_info(onnx_layout.INPUT, TensorProto.FLOAT, ["n", 3, side, side])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", classes])
        for name in (onnx_layout.LOGITS, onnx_layout.PROBABILITIES)
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    made = helper.make_graph(graph.nodes, "alexnet", [images], outputs, initializers)
    return helper.make_model(
        made,
        producer_name=PRODUCER,
        producer_version=__version__,
        ir_version=onnx_layout.IR_VERSION,
        opset_imports=[helper.make_opsetid("", onnx_layout.OPSET)],
    )
