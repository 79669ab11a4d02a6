"""The classes of a set, and the class of every image: always by name, in the order of the names' bytes."""

from tinyalex.errors import DataError
from tinyalex.prepare.index.labels import bare
from tinyalex.prepare.index.layout import some

# ILSVRC-2012's first validation images: labels 65, 970, 230, 809 and 516 of 1000.
_KNOWN = {
    "ILSVRC2012_val_00000001": "n01751748",
    "ILSVRC2012_val_00000002": "n09193705",
    "ILSVRC2012_val_00000003": "n02105855",
    "ILSVRC2012_val_00000004": "n04263257",
    "ILSVRC2012_val_00000005": "n03125729",
}


def settle(train, test, documents, show):
    """Find the classes, and name one for every image that a list speaks of.

    Parameters
    ----------
    train, test : list of Part
        Numbers among the values of ``test`` become names of classes.
    documents : Documents
    show : callable
        Gets a line if a list could be read in two ways.

    Returns
    -------
    list of str
        Sorted by their bytes.

    Raises
    ------
    DataError
        If the parts do not agree on the classes, or a label cannot be meant.
    """
    trained = {name for part in train for name in part.classes}
    for part in test:
        if part.labels and part.labels.numbers:
            meaning = _meaning(part.labels, trained, documents, train[0].name if train else "", show)
            part.values = [(image, meaning[number]) for image, number in part.values]
    tested = {name for part in test for name in part.classes}
    named = {value for part in test for _, value in part.values}
    classes = trained or set(documents.declared or tested | named)
    if test:
        # A list of labels may leave classes out, for it was compared with the images; a missing folder is a loss.
        _compare(test[0].name, tested | named, train[0].name if train else "the list", classes, named or not trained)
    source = (train or test)[0].name
    if len(classes) < 2:
        raise DataError(f"{source}: one class only, {min(classes)!r}; there is nothing to tell apart")
    _check_known(test, len(classes))
    return sorted(classes)


def _meaning(labels, trained, documents, source, show):
    """Give the class that each number of a list stands for, {number: class}.

    Caffe counts the sorted wnids from 0; the devkit counts from 1, in an order of its own.
    """
    file, low, high = labels.file, min(labels.values), max(labels.values)
    classes = documents.counted(file) if documents.declared else sorted(trained)
    if trained and documents.declared:
        _compare(source, trained, "the list of classes", set(classes))
    if labels.names is None:
        if low < 1:
            raise DataError(f"{file}: label {low}, but the devkit's ids begin at 1; is every one of them off by one?")
    elif not classes and low < 1:
        raise DataError(f"{file}: numbers, but no list of the classes that they count; give synset_words.txt too")
    elif classes:
        if low < 0 or high > len(classes) or (low == 0 and high == len(classes)):
            raise DataError(
                f"{file}: labels from {low} to {high} for {len(classes):,} classes; wanted Caffe's, from 0 to "
                f"{len(classes) - 1}, or the devkit's, from 1 to {len(classes)}"
            )
        if high < len(classes):
            if low:
                show(f"{file}: labels from {low} to {high} are taken to count {len(classes):,} classes from 0")
            return dict(enumerate(classes))
    ids = documents.ids(file)
    if high > len(ids):
        raise DataError(
            f"{file}: labels from {low} to {high}, but the devkit's ids are 1 to {len(ids)}; fetch it again"
        )
    if classes:
        _compare(source or "the list of classes", set(classes), "the devkit", set(ids.values()))
    return ids


def _compare(who, mine, other, theirs, part=False):
    """Refuse classes of ``who`` that are not those of ``other``, or, for a ``part``, not among them."""
    missing, extra = sorted(theirs - mine) if not part else [], sorted(mine - theirs)
    if missing or extra:
        what = [f"{some(missing)} missing"] * bool(missing) + [f"{some(extra)} too many"] * bool(extra)
        raise DataError(f"{who}: other classes than {other} has, {' and '.join(what)}; both need the same")


def _check_known(test, count):
    if count != 1000:  # _KNOWN is of the thousand, not of a part of them
        return
    for part in test:
        for image, value in part.values:
            if (known := _KNOWN.get(bare(image.name), value)) != value:
                raise DataError(
                    f"{part.labels.file}: {image.name} is given as {value}, but it shows {known}; "
                    "the list is in another order than the images, or its numbers count other classes"
                )
