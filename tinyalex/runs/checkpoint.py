"""Checkpoints: files that hold the whole state of a run.

A checkpoint is a safetensors file, ``checkpoint-<step>.safetensors``. It holds the weights under the names of the 2012
files ("conv1a/W"), the momenta ("momentum/conv1a/W"), and in its header the metadata and a BLAKE2b hash of each tensor.
It is written under a temporary name, flushed to the disk, read back and verified, and only then renamed; after that,
older ones are removed (`tinyalex.runs.retention`). A reader checks the header before it allocates anything, and the
hashes before it uses the tensors.
"""

import functools
import json
from pathlib import Path

import numpy as np

from tinyalex import __version__
from tinyalex.devices.parallel import workers
from tinyalex.errors import CheckpointError, ForeignFileError, StorageError
from tinyalex.runs import retention
from tinyalex.system import hashes, ownership, storage, tensorfile

FORMAT = 1
_HEADER = 1 << 20  # largest allowance for the header when checking for free space, bytes
# Checkpoints that this process has written and verified, with their `ownership.stamp`.
_verified: dict[Path, tuple[int, int, int]] = {}
_left: set[Path] = set()  # checkpoints of somebody else of which the user has read that they are kept


def save(folder, tensors, metadata, say=None):
    """Write a checkpoint, verify it, and remove older ones that are no longer needed.

    If there is a file of somebody else under its name, the checkpoint gets another name; an older checkpoint that
    somebody else put there is not removed.

    Parameters
    ----------
    folder : Path
        The run folder; created if it is missing.
    tensors : dict of str to np.ndarray
    metadata : dict
        Anything that JSON can hold. ``metadata["step"]``, the updates made so far, is required; `retention.pinned` uses
        other keys.
    say : callable, optional
        Called with a line of text about such a file.

    Returns
    -------
    Path

    Raises
    ------
    StorageError
        No space, no permission, or a disk that returns other bytes than were written; older checkpoints stay.
    """
    say = say or (lambda line: None)
    path = name = Path(folder) / f"checkpoint-{metadata['step']:08d}.safetensors"
    number = 1
    while True:
        try:
            write(path, tensors, metadata)
            break
        except ForeignFileError as error:
            number += 1
            path = name.with_stem(f"{name.stem}-{number}")
            say(f"warning: {str(error).split(', so it')[0]}; the checkpoint is saved as {path.name}")
    _prune(path, metadata["step"], say)
    return path


def is_export(path):
    """Return whether a file holds weights that tinyalex wrote, and was not changed since."""
    try:
        return verify(path).get("kind") == "weights"
    except CheckpointError:
        return False


def write(path, tensors, metadata, may_replace=None):
    """Write tensors and metadata to a file, verified and atomically: see `save` and `storage.replacing`."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    # In C order: safetensors 0.8.0 would write the bytes of other orders as they are in memory, under the same shape.
    tensors = {
        name: np.asarray(array, np.asarray(array).dtype.newbyteorder("="), order="C") for name, array in tensors.items()
    }
    text = json.dumps(metadata | {"format": FORMAT, "tinyalex": __version__})
    digests = dict(zip(tensors, workers().run(hashes.array, list(tensors.values())), strict=True))
    header = {"tinyalex": text, "tinyalex.blake2b": hashes.text(text), "tensors.blake2b": json.dumps(digests)}
    try:
        storage.need_room(path, sum(array.nbytes for array in tensors.values()) + min(_HEADER, 4 * len(text) + 65536))
        compare = functools.partial(_compare_with, tensors=tensors)
        with storage.replacing(path, verify=compare, may_replace=may_replace) as temporary:
            mode = temporary.stat().st_mode  # what the user's umask allows; safetensors would allow only the owner
            save_file(tensors, temporary, metadata=header)
            temporary.chmod(mode)
    except (OSError, SafetensorError, CheckpointError) as error:
        raise StorageError(
            f"{path}: the checkpoint could not be written ({error}); make room and check the "
            "permissions, older checkpoints are as they were"
        ) from error
    _verified[path] = ownership.stamp(path)


def newest(folder, rejected=None):
    """Return the path of the checkpoint with the highest step among those that verify; the file name does not count.

    Parameters
    ----------
    folder : Path
    rejected : list, optional
        Gets a message for each newer file that does not verify.

    Raises
    ------
    CheckpointError
        If there is none.
    """
    folder, lines = Path(folder), [] if rejected is None else rejected
    if path := _first_that_verifies(by_step(folder, lines), lines):
        return path
    if lines:
        raise CheckpointError(f"{folder}: no usable checkpoint ({lines[0]}); train again, in another --out folder")
    raise CheckpointError(f"{folder}: no checkpoint here; give the folder that tinyalex train --out wrote")


def best(folder, rejected=None):
    """Return the path of the checkpoint with the lowest error among those that verify: see `retention.by_error`.

    Only checkpoints that were tested take part: one for each finished epoch that is still there, the best of which
    `retention.pinned` keeps. In a folder without any it is the `newest`.

    Parameters
    ----------
    folder : Path
    rejected : list, optional
        Gets a message for each better file that does not verify.

    Raises
    ------
    CheckpointError
        If there is none.
    """
    lines = [] if rejected is None else rejected
    return _first_that_verifies(retention.by_error(by_step(folder)), lines) or newest(folder, lines)


def _first_that_verifies(found, rejected):
    for path, _ in found:
        try:
            verify(path)
            return path
        except CheckpointError as error:
            rejected.append(str(error))
    return None


def by_step(folder, rejected=None):
    """List the checkpoints in a folder that have a valid header, as (path, metadata), the highest step first."""
    found = []
    for path in filter(Path.is_file, Path(folder).glob("checkpoint-*.safetensors")):
        try:
            metadata = inspect(path)
            if metadata.get("kind") == "weights":
                raise CheckpointError(
                    f"{path}: holds only weights, a run cannot resume from it; use it with predict or --init-from"
                )
            found.append((path, metadata))
        except CheckpointError as error:
            if rejected is not None and path.exists():  # else another process has just removed it
                rejected.append(str(error))
    return sorted(found, key=lambda pair: (pair[1]["step"], pair[0].name), reverse=True)


def read(path, shapes=None):
    """Read and verify a checkpoint.

    Parameters
    ----------
    path : Path
    shapes : callable, optional
        ``shapes(metadata)`` returns ``{name: (dtype, shape)}`` of the tensors that the file must hold; the header is
        checked against it before anything is allocated. A shape None allows any shape.

    Returns
    -------
    tensors : dict of str to np.ndarray
    metadata : dict
        As given to `save`, with "format", and "tinyalex", the version that wrote it.

    Raises
    ------
    CheckpointError
        For a file that is missing, truncated, altered, of another format, of another program or of another net.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    metadata, wanted, entries = _header(path)
    wrong = "" if shapes is None else tensorfile.differences(entries, shapes(metadata))
    if wrong:
        raise CheckpointError(f"{path}: {wrong}; give a checkpoint of this net")
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _bad(path, f"cannot be read ({error})") from error
    found = dict(zip(tensors, workers().run(hashes.array, list(tensors.values())), strict=True))
    _compare(path, found, wanted)
    return tensors, metadata


