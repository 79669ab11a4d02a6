"""Checkpoints: the only place that writes run state.

A checkpoint is a safetensors file, ``checkpoint-<step>.safetensors``: weights under the names of the 2012 files
("conv1a/W"), momenta beside them ("momentum/conv1a/W"), and in its header the metadata and a SHA-256 of every tensor.
It is written under another name, flushed to the disk, read back and verified, and only then renamed; an older one is
removed after that. Who reads it trusts nothing: the header is checked before anything is allocated, hashes before use.
"""

import hashlib
import json
import os
import platform
from pathlib import Path

import numpy as np

from tinyalex import __version__, storage, tensorfile
from tinyalex.errors import CheckpointError, StorageError

FORMAT = 1
KEPT = 2  # verified checkpoints in a folder


def save(folder, tensors, metadata):
    """Write a checkpoint, verify it, and remove all but the newest two.

    Parameters
    ----------
    folder : Path
        The run folder; made when missing.
    tensors : dict of str to np.ndarray
    metadata : dict
        Anything that JSON holds; ``metadata["step"]``, the updates made so far, is needed.

    Returns
    -------
    Path

    Raises
    ------
    StorageError
        No space, no permission, or a disk that gives back other bytes; older checkpoints are untouched.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    # C order: safetensors 0.8.0 writes the bytes of other orders as they lie, under the same shape.
    tensors = {
        name: np.asarray(array, np.asarray(array).dtype.newbyteorder("="), order="C") for name, array in tensors.items()
    }
    text = json.dumps(metadata | {"format": FORMAT, "made_with": _made_with()})
    hashes = {name: _tensor_hash(array) for name, array in tensors.items()}
    header = {"tinyalex": text, "tinyalex.sha256": _text_hash(text), "tensors.sha256": json.dumps(hashes)}
    path = Path(folder) / f"checkpoint-{metadata['step']:08d}.safetensors"
    temporary = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode  # as the user's umask has it: safetensors would keep it from everybody else
        save_file(tensors, temporary, metadata=header)
        temporary.chmod(mode)
        storage.flush(temporary)
        read(temporary)
        os.replace(temporary, path)
        storage.flush(path.parent)
    except (OSError, SafetensorError, CheckpointError) as error:
        storage.remove(temporary)
        raise StorageError(
            f"{path}: the checkpoint could not be written ({error}); make room and check the "
            "permissions, older checkpoints are as they were"
        ) from error
    except BaseException:  # Ctrl-C included
        storage.remove(temporary)
        raise
    _prune(path, metadata["step"])
    return path


def newest(folder, rejected=None):
    """Find the checkpoint with the highest step, by the step inside, among those that verify.

    Parameters
    ----------
    folder : Path
    rejected : list, optional
        Gets one line for each newer file that does not verify.

    Raises
    ------
    CheckpointError
        When there is none.
    """
    folder, lines = Path(folder), [] if rejected is None else rejected
    for path in _by_step(folder, lines):
        try:
            read(path)
            return path
        except CheckpointError as error:
            lines.append(str(error))
    if lines:
        raise CheckpointError(f"{folder}: no usable checkpoint ({lines[0]}); train again")
    raise CheckpointError(f"{folder}: no checkpoint here; give the folder that tinyalex train --out wrote")


def read(path):
    """Read and verify a checkpoint.

    Returns
    -------
    tensors : dict of str to np.ndarray
    metadata : dict
        As given to `save`, with "format" and "made_with": versions on which a result's last bits depend.

    Raises
    ------
    CheckpointError
        For a file that is missing, cut, altered, of another format or of another program.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    metadata, hashes = _header(path)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _bad(path, f"cannot be read ({error})") from error
    if tensors.keys() != hashes.keys():
        raise _bad(path, f"tensors {sorted(tensors.keys() ^ hashes.keys())[:3]} are missing or not its own")
    for name, array in tensors.items():
        if _tensor_hash(array) != hashes[name]:
            raise _bad(path, f"tensor {name} is not as it was written")
    return tensors, metadata


def _header(path):
    """Check a file's layout, and give its metadata and the hashes of its tensors."""
    try:
        texts = tensorfile.texts(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); give a checkpoint of tinyalex") from error
    except ValueError as error:
        raise _bad(path, error) from error
    if "tinyalex" not in texts:
        raise CheckpointError(f"{path}: not a checkpoint of tinyalex; give one that tinyalex train wrote")
    if _text_hash(texts["tinyalex"]) != texts.get("tinyalex.sha256"):
        raise _bad(path, "its metadata are not as they were written")
    metadata = json.loads(texts["tinyalex"])
    if metadata["format"] != FORMAT:
        raise CheckpointError(f"{path}: format {metadata['format']}, not {FORMAT}; use the tinyalex that wrote it")
    try:
        return metadata, tensorfile.parse(texts["tensors.sha256"])
    except (ValueError, KeyError) as error:
        raise _bad(path, "its list of tensors is damaged") from error


def _by_step(folder, rejected):
    steps = []
    for path in folder.glob("checkpoint-*.safetensors"):
        try:
            steps.append((_header(path)[0]["step"], path))
        except CheckpointError as error:
            rejected.append(str(error))
    return [path for _, path in sorted(steps, reverse=True)]


def _prune(path, step):
    verified = 1  # the one just written
    for other in _by_step(path.parent, []):
        try:
            if other == path or read(other)[1]["step"] > step:
                continue
        except CheckpointError:
            continue  # what cannot be read is not ours to remove
        verified += 1
        if verified > KEPT:
            storage.remove(other)


def _made_with():
    return {
        "tinyalex": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.platform(terse=True) + " " + platform.machine(),
    }


def _tensor_hash(array):
    digest = hashlib.sha256(f"{array.dtype.name} {array.shape} ".encode())
    digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()


def _text_hash(text):
    return hashlib.sha256(text.encode()).hexdigest()


def _bad(path, what):
    return CheckpointError(f"{path}: {what}; use an older checkpoint or train again")
