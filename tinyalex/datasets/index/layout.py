"""Interpret the folders of a source: training or test images, in class folders or flat.

    train/n01440764/x.JPEG, val/n01440764/x.JPEG      class folders of a split
    train/n01440764/images/x.JPEG                     the same: Tiny ImageNet
    train/birds/owl/x.JPEG                            a class folder inside another folder: the class birds/owl
    val/x.JPEG, val/images/x.JPEG                     flat images of a split; a list has their labels
    n01440764/x.JPEG                                  class folders without a split
    x.JPEG                                            flat images of a tar, or of a folder

A tar, and a tar inside a tar, is treated as a folder. Folders without images, at any depth, have no meaning here.
"""

import re

from tinyalex.datasets.index.labels import WNID
from tinyalex.errors import DataError
from tinyalex.words import counted

_SPLITS = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"val": "val", "valid": "val", "validation": "val"},
}
# Inside a source also ILSVRC2012_img_train, ILSVRC2010_images_val, seg_test, training_set, val-images, test1 and dev.
_MORE_SPLITS = _SPLITS | {"trn": "train", "tst": "test", "dev": "val", "eval": "val", "evaluation": "val"}
_SPLIT = re.compile(
    rf"(?:ilsvrc\d{{4}}_(?:img|images)_|seg_)?({'|'.join(_MORE_SPLITS)})(?:[-_. ]?(?:set|data|images|imgs|split|\d+))*"
)


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
    return _SPLITS.get(re.split(r"[-_. ]", name.lower())[-1], name)


def group_images(listing):
    """Sort the folders of a listing into groups.

    A folder that is named like a split is one if class folders are inside it, or if there is nothing beside it. Else it
    is a group with flat images until `settle` decides.

    Returns
    -------
    list of Group

    Raises
    ------
    DataError
        If there are splits or class folders in two unrelated folders, splits inside class folders, or empty class
        folders.
    """
    if not listing.images:
        return []
    tree = _Tree(listing)
    found = [folder for folder in tree.below if tree.holds_splits(folder)]
    # A folder inside another one counts only if the outer one contains nothing else: train/train/cat, train/test/cat.
    found = [each for each in found if not any(_inside(each, other) and len(tree.below[other]) > 1 for other in found)]
    found = [each for each in found if not any(_inside(other, each) for other in found)]
    if len(found) > 1:
        raise _two_folders(listing, *found[:2])
    groups = _splits(tree, found[0]) if found else _no_splits(tree)
    for group in groups:
        _check_filled(group, tree)
    return groups


def settle(groups, show):
    """Take flat images of a split that have no labels for a class, if they are beside class folders.

    So test/1.jpg is in the class test if exam/1.jpg and quiz/1.jpg are beside it. It is not if another split is beside
    it whose images have classes, or if the folders are wnids: ImageNet's test images have no labels.

    Parameters
    ----------
    groups : list of Group
        Of all sources, after lists of labels were assigned. Groups that are classes are removed.
    show : callable
        Called with a line of text for each of them.
    """
    for loose in [group for group in groups if group.classes and not group.split]:
        splits = [group for group in groups if group.listing is loose.listing and group.base[:-1] == loose.base]
        splits = [group for group in splits if group.split]
        if any(group.classes or group.values for group in splits) or all(map(WNID.fullmatch, loose.classes)):
            continue
        for group in splits:
            loose.classes[group.base[-1]] = group.flat
            groups.remove(group)
            show(f"{group.name}: taken as a class, as are the folders beside it")


class _Tree:
    """The folders of a listing that contain images, at any depth.

    Attributes
    ----------
    images : dict of tuple of str to list of FileSpan
        The images of each folder. Those of n01440764/images, if no other folder is in n01440764, are in n01440764;
        those of val/val are in val.
    below : dict of tuple of str to list of str
        The names of the folders in each folder that has some, and in (), which contains the source.
    """

    def __init__(self, listing):
        self.listing, self.images = listing, {}
        below = _names_below(listing.images)
        for folder, images in listing.images.items():
            again = len(folder) > 1 and _split(folder) and _split(folder) == _split(folder[:-1])
            alone = (folder[-1] == "images" or again) and folder not in below and below[folder[:-1]] == {folder[-1]}
            home = folder[:-1] if alone and len(folder) > 1 else folder
            if self.images.setdefault(home, images) is not images:
                self.images[home].extend(images)
        self.below = {folder: sorted(names) for folder, names in _names_below(self.images).items()}

    def holds_splits(self, folder):
        """Return whether splits with class folders are in a folder."""
        inside = [(*folder, name) for name in self.below[folder]]
        splits = [each for each in inside if _split(each) and each in self.below]
        others = [each for each in inside if not _split(each)]
        return bool(splits) and (
            len(splits) > 1
            or _split(splits[0]) == "train"
            or not any(each in self.below for each in others)
            or any(each[-1] in self.below[splits[0]] for each in others)  # val/birds/owl beside birds/owl
        )

    def group(self, base, split):
        """Return the group of all images below ``base``: each folder is a class, named by its path from there."""
        group = Group(self.listing, base, split)
        group.flat = self.images.get(base, [])
        group.classes = {
            "/".join(folder[len(base) :]): images for folder, images in self.images.items() if _inside(folder, base)
        }
        return group

    def leave_out(self, folder, reason="an image beside the class folders"):
        """Add the images directly in a folder to those skipped."""
        Group(self.listing, folder, "").leave_out(reason, self.images.get(folder, ()))

    def only_folder(self, folder):
        """Return the folder that is alone in ``folder`` and contains folders; None if there is no such one."""
        inside = [(*folder, name) for name in self.below.get(folder, ())]
        return inside[0] if len(inside) == 1 and inside[0] in self.below else None


