"""Lists of labels and classes, and the devkit's table, that came with the images; which list is for which images."""

import contextlib
import re

from tinyalex.datasets.index import contest, devkit, labels, tables
from tinyalex.datasets.index.layout import Group, first_three, root_name
from tinyalex.datasets.names import shown
from tinyalex.errors import DataError
from tinyalex.words import counted

_KNOWN = labels.NAMES | devkit.TABLES
_SPLITS = ("train", "val", "test")
# Folders of other lists, whose val.txt numbers the images: on Kaggle, and in the devkits of 2013 and 2014.
_IGNORED_FOLDERS = {"ImageSets", "det_lists"}
_SAMPLE = re.compile(r"(?:.*[-_])?sample[-_]?submission.*\.csv", re.IGNORECASE)


def is_document(name):
    """Return whether a file's name is that of a table of labels, of a known list or of the devkit's table."""
    return name.lower() in _KNOWN or labels.is_list_of_labels(name) or tables.is_table(name)


def leave_out_samples(listing):
    """Add tables that show the form of a contest's results to those skipped: they name images, with made-up classes."""
    for parts in [parts for parts in listing.documents if _SAMPLE.fullmatch(parts[-1])]:
        listing.skipped.add("/".join(parts), "a sample of results, which are no labels")
        del listing.documents[parts]


