"""Interpret the folders of a source: training or test images, in class folders or flat.

    train/n01440764/x.JPEG, val/n01440764/x.JPEG      class folders of a split
    train/n01440764/images/x.JPEG                     the same: Tiny ImageNet
    val/x.JPEG, val/images/x.JPEG                     flat images of a split; a list has their labels
    n01440764/x.JPEG                                  class folders without a split
    x.JPEG                                            flat images of a tar, or of a folder

A tar, and a tar inside a tar, is treated as a folder.
"""

import re

from tinyalex.errors import DataError
from tinyalex.prepare.index.labels import WNID
from tinyalex.words import counted

SPLITS = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"val": "val", "valid": "val", "validation": "val"},
}


class Group:
    """The images below one folder of a source that have the same split.

    Attributes
    ----------
    listing : Listing
        Of the source they are from.
    base : tuple of str
        The folder that they, or their class folders, are in.
    split : "train", "val", "test" or ""
        "": no folder's name says.
    classes : dict of str to list of FileSpan
        Images in class folders, by class.
    flat : list of FileSpan
        Images that are in no class folder.
    labels : Labels or None
        The list with the labels of the flat images.
    values : list of (FileSpan, str or int)
        The flat images with their labels, once a list was found for them: class names or numbers.
    """

    def __init__(self, listing, base, split):
        self.listing, self.base, self.split = listing, base, split
        self.classes, self.flat, self.labels, self.values = {}, [], None, []

    @property
    def name(self):
        """The source and the folder in it, for messages."""
        return "/".join((self.listing.source, *self.base[1:]))

    def leave_out(self, reason, images=None):
        """Add images to those skipped: the given ones each by name, or all of the group in one line."""
        if images is None:
            count = len(self.flat) + len(self.values) + sum(map(len, self.classes.values()))
            self.listing.skipped.add("/".join(self.base), f"{counted(count, 'image')}: {reason}")
        for image in images or ():
            self.listing.skipped.add("/".join((*self.base, image.name)), reason)


def root_name(name):
    """Return the name under which a source is listed: "val" for ILSVRC2012_img_val, as that gives its split."""
    return SPLITS.get(re.split(r"[-_. ]", name.lower())[-1], name)


def group_images(listing):
    """Sort the folders of a listing into groups.

    Returns
    -------
    list of Group

    Raises
    ------
    DataError
        If there are class folders in more than one folder, deeper than expected, or empty.
    """
    groups = {}
    for folder, images in listing.images.items():
        base, split, name = _base_split_class(folder)
        group = groups.setdefault(base, Group(listing, base, split))
        if name is None:
            group.flat.extend(images)
        elif group.classes.setdefault(name, images) is not images:
            group.classes[name].extend(images)
    _settle_names(groups)
    groups = _check_one_folder(list(groups.values()))
    for group in groups:
        _check_filled(group)
    return groups


def _split(name):
    return SPLITS.get(name.lower().removeprefix("ilsvrc2012_img_"), "")


def _base_split_class(folder):
    """Return (base, split, class) of the images in a folder; the class is None for flat images."""
    path = folder[:-1] if folder[-1] == "images" and len(folder) > 1 else folder
    for i, name in enumerate(path):
        if _split(name) and len(path) - i <= 2:
            return path[: i + 1], _split(name), path[i + 1] if len(path) == i + 2 else None
    if len(path) == 1 and not WNID.fullmatch(path[0]):
        return path, "", None
    return path[:-1], "", path[-1]


def _settle_names(groups):
    """Decide about folders whose meaning depends on the folders beside and below them."""
    for base, group in list(groups.items()):
        beside = groups.get(base[:-1])
        if group.split == "train" and not group.classes and beside and beside.classes and not beside.split:
            beside.classes[base[-1]] = group.flat  # train/1.jpg beside car/1.jpg: the class of railway trains
            del groups[base]
    for base, group in list(groups.items()):
        for name in [] if group.split else sorted(group.classes):
            inside = (*base, name)
            if any(other[: len(inside)] == inside for other in groups):  # set/readme.png above set/cat/1.jpg
                group.leave_out("an image beside the class folders", group.classes.pop(name))
        if not group.classes and not group.flat:
            del groups[base]


def _check_one_folder(groups):
    """Check that all class folders are in one folder, and leave out images elsewhere."""
    split, loose = [group for group in groups if group.split], [group for group in groups if not group.split]
    for group in loose:
        if any(map(_split, group.base[1:])):
            raise DataError(f"{group.name}: images deeper than class folders; expected {{train,val}}/CLASS/*.JPEG")
    if any(group.split == "train" for group in split):
        for group in loose:
            group.leave_out("outside of the folders of the splits")
        loose = []
    parents = sorted({group.base[:-1] for group in split} | {group.base for group in loose if group.classes})
    if len(parents) > 1:
        source = groups[0].listing.source
        first, second = ("/".join((source, *parent[1:])) for parent in parents[:2])
        raise DataError(f"{source}: class folders in two folders, {first} and {second}; give one of them")
    return split + loose


def _check_filled(group):
    """Refuse class folders without images, as images seem to be missing."""
    folders, base = group.listing.folders, group.base
    filled = {folder[: len(base) + 1] for folder, count in folders.items() if count}
    empty = []
    for folder in sorted(folders) if group.classes else ():
        beside = len(folder) == len(base) + 1 and folder[: len(base)] == base and folder[-1] not in group.classes
        if beside and (group.split or folder not in filled):
            empty.append(folder[-1])
        elif beside and not _split(folder[-1]):
            group.listing.skipped.add("/".join(folder), "a folder without images")
    if empty:
        raise DataError(
            f"{group.name}: no images in {first_three(empty)}; fill them, or remove those that are no classes"
        )


def first_three(names):
    """Join the first three names of a list, and add the number of the others."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
