"""Make a prepared set from an index of images: plan the shards, check the free space, run the workers, finish.

with pipeline.start(out, settings) as preparation:
    index = sources.index(..., preparation.scratch, ...)
    manifest = preparation.make(index, names)
"""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from tinyalex.datasets.shards import manifest, prepared, shards, test_list
from tinyalex.errors import DataError, Interrupted, StorageError, UsageError
from tinyalex.prepare import complete, plan, records, shard, sheet, workers
from tinyalex.system import lock, ownership
from tinyalex.system.progress import Progress
from tinyalex.system.signals import StopRequests, interrupting

_AGAIN = "run the same command again to continue"


class Settings(NamedTuple):
    """The options of a preparation.

    Attributes
    ----------
    size : int or None
        Side of the images; None: the usual one for this kind of set.
    seed : int
        Of the order of the images, and of ``subset`` and ``test_share``.
    workers : int
    subset : str or None
        "10x50": ten classes, at most fifty images of each per split.
    test_share : float
        Share of the images without a split that become test images.
    mean_from : Path or None
        A prepared set whose mean image and colours are used for this one.
    max_bad : str
        How many images may be left out because they cannot be decoded: a number, or a share as "0.01%".
    quality : int or None
        Quality of the JPEG files in which the images are stored, from 1 to 100; None: their pixels are stored.
    """

    size: int | None = None
    seed: int = 0
    workers: int = 1
    subset: str | None = None
    test_share: float = 0.0
    mean_from: Path | None = None
    max_bad: str = complete.MAX_BAD
    quality: int | None = None


@contextlib.contextmanager
def start(out, settings, show=print):
    """Check the output folder against the settings, and lock it for as long as the preparation runs.

    Everything that can be refused without looking at the images is refused here. If nothing was begun when the ``with``
    block ends, a folder that was made for it is removed again.

    Parameters
    ----------
    out : Path
        Folder for the set.
    settings : Settings
    show : function of str
        Called with lines of text.

    Yields
    ------
    Preparation

    Raises
    ------
    UsageError, DataError, BusyError, StorageError
    Interrupted
        After Ctrl-C or SIGTERM.
    """
    out = Path(out)
    complete.allowed(settings.max_bad, 0)
    if out.exists() and not out.is_dir():
        raise StorageError(f"{out}: is a file; give a folder, or a path where nothing is yet")
    if out.is_dir() and not _is_ours(out):
        raise UsageError(f"{out}: holds other files; give a folder that is empty or does not exist yet")
    if not (out / manifest.NAME).exists():
        for name in (manifest.NAME, manifest.MEAN, complete.SKIPPED, test_list.NAME):
            ownership.check(out / name)  # raises StorageError now, not when all shards are made
    new = not out.exists()
    with lock.hold(out, "preparing a set", "folder"), interrupting():
        try:
            yield Preparation(out, settings, show)
        except KeyboardInterrupt:
            raise Interrupted(f"stopped; {_AGAIN}") from None
        finally:
            if new:
                _remove_if_empty(out)


