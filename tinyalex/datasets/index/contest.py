"""Names of ILSVRC's files: of which year's contest an image, an archive or a ground truth is, and of which split.

    ILSVRC2010_val_00000001.JPEG      ILSVRC2010_images_val.tar      ILSVRC2010_validation_ground_truth.txt
    ILSVRC2012_test_00000001.JPEG     ILSVRC2012_img_train.tar       ILSVRC2014_clsloc_validation_ground_truth.txt

The contests of 2012 to 2017 have the same classes, ids and images, which keep their names of 2012.
"""

import re
from pathlib import Path
from typing import NamedTuple

from tinyalex.errors import DataError

_SPLITS = {"train": "train", "val": "val", "validation": "val", "test": "test", "testing": "test"}
_IMAGE = re.compile(r"ILSVRC(\d{4})_(val|test)_(\d{8})(?:\.JPE?G)?", re.IGNORECASE)
_ARCHIVE = re.compile(r"ILSVRC(\d{4})_(?:img|images)_(train|val|test)(?:_[tv]\d+)?\.tar(?:\.\w+)?", re.IGNORECASE)
_TRUTH = re.compile(r"ILSVRC(\d{4})(?:_clsloc)?_(val|validation|test|testing)_ground_truth\.txt", re.IGNORECASE)
_SYNSETS = "imagenet_2012_validation_synset_labels.txt"  # as TensorFlow's scripts call it
_FIRST_OF_SAME = 2012
_DEVKITS = {2010: "ILSVRC2010_devkit-1.0.tar.gz", 2011: "ILSVRC2011_devkit-2.0.tar.gz"}
_DEVKITS |= {2012: "ILSVRC2012_devkit_t12.tar.gz"}
TEST_TRUTH = {2010: "ILSVRC2010_test_ground_truth.txt"}  # published beside the devkit; that of other years is not


class Name(NamedTuple):
    """What a file's name says; ``number`` is 0 except for an image."""

    year: int
    split: str
    number: int = 0


def _parsed(pattern, name):
    found = pattern.fullmatch(name)
    return Name(same_year(int(found[1])), _SPLITS[found[2].lower()], *map(int, found.groups()[2:])) if found else None


def same_year(year):
    """Return the first contest with the classes and ids of a year's."""
    return min(year, _FIRST_OF_SAME)


def image(name):
    """Return the `Name` of a validation or test image, without folders and with or without its ending; or None."""
    return _parsed(_IMAGE, name)


def archive(name):
    """Return the `Name` of an archive of images, or None."""
    return _parsed(_ARCHIVE, name)


def truth(name):
    """Return the `Name` of a list of labels by position, or None."""
    name = name.rsplit("/", 1)[-1]
    return Name(2012, "val") if name.lower() == _SYNSETS else _parsed(_TRUTH, name)


def devkit_of(year):
    """Return the name of a year's devkit."""
    return _DEVKITS.get(year, f"that of ILSVRC-{year}")


def year_of(listings, flat):
    """Return the year whose images the sources have, or None if no name says; class folders may mix years.

    Parameters
    ----------
    listings : list of Listing
    flat : list of (str, list of FileSpan)
        Images in no class folder, with the name of the folder or archive that they are in.

    Raises
    ------
    DataError
        If there are images of two contests.
    """
    found = {}
    for where, images in flat:
        if images and (name := image(images[0].name)):
            found.setdefault(name.year, f"{where} ({images[0].name})")
    for listing in listings:
        for path in (listing.source, *listing.packed.values()):
            if name := archive(Path(path).name):
                found.setdefault(name.year, path)
    if len(found) > 1:
        (one, first), (other, second) = sorted(found.items())[:2]
        raise DataError(
            f"{second}: images of ILSVRC-{other}, but those of {first} are of ILSVRC-{one}; give the archives and the "
            "devkit of one of them"
        )
    return next(iter(found), None)
