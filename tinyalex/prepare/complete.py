"""The last step of a preparation: put the records of all shards together and write the manifest."""

import math
from collections import Counter

import numpy as np

from tinyalex.datasets import duplicates, statistics
from tinyalex.datasets.dataset import ImageNames
from tinyalex.datasets.names import shown
from tinyalex.datasets.shards import manifest, shards, test_list
from tinyalex.errors import DataError, UsageError
from tinyalex.prepare import records
from tinyalex.prepare.shard import PER_SHARD
from tinyalex.system import ownership, storage
from tinyalex.words import counted

MAX_BAD = "0.01%"
SKIPPED = "skipped.tsv"


def allowed(text, images):
    """Return how many of ``images`` images may be left out.

    Parameters
    ----------
    text : str
        "20"; or "0.5%", rounded down. The default share allows at least one image.
    images : int

    Raises
    ------
    UsageError
        If the text is neither a number nor a share.
    """
    try:
        share = text.endswith("%")
        number = float(text[:-1]) / 100 if share else int(text)
        if not 0 <= number <= (1 if share else math.inf):
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--max-bad: {text!r} is neither a number of images, such as 20, nor a share, such as 0.5%"
        ) from None
    least = 1 if text == MAX_BAD else 0
    return max(least, math.floor(number * images)) if share else number


def left_out(made, out):
    """Return a line about the images of a finished set that could not be decoded; None if there are none.

    Parameters
    ----------
    made : dict
        The set's manifest.
    out : Path
        Its folder.
    """
    bad = [image for part in made["splits"].values() for image in part["skipped"]]
    if not bad:
        return None
    what = f"{counted(len(bad), 'image')} that cannot be decoded"
    return f"left out: {what}, for example {bad[0]['name']}: {bad[0]['reason']}; {out / SKIPPED} lists them"


def cautions(made):
    """Yield lines about the images of a finished set that whoever trains on it should know.

    Parameters
    ----------
    made : dict
        The set's manifest.
    """
    if count := made["odd"].get("exif orientation"):
        yield (
            f"{counted(count, 'image')} with an EXIF orientation, which is ignored: they may lie on their side; to "
            "turn them, in a copy of the folder: mogrify -auto-orient FILES (ImageMagick)"
        )
    if made["duplicates"]:
        yield f"{duplicates.describe(made['duplicates'], made['classes'])}; see the manifest"


def header(task, record, classes):
    """Return the part of a manifest that `shards.Shard` needs to open one shard."""
    entry = {"file": task.path.name, "count": record.count, "hash": record.hash}
    return {
        "plan": task.plan,
        "size": task.size,
        "classes": classes,
        "splits": {task.split: {"shards": {task.number: entry}}},
    } | ({"jpeg": record.jpeg} if task.quality else {})


def write(out, index, names, tasks, settings, mean_from=None):
    """Write the files of a set other than its shards; the manifest last.

    Parameters
    ----------
    out : Path
    index : Index
    names : list of str
        Of the sources.
    tasks : list of Task
        All tasks of the set; the shard and the record of each have been written.
    settings : Settings
    mean_from : dict, optional
        Manifest of the set ``settings.mean_from``.

    Raises
    ------
    DataError
        If more images than allowed could not be decoded.
    """
    sums = _Sums(tasks, index.classes)
    rows = [("", *row) for row in index.skipped]
    rows += [(split, *row) for split in shards.SPLITS for row in sums.skipped[split]]
    if rows:
        storage.write_text(out / SKIPPED, "".join("\t".join(map(shown, row)) + "\n" for row in rows))
    _check_bad(out, sums, settings.max_bad)
    manifest.write(
        out,
        {
            "plan": tasks[0].plan,
            "kind": index.kind,
            "sources": names,
            "size": tasks[0].size,
            "seed": settings.seed,
            "per_shard": PER_SHARD,
            "classes": index.classes,
            "words": index.words,
            "splits": {
                split: {
                    "count": sum(shard["count"] for shard in sums.shards[split]),
                    "shards": sums.shards[split],
                    "skipped": [{"name": name, "reason": reason} for name, reason in sums.skipped[split]],
                }
                for split in shards.SPLITS
            },
            "statistics": _statistics_of(out, settings.mean_from, mean_from)
            if mean_from
            else _own_statistics(out, sums),
            "odd": dict(sorted(sums.odd.items())),
            "duplicates": sums.duplicates(),
            "decoder": {name: " and ".join(sorted(versions)) for name, versions in sums.decoders.items()},
        }
        | ({"jpeg": {"quality": settings.quality, **sums.jpeg}} if settings.quality else {}),
        index.unlabelled,
    )