def _names_below(folders):
    below = {}
    for folder in folders:
        for depth, name in enumerate(folder):
            below.setdefault(folder[:depth], set()).add(name)
    return below


def _split(folder):
    """Return the split that a folder's name says, or ""; that of a source is as `root_name` gives it."""
    if len(folder) == 1:
        return _SPLITS.get(folder[0].lower(), "")
    found = _SPLIT.fullmatch(folder[-1].lower())
    return _MORE_SPLITS[found[1]] if found else ""


def _inside(folder, other):
    return len(folder) > len(other) and folder[: len(other)] == other


def _two_folders(listing, *folders):
    first, second = ("/".join((listing.source, *folder[1:])) for folder in sorted(folders))
    return DataError(f"{listing.source}: class folders in two folders, {first} and {second}; give one of them")


def _splits(tree, place):
    """Return the groups of a listing whose splits are in the folder ``place``."""
    groups, rest = [], set(tree.images)
    for name in tree.below[place]:
        base = (*place, name)
        if split := _split(base):
            while (inner := tree.only_folder(base)) and (_split(inner) == split or inner[-1] == "images"):
                tree.leave_out(base)
                base = inner  # training_set/training_set/cat
            groups.append(tree.group(base, split))
            rest = {folder for folder in rest if folder[: len(place) + 1] != (*place, name)}
    loose = Group(tree.listing, place, "")
    trained = any(group.split == "train" for group in groups)
    for folder in sorted(rest):
        if trained or folder == place or _inside(place, folder):
            tree.leave_out(folder, "outside of the folders of the splits")
        elif _inside(folder, place):
            loose.classes["/".join(folder[len(place) :])] = tree.images[folder]
        else:
            raise _two_folders(tree.listing, place, folder[:-1])
    return [*groups, loose] if loose.classes else groups


def _no_splits(tree):
    """Return the groups of a listing without class folders in splits."""
    base = (*tree.below[()],)
    if base not in tree.below:  # the source is a folder without folders; the folder or the tar of a class, if a wnid
        return [tree.group((), "") if WNID.fullmatch(base[0]) else tree.group(base, _split(base))]
    while inner := tree.only_folder(base):
        tree.leave_out(base)
        base = inner
    for folder, names in tree.below.items():
        if _inside(folder, base) and all(_split((*folder, name)) for name in names):
            where = "/".join((tree.listing.source, *folder[1:]))
            raise DataError(f"{where}: a split in a class folder, {names[0]}; expected {names[0]}/{folder[-1]}")
    parents = [(*base, name) for name in tree.below[base] if (*base, name) in tree.below]
    if len(parents) > 1 and all(tree.below[parent] == tree.below[parents[0]] for parent in parents):
        raise _two_folders(tree.listing, *parents[:2])  # parts of one set, rather than kinds of classes
    group = tree.group(base, "")
    splits = [(*base, name) for name in tree.below[base] if _split((*base, name))]
    flat = [tree.group(each, _split(each)) for each in splits]
    for each in splits:
        del group.classes[each[-1]]
    return [*flat, group] if group.classes or group.flat else flat


def _check_filled(group, tree):
    """Refuse class folders without images, as images seem to be missing."""
    folders, depth = group.listing.folders, len(group.base)
    with_files = {folder[:k] for folder, count in folders.items() if count for k in range(len(folder) + 1)}
    with_images = tree.images.keys() | tree.below.keys()
    parents = {group.base + tuple(name.split("/")[:-1]) for name in group.classes}
    empty = []
    for folder in sorted(folders):
        if len(folder) > depth and folder[:-1] in parents and folder not in with_images:
            if group.split or folder not in with_files:
                empty.append("/".join(folder[depth:]))
            elif not _split(folder):
                group.listing.skipped.add("/".join(folder), "a folder without images")
    if empty:
        raise DataError(
            f"{group.name}: no images in {first_three(empty)}; fill them, or remove those that are no classes"
        )


def first_three(names):
    """Join the first three names of a list, and add the number of the others."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
