"""The lists that came with the images, and which of them speaks of which."""

import re

from tinyalex.errors import DataError
from tinyalex.prepare.index import devkit, labels
from tinyalex.prepare.index.layout import some

META = "meta.mat"
_KNOWN = labels.LABELS | labels.NAMES | {META}
_VALIDATION = re.compile(r"ILSVRC2012_val_\d{8}")
_ELSEWHERE = "ImageSets"  # Kaggle's folder of other lists: its val.txt numbers the images


def is_document(name):
    """Tell by its name whether a file is a list that we know, or the devkit's table."""
    return name.lower() in _KNOWN


class Documents:
    """All lists of all sources.

    Attributes
    ----------
    labels : list of (Listing, Labels)
        Those that name classes come before those with numbers, and by name before by position.
    words : dict of str to str
        Names of classes for people.
    declared : list of str or None
        The classes of the set, in their list's order, if there is a list of them.
    """

    def __init__(self, listings):
        self.labels, self.words, self.declared, self._meta = [], {}, None, None
        for listing in listings:
            for parts, place in listing.documents.items():
                if _ELSEWHERE not in parts:
                    self._take(listing, parts, place)
        self.labels.sort(key=lambda each: (each[1].numbers, each[1].names is None))

    def _take(self, listing, parts, place):
        name, place = place.name.lower(), place._replace(name="/".join((listing.source, *parts[1:])))  # for messages
        if name == META:
            self._meta = place
        elif name in labels.NAMES or name not in labels.LABELS and labels.is_list_of_names(place):
            found = labels.read_names(place)
            self.words |= {each: words for each, words in found.items() if words}
            if name != labels.ALL_OF_WORDNET:
                self.declared = _joined(self.declared, list(found))
        else:
            self.labels.append((listing, labels.read_labels(place, parts[:-1])))

    def counted(self, file):
        """Give the declared classes, for a list or for folders that count them from 0."""
        if self.declared != sorted(self.declared):
            raise DataError(f"{file}: numbers, but the list of classes is not sorted; say by name which class is meant")
        return self.declared

    def ids(self, file):
        """Give the wnid of every id that a list of the devkit uses.

        Parameters
        ----------
        file : str
            The list's name, for the message if there is no devkit.
        """
        if self._meta is None:
            raise DataError(
                f"{file}: its labels are ids from 1 on, whose order is not that of the class names; "
                f"give the devkit too, or its data/{META}"
            )
        ids, words = devkit.synsets(self._meta)
        self.words |= words
        self.declared = self.declared or sorted(ids.values())
        return ids

    def label(self, parts):
        """Find the list for each part with flat images, and note what it says of them.

        Raises
        ------
        DataError
            If a list names other images than there are.
        """
        for listing, found in self.labels:
            fitting = [part for part in parts if part.labels is None and part.split != "train" and _speaks(found, part)]
            here = [part for part in fitting if part.listing is listing]
            below = [part for part in here if part.base[: len(found.folder)] == found.folder]
            if chosen := below or here or fitting:
                _pair(found, chosen)


def _joined(declared, names):
    if declared is None or declared == names:
        return names
    return sorted({*declared, *names})


def _flat(part):
    # A single class folder may be no class: ilsvrc/images/x.JPEG with a list beside.
    alone = not part.split and len(part.classes) == 1 and not part.flat
    beside = part.flat if not part.classes else []
    return next(iter(part.classes.values())) if alone else beside


def _speaks(found, part):
    if found.names is None:
        images = _flat(part)
        return bool(images) and (part.split == "val" or bool(_VALIDATION.match(images[0].name)))
    names = set(found.names)
    return any(labels.bare(image.name) in names for image in _flat(part))


def _pair(found, parts):
    images = {labels.bare(image.name): (part, image) for part in parts for image in _flat(part)}
    count = sum(len(_flat(part)) for part in parts)
    what = f"{found.file}: {len(found.values):,} labels for {count:,} images in {some([part.name for part in parts])}"
    if len(images) < count:
        raise DataError(f"{what}, of which some share a name; keep one of each")
    names = sorted(images) if found.names is None else found.names
    if odd := sorted(set(names) ^ set(images)):
        raise DataError(f"{what}; {odd[0]} has no {'label' if odd[0] in images else 'image'}; each needs the other")
    if len(names) != len(found.values):
        raise DataError(f"{what}; each needs the other")
    if found.names is None:
        _check_positions(names, what)
    for name, value in zip(names, found.values, strict=True):
        part, image = images[name]
        part.labels = found
        part.values.append((image, value))
    for part in parts:
        part.classes, part.flat = {}, []


def _check_positions(names, what):
    for position, name in enumerate(names, 1):
        number = re.search(r"\d+$", name)
        if number and int(number[0]) != position:
            raise DataError(f"{what}, but {name} is number {position:,} of them; one is missing and another too many")
