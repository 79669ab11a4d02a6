"""Fine-tuning: a network that begins where another one ended (paper §6: all of ImageNet first, then ILSVRC-2012).

2012: ``initw.py``, which copied all layers but the last.
"""

import hashlib
from pathlib import Path

import numpy as np

from tinyalex.errors import CheckpointError
from tinyalex.recipes import recipe
from tinyalex.runs import checkpoint, run_folder


def start_from(network, source, classes):
    """Give a network what fits of a run's last checkpoint; the rest stays as it was drawn.

    A layer fits, column by column, if all its tensors are there in the same shape; the layer that tells the classes
    only if these are the same, in the same order. Momenta are not taken, and the mean image is that of the new data.

    Parameters
    ----------
    network : Network
        Built.
    source : str or Path
        A run's folder, or one of its checkpoints.
    classes : sequence of str
        What the network is to tell apart.

    Returns
    -------
    dict
        What the new run has to remember: "run", where the weights came from; "step" and "weights", a hash, which
        weights; "taken", a list of layers; "anew", a dict of layers and why they begin anew.

    Raises
    ------
    CheckpointError
        If there is no such checkpoint, or none of its layers fits.
    """
    tensors, metadata = read(source)
    state = {name: device.get(view) for name, device, view in network.tensors()}
    taken, anew, layers = [], {}, {}
    for name in state:
        layers.setdefault(name.split("/")[0], []).append(name)
    others = _other_classes(metadata["classes"], classes)
    last = {name for layer in _last_layers(network) for name in layer.names}
    for layer, names in layers.items():
        reason = (layer in last and others) or _misfit(names, state, tensors)
        if reason:
            anew[layer] = reason
        else:
            taken.append(layer)
            state |= {name: tensors[name] for name in names}
    if not taken:
        raise CheckpointError(f"{source}: none of its layers fits this net; give --init-from a run of a like net")
    network.load(state)
    return {
        "run": str(Path(source).resolve()),
        "step": metadata["step"],
        "weights": _digest(tensors),
        "taken": taken,
        "anew": anew,
    }


def _other_classes(then, now):
    if list(then) == list(now):
        return ""
    return "other classes" if len(then) == len(now) else f"{len(now)} classes, not that run's {len(then)}"


def _last_layers(network):
    # One a column where the last layer is split.
    weighty = [layer for _, layer in network.layers() if layer.parameters]
    return [layer for layer in weighty if layer.parameters[0].layer == weighty[-1].parameters[0].layer]


def _misfit(names, state, tensors):
    for name in names:
        if name not in tensors:
            return "not in that run"
        had, wanted = (" x ".join(map(str, arrays[name].shape)) for arrays in (tensors, state))
        if had != wanted:
            return f"{wanted}, not {had}"
    return ""


def read(source):
    """Read the checkpoint that a run would begin from; see `checkpoint.read`."""
    source = Path(source)
    tensors, metadata = run_folder.read(checkpoint.newest(source) if source.is_dir() else source)
    recipe.parse(metadata["recipe"])
    return tensors, metadata


def line(origin):
    """Say what a run began with."""
    anew = "; ".join(f"{layer} ({why})" for layer, why in origin["anew"].items())
    taken = f"takes {', '.join(origin['taken'])}"
    return f"begins with {origin['run']}, step {origin['step']}: {taken}; anew: {anew or 'nothing'}"


def same_origin(origin, source, folder):
    """Refuse to go on with a run that began otherwise than it is said to; without ``source`` any will do.

    Parameters
    ----------
    origin : dict or None
        What `begin` returned when the run began; None if it began with nothing.
    source : str, Path or None
        What it is to have begun with: the same place, or the same weights.
    folder : Path
        The run's, for the message.
    """
    if source is None or (origin and origin["run"] == str(Path(source).resolve())):
        return
    if not origin:
        raise CheckpointError(f"{folder}: its run began anew, not with {source}; give another --out folder")
    if _digest(read(source)[0]) != origin["weights"]:
        raise CheckpointError(f"{folder}: its run began with {origin['run']}, not {source}; give another --out folder")


def _digest(tensors):
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(name for name in tensors if not name.startswith(("momentum/", "data/", "epoch/"))):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape} ".encode())
        digest.update(np.ascontiguousarray(tensors[name]))
    return digest.hexdigest()
