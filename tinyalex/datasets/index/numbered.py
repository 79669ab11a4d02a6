"""Class folders named 0, 1, 2, ... 10, whose order as text (0, 1, 10, 2) is not that of the numbers."""

from tinyalex.datasets.index.layout import first_three
from tinyalex.errors import DataError, UsageError


def rename(groups, documents, allowed):
    """Rename classes that are numbers so that their order as text is that of the numbers.

    Parameters
    ----------
    groups : list of Group
        Their ``classes`` are renamed.
    documents : Documents
    allowed : bool
        Whether to treat the names as numbers. Then they are positions in the list of classes, from 0, if one came with
        the images; else the names become 00, 01, ... 10.

    Raises
    ------
    DataError
        If it is not allowed and the order as text is not that of the numbers, or if a number is missing.
    UsageError
        If it is allowed and a class folder's name is not a number.
    """
    names = sorted({name for group in groups for name in group.classes})
    others = [name for name in names if not (name.isascii() and name.isdigit())]
    if not names or others and not allowed:
        return
    source = groups[0].name
    if not allowed:
        if names != [str(number) for number in range(len(names))]:
            raise DataError(
                f"{source}: the names of the class folders, {first_three(names)}, are numbers; "
                "rename them, or give --numeric-folders to sort them as numbers"
            )
        return
    if others:
        raise UsageError(f"{source}: the class folder {others[0]} is not a number; leave --numeric-folders out")
    numbers = {name: int(name) for name in names}
    if len(set(numbers.values())) < len(names):
        raise DataError(f"{source}: two class folders with the same number; rename one")
    new_names = (
        _listed(numbers, documents.classes_from_0(source), source) if documents.declared else _padded(numbers, source)
    )
    if not documents.declared:
        documents.words = {new_names[name]: str(number) for name, number in numbers.items()} | documents.words
    for group in groups:
        group.classes = {new_names[name]: images for name, images in group.classes.items()}


def _listed(numbers, classes, source):
    beyond = [name for name, number in numbers.items() if number >= len(classes)]
    if beyond:
        raise DataError(f"{source}: the class folder {beyond[0]}, but the list of classes has 0 to {len(classes) - 1}")
    return {name: classes[number] for name, number in numbers.items()}


def _padded(numbers, source):
    found, first = sorted(numbers.values()), min(1, *numbers.values())
    missing = sorted(set(range(first, first + len(found))) - set(found))
    if missing:
        raise DataError(
            f"{source}: class folders up to {found[-1]}, but none named {missing[0]}; add it, or a list of the classes"
        )
    return {name: f"{number:0{len(str(found[-1]))}}" for name, number in numbers.items()}
