"""Which image goes to which shard, and which settings have to be the same to continue a preparation."""

import hashlib
import json
import re

from tinyalex import randomness
from tinyalex.datasets.picture import FILTER
from tinyalex.datasets.shards import manifest, shards
from tinyalex.datasets.shards.shards import SPLITS
from tinyalex.errors import DataError
from tinyalex.prepare.shard import NEW, PER_SHARD, WORK, Task
from tinyalex.system import lock, ownership, storage, tensorfile

STATE = "plan.json"
_SIZES = {"Tiny ImageNet": 64, "CIFAR-10": 32, "CIFAR-100": 32}
_LARGE = 256  # paper, section 2
_OWN = "its own"
# Names that earlier versions gave, in a set's folder and in its folder for scratch files.
_OLD_SHARD = re.compile(r"(train|test)-\d{5}\.shard")
_OLD_WORK = re.compile(
    r"(\d+-)?((train|test)-\d{5}\.(shard|record)|plan\.json|.*-[0-9a-f]{12}\.(tar|planes))(\.part)?", re.DOTALL
)


def usual_size(kind):
    """Return the side of the images of a kind of set: that of its files for small images, else 256."""
    return _SIZES.get(kind, _LARGE)


def requested(settings, mean_from):
    """Return the settings that `check` compares with those of a preparation that was begun.

    Parameters
    ----------
    settings : Settings
    mean_from : dict or None
        Manifest of the set whose mean image is used.
    """
    return {
        "size": settings.size,
        "seed": settings.seed,
        "subset": settings.subset or "all",
        "test share": settings.test_share,
        "mean from": mean_from["identity"] if mean_from else _OWN,
        "images stored as": _stored(settings.quality),
    }


def _stored(quality):
    return f"JPEG of quality {quality}" if quality else "pixels"


def make(index, out, size, seed, quality=None):
    """Distribute the images of an index over shards.

    The images of a split, sorted by name, are permuted by the seed; every 512 consecutive ones make a shard.

    Parameters
    ----------
    index : Index
    out : Path
    size : int
        Side of the images.
    seed : int
    quality : int, optional
        That of the JPEG files in which images are stored (default: pixels are stored).

    Returns
    -------
    plan : str
        32 hexadecimal digits, the same for the same images, size, seed and quality.
    tasks : list of Task
        Training images first.
    """
    plan, tasks = _identity(index, size, seed, quality), []
    for split in SPLITS:
        entries = index.splits[split]
        order = randomness.permutation(randomness.key(seed, "shards", split), len(entries)).tolist()
        for number, start in enumerate(range(0, len(order), PER_SHARD)):
            members = [entries[i] for i in order[start : start + PER_SHARD]]
            tasks.append(Task(str(out), plan, split, number, size, members, quality))
    return plan, tasks


def check(out, requested):
    """Compare the requested settings with those that a folder was begun with.

    Parameters
    ----------
    out : Path
    requested : dict of str to str or int
        Settings, and the plan if it is known; None: not compared.

    Returns
    -------
    str
        "new" if nothing was begun there, "begun" or "complete".

    Raises
    ------
    DataError
        If it was begun with other settings or images, or its plan file is damaged.
    """
    complete, state = (out / manifest.NAME).exists(), out / WORK / STATE
    if complete:
        then = manifest.read(out)
        then["mean from"] = _OWN if then["statistics"]["from"] in SPLITS else then["statistics"]["from"]
        then["images stored as"] = _stored(then.get("jpeg", {}).get("quality"))
    elif state.exists():
        try:
            then = tensorfile.parse(state.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{state}: damaged ({error}); remove {out} and prepare the set again") from error
        then.setdefault("images stored as", _stored(None))  # earlier versions knew nothing else
    else:
        return "new"
    for name, now in requested.items():
        if now is not None and then.get(name, now) != now:
            raise DataError(
                f"{out}: made from other images, or another part of them; give another folder"
                if name == "plan"
                else f"{out}: made with {name} {then[name]}, requested {now}; give another folder, or the same option"
            )
    return "complete" if complete else "begun"


def adopt(out):
    """List in a set's folder of an earlier version which files are the set's; other folders are left as they are.

    Such a folder is recognised by its manifest or its plan file; one that holds nothing but a lock is empty.

    Parameters
    ----------
    out : Path
    """
    work, new = out / WORK, out / WORK / NEW
    if ownership.is_marked(out):
        return
    there = [path for path in out.iterdir() if path.is_file()]
    others = [path for path in out.iterdir() if path.name not in (lock.NAME, WORK)]
    complete, begun = _is_manifest(out / manifest.NAME), _is_plan(work / STATE)
    if complete or begun or not others:
        names = [path.name for path in there if _OLD_SHARD.fullmatch(path.name) and shards.is_shard(path)]
        fixed = [manifest.NAME, manifest.MEAN, "skipped.tsv", "contact_sheet.png"] if complete else []
        ownership.adopt(out, names, fixed, [lock.NAME] if lock.is_lock(out / lock.NAME) else [])
    if begun:
        for folder in (work, new):
            if folder.is_dir() and not folder.is_symlink():
                ownership.adopt(folder, [path.name for path in folder.iterdir() if _OLD_WORK.fullmatch(path.name)])


def _is_manifest(path):
    return str(_json(path).get("format", "")).startswith("tinyalex prepared set")


def _is_plan(path):
    return {"size", "seed", "subset", "test share", "mean from"} <= _json(path).keys()


def _json(path):
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def begin(out, settings):
    """Record the settings that a folder is begun with."""
    with storage.atomic_write(out / WORK / STATE, identity=None) as file:  # `check` has read what is there
        file.write(json.dumps(settings).encode())


def _identity(index, size, seed, quality):
    digest = hashlib.blake2b(digest_size=16)
    stored = ["jpeg", quality] if quality else []  # nothing for pixels, as in plans of earlier versions
    digest.update(json.dumps([size, seed, PER_SHARD, FILTER, index.classes, *stored]).encode())
    for split in SPLITS:
        digest.update(f"\n{split} {len(index.splits[split])}\n".encode())
        for entry in index.splits[split]:
            digest.update(f"{entry.name}\0{entry.label}\0{entry.size}\0{entry.form}\n".encode())
    return digest.hexdigest()
