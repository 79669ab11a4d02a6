"""Decide which groups of images are training images, test images, or left out."""

from tinyalex.errors import DataError


def choose(groups):
    """Choose the training and test groups among those of all sources, after labels were assigned from lists.

    Validation images are the test split. A third split, which usually has no labels, is left out, and so are images
    beside class folders.

    Parameters
    ----------
    groups : list of Group

    Returns
    -------
    train, test : list of Group

    Raises
    ------
    DataError
        If there are flat images where class folders are expected, or flat images without labels.
    """
    for group in groups:
        if group.flat and group.classes:
            group.leave_out("an image beside the class folders", group.flat)
            group.flat = []
        elif group.flat and group.split != "test":
            raise DataError(_flat(group))
        if group.split == "val" and group.classes and group.listing.nested and len(group.base) == 1:
            raise DataError(
                f"{group.name}: contains {min(group.classes)}.tar, but by its name validation images are expected; "
                "is it the training archive?"
            )
    train = [group for group in groups if group.classes and group.split in ("train", "")]
    train += [group for group in groups if group.labels and _is_training_table(group, train)]
    others = [group for group in groups if group not in train]
    test = [group for group in others if group.split == "val" or group.labels and not group.split]
    third = [group for group in groups if group.split == "test"]
    if not test:
        test, third = [group for group in third if not group.flat], [group for group in third if group.flat]
    for group in third:
        group.leave_out("without labels" if group.flat else "a third split")
    return train, test


def _is_training_table(group, others):
    # Images with a table are training images, unless a folder's name, or that of a list in an ILSVRC set, says else.
    return group.labels.from_table and (group.split == "train" or not group.split and not others)


def _flat(group):
    where = f"{group.name}: contains {len(group.flat):,} image{'s' * (len(group.flat) > 1)}"
    if not group.flat[0].name.startswith("ILSVRC2012_"):
        lists = ", or add a list of their labels" if group.split != "train" else ""
        return f"{where}, but no class folders; put the images of each class into a folder of its own{lists}"
    what = f"{where} at its top level, expected class folders or nXXXXXXXX.tar"
    if group.split == "train":
        return f"{what}; is it the validation archive?"
    return f"{what}, or a list of their labels as well: the devkit, or val.txt and synset_words.txt"
