"""Class folders named by numbers: in the order of the numbers, 2 before 10, or renamed by a list of the classes."""

from tinyalex.errors import DataError, UsageError


def is_number(name):
    """Return whether a name is a whole number in decimal digits."""
    return name.isascii() and name.isdigit()


def ordered(names):
    """Sort the names of classes: as numbers if all of them are, else by their bytes."""
    if all(map(is_number, names)):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def rename(groups, documents):
    """Rename classes that are positions, from 0, in the list of classes that came with the images.

    Parameters
    ----------
    groups : list of Group
        Their ``classes`` are renamed. Without a list of classes they stay as they are.
    documents : Documents

    Raises
    ------
    DataError
        If two class folders have the same number, or one is not in the list.
    UsageError
        If a class folder's name is not a number.
    """
    names = sorted({name for group in groups for name in group.classes})
    if not names:
        return
    source = groups[0].name
    if others := [name for name in names if not is_number(name)]:
        raise UsageError(f"{source}: the class folder {others[0]} is not a number; leave --numeric-folders out")
    if len({int(name) for name in names}) < len(names):
        raise DataError(f"{source}: two class folders with the same number; rename one")
    if not documents.declared:
        return
    classes = documents.classes_from_0(source)
    if beyond := [name for name in names if int(name) >= len(classes)]:
        raise DataError(f"{source}: the class folder {beyond[0]}, but the list of classes has 0 to {len(classes) - 1}")
    for group in groups:
        group.classes = {classes[int(name)]: images for name, images in group.classes.items()}
