"""Find the classes of a set, in the order of their names, and turn numbers in lists of labels into names."""

from tinyalex.datasets.index.labels import WNID, bare_name
from tinyalex.datasets.index.layout import first_three
from tinyalex.datasets.index.numbered import is_number, ordered
from tinyalex.errors import DataError
from tinyalex.words import brief

# The classes of ILSVRC-2012's first validation images: labels 65, 970, 230, 809 and 516 of 1000.
_KNOWN = {
    "ILSVRC2012_val_00000001": "n01751748",
    "ILSVRC2012_val_00000002": "n09193705",
    "ILSVRC2012_val_00000003": "n02105855",
    "ILSVRC2012_val_00000004": "n04263257",
    "ILSVRC2012_val_00000005": "n03125729",
}


_ILSVRC = 1000  # classes of the full set


def resolve(train, test, documents, show):
    """Find the classes of the set, and the class name of every image with a label from a list.

    Parameters
    ----------
    train, test : list of Group
        Numbers in their ``values`` are replaced by class names.
    documents : Documents
    show : callable
        Called with a line of text about how the numbers of a list are read, and why, if they could be read otherwise.

    Returns
    -------
    list of str
        The classes, sorted by their bytes, or as numbers if all of them are.

    Raises
    ------
    DataError
        If training images, test images and lists do not have the same classes, or a label is out of range.
    """
    trained = {name for group in train for name in group.classes}
    for group in train + test:
        if group.labels and group.labels.has_numbers:
            names = _names_of_numbers(group.labels, trained, documents, train[0].name if train else "", show)
            group.values = [(image, names[number]) for image, number in group.values]
    trained |= {name for group in train for _, name in group.values}
    tested = {name for group in test for name in group.classes}
    named = {value for group in test for _, value in group.values}
    classes = trained or set(documents.declared or tested | named)
    if test:
        # A list of labels may lack classes, as it was compared with the images; a missing class folder is an error.
        _compare(test[0].name, tested | named, train[0].name if train else "the list", classes, named or not trained)
    source = (train or test)[0].name if train or test else "the list of classes"
    if len(classes) < 2:
        raise DataError(f"{source}: only one class, {brief(min(classes))}; give images of at least two")
    _check_known(test, len(classes))
    return ordered(classes)


def _names_of_numbers(labels, trained, documents, source, show):
    """Return the class of each number in a list, {number: class}.

    Numbers that are the names of class folders mean these. Caffe numbers the sorted wnids from 0; the devkit numbers
    them from 1 in another order. Other classes are numbered in the order of their list, from 0 or from 1. Whether 0 or
    the number of classes occurs shows which it is; if neither does, known labels of ILSVRC's images may; else Caffe's
    are assumed if only they can be read, or it is an error.
    """
    if trained and all(map(is_number, trained)):
        by_number = {int(name): name for name in sorted(trained)}
        if by_number.keys() >= set(labels.values):
            return by_number
    file, low, high = labels.file, min(labels.values), max(labels.values)
    if labels.names is None:
        if low < 1:
            raise DataError(f"{file}: label {low}, but the devkit's ids begin at 1; are all labels too small by one?")
        return _ids(labels, trained | set(documents.declared or ()), documents, source)
    if trained and documents.declared:
        _compare(source, trained, "the list of classes", set(documents.declared))
    classes = documents.declared or ordered(trained)
    if not classes and labels.from_table and not documents.has_ids:
        return {number: str(number) for number in labels.values}
    if not classes and not documents.has_ids:
        raise DataError(
            f"{file}: has labels from {low} to {high}, but there is no list of classes; give synset_words.txt if they "
            "are Caffe's, from 0, or the devkit if they are its ids, from 1"
        )
    by_list = bool(classes)
    classes = classes or sorted(documents.wnids(file).values())
    count, of_ilsvrc = len(classes), all(map(WNID.fullmatch, classes))
    other = "the devkit's ids, from 1" if of_ilsvrc else "numbers from 1"
    seen = f"{file}: labels from {low} to {high} for {count:,} classes"
    if low < 0 or high > count or (low == 0 and high == count):
        raise DataError(f"{seen}; expected Caffe's labels, from 0 to {count - 1}, or {other} to {count}")
    if high == count:
        show(f"{seen} are {other}, as {count} occurs and 0 does not")
        if of_ilsvrc:
            return _ids(labels, set(classes), documents, source)
    elif low:
        if known := _fitting_known(labels, classes):
            show(f"{seen} are numbers from 0, as {known}")
        elif not of_ilsvrc or documents.has_ids:
            leave_out = ", or leave out the devkit if they are from 0" if of_ilsvrc and by_list else ""
            raise DataError(
                f"{seen} may be numbers from 0 or {other}, as neither 0 nor {count} occurs; give class names instead"
                f"{leave_out}"
            )
        else:
            show(f"{seen} are taken as Caffe's, from 0; if they are the devkit's ids, from 1, give the devkit too")
    documents.check_sorted(file)
    return dict(enumerate(classes, int(high == count)))


def _ids(labels, classes, documents, source):
    ids, high = documents.wnids(labels.file), max(labels.values)
    if high > len(ids):
        raise DataError(
            f"{labels.file}: labels from {min(labels.values)} to {high}, but the devkit's ids are 1 to {len(ids)}; "
            "fetch it again"
        )
    if classes:
        _compare(source or "the list of classes", set(classes), "the devkit", set(ids.values()))
    return ids


def _fitting_known(labels, classes):
    """Return a known label of one of ILSVRC's images, for people, if all known ones fit numbers from 0; else ""."""
    pairs = [(name, value) for name, value in zip(labels.names, labels.values, strict=True) if name in _KNOWN]
    if len(classes) != _ILSVRC or not pairs or any(classes[value] != _KNOWN[name] for name, value in pairs):
        return ""
    return f"{pairs[0][0]} has {pairs[0][1]}, and shows {_KNOWN[pairs[0][0]]}"


def _compare(name, classes, other, wanted, subset=False):
    """Refuse classes of ``name`` that are not those of ``other``, or, for a ``subset``, not among them."""
    missing, extra = sorted(wanted - classes) if not subset else [], sorted(classes - wanted)
    if missing or extra:
        what = [f"{first_three(missing)} missing"] * bool(missing) + [f"{first_three(extra)} too many"] * bool(extra)
        raise DataError(f"{name}: not the same classes as {other}, {' and '.join(what)}; both need the same")


def _check_known(test, count):
    if count != _ILSVRC:  # _KNOWN is for the full set only
        return
    for group in test:
        for image, value in group.values:
            if (known := _KNOWN.get(bare_name(image.name), value)) != value:
                raise DataError(
                    f"{group.labels.file}: {image.name} has label {value}, but it shows {known}; "
                    "the list is not in the order of the images, or its numbers are of other classes"
                )
