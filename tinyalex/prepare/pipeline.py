"""The preparation of a set: index, plan, room on the disk, workers, and at the end the manifest."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from tinyalex.datasets.shards import manifest, prepared, shards
from tinyalex.errors import DataError, Interrupted, StorageError, UsageError
from tinyalex.prepare import complete, plan, records, shard, sheet, workers
from tinyalex.prepare.progress import Progress
from tinyalex.system import lock
from tinyalex.system.signals import StopRequests, interrupting

_AGAIN = "the same command goes on from here"


class Settings(NamedTuple):
    """What can be chosen.

    Attributes
    ----------
    size : int or None
        Side of the images; None: as sets of this kind usually have it.
    seed : int
        Of the order of the images, and of ``subset`` and ``test_share``.
    workers : int
    subset : str or None
        "10x50": ten classes, of each at most fifty images a split.
    test_share : float
        Of images that came without a split.
    mean_from : Path or None
        A prepared set that gives this one its mean image and colours.
    max_bad : str
        How many images may be left out because they cannot be decoded: a number, or a share as "0.01%".
    """

    size: int | None = None
    seed: int = 0
    workers: int = 1
    subset: str | None = None
    test_share: float = 0.0
    mean_from: Path | None = None
    max_bad: str = complete.MAX_BAD


def prepare(index, names, out, settings, show=print):
    """Make a prepared set, or go on with one that was begun; the same bytes in the end.

    Parameters
    ----------
    index : function of a folder, giving an Index
        Finds the images; the folder is for what has to be unpacked on the way.
    names : list of str
        Where they are from, for the manifest.
    out : Path
        Folder for the set.
    settings : Settings
    show : function of str

    Returns
    -------
    dict
        The set's manifest.

    Raises
    ------
    UsageError, DataError, BusyError, StorageError
    Interrupted
        After Ctrl-C or SIGTERM.
    """
    out = Path(out)
    complete.allowed(settings.max_bad, 0)
    if out.exists() and not out.is_dir():
        raise StorageError(f"{out}: is a file; give a folder, or a name that is free")
    if out.is_dir() and not _ours(out):
        raise UsageError(f"{out}: holds other things; give a folder that is empty or not there yet")
    new = not out.exists()
    with lock.hold(out, "preparing a set", "folder"), interrupting():
        try:
            return _Preparation(out, settings, show).run(index, names)
        except KeyboardInterrupt:
            raise Interrupted(f"stopped; {_AGAIN}") from None
        finally:
            if new:
                _remove_traces(out)


class _Preparation:
    def __init__(self, out, settings, show):
        self.out, self.settings, self.show = out, settings, show
        self.mean_from = manifest.read(settings.mean_from) if settings.mean_from else None
        self.asked = plan.asked(settings, self.mean_from)

    def run(self, index, names):
        plan.check(self.out, self.asked)  # before a million files are looked at
        found = index(self.out / shard.WORK)
        size = self.settings.size or plan.usual_size(found.kind)
        if self.mean_from and self.mean_from["size"] != size:
            mean = f"{self.settings.mean_from}: its mean image has size {self.mean_from['size']}"
            raise DataError(f"{mean}, this set {size}; prepare both with the same --size")
        identity, tasks = plan.make(found, self.out, size, self.settings.seed)
        self.asked |= {"size": size, "plan": identity}
        if plan.check(self.out, self.asked) != "complete":
            self._make(tasks, [task for task in tasks if not self._done(task, found.classes)])
            complete.write(self.out, found, names, tasks, self.settings, self.mean_from)
        else:
            self._mend(tasks)
        made = prepared.load(self.out)
        sheet.draw(self.out, made)
        shutil.rmtree(self.out / shard.WORK, ignore_errors=True)
        return made.manifest

    def _done(self, task, classes):
        # Whether a shard is there from before, whole, with its record.
        record = records.read(task.record, task.size)
        return record is not None and self._whole(task, complete.header(task, record, classes))

    def _whole(self, task, header):
        try:
            shards.Shard(self.out, header, task.split, task.number)
        except DataError as error:
            self.show(f"warning: {error}; it is made again")
            return False
        return True

    def _mend(self, tasks):
        # What a finished set has lost is made again, and has to be what it was.
        made = manifest.read(self.out)
        counts = {split: len(part["shards"]) for split, part in made["splits"].items()}
        lost = [task for task in tasks if task.number < counts[task.split] and not self._whole(task, made)]
        self._make(tasks, lost)
        for task in lost:
            try:
                shards.Shard(self.out, made, task.split, task.number)
            except DataError as error:
                raise DataError(f"{task.path}: made again, and not as it was; prepare into another folder") from error

    def _make(self, tasks, waiting):
        if waiting:
            shutil.rmtree(self.out / shard.WORK / shard.NEW, ignore_errors=True)
            self._check_room(waiting)
            self._work(tasks, waiting)

    def _check_room(self, tasks):
        size = tasks[0].size
        needed = sum(len(task.entries) * (3 * size**2 + 12) + 12 * size**2 + 4096 for task in tasks)
        disk = os.statvfs(self.out)
        free = disk.f_bavail * disk.f_frsize
        if needed > free:
            raise StorageError(
                f"{self.out}: needs {_bytes(needed)}, {_bytes(free)} are free; make room, or give a folder elsewhere"
            )

    def _work(self, tasks, waiting):
        images, left = (sum(len(task.entries) for task in some) for some in (tasks, waiting))
        done = images - left
        if done:
            self.show(f"going on: {done:,} of {images:,} images are done")
        with StopRequests() as stop, contextlib.closing(Progress(images, done, self.show)) as progress:
            plan.begin(self.out, self.asked)

            def finished(task, bad):
                nonlocal done
                done += len(task.entries)

            def doing(task, part):
                return shard.where(task.entries[task.reading()[part]])

            try:
                workers.run(
                    shard.make,
                    waiting,
                    self.settings.workers,
                    stop,
                    finished,
                    lambda parts: progress.at(done + parts),
                    doing,
                )
            except Interrupted:
                raise Interrupted(f"stopped; {done:,} of {images:,} images are done, {_AGAIN}") from None


def _ours(out):
    there = set(os.listdir(out))
    return there <= {lock.NAME, shard.WORK} or manifest.NAME in there or (out / shard.WORK / plan.STATE).exists()


def _remove_traces(out):
    # Of a folder that was made for nothing; not of one in which something was begun.
    if not (out / shard.WORK / plan.STATE).exists() and not (out / manifest.NAME).exists():
        with contextlib.suppress(OSError):
            os.unlink(out / lock.NAME)
            os.rmdir(out / shard.WORK)
        with contextlib.suppress(OSError):
            os.rmdir(out)


def _bytes(count):
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
