"""What the folders of a source mean: training or test images, class folders or flat ones.

    train/n01440764/x.JPEG, val/n01440764/x.JPEG      class folders of a split
    train/n01440764/images/x.JPEG                     the same: Tiny ImageNet
    val/x.JPEG, val/images/x.JPEG                     flat images of a split; a list has their labels
    n01440764/x.JPEG                                  class folders without a split
    x.JPEG                                            flat images of a tar, or of a folder

A tar, or a tar inside a tar, is a folder here.
"""

import re

from tinyalex.errors import DataError
from tinyalex.prepare.index.labels import WNID

SPLITS = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"val": "val", "valid": "val", "validation": "val"},
}


class Part:
    """Images that belong together.

    Attributes
    ----------
    listing : Listing
        Of the source they are from.
    base : tuple of str
        The folder that they, or their class folders, are in.
    split : "train", "val", "test" or ""
        "": no folder says.
    classes : dict of str to list of Place
        Images in class folders.
    flat : list of Place
        Images beside them.
    labels : Labels or None
        The list that speaks of the flat images.
    values : list of (Place, str or int)
        Flat images with what it says.
    """

    def __init__(self, listing, base, split):
        self.listing, self.base, self.split = listing, base, split
        self.classes, self.flat, self.labels, self.values = {}, [], None, []

    @property
    def name(self):
        """What to call it in messages: the source, and the folder in it."""
        return "/".join((self.listing.source, *self.base[1:]))

    def leave_out(self, reason, images=None):
        """Note that images are not used: some, each by its name, or all of them in one line."""
        if images is None:
            count = len(self.flat) + len(self.values) + sum(map(len, self.classes.values()))
            self.listing.skipped.add("/".join(self.base), f"{count:,} images: {reason}")
        for image in images or ():
            self.listing.skipped.add("/".join((*self.base, image.name)), reason)


def root(name):
    """Give the name under which a source is listed: "val" for ILSVRC2012_img_val, for the split is said there."""
    return SPLITS.get(re.split(r"[-_. ]", name.lower())[-1], name)


def arrange(listing):
    """Sort a listing's folders into parts.

    Returns
    -------
    list of Part

    Raises
    ------
    DataError
        If there are class folders in more than one place, deeper than expected, or empty.
    """
    parts = {}
    for folder, images in listing.images.items():
        base, split, name = _place(folder)
        part = parts.setdefault(base, Part(listing, base, split))
        if name is None:
            part.flat.extend(images)
        elif part.classes.setdefault(name, images) is not images:
            part.classes[name].extend(images)
    _settle_names(parts)
    parts = _in_one_place(list(parts.values()))
    for part in parts:
        _check_filled(part)
    return parts


def _split(name):
    return SPLITS.get(name.lower().removeprefix("ilsvrc2012_img_"), "")


def _place(folder):
    """Give (base, split, class): the class is None for flat images."""
    path = folder[:-1] if folder[-1] == "images" and len(folder) > 1 else folder
    for i, part in enumerate(path):
        if _split(part) and len(path) - i <= 2:
            return path[: i + 1], _split(part), path[i + 1] if len(path) == i + 2 else None
    if len(path) == 1 and not WNID.fullmatch(path[0]):
        return path, "", None
    return path[:-1], "", path[-1]


def _settle_names(parts):
    """Decide what a folder's own name leaves open."""
    for base, part in list(parts.items()):
        beside = parts.get(base[:-1])
        if part.split == "train" and not part.classes and beside and beside.classes and not beside.split:
            beside.classes[base[-1]] = part.flat  # train/1.jpg beside car/1.jpg: railways
            del parts[base]
    for base, part in list(parts.items()):
        for name in [] if part.split else sorted(part.classes):
            inside = (*base, name)
            if any(other[: len(inside)] == inside for other in parts):  # set/readme.png above set/cat/1.jpg
                part.leave_out("an image beside the class folders", part.classes.pop(name))
        if not part.classes and not part.flat:
            del parts[base]


def _in_one_place(parts):
    """Check that class folders are in one place, and leave out images elsewhere."""
    split, loose = [part for part in parts if part.split], [part for part in parts if not part.split]
    for part in loose:
        if any(map(_split, part.base[1:])):
            raise DataError(f"{part.name}: images lie deeper than class folders do; wanted {{train,val}}/CLASS/*.JPEG")
    if any(part.split == "train" for part in split):
        for part in loose:
            part.leave_out("outside of the folders of the splits")
        loose = []
    places = sorted({part.base[:-1] for part in split} | {part.base for part in loose if part.classes})
    if len(places) > 1:
        source = parts[0].listing.source
        first, second = ("/".join((source, *place[1:])) for place in places[:2])
        raise DataError(f"{source}: class folders in two places, {first} and {second}; give one of them")
    return split + loose


def _check_filled(part):
    """Refuse class folders without images: something was lost."""
    folders, base = part.listing.folders, part.base
    filled = {folder[: len(base) + 1] for folder, count in folders.items() if count}
    empty = []
    for folder in sorted(folders) if part.classes else ():
        beside = len(folder) == len(base) + 1 and folder[: len(base)] == base and folder[-1] not in part.classes
        if beside and (part.split or folder not in filled):
            empty.append(folder[-1])
        elif beside and not _split(folder[-1]):
            part.listing.skipped.add("/".join(folder), "a folder without images")
    if empty:
        raise DataError(f"{part.name}: no images in {some(empty)}; fill them, or remove what is no class folder")


def some(names):
    """Name the first three of a list, and count the others."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
