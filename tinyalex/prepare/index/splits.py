"""Which images are for training and which for testing, and what belongs to neither."""

from tinyalex.errors import DataError


def choose(parts):
    """Choose among the parts of all sources, after the lists of labels have spoken.

    Validation images are the test split. A third split, which has no labels as a rule, is left out, and so are images
    that lie beside class folders.

    Parameters
    ----------
    parts : list of Part

    Returns
    -------
    train, test : list of Part

    Raises
    ------
    DataError
        If there are none, or flat images where class folders should be or without labels.
    """
    for part in parts:
        if part.flat and part.classes:
            part.leave_out("an image beside the class folders", part.flat)
            part.flat = []
        elif part.flat and part.split != "test":
            raise DataError(_flat(part))
        if part.split == "val" and part.classes and part.listing.nested and len(part.base) == 1:
            raise DataError(
                f"{part.name}: contains {min(part.classes)}.tar where its name promises validation images; "
                "is it the training archive?"
            )
    train = [part for part in parts if part.classes and part.split in ("train", "")]
    test = [part for part in parts if part.split == "val" or part.labels and not part.split]
    third = [part for part in parts if part.split == "test"]
    if not test:
        test, third = [part for part in third if not part.flat], [part for part in third if part.flat]
    for part in third:
        part.leave_out("without labels" if part.flat else "a third split")
    return train, test


def _flat(part):
    what = f"{part.name}: contains {len(part.flat):,} images at its top level, expected class folders or nXXXXXXXX.tar"
    if part.split == "train":
        return f"{what}; is it the validation archive?"
    return f"{what}, or a list of their labels as well: the devkit, or val.txt and synset_words.txt"
