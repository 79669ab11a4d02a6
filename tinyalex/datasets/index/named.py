"""Images of ILSVRC whose names end with their class, as Hugging Face ships them.

train_images_0/n01440764_18_n01440764.JPEG            train_images_0.tar.gz to train_images_4.tar.gz, or extracted
val_images/ILSVRC2012_val_00000001_n01751748.JPEG
test_images/ILSVRC2012_test_00000001.JPEG             without a class
"""

import re

from tinyalex.datasets.index.labels import WNID

_TEST_FOLDER = "test_images"
_NAMED = re.compile(r"(?:n\d{8}_\d+|ILSVRC2012_(val)_\d{8})_(n\d{8})\.JPEG", re.IGNORECASE)
_TEST = re.compile(r"ILSVRC2012_test_\d{8}\.JPEG", re.IGNORECASE)


def is_named(name):
    """Return whether an image's name ends with its class."""
    return _NAMED.fullmatch(name) is not None


def sort_into_classes(listing):
    """Move such images of a listing to the folders ``train/<class>``, ``val/<class>`` and ``test``.

    Only folders that contain nothing but such images are changed, and class folders are not.

    Parameters
    ----------
    listing : Listing
    """
    moved = {}
    for folder, images in list(listing.images.items()):
        below = [_folders(image.name) for image in images]
        named = folder[-1] == _TEST_FOLDER or any(is_named(image.name) for image in images)
        if named and all(below) and not WNID.fullmatch(folder[-1]):
            del listing.images[folder]
            for image, names in zip(images, below, strict=True):
                moved.setdefault((*folder[:-1], *names), []).append(image)
    for folder, images in moved.items():
        listing.images.setdefault(folder, []).extend(images)


def _folders(name):
    # Return the folders of an image below that of the set; None if its name says nothing.
    if found := _NAMED.fullmatch(name):
        return ("val" if found[1] else "train", found[2])
    return ("test",) if _TEST.fullmatch(name) else None
