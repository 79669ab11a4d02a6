"""Fine-tuning: a new run starts with the weights of another run (paper §6: first all of ImageNet, then ILSVRC-2012).

2012: ``initw.py``, which copied all layers except the last.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tinyalex.errors import CheckpointError
from tinyalex.network.network import Network
from tinyalex.recipes import recipe
from tinyalex.recipes.recipe import Recipe
from tinyalex.runs import checkpoint, run_folder
from tinyalex.words import counted


def like_run(made: Recipe, source: str | Path) -> Recipe:
    """Return a recipe with ``init.like_run`` completed by the net of a run, for as many classes as the data has.

    With the net come the scale of its input and the size of its images, without which its weights are of no use.

    Parameters
    ----------
    made : Recipe
    source : str or Path
        A run's folder, or one of its checkpoints.
    """
    tensors, metadata = read(source)
    of_run = recipe.parse(metadata["recipe"])
    layers = (*of_run.net.layers, "default")
    # The other run's GPU may have had bfloat16 where this one's devices have not: only made's own setting asks for it.
    precision = made.net.precision if "bf16" in (made.net.precision, of_run.net.precision) else of_run.net.precision
    dropout = made.net.dropout if of_run.net.dropout else 0.0
    return replace(
        made,
        net=replace(of_run.net, classes=0, dropout=dropout, precision=precision),
        init=replace(
            made.init,
            weights=of_run.init.weights,
            biases=of_run.init.biases,
            anew=tuple(layer for layer in made.init.anew if layer in layers),
            like_run=False,
        ),
        data=replace(
            made.data,
            size=len(tensors["data/mean"]),
            mean=of_run.data.mean,
            scale=of_run.data.scale,
            flip=of_run.data.flip,
        ),
        learning=replace(
            made.learning,
            lr_mult={layer: mult for layer, mult in made.learning.lr_mult.items() if layer in layers},
        ),
    )


def start_from(
    network: Network, source: str | Path, classes: Sequence[str], not_copied: Sequence[str] = ()
) -> dict[str, Any]:
    """Copy the layers that fit from a run's last checkpoint into a network; the others keep their initial values.

    A layer of a column fits if the checkpoint has all its tensors in the same shape; the last layer only if the classes
    are also the same, in the same order. Momenta are not copied, and the mean image is that of the new data.

    Parameters
    ----------
    network : Network
        After `Network.build`.
    source : str or Path
        A run's folder, or one of its checkpoints.
    classes : sequence of str
        Classes of the new data.
    not_copied : sequence of str, optional
        Layers that keep their initial values even if they fit: ``init.anew`` of the recipe.

    Returns
    -------
    dict
        What the new run's checkpoints record: "run", the path of the other run; "step" and "weights", the step of the
        checkpoint and a hash of its weights; "taken", the layers that were copied; "anew", a dict of the other layers
        and why they were not.

    Raises
    ------
    CheckpointError
        If there is no such checkpoint, or none of its layers fits.
    """
    tensors, metadata = read(source)
    state = {name: device.get(view) for name, device, view in network.tensors()}
    taken: list[str] = []
    anew: dict[str, str] = {}
    layers: dict[str, list[str]] = {}
    for name in state:
        layers.setdefault(name.split("/")[0], []).append(name)
    class_change = _class_change(metadata["classes"], classes)
    last = {name for layer in network.last_layers() for parameter in layer.parameters for name in parameter.names}
    chosen = {name for _, layer in network.layers() for name in layer.names if _recipe_name(layer) in not_copied}
    for layer, names in layers.items():
        reason = (layer in chosen and "init.anew") or (layer in last and class_change)
        reason = reason or _misfit(names, state, tensors)
        if reason:
            anew[layer] = reason
        else:
            taken.append(layer)
            state |= {name: tensors[name] for name in names}
    if not taken:
        raise CheckpointError(f"{source}: none of its layers fits this net; give --init-from a run of a similar net")
    network.load(state)
    return {
        "run": str(Path(source).resolve()),
        "step": metadata["step"],
        "weights": _digest(tensors),
        "taken": taken,
        "anew": anew,
    }


def _class_change(old: Sequence[str], new: Sequence[str]) -> str:
    if list(old) == list(new):
        return ""
    return "other classes" if len(old) == len(new) else f"{counted(len(new), 'class')}, not {len(old)} as in that run"


def _recipe_name(layer: Any) -> str:
    # The layer's name in recipes, without that of a column.
    return layer.parameters[0].layer if layer.parameters else ""


def _misfit(names: list[str], state: dict[str, np.ndarray], tensors: dict[str, np.ndarray]) -> str:
    for name in names:
        if name not in tensors:
            return "not in that run"
        old, new = (" x ".join(map(str, arrays[name].shape)) for arrays in (tensors, state))
        if old != new:
            return f"{new}, not {old} as in that run"
    return ""


def read(source: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the checkpoint whose weights a run would start with: see `checkpoint.read`."""
    source = Path(source)
    tensors, metadata = run_folder.read(checkpoint.newest(source) if source.is_dir() else source)
    recipe.parse(metadata["recipe"])
    return tensors, metadata


def line(origin: dict[str, Any]) -> str:
    """Describe in a line of text which layers were copied from which run."""
    new = "; ".join(f"{layer} ({why})" for layer, why in origin["anew"].items())
    copied = f"copied {', '.join(origin['taken'])}"
    return f"initialized from {origin['run']}, step {origin['step']}: {copied}; not copied: {new or 'nothing'}"


def same_origin(origin: dict[str, Any] | None, source: str | Path | None, folder: Path) -> None:
    """Raise CheckpointError if a run to be resumed did not start with the weights of ``source``.

    Parameters
    ----------
    origin : dict or None
        What `start_from` returned when the run started; None if it started with random weights.
    source : str, Path or None
        The run given by --init-from now: the same path, or another copy of the same weights. None accepts any origin.
    folder : Path
        The run folder, for the message.
    """
    if source is None or (origin and origin["run"] == str(Path(source).resolve())):
        return
    if not origin:
        raise CheckpointError(
            f"{folder}: the run here started with random weights, not with {source}; give another --out folder"
        )
    if _digest(read(source)[0]) != origin["weights"]:
        raise CheckpointError(
            f"{folder}: the run here started with {origin['run']}, not {source}; give another --out folder"
        )


def _digest(tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(name for name in tensors if not name.startswith(("momentum/", "data/", "epoch/"))):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape} ".encode())
        digest.update(np.ascontiguousarray(tensors[name]))  # type: ignore[arg-type]  # arrays are buffers
    return digest.hexdigest()
