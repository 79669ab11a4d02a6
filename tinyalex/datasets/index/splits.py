"""Decide which groups of images are training images, test images, or left out."""

from tinyalex.datasets.index import contest
from tinyalex.errors import DataError, UsageError


def choose(groups, test_set=None, show=print):
    """Choose the training and test groups among those of all sources, after labels were assigned from lists.

    Validation images are the test split, unless there are test images with a contest's ground truth. The other one of
    the two is left out, and so are images beside class folders, and test images without labels unless they are alone.

    Parameters
    ----------
    groups : list of Group
    test_set : "val", "test" or None
        Which of the two is the test split; test images need no labels then. None: as above.
    show : function of str
        Called with a line of text if there are two sets of images with labels to test on.

    Returns
    -------
    train, test : list of Group
    unlabelled : bool
        Whether the images of ``test`` have no labels.

    Raises
    ------
    DataError
        If there are flat images where class folders are expected, or flat images without labels.
    UsageError
        If there are no images of the set ``test_set``.
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
    val = [group for group in others if group.split == "val" or group.labels and not group.split]
    third = [group for group in groups if group.split == "test"]
    labelled, without = [group for group in third if not group.flat], [group for group in third if group.flat]
    if test_set and not (val if test_set == "val" else third):
        name = "validation" if test_set == "val" else "test"
        raise UsageError(f"--test-set {test_set}: there are no {name} images; leave the option out, or add them")
    by_truth = bool(labelled) and all(group.labels and group.labels.truth for group in labelled)
    if val and labelled and not test_set:
        chosen, other = (labelled, "val") if by_truth else (val, "test")
        why = ", on which the errors of the contest were measured" if by_truth else ""
        show(
            f"{chosen[0].name}: the test images{why}; the {'validation' if by_truth else 'other'} images are left "
            f"out: `tinyalex prepare --test-set {other}` takes them instead"
        )
    take_val = test_set == "val" if test_set else bool(val) and not by_truth
    test = val if take_val else labelled
    unlabelled = not test and bool(without) and (test_set == "test" or not train)
    if unlabelled:
        test = without
    for group in val + third:
        if group not in test:
            group.leave_out(_reason(group))
    return train, test, unlabelled


def _reason(group):
    # Why a set of validation or test images is left out.
    if not group.flat:
        return "a third split"
    name = contest.image(group.flat[0].name)
    truth = contest.TEST_TRUTH.get(name.year) if name else None
    return f"without labels; {truth} has them" if truth else "without labels"


def _is_training_table(group, others):
    # Images with a table are training images, unless a folder's name, or that of a list in an ILSVRC set, says else.
    return group.labels.from_table and (group.split == "train" or not group.split and not others)


def _flat(group):
    where = f"{group.name}: contains {len(group.flat):,} image{'s' * (len(group.flat) > 1)}"
    if not group.flat[0].name.startswith("ILSVRC"):
        lists = ", or add a list of their labels" if group.split != "train" else ""
        return f"{where}, but no class folders; put the images of each class into a folder of its own{lists}"
    what = f"{where} at its top level, expected class folders or nXXXXXXXX.tar"
    if group.split == "train":
        return f"{what}; is it the validation archive?"
    name = contest.image(group.flat[0].name)
    own = f" ({contest.devkit_of(name.year)})" if name else ""
    return f"{what}, or a list of their labels as well: the devkit{own}, or val.txt and synset_words.txt"
