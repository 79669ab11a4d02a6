"""Class folders called 0, 1, 2, ... 10: numbers to whoever made them, text to whoever sorts them (0, 1, 10, 2)."""

from tinyalex.errors import DataError, UsageError
from tinyalex.prepare.index.layout import some


def rename(parts, documents, allowed):
    """Give class folders that are numbers names of which the order is beyond doubt.

    Parameters
    ----------
    parts : list of Part
        Changed where need be.
    documents : Documents
    allowed : bool
        Whether the numbers are meant as such. Then they count a list of classes, from 0, if one came with the images;
        else their names become 00, 01, ... 10.

    Raises
    ------
    DataError
        If they are not allowed, and their order as text is another one; or if they have gaps.
    UsageError
        If they are allowed, and there are others.
    """
    names = sorted({name for part in parts for name in part.classes})
    others = [name for name in names if not (name.isascii() and name.isdigit())]
    if not names or others and not allowed:
        return
    who = parts[0].name
    if not allowed:
        if names != [str(number) for number in range(len(names))]:
            raise DataError(
                f"{who}: class folders with numbers for names, {some(names)}: text or numbers? "
                "rename them, or say with --numeric-folders that they are numbers"
            )
        return
    if others:
        raise UsageError(f"{who}: the class folder {others[0]} is no number; leave --numeric-folders out")
    numbers = {name: int(name) for name in names}
    if len(set(numbers.values())) < len(names):
        raise DataError(f"{who}: two class folders with the same number; rename one")
    meant = _listed(numbers, documents.counted(who), who) if documents.declared else _padded(numbers, who)
    if not documents.declared:
        documents.words = {meant[name]: str(number) for name, number in numbers.items()} | documents.words
    for part in parts:
        part.classes = {meant[name]: images for name, images in part.classes.items()}


def _listed(numbers, classes, who):
    beyond = [name for name, number in numbers.items() if number >= len(classes)]
    if beyond:
        raise DataError(f"{who}: the class folder {beyond[0]}, but the list of classes counts 0 to {len(classes) - 1}")
    return {name: classes[number] for name, number in numbers.items()}


def _padded(numbers, who):
    found, first = sorted(numbers.values()), min(1, *numbers.values())
    missing = sorted(set(range(first, first + len(found))) - set(found))
    if missing:
        raise DataError(
            f"{who}: class folders up to {found[-1]}, but no {missing[0]}; add it, or a list of the classes"
        )
    return {name: f"{number:0{len(str(found[-1]))}}" for name, number in numbers.items()}