def verify(path):
    """Check all of a checkpoint against its hashes, in small pieces; return its metadata, or raise as `read` does."""
    metadata, wanted, entries = _header(path)
    try:
        with open(path, "rb") as file:
            found = workers().run(lambda entry: hashes.in_file(file.fileno(), entry), list(entries.values()))
    except OSError as error:
        raise _bad(path, f"cannot be read ({error.strerror})") from error
    _compare(path, dict(zip(entries, found, strict=True)), wanted)
    return metadata


def inspect(path):
    """Read a checkpoint's metadata without its tensors; for a damaged header it raises as `read` does."""
    return _header(path)[0]


def _header(path):
    # Checks a file's layout; returns its metadata, the hashes of its tensors, and where the tensors are in the file.
    try:
        texts, entries = tensorfile.read(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); give a checkpoint of tinyalex") from error
    except ValueError as error:
        raise _bad(path, error) from error
    if "tinyalex" not in texts:
        raise CheckpointError(f"{path}: not a checkpoint of tinyalex; give one that tinyalex train wrote")
    if hashes.text(texts["tinyalex"]) != texts.get("tinyalex.blake2b"):
        raise _bad(path, "its metadata do not match their hash")
    try:
        metadata, wanted = tensorfile.parse(texts["tinyalex"]), tensorfile.parse(texts["tensors.blake2b"])
        version, step = metadata["format"], metadata["step"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _bad(path, "its list of tensors is damaged") from error
    if version != FORMAT:
        by = f"the tinyalex that wrote it ({metadata.get('tinyalex', 'a later one')})"
        raise CheckpointError(f"{path}: format {version}, not {FORMAT}; use {by}")
    if type(step) is not int or step < 0 or not isinstance(wanted, dict) or wanted.keys() != entries.keys():
        raise _bad(path, "its list of tensors or its step is damaged")
    return metadata, wanted, entries


def _compare_with(path, tensors):
    # Reads back what was just written, and compares it byte by byte.
    entries = _header(path)[2]
    with open(path, "rb") as file:
        pairs = [(entries[name], array) for name, array in tensors.items()]
        equal = workers().run(lambda pair: hashes.is_in_file(file.fileno(), *pair), pairs)
    _compare(path, dict(zip(tensors, equal, strict=True)), dict.fromkeys(tensors, True))


def _compare(path, found, wanted):
    wrong = [name for name in wanted if found.get(name) != wanted[name]]
    if wrong:
        raise _bad(path, f"tensor {wrong[0]} is not as it was written")


def _prune(path, step, say):
    found = [(other, metadata) for other, metadata in by_step(path.parent) if metadata["step"] <= step]
    pinned, verified = retention.pinned(found), 0
    for other, _ in found:
        if verified < retention.NEWEST:
            try:
                verified += _verified.get(other) == ownership.stamp(other) or bool(verify(other))
            except CheckpointError:
                continue
        elif other not in pinned and ownership.is_ours(other):
            ownership.remove(other)
        elif other not in pinned and other not in _left:  # a copy that a user put here
            _left.add(other)
            say(f"{other} is not the file that this run wrote; it is kept")


def _bad(path, problem):
    return CheckpointError(f"{path}: {problem}; use an older checkpoint or train again")