def write_test_list(out, index, tasks):
    """Write the names of the test images of a set with a manifest; nothing if it has none, or the list already.

    Parameters
    ----------
    out : Path
    index : Index
    tasks : list of Task
        All tasks of the set.
    """
    made = manifest.read(out)
    left_out = {image["name"] for image in made["splits"]["test"]["skipped"]}
    names = [entry.name for task in tasks if task.split == "test" for entry in task.entries]
    if names := [name for name in names if name not in left_out]:
        test_list.write(out, made["plan"], ImageNames(names, index.ids))


class _Sums:
    # The records of all shards, put together.
    def __init__(self, tasks, classes):
        self.shards, self.skipped = ({split: [] for split in shards.SPLITS} for _ in range(2))
        self.totals, self.products, self.odd, self.decoders = {}, {}, Counter(), {}
        self.images, self._names, self._hashes, self.jpeg = 0, [], [], {}
        for task in tasks:
            self._add(task, records.read(task.record, task.size), classes)

    def _add(self, task, record, classes):
        shard = header(task, record, classes)
        self.shards[task.split].append(shard["splits"][task.split]["shards"][task.number])
        self.skipped[task.split] += record.skipped
        self.totals[task.split] = self.totals.get(task.split, 0) + record.total.astype(np.int64)
        self.products[task.split] = self.products.get(task.split, 0) + np.array(record.products)
        self.odd.update(record.odd)
        for name, number in record.jpeg.items():
            before = self.jpeg.get(name, 0)
            self.jpeg[name] = max(before, number) if name == "largest" else before + number
        for name, version in record.decoder.items():
            self.decoders.setdefault(name, set()).add(version)
        self.images += len(task.entries)
        left_out = {name for name, _ in record.skipped}
        self._names += [(task.split, entry.name) for entry in task.entries if entry.name not in left_out]
        self._hashes.append(shards.Shard(task.path.parent, shard, task.split, task.number).hashes)

    def duplicates(self):
        """Return groups of images with equal pixels, each a sorted list of names such as "train/cat/1.png"."""
        return duplicates.find(np.concatenate(self._hashes), ["/".join(name) for name in self._names])


def _check_bad(out, sums, text):
    bad = [row for split in shards.SPLITS for row in sums.skipped[split]]
    if len(bad) > allowed(text, sums.images):
        name, reason = bad[0]
        raise DataError(
            f"{out}: {len(bad):,} of {sums.images:,} images cannot be decoded, for example {name}: {reason}; "
            f"{out / SKIPPED} lists them; repair them and use another folder, or leave them out: --max-bad {len(bad)}"
        )
    for split in shards.SPLITS:
        while (
            len(sums.shards[split]) > 1 and not sums.shards[split][-1]["count"]
        ):  # none of its few images could be decoded
            path = out / sums.shards[split].pop()["file"]
            if ownership.is_ours(path):
                ownership.remove(path)
        for shard in sums.shards[split]:
            if not shard["count"]:
                raise DataError(f"{out}: {shard['file']}: none of its images can be decoded; see {out / SKIPPED}")


def _own_statistics(out, sums):
    # The mean is that of the training images (paper, section 2), if there are any.
    split = next(split for split in shards.SPLITS if sums.shards[split])
    count, total = sum(shard["count"] for shard in sums.shards[split]), sums.totals[split]
    return {
        "from": split,
        "images": count,
        "pixels": count * total.shape[0] ** 2,
        "sum": total.sum(axis=(0, 1)).tolist(),
        "products": sums.products[split].tolist(),
        "mean": manifest.write_mean(out, statistics.mean_image(total, count)),
    }


def _statistics_of(out, folder, other):
    mean = manifest.write_mean(out, manifest.read_mean(folder, other))
    return other["statistics"] | {"from": other["identity"], "mean": mean}
