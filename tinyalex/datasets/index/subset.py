"""Parts of an index: a share of every class as test images, or a few classes and images to try things out."""

import dataclasses
import re

from tinyalex import randomness
from tinyalex.errors import UsageError
from tinyalex.words import counted


def parse(text):
    """Parse the command line's ``--subset``.

    Parameters
    ----------
    text : str
        "10": the first ten classes; "10x50": at most fifty images of each per split.

    Returns
    -------
    classes : int
    per_class : int or None
    """
    found = re.fullmatch(r"(\d{1,9})(?:x(\d{1,9}))?", text)
    if not found:
        raise UsageError(f"--subset {text}: give a number of classes, or classes and images of each, such as 10x50")
    return int(found[1]), int(found[2]) if found[2] else None


def check(test_share, classes, per_class):
    """Refuse numbers out of range."""
    if not 0 <= test_share <= 1:
        raise UsageError(f"--test-share {test_share}: give a number from 0 to 1")
    if classes is not None and classes < 2:
        raise UsageError(f"--subset {classes}: give two classes or more")
    if per_class is not None and per_class < 1:
        raise UsageError(f"--subset: {per_class} images a class; give one or more")


def check_no_test(share, count):
    """Refuse a test share if there are ``count`` test images already."""
    if share and count:
        raise UsageError(f"--test-share {share:g}: there are {count:,} test images already; leave the option out")


def split_off_test(index, share, seed, show):
    """Make a share of every class's training images the test split.

    Parameters
    ----------
    index : Index
    share : float
        Of every class; at least one image is taken and one is left, if the class has two. 1: all images.
    seed : int
    show : callable
        Called with a line of text that says how many images were taken.

    Returns
    -------
    Index
    """
    check_no_test(share, len(index.splits["test"]))
    if not share:
        return index
    train = index.splits["train"]
    if share == 1:
        show(f"test images: all {len(train):,}, as --test-share 1 says")
        return dataclasses.replace(index, splits={"train": [], "test": train})
    test = set()
    for label, entries in _by_class(index.splits["train"]).items():
        count = min(max(1, round(share * len(entries))), len(entries) - 1)
        test |= set(_drawn(entries, count, seed, "test share", index.classes[label]))
    show(f"test images: {len(test):,} of {len(train):,}, a share of {share:g} drawn from every class")
    kept, taken = ([entry for entry in train if (entry in test) == out] for out in (False, True))
    return dataclasses.replace(index, splits={"train": kept, "test": taken})


def take(index, classes, per_class, seed):
    """Keep the first ``classes`` classes, and at most ``per_class`` images of each in either split; None: all."""
    if classes is not None and classes > len(index.classes):
        raise UsageError(
            f"--subset {classes}: the set has {counted(len(index.classes), 'class')}; give a smaller number"
        )
    names, splits = index.classes[:classes], {}
    for split, entries in index.splits.items():
        chosen = [entry for entry in entries if entry.label < len(names)]
        if per_class is not None:
            chosen = [
                entry
                for label, members in _by_class(chosen).items()
                for entry in _drawn(members, min(per_class, len(members)), seed, "subset", split, names[label])
            ]
        splits[split] = sorted(chosen)
    return dataclasses.replace(index, classes=names, words=index.words[:classes], splits=splits)


def _by_class(entries):
    found = {}
    for entry in entries:
        found.setdefault(entry.label, []).append(entry)
    return found


def _drawn(entries, count, *purpose):
    order = randomness.permutation(randomness.key(*purpose), len(entries))
    return [entries[k] for k in order[:count]]
