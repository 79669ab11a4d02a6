"""Images that occur more than once in a data set."""

import numpy as np

from tinyalex.words import counted


def find(hashes, names):
    """Group images with equal pixels.

    Parameters
    ----------
    hashes : array of shape (n,)
        One for each image.
    names : list of str
        Such as "train/cat/1.png".

    Returns
    -------
    list of list of str
        Sorted groups of sorted names, of at least two images each.
    """
    order = np.argsort(hashes, kind="stable")
    same = np.diff(hashes[order]) == 0
    inside = np.concatenate([[False], same, [False]])
    begins, ends = np.flatnonzero(~inside[:-1] & inside[1:]), np.flatnonzero(inside[:-1] & ~inside[1:]) + 1
    groups = [order[begin:end] for begin, end in zip(begins, ends, strict=True)]
    return sorted(sorted(names[i] for i in group) for group in groups)


def describe(groups, classes):
    """Return a line about groups of duplicates, as `find` gives them.

    Parameters
    ----------
    groups : list of list of str
        At least one.
    classes : list of str
        Of the data set. An image in no class folder has none in its name, and is not compared by class.

    Returns
    -------
    str
    """
    across = sum(len({name.split("/")[0] for name in group}) > 1 for group in groups)
    mixed = [group for group in groups if len({_class(name) for name in group} & set(classes)) > 1]
    line = f"duplicates: {counted(len(groups), 'image')}, {across:,} of them in both training and test"
    if not mixed:
        return line
    first, second = mixed[0][0], next(name for name in mixed[0] if _class(name) != _class(mixed[0][0]))
    return f"{line}, {len(mixed):,} in several classes, such as {first} and {second}"


def _class(name):
    return name.partition("/")[2].rpartition("/")[0]