class Documents:
    """All lists of all sources.

    Parameters
    ----------
    listings : list of Listing
    year : int, optional
        The contest of the images, if their names say one: lists and devkits of others do not fit them.

    Attributes
    ----------
    labels : list of (Listing, Labels)
        Lists of labels, in the order in which they are tried: class names before numbers, by name before by position.
    words : dict of str to str
        Names of the classes to show to people.
    declared : list of str or None
        The classes of the set in the order of their list, if there is one.
    tables : list of (Listing, tuple of str, FileSpan)
        Tables of labels, each with the folder it is in.
    """

    def __init__(self, listings, year=None):
        self.labels, self.words, self.declared, self.tables, self._metas = [], {}, None, [], []
        self._year = year
        for listing in listings:
            for parts, span in listing.documents.items():
                if not _IGNORED_FOLDERS.intersection(parts):
                    self._add(listing, parts, span)
        self.labels.sort(key=lambda pair: (pair[1].has_numbers, pair[1].names is None))

    def _add(self, listing, parts, span):
        name, span = span.name.lower(), span._replace(name="/".join((listing.source, *parts[1:])))  # for messages
        if name in devkit.TABLES:
            self._metas.append(span)
        elif tables.is_table(name) and name not in _KNOWN and not labels.is_list_of_labels(name):
            self.tables.append((listing, parts[:-1], span))
        elif name in labels.NAMES or not labels.is_list_of_labels(name) and labels.is_list_of_names(span):
            found = labels.read_names(span)
            self.words |= {name: words for name, words in found.items() if words}
            if name != labels.ALL_OF_WORDNET:
                self.declared = _joined(self.declared, list(found))
        else:
            self.labels.append((listing, labels.read_labels(span, parts[:-1])))

    def classes_from_0(self, file):
        """Return the declared classes in the order in which ``file``, a list or a folder, numbers them from 0."""
        self.check_sorted(file)
        return self.declared

    def check_sorted(self, file):
        """Refuse a list of classes that is not sorted: the numbers in ``file`` may be those of another order."""
        if self.declared and self.declared != sorted(self.declared):
            raise DataError(f"{file}: has numbers, but the list of classes is not sorted; use class names instead")

    @property
    def has_ids(self):
        """Whether the devkit came with the images."""
        return bool(self._metas)

    def declare_classes(self):
        """Take the classes of the devkit, if there is one and no list declares others."""
        if self.declared is None and self._metas:
            self.wnids("the test images")

    def class_ids(self, classes):
        """Return the devkit's id of every class, {wnid: id}; empty if no devkit has all of them.

        The table is not needed for labels then, so nothing is said if it is damaged.
        """
        for span in self._metas:
            with contextlib.suppress(DataError):
                found = devkit.read_synsets(span)
                ids = {wnid: number for number, wnid in found.ids.items()}
                if found.year == (self._year or found.year) and ids.keys() >= set(classes):
                    return {name: ids[name] for name in classes}
        return {}

    def wnids(self, file):
        """Return the wnid of every id of the devkit, {id: wnid}.

        Parameters
        ----------
        file : str
            Name of the list that uses the ids, for the message if there is no devkit.
        """
        if not self._metas:
            own = f" ({contest.devkit_of(self._year)})" if self._year else ""
            raise DataError(
                f"{file}: its labels are ids from 1, which are not in the order of the class names; "
                f"give the devkit too{own}, or its data/meta.mat"
            )
        tables = [(span, devkit.read_synsets(span)) for span in self._metas]
        fitting = [synsets for _, synsets in tables if self._year in (synsets.year, None)]
        if not fitting:
            span, synsets = tables[0]
            raise DataError(
                f"{span.name}: the devkit of ILSVRC-{synsets.year}, but the images are of ILSVRC-{self._year}; "
                f"give {contest.devkit_of(self._year)} instead"
            )
        self.words |= fitting[0].words
        self.declared = self.declared or sorted(fitting[0].ids.values())
        return fitting[0].ids

    def assign_labels(self, groups, show):
        """Find the list or the table for each group with flat images, and set the images' labels.

        Parameters
        ----------
        groups : list of Group
        show : callable
            Called with a line of text about each table that is used.

        Raises
        ------
        DataError
            If a list names other images than there are.
        """
        for group in groups:
            _recognise_test_images(group)
        others = []  # lists of other contests
        for listing, found in self.labels:
            fitting = [
                group for group in groups if group.labels is None and group.split != "train" and _fits(found, group)
            ]
            if found.truth and self._year not in (found.truth.year, None):
                others.append((found, fitting))
                name = "/".join((*found.folder, found.file.rsplit("/", 1)[-1]))
                listing.skipped.add(name, f"of ILSVRC-{found.truth.year}, not of the images")
                continue
            if found.truth is None and found.names is None and not fitting:
                fitting = [group for group in groups if _may_fit(found, group)]
                for group in fitting:
                    show(f"{found.file}: taken as the labels of the test images in {group.name}, as it has as many")
            if found.truth and found.truth.split == "test" and not fitting and not _is_used(found, groups):
                show(
                    f"{found.file}: not used, as there are no images of that test set; give "
                    f"ILSVRC{found.truth.year}_images_test.tar too, to test on them"
                )
            same_source = [group for group in fitting if group.listing is listing]
            below = [group for group in same_source if group.base[: len(found.folder)] == found.folder]
            if chosen := below or same_source or fitting:
                _pair(found, chosen)
        for found, fitting in others:
            for group in fitting:
                if group.labels is None:
                    of_test = contest.TEST_TRUTH.get(self._year) if found.truth.split == "test" else None
                    raise DataError(
                        f"{found.file}: of ILSVRC-{found.truth.year}, but the images in {group.name} are of "
                        f"ILSVRC-{self._year}; give {of_test or contest.devkit_of(self._year)} instead"
                    )
        errors = []
        for listing, folder, span in sorted(self.tables, key=lambda table: root_name(_stem(table[2])) not in _SPLITS):
            try:
                _assign_table(span, folder, listing, groups, show)
            except DataError as error:
                errors.append(error)
                listing.skipped.add(_listed_name(span, folder), str(error).removeprefix(f"{span.name}: "))
            if "label" in _stem(span).lower():
                _check_folders(span, groups)
        if errors and any(flat(group) and group.split != "test" for group in groups):
            raise errors[0]


def _joined(declared, names):
    if declared is None or declared == names:
        return names
    return sorted({*declared, *names})


def flat(group):
    """Return the images of a group that are in no class folder.

    A single folder may not be a class: ilsvrc/images/x.JPEG with a list beside it.
    """
    is_alone = not group.split and len(group.classes) == 1 and not group.flat
    beside = group.flat if not group.classes else []
    return next(iter(group.classes.values())) if is_alone else beside


def _recognise_test_images(group):
    # A contest's test images in a folder or an archive whose own name does not say so, or in one more folder.
    if group.split in ("", "test") and not (group.flat and group.classes) and len(group.classes) < 2:
        images = next(iter(group.classes.values()), group.flat)
        name = contest.image(images[0].name) if images else None
        if name and name.split == "test" and not any(map(labels.WNID.fullmatch, group.classes)):
            group.split, group.flat, group.classes = "test", images, {}


