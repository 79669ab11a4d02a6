"""Checkpoints: the only place that writes run state.

A checkpoint is a safetensors file, ``checkpoint-<step>.safetensors``: weights under the names of the 2012 files
("conv1a/W"), momenta beside them ("momentum/conv1a/W"), and in its header the metadata and a BLAKE2b of every tensor.
It is written under another name, flushed to the disk, read back and verified, and only then renamed; older ones are
removed after that (`tinyalex.runs.retention`). Who reads it trusts nothing: the header is checked before anything is
allocated, hashes before use.
"""

import json
import os
from pathlib import Path

import numpy as np

from tinyalex import __version__
from tinyalex.devices.parallel import workers
from tinyalex.errors import CheckpointError, StorageError
from tinyalex.runs import retention
from tinyalex.system import hashes, storage, tensorfile

FORMAT = 1
_HEADER = 1 << 20  # bytes of header, at most, for which there has to be room
_whole = {}  # what this process has written and verified: path to inode, size and time of change


def save(folder, tensors, metadata):
    """Write a checkpoint, verify it, and remove those that need not be kept any more.

    Parameters
    ----------
    folder : Path
        The run folder; made when missing.
    tensors : dict of str to np.ndarray
    metadata : dict
        Anything that JSON holds; ``metadata["step"]``, the updates made so far, is needed. See `retention.pinned` too.

    Returns
    -------
    Path

    Raises
    ------
    StorageError
        No space, no permission, or a disk that gives back other bytes; older checkpoints are untouched.
    """
    path = Path(folder) / f"checkpoint-{metadata['step']:08d}.safetensors"
    write(path, tensors, metadata)
    _prune(path, metadata["step"])
    return path


def write(path, tensors, metadata):
    """Write tensors and metadata to a file that is there whole and verified or not at all; see `save`."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    # C order: safetensors 0.8.0 writes the bytes of other orders as they lie, under the same shape.
    tensors = {
        name: np.asarray(array, np.asarray(array).dtype.newbyteorder("="), order="C") for name, array in tensors.items()
    }
    text = json.dumps(metadata | {"format": FORMAT, "tinyalex": __version__})
    each = dict(zip(tensors, workers().run(hashes.array, list(tensors.values())), strict=True))
    header = {"tinyalex": text, "tinyalex.blake2b": hashes.text(text), "tensors.blake2b": json.dumps(each)}
    temporary = path.with_suffix(".part")
    try:
        storage.need_room(path, sum(array.nbytes for array in tensors.values()) + min(_HEADER, 4 * len(text) + 65536))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode  # as the user's umask has it: safetensors would keep it from everybody else
        save_file(tensors, temporary, metadata=header)
        temporary.chmod(mode)
        storage.flush(temporary)
        _compare_with(temporary, tensors)
        os.replace(temporary, path)
        _whole[path] = _stamp(path)
        storage.flush(path.parent)
    except (OSError, SafetensorError, CheckpointError, StorageError) as error:
        storage.remove(temporary)
        raise StorageError(
            f"{path}: the checkpoint could not be written ({error}); make room and check the "
            "permissions, older checkpoints are as they were"
        ) from error
    except BaseException:  # Ctrl-C included
        storage.remove(temporary)
        raise


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
    for path, _ in by_step(folder, lines):
        try:
            verify(path)
            return path
        except CheckpointError as error:
            lines.append(str(error))
    if lines:
        raise CheckpointError(f"{folder}: no usable checkpoint ({lines[0]}); train again")
    raise CheckpointError(f"{folder}: no checkpoint here; give the folder that tinyalex train --out wrote")


def by_step(folder, rejected=None):
    """List the checkpoints in a folder whose header is whole, as (path, metadata), the highest step first."""
    found = []
    for path in Path(folder).glob("checkpoint-*.safetensors"):
        try:
            metadata = inspect(path)
            if metadata.get("kind") == "weights":
                raise CheckpointError(f"{path}: holds weights alone, no run can go on from it; predict takes it")
            found.append((path, metadata))
        except CheckpointError as error:
            if rejected is not None and path.exists():  # else another process removed it meanwhile
                rejected.append(str(error))
    return sorted(found, key=lambda pair: (pair[1]["step"], pair[0].name), reverse=True)


def read(path, shapes=None):
    """Read and verify a checkpoint.

    Parameters
    ----------
    path : Path
    shapes : callable, optional
        ``shapes(metadata)`` gives ``{name: (dtype, shape)}`` of the tensors that have to be there; the header is held
        to them before anything is allocated. A shape None may be any.

    Returns
    -------
    tensors : dict of str to np.ndarray
    metadata : dict
        As given to `save`, with "format" and the version "tinyalex" that wrote it.

    Raises
    ------
    CheckpointError
        For a file that is missing, cut, altered, of another format, of another program or of another net.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    metadata, wanted, entries = _header(path)
    wrong = "" if shapes is None else tensorfile.differences(entries, shapes(metadata))
    if wrong:
        raise CheckpointError(f"{path}: {wrong}; give one of this net")
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _bad(path, f"cannot be read ({error})") from error
    found = dict(zip(tensors, workers().run(hashes.array, list(tensors.values())), strict=True))
    _compare(path, found, wanted)
    return tensors, metadata


