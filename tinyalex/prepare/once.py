"""Prepare a source once: the set is in a folder named after the state of the source, and is used again next time.

Nothing has to be remembered or compared: a source that was changed has another state, and so another folder.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tinyalex.datasets import cifar
from tinyalex.datasets.index.archives import is_archive, stem
from tinyalex.datasets.index.documents import is_document
from tinyalex.datasets.picture import is_image
from tinyalex.datasets.shards import manifest
from tinyalex.errors import BusyError, StorageError, UsageError
from tinyalex.prepare import complete, pipeline, plan
from tinyalex.system import ownership

FOLDER = "prepared"
_BAD = 0.05  # share of the images that may be left out because they cannot be decoded; a line tells how many were


def folder(parent: str | Path, source: str | Path, size: int, share: float | None) -> Path:
    """Return where the set of a source is, or would be: ``PARENT/prepared/photos-64-0123456789ab``.

    Parameters
    ----------
    parent : str or Path
        The folder that runs are in.
    source : str or Path
        A folder, an archive or a list.
    size : int
        Side of the prepared images.
    share : float or None
        Share of every class that becomes test images, as the user gave it.

    Raises
    ------
    OSError
        If a folder cannot be read.
    """
    root = os.path.realpath(source)
    digest = hashlib.blake2b(f"{root}\0{size}\0{share}\n".encode(errors="surrogateescape"), digest_size=6)
    for line in _state(root):
        digest.update(line.encode(errors="surrogateescape"))
    name = stem(os.path.basename(root)).strip(".") or "set"
    return Path(parent) / FOLDER / f"{name}-{size}-{digest.hexdigest()}"


def source_name(made: Path) -> str:
    """Return the name of the source of a set, by the name of the set's folder, as `folder` gives it.

    >>> source_name(Path("runs/prepared/my-photos-64-0123456789ab"))
    'my-photos'
    """
    return made.name.rsplit("-", 2)[0]


def _state(root: str) -> Iterator[str]:
    # A line for each file that may be part of a set: its path, size and time of change.
    if os.path.isfile(root):
        status = os.stat(root)
        yield f"{status.st_size} {status.st_mtime_ns}\n"
        return
    seen = {root}
    for above, folders, names in os.walk(root, followlinks=True):
        paths = {name: os.path.realpath(os.path.join(above, name)) for name in folders if not name.startswith(".")}
        folders[:] = sorted(name for name, path in paths.items() if path not in seen)
        seen.update(paths.values())
        for name in sorted(names):
            if not name.startswith(".") and _is_part(name):
                path = os.path.join(above, name)
                try:
                    status = os.stat(path)
                except OSError:  # a dangling link
                    continue
                if ownership.is_drawn(path):  # which are left out of sets
                    continue
                yield f"{os.path.relpath(path, root)}\0{status.st_size} {status.st_mtime_ns}\n"


def _is_part(name: str) -> bool:
    return is_image(name) or is_document(name) or is_archive(name) or cifar.is_part((name,))


def is_complete(out: Path) -> bool:
    """Return whether the set in a folder is complete."""
    return (out / manifest.NAME).is_file()


def is_made_of(out: Path, index: Any, size: int) -> bool:
    """Return whether the set in a folder is of the images of an index, and none of their files was changed since."""
    identity, _ = plan.make(index, out, size, pipeline.Settings().seed)
    if manifest.read(out)["plan"] != identity:
        return False
    made = (out / manifest.NAME).stat().st_mtime_ns
    files = {entry.file for entries in index.splits.values() for entry in entries}
    return all(os.stat(file).st_mtime_ns <= made for file in files)


def make(out: Path, index: Any, names: list[str], size: int, workers: int, show: Callable[[str], object]) -> None:
    """Prepare the images of an index in a folder; if another process is doing that, wait until it has finished.

    Parameters
    ----------
    out : Path
        From `folder`.
    index : Index
        With its test images.
    names : list of str
        Of the sources, for the manifest.
    size : int
        Side of the images.
    workers : int
        Number of processes.
    show : callable
        Called with lines of text.

    Raises
    ------
    DataError, StorageError, UsageError, Interrupted
        As from `pipeline`.
    """
    if os.path.lexists(out) and not out.is_dir():
        raise StorageError(
            f"{out}: is a file, where the prepared images of {names[0]} go; move it, or give --out in another folder"
        )
    images = sum(map(len, index.splits.values()))
    settings = pipeline.Settings(size=size, workers=workers, max_bad=str(max(1, int(_BAD * images))))
    waiting = False
    while True:
        try:
            with pipeline.start(out, settings, show) as preparation:
                made = preparation.make(index, names)
            if line := complete.left_out(made, out):
                show(line)
            return
        except BusyError as error:
            if not waiting:
                show(f"waiting: {str(error).split(';')[0]}")
            waiting = True
            time.sleep(0.5)
        except UsageError as error:
            raise UsageError(f"{str(error).split(';')[0]}; move these, or give --out in another folder") from None
