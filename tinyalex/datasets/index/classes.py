"""Find the classes of a set, in the order of their names, and turn numbers in lists of labels into names."""

from tinyalex.datasets.index.labels import bare_name
from tinyalex.datasets.index.layout import first_three
from tinyalex.datasets.index.numbered import is_number, ordered
from tinyalex.errors import DataError

# The classes of ILSVRC-2012's first validation images: labels 65, 970, 230, 809 and 516 of 1000.
_KNOWN = {
    "ILSVRC2012_val_00000001": "n01751748",
    "ILSVRC2012_val_00000002": "n09193705",
    "ILSVRC2012_val_00000003": "n02105855",
    "ILSVRC2012_val_00000004": "n04263257",
    "ILSVRC2012_val_00000005": "n03125729",
}


def resolve(train, test, documents, show):
    """Find the classes of the set, and the class name of every image with a label from a list.

    Parameters
    ----------
    train, test : list of Group
        Numbers in the ``values`` of test groups are replaced by class names.
    documents : Documents
    show : callable
        Called with a line of text if the numbers of a list could be read in two ways.

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
    for group in test:
        if group.labels and group.labels.has_numbers:
            names = _names_of_numbers(group.labels, trained, documents, train[0].name if train else "", show)
            group.values = [(image, names[number]) for image, number in group.values]
    tested = {name for group in test for name in group.classes}
    named = {value for group in test for _, value in group.values}
    classes = trained or set(documents.declared or tested | named)
    if test:
        # A list of labels may lack classes, as it was compared with the images; a missing class folder is an error.
        _compare(test[0].name, tested | named, train[0].name if train else "the list", classes, named or not trained)
    source = (train or test)[0].name
    if len(classes) < 2:
        raise DataError(f"{source}: only one class, {min(classes)!r}; give images of at least two")
    _check_known(test, len(classes))
    return ordered(classes)


def _names_of_numbers(labels, trained, documents, source, show):
    """Return the class of each number in a list, {number: class}.

    Numbers that are the names of class folders mean these. Caffe numbers the sorted wnids from 0; the devkit numbers
    them from 1 in another order.
    """
    if trained and all(map(is_number, trained)):
        by_number = {int(name): name for name in sorted(trained)}
        if by_number.keys() >= set(labels.values):
            return by_number
    file, low, high = labels.file, min(labels.values), max(labels.values)
    classes = documents.classes_from_0(file) if documents.declared else ordered(trained)
    if trained and documents.declared:
        _compare(source, trained, "the list of classes", set(classes))
    if labels.names is None:
        if low < 1:
            raise DataError(f"{file}: label {low}, but the devkit's ids begin at 1; are all labels too small by one?")
    elif not classes and low < 1:
        raise DataError(f"{file}: has numbers, but there is no list of classes; give synset_words.txt too")
    elif classes:
        if low < 0 or high > len(classes) or (low == 0 and high == len(classes)):
            raise DataError(
                f"{file}: labels from {low} to {high} for {len(classes):,} classes; expected Caffe's labels, from 0 to "
                f"{len(classes) - 1}, or the devkit's ids, from 1 to {len(classes)}"
            )
        if high < len(classes):
            if low:
                show(f"{file}: labels from {low} to {high} are taken as numbers of {len(classes):,} classes from 0")
            return dict(enumerate(classes))
    ids = documents.wnids(file)
    if high > len(ids):
        raise DataError(
            f"{file}: labels from {low} to {high}, but the devkit's ids are 1 to {len(ids)}; fetch it again"
        )
    if classes:
        _compare(source or "the list of classes", set(classes), "the devkit", set(ids.values()))
    return ids


def _compare(name, classes, other, wanted, subset=False):
    """Refuse classes of ``name`` that are not those of ``other``, or, for a ``subset``, not among them."""
    missing, extra = sorted(wanted - classes) if not subset else [], sorted(classes - wanted)
    if missing or extra:
        what = [f"{first_three(missing)} missing"] * bool(missing) + [f"{first_three(extra)} too many"] * bool(extra)
        raise DataError(f"{name}: not the same classes as {other}, {' and '.join(what)}; both need the same")


def _check_known(test, count):
    if count != 1000:  # _KNOWN is for the full set of 1000 classes only
        return
    for group in test:
        for image, value in group.values:
            if (known := _KNOWN.get(bare_name(image.name), value)) != value:
                raise DataError(
                    f"{group.labels.file}: {image.name} has label {value}, but it shows {known}; "
                    "the list is not in the order of the images, or its numbers are of other classes"
                )
