"""Lists of labels and classes, and the devkit's table, that came with the images; which list is for which images."""

import re

from tinyalex.errors import DataError
from tinyalex.prepare.index import devkit, labels
from tinyalex.prepare.index.layout import first_three
from tinyalex.words import counted

META = "meta.mat"
_KNOWN = labels.LABELS | labels.NAMES | {META}
_VALIDATION = re.compile(r"ILSVRC2012_val_\d{8}")
_IGNORED_FOLDER = "ImageSets"  # a folder of other lists on Kaggle, whose val.txt numbers the images


def is_document(name):
    """Return whether a file's name is that of a known list or of the devkit's table."""
    return name.lower() in _KNOWN


class Documents:
    """All lists of all sources.

    Attributes
    ----------
    labels : list of (Listing, Labels)
        Lists of labels, in the order in which they are tried: class names before numbers, by name before by position.
    words : dict of str to str
        Names of the classes to show to people.
    declared : list of str or None
        The classes of the set in the order of their list, if there is one.
    """

    def __init__(self, listings):
        self.labels, self.words, self.declared, self._meta = [], {}, None, None
        for listing in listings:
            for parts, span in listing.documents.items():
                if _IGNORED_FOLDER not in parts:
                    self._add(listing, parts, span)
        self.labels.sort(key=lambda pair: (pair[1].has_numbers, pair[1].names is None))

    def _add(self, listing, parts, span):
        name, span = span.name.lower(), span._replace(name="/".join((listing.source, *parts[1:])))  # for messages
        if name == META:
            self._meta = span
        elif name in labels.NAMES or name not in labels.LABELS and labels.is_list_of_names(span):
            found = labels.read_names(span)
            self.words |= {name: words for name, words in found.items() if words}
            if name != labels.ALL_OF_WORDNET:
                self.declared = _joined(self.declared, list(found))
        else:
            self.labels.append((listing, labels.read_labels(span, parts[:-1])))

    def classes_from_0(self, file):
        """Return the declared classes in the order in which ``file``, a list or a folder, numbers them from 0."""
        if self.declared != sorted(self.declared):
            raise DataError(f"{file}: has numbers, but the list of classes is not sorted; use class names instead")
        return self.declared

    def wnids(self, file):
        """Return the wnid of every id of the devkit, {id: wnid}.

        Parameters
        ----------
        file : str
            Name of the list that uses the ids, for the message if there is no devkit.
        """
        if self._meta is None:
            raise DataError(
                f"{file}: its labels are ids from 1, which are not in the order of the class names; "
                f"give the devkit too, or its data/{META}"
            )
        ids, words = devkit.read_synsets(self._meta)
        self.words |= words
        self.declared = self.declared or sorted(ids.values())
        return ids

    def assign_labels(self, groups):
        """Find the list for each group with flat images, and set the images' labels.

        Raises
        ------
        DataError
            If a list names other images than there are.
        """
        for listing, found in self.labels:
            fitting = [
                group for group in groups if group.labels is None and group.split != "train" and _fits(found, group)
            ]
            same_source = [group for group in fitting if group.listing is listing]
            below = [group for group in same_source if group.base[: len(found.folder)] == found.folder]
            if chosen := below or same_source or fitting:
                _pair(found, chosen)


def _joined(declared, names):
    if declared is None or declared == names:
        return names
    return sorted({*declared, *names})


def _flat(group):
    # A single folder may not be a class: ilsvrc/images/x.JPEG with a list beside it.
    is_alone = not group.split and len(group.classes) == 1 and not group.flat
    beside = group.flat if not group.classes else []
    return next(iter(group.classes.values())) if is_alone else beside


def _fits(found, group):
    if found.names is None:
        images = _flat(group)
        return bool(images) and (group.split == "val" or bool(_VALIDATION.match(images[0].name)))
    names = set(found.names)
    return any(labels.bare_name(image.name) in names for image in _flat(group))


def _pair(found, groups):
    images = {labels.bare_name(image.name): (group, image) for group in groups for image in _flat(group)}
    count = sum(len(_flat(group)) for group in groups)
    where = first_three([group.name for group in groups])
    what = f"{found.file}: {counted(len(found.values), 'label')} for {counted(count, 'image')} in {where}"
    if len(images) < count:
        raise DataError(f"{what}, but several have the same name; keep one of each")
    names = sorted(images) if found.names is None else found.names
    if odd := sorted(set(names) ^ set(images)):
        raise DataError(
            f"{what}; {odd[0]} has no {'label' if odd[0] in images else 'image'}; every image needs one label"
        )
    if len(names) != len(found.values):
        raise DataError(f"{what}; every image needs one label")
    if found.names is None:
        _check_positions(names, what)
    for name, value in zip(names, found.values, strict=True):
        group, image = images[name]
        group.labels = found
        group.values.append((image, value))
    for group in groups:
        group.classes, group.flat = {}, []


def _check_positions(names, what):
    for position, name in enumerate(names, 1):
        number = re.search(r"\d+$", name)
        if number and int(number[0]) != position:
            raise DataError(
                f"{what}, but {name} is number {position:,} of them; one is missing and there is another one too many"
            )