class Preparation:
    """A locked output folder in which a set is made; see `start`.

    Attributes
    ----------
    scratch : Path
        Folder in it for files that are unpacked while the images are indexed; removed when the set is complete.
    """

    def __init__(self, out, settings, show):
        self.scratch = out / shard.WORK
        self._out, self._settings, self._show = out, settings, show
        self._mean_from = manifest.read(settings.mean_from) if settings.mean_from else None
        self._requested = plan.requested(settings, self._mean_from)
        plan.check(out, self._requested)

    def make(self, index, names):
        """Make the set, or continue one that was begun; either way with the same bytes in the end.

        Parameters
        ----------
        index : Index
            The images.
        names : list of str
            Of the sources, for the manifest.

        Returns
        -------
        dict
            The set's manifest.
        """
        size = self._settings.size or plan.usual_size(index.kind)
        if self._mean_from and self._mean_from["size"] != size:
            mean = f"{self._settings.mean_from}: its mean image has size {self._mean_from['size']}"
            raise DataError(f"{mean}, this set {size}; prepare both with the same --size")
        identity, tasks = plan.make(index, self._out, size, self._settings.seed, self._settings.quality)
        self._requested |= {"size": size, "plan": identity}
        if plan.check(self._out, self._requested) != "complete":
            self._make_shards(tasks, [task for task in tasks if not self._is_done(task, index.classes)])
            complete.write(self._out, index, names, tasks, self._settings, self._mean_from)
        else:
            self._repair(tasks)
        complete.write_test_list(self._out, index, tasks)
        made = prepared.load(self._out)
        if reason := sheet.draw(self._out, made):
            self._show(f"warning: {self._out / sheet.NAME} is not drawn ({reason}); to draw it later, {_AGAIN}")
        for folder in (self.scratch / shard.NEW, self.scratch):
            ownership.remove_made(folder)
        return made.manifest

    def _is_done(self, task, classes):
        # Whether an earlier run left an intact shard and its record.
        record = records.read(task.record, task.size)
        return record is not None and self._is_intact(task, complete.header(task, record, classes))

    def _is_intact(self, task, header):
        try:
            shards.Shard(self._out, header, task.split, task.number)
        except DataError as error:
            self._check_replaceable(task)
            self._show(f"warning: {error}; this run makes the shard again")
            return False
        return True

    def _repair(self, tasks):
        # Make missing or damaged shards of a finished set again; they have to be the same as before.
        made = manifest.read(self._out)
        counts = {split: len(part["shards"]) for split, part in made["splits"].items()}
        damaged = [task for task in tasks if task.number < counts[task.split] and not self._is_intact(task, made)]
        self._make_shards(tasks, damaged)
        for task in damaged:
            try:
                shards.Shard(self._out, made, task.split, task.number)
            except DataError as error:
                what = "made again, but its contents are not the same as before; prepare the set in another folder"
                raise DataError(f"{task.path}: {what}") from error

    def _make_shards(self, tasks, waiting):
        for folder in (self._out, self.scratch):
            if folder.is_dir():
                ownership.remove_partial_files(folder)
        if waiting:
            ownership.remove_made(self.scratch / shard.NEW)
            for task in waiting:
                self._check_replaceable(task)
            self._check_free_space(waiting)
            self._run_workers(tasks, waiting)

    def _check_replaceable(self, task):
        # A shard that is made again may be a copy of ours, or be damaged, but not somebody else's file.
        ours = ownership.is_ours(task.path)
        if not ours and shards.is_shard_of(task.path, task.plan, task.split, task.number):
            ownership.recognise(task.path)
        ownership.check(task.path)
        ownership.check(task.record)

    def _check_free_space(self, tasks):
        size, about = tasks[0].size, "about " if tasks[0].quality else ""
        of_image = 3 * size**2 + 12
        if tasks[0].quality:  # photographs of quality 90 have a seventh of the bytes of their pixels, of 100 two fifths
            of_image = 3 * size**2 * (0.15 if tasks[0].quality <= 90 else 0.4) + 1024
        needed = sum(len(task.entries) * of_image + 12 * size**2 + 4096 for task in tasks)
        disk = os.statvfs(self._out)
        free = disk.f_bavail * disk.f_frsize
        if needed > free:
            needs = f"{about}{_bytes(needed)}"
            raise StorageError(
                f"{self._out}: needs {needs}, {_bytes(free)} are free; free some space or use another disk"
            )

    def _run_workers(self, tasks, waiting):
        images, left = (sum(len(task.entries) for task in some) for some in (tasks, waiting))
        done = images - left
        if done:
            self._show(f"continuing: {done:,} of {images:,} images are done")
        with StopRequests() as stop, contextlib.closing(Progress(images, done, self._show)) as progress:
            plan.begin(self._out, self._requested)

            def on_done(task, bad):
                nonlocal done
                done += len(task.entries)

            def describe(task, part):
                return shard.location(task.entries[task.reading_order()[part]])

            try:
                workers.run(
                    shard.make,
                    waiting,
                    self._settings.workers,
                    stop,
                    on_done,
                    lambda parts: progress.update(done + parts),
                    describe,
                )
            except Interrupted:
                raise Interrupted(f"stopped; {done:,} of {images:,} images are done, {_AGAIN}") from None


def _is_ours(out):
    # Whether a set was begun in a folder by this or an earlier version, or nothing else is in it.
    plan.adopt(out)
    if (out / manifest.NAME).exists() or (out / shard.WORK / plan.STATE).exists():
        return any(map(ownership.is_ours, (out / manifest.NAME, out / shard.WORK / plan.STATE)))
    work, others = out / shard.WORK, set(os.listdir(out)) - {lock.NAME, ownership.MARKER, shard.WORK}
    return not others and (not os.path.lexists(work) or ownership.is_marked(work) or _is_empty(work))


def _is_empty(folder):
    return folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())


def _remove_if_empty(out):
    # Remove a folder in which no preparation was begun.
    if not (out / shard.WORK / plan.STATE).exists() and not (out / manifest.NAME).exists():
        for folder in (out / shard.WORK / shard.NEW, out / shard.WORK, out):
            ownership.remove_made(folder)


def _bytes(count):
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