def _fits(found, group):
    if found.names is None:
        images, split = flat(group), found.truth.split if found.truth else "val"
        of_image = contest.image(images[0].name) if images else None
        return bool(images) and (of_image.split if of_image else group.split) == split
    names = set(found.names)
    return any(labels.bare_name(image.name) in names for image in flat(group))


def _may_fit(found, group):
    # Whether a list of labels by position, whose name says nothing, may be that of test images.
    return group.labels is None and group.split == "test" and len(flat(group)) == len(found.values)


def _is_used(found, groups):
    return any(group.labels and group.labels.truth == found.truth for group in groups)


def _pair(found, groups):
    images = {labels.bare_name(image.name): (group, image) for group in groups for image in flat(group)}
    count = sum(len(flat(group)) for group in groups)
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


def _check_folders(span, groups):
    """Refuse a table that gives images in class folders other classes than these, up to the classes' names."""
    items = {
        "/".join((*group.base, name, image.name)): (image, name)
        for group in groups
        for name, images in group.classes.items()
        for image in images
    }
    try:
        found = tables.match(span, tables.Images(items)) if items else None
    except DataError:  # the table is of something else
        return
    pairs = {(name, value) for (_, name), value, _ in found.values} if found else set()
    folders, values = ({pair[k] for pair in pairs} for k in (0, 1))
    if len(pairs) > min(len(folders), len(values)):
        raise DataError(
            f"{span.name}: gives other classes than the folders {first_three(sorted(folders))}; remove it if the "
            "folders are the classes, or else put all images into one folder"
        )


def _listed_name(span, folder):
    return "/".join((*folder, span.name.rsplit("/", 1)[-1]))


def _stem(span):
    return span.name.rsplit("/", 1)[-1].rpartition(".")[0]


def _assign_table(span, folder, listing, groups, show):
    # Give images the classes of a table; those that it does not name are left out.
    unlabelled = [group for group in groups if group.labels is None and flat(group)]
    split = root_name(_stem(span))  # train.csv is about train/
    same = [group for group in unlabelled if group.split == split] or unlabelled
    below = [group for group in same if group.listing is listing and group.base[: len(folder)] == folder]
    items = {}
    for group in below or same:
        inside = () if group.flat or not group.classes else tuple(group.classes)
        items |= {"/".join((*group.base, *inside, image.name)): (group, image) for image in flat(group)}
    if not items:
        listing.skipped.add(_listed_name(span, folder), "a table of labels, which no image needs")
        return
    found = tables.match(span, tables.Images(items))
    if found is None:
        example = shown(min(items))
        raise DataError(f"{span.name}: names none of the {len(items):,} images without a class, such as {example}")
    line, of_group = found.line, {}
    for (group, image), value, split in found.values:
        of_group.setdefault(group, {}).setdefault(split, []).append((image, value))
    for group, of_split in of_group.items():
        listed = {image for pairs in of_split.values() for image, _ in pairs}
        if others := [image for image in flat(group) if image not in listed]:
            line += f"; {len(others):,} of the images in {group.name} not in it, left out: {shown(others[0].name)}"
            line += " and others" if others[1:] else ""
            group.leave_out(f"not in {span.name}", others)
        group.classes, group.flat = {}, []
        for split, pairs in of_split.items():
            values = [value for _, value in pairs]
            if all(value.isascii() and value.isdigit() for value in values):
                values = list(map(int, values))
            if group.values:  # the table has a column of splits
                groups.append(group := Group(group.listing, group.base, split))
            group.split = split or group.split
            group.labels = labels.Labels(span.name, folder, [image.name for image, _ in pairs], values, True)
            group.values = [(image, value) for (image, _), value in zip(pairs, values, strict=True)]
    show(line)


def _check_positions(names, what):
    for position, name in enumerate(names, 1):
        number = re.search(r"\d+$", name)
        if number and int(number[0]) != position:
            raise DataError(
                f"{what}, but {name} is number {position:,} of them; one is missing and there is another one too many"
            )