def verify(path):
    """Hold every byte of a checkpoint to its hashes, piece by piece; return its metadata, or raise as `read` does."""
    metadata, wanted, entries = _header(path)
    try:
        with open(path, "rb") as file:
            found = workers().run(lambda entry: hashes.in_file(file.fileno(), entry), list(entries.values()))
    except OSError as error:
        raise _bad(path, f"cannot be read ({error.strerror})") from error
    _compare(path, dict(zip(entries, found, strict=True)), wanted)
    return metadata


def inspect(path):
    """Read a checkpoint's metadata without its tensors; what `read` says of a damaged header holds here."""
    return _header(path)[0]


def _header(path):
    # Check a file's layout; give its metadata, the hashes of its tensors, and where they lie.
    try:
        texts, entries = tensorfile.read(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); give a checkpoint of tinyalex") from error
    except ValueError as error:
        raise _bad(path, error) from error
    if "tinyalex" not in texts:
        raise CheckpointError(f"{path}: not a checkpoint of tinyalex; give one that tinyalex train wrote")
    if hashes.text(texts["tinyalex"]) != texts.get("tinyalex.blake2b"):
        raise _bad(path, "its metadata are not as they were written")
    try:
        metadata, wanted = tensorfile.parse(texts["tinyalex"]), tensorfile.parse(texts["tensors.blake2b"])
        version, step = metadata["format"], metadata["step"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _bad(path, "its list of tensors is damaged") from error
    if version != FORMAT:
        by = f"the tinyalex that wrote it ({metadata.get('tinyalex', 'a later one')})"
        raise CheckpointError(f"{path}: format {version}, not {FORMAT}; use {by}")
    if type(step) is not int or step < 0 or not isinstance(wanted, dict) or wanted.keys() != entries.keys():
        raise _bad(path, "its tensors are not its own, or its step is no number")
    return metadata, wanted, entries


def _compare_with(path, tensors):
    # What was just written, read back: byte for byte what it was to be.
    entries = _header(path)[2]
    with open(path, "rb") as file:
        pairs = [(entries[name], array) for name, array in tensors.items()]
        equal = workers().run(lambda pair: hashes.is_in_file(file.fileno(), *pair), pairs)
    _compare(path, dict(zip(tensors, equal, strict=True)), dict.fromkeys(tensors, True))


def _compare(path, found, wanted):
    wrong = [name for name in wanted if found.get(name) != wanted[name]]
    if wrong:
        raise _bad(path, f"tensor {wrong[0]} is not as it was written")


def _prune(path, step):
    found = [(other, its) for other, its in by_step(path.parent) if its["step"] <= step]
    pinned, verified = retention.pinned(found), 0
    for other, _ in found:
        if verified < retention.NEWEST:
            try:
                verified += _whole.get(other) == _stamp(other) or bool(verify(other))
            except CheckpointError:
                continue
        elif other not in pinned:
            storage.remove(other)


def _stamp(path):
    told = path.stat()
    return told.st_ino, told.st_size, told.st_mtime_ns


def _bad(path, what):
    return CheckpointError(f"{path}: {what}; use an older checkpoint or train again")
