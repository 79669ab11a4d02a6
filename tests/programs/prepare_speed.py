"""Measure `tinyalex prepare` against Pillow alone, with the same pictures and number of processes.

    python -m tests.programs.prepare_speed SOURCE [ROUNDS] [IMAGES]

SOURCE is a folder or tar of class folders; its pictures are repeated under other names until there are 2,048, or
IMAGES. In each of 5 ROUNDS all of them are processed in three ways, timed from the first image until the last shard is
on the disk. `prepare` reads, decodes, resizes, adds up, hashes and writes. Pillow alone reads, decodes and resizes: in
the plain form the whole picture, which is cropped then, and faster with the middle given as the resize's box. The three
take turns, so that other load on the machine affects them equally; the figures are medians of each round's ratio. CPU
time is printed too: other load disturbs it less, but it does not include waiting for the disk.
"""

import io
import os
import resource
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from PIL import Image

from tinyalex.datasets.index import sources
from tinyalex.prepare import plan, shard, workers

PROCESSES, SIZE = 2, 256
BICUBIC = Image.Resampling.BICUBIC


class Never:
    """A `StopRequests` without any."""

    stop_requested = False


def plain(image):
    """Resize the whole picture, then crop the middle."""
    w, h = image.size
    wide, high = (max(SIZE, round(side * SIZE / min(w, h))) for side in (w, h))
    left, top = (wide - SIZE) // 2, (high - SIZE) // 2
    return image.resize((wide, high), BICUBIC).crop((left, top, left + SIZE, top + SIZE))


def boxed(image):
    """Resize only the middle of the picture."""
    w, h = image.size
    side = min(w, h)
    left, top = (w - side) / 2, (h - side) / 2
    return image.resize((SIZE, SIZE), BICUBIC, (left, top, left + side, top + side))


def alone(task, reporter, resize):
    """Read, decode and resize with Pillow."""
    for part, i in enumerate(task.reading_order()):
        reporter.begin(part)
        entry = task.entries[i]
        with open(entry.file, "rb") as file:
            content = os.pread(file.fileno(), entry.size, entry.offset)
        resize(Image.open(io.BytesIO(content)).convert("RGB")).load()


def alone_plain(task, reporter):
    """`alone`, in the plain form."""
    alone(task, reporter, plain)


def alone_boxed(task, reporter):
    """`alone`, with a box."""
    alone(task, reporter, boxed)


def measure(job, tasks):
    """Return seconds per image from the first to the last one: elapsed, and CPU time."""
    begun = []

    def tick(parts):
        if parts and not begun:
            begun.append((time.perf_counter(), parts))

    before = cpu_time()
    workers.run(job, tasks, PROCESSES, Never, lambda task, answer: None, tick, lambda task, part: str(task.number))
    (start, parts), images = begun[0], sum(len(task.entries) for task in tasks)
    return (time.perf_counter() - start) / (images - parts), (cpu_time() - before) / images


def cpu_time():
    """CPU seconds of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def repeated(index, images):
    """Return an index with the same pictures repeated under other names until there are ``images``."""
    entries = index.splits["train"] or index.splits["test"]
    times = -(-images // len(entries))
    again = [entry._replace(name=f"{k:03d} {entry.name}") for k in range(times) for entry in entries]
    return replace(index, splits={"train": sorted(again[:images]), "test": []})


def main(source, rounds=5, images=2048):
    """Measure and print."""
    jobs = {"prepare": shard.make, "Pillow, box": alone_boxed, "Pillow, plain": alone_plain}
    spent = {name: [] for name in jobs}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", ".")) as folder:
        index = repeated(sources.index([source], Path(folder) / "work", print), images)
        for number in range(rounds):
            for name, job in jobs.items():
                _, tasks = plan.make(index, Path(folder) / f"{number}", SIZE, seed=0)
                spent[name].append(measure(job, tasks))
            shutil.rmtree(Path(folder) / f"{number}")
            rates = ", ".join(f"{name} {1 / each[-1][0]:.0f}/s" for name, each in spent.items())
            print(f"round {number + 1}: {rates}; load {os.getloadavg()[0]:.1f}", flush=True)
    for name in list(jobs)[1:]:
        for kind, what in enumerate(("time", "CPU time")):
            ratios = [ours[kind] / other[kind] for ours, other in zip(spent["prepare"], spent[name], strict=True)]
            spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
            print(f"prepare takes {median(ratios):.3f} times the {what} of {name} ({spread})")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
