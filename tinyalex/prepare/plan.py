"""What is to be made: which image goes to which shard, and what has to be the same for a preparation to go on."""

import hashlib
import json

from tinyalex import randomness
from tinyalex.datasets.picture import FILTER
from tinyalex.datasets.shards import manifest
from tinyalex.datasets.shards.shards import SPLITS
from tinyalex.errors import DataError
from tinyalex.prepare.shard import PER_SHARD, WORK, Task
from tinyalex.system import storage, tensorfile

STATE = "plan.json"
_SIZES = {"Tiny ImageNet": 64, "CIFAR-10": 32}
_LARGE = 256  # paper, section 2
_OWN = "its own"


def usual_size(kind):
    """Give the side of the images of a kind of set: as small sets have them, or 256."""
    return _SIZES.get(kind, _LARGE)


def asked(settings, mean_from):
    """Give what a folder has to have been begun with, if it was, for `check`.

    Parameters
    ----------
    settings : Settings
    mean_from : dict or None
        Manifest of the set that gives its mean image.
    """
    return {
        "size": settings.size,
        "seed": settings.seed,
        "subset": settings.subset or "all",
        "test share": settings.test_share,
        "mean from": mean_from["identity"] if mean_from else _OWN,
    }


def make(index, out, size, seed):
    """Distribute the images of an index over shards.

    The images of a split, sorted by name, are put into an order that depends on the seed alone; 512 consecutive ones
    are a shard.

    Parameters
    ----------
    index : Index
    out : Path
    size : int
        Side of the images.
    seed : int

    Returns
    -------
    plan : str
        32 hexadecimal digits, the same for the same images, size and seed.
    tasks : list of Task
        Training images first.
    """
    plan, tasks = _identity(index, size, seed), []
    for split in SPLITS:
        entries = index.splits[split]
        order = randomness.permutation(randomness.key(seed, "shards", split), len(entries)).tolist()
        for number, start in enumerate(range(0, len(order), PER_SHARD)):
            members = [entries[i] for i in order[start : start + PER_SHARD]]
            tasks.append(Task(str(out), plan, split, number, size, members))
    return plan, tasks


def check(out, asked):
    """Compare what is asked for with what a folder was begun with.

    Parameters
    ----------
    out : Path
    asked : dict of str to str or int
        Settings, and the plan if it is known; None is of no matter.

    Returns
    -------
    str
        "new": nothing was begun there; "begun"; or "complete".

    Raises
    ------
    DataError
        If it was begun with other settings, or holds something else.
    """
    complete, state = (out / manifest.NAME).exists(), out / WORK / STATE
    if complete:
        then = manifest.read(out)
        then["mean from"] = _OWN if then["statistics"]["from"] in SPLITS else then["statistics"]["from"]
    elif state.exists():
        try:
            then = tensorfile.parse(state.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{state}: damaged ({error}); remove {out} and prepare the set again") from error
    else:
        return "new"
    for name, now in asked.items():
        if now is not None and then.get(name, now) != now:
            raise DataError(
                f"{out}: made of other images, or of another share of them; give another folder"
                if name == "plan"
                else f"{out}: made with {name} {then[name]}, asked {now}; give another folder, or the same option"
            )
    return "complete" if complete else "begun"


def begin(out, settings):
    """Note with what settings a folder is begun."""
    storage.write_text(out / WORK / STATE, json.dumps(settings))


def _identity(index, size, seed):
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([size, seed, PER_SHARD, FILTER, index.classes]).encode())
    for split in SPLITS:
        digest.update(f"\n{split} {len(index.splits[split])}\n".encode())
        for entry in index.splits[split]:
            digest.update(f"{entry.name}\0{entry.label}\0{entry.size}\0{entry.form}\n".encode())
    return digest.hexdigest()
