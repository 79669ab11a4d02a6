"""The names of a prepared set's test images, in a file beside the manifest, for files that list them by name.

JSON: the plan of the set, the ids of its classes in an ILSVRC devkit, or none, the images' names in the order in which
they are stored, and a hash of all that. Sets of earlier versions have no such file.
"""

import hashlib
import json

from tinyalex.datasets.dataset import ImageNames
from tinyalex.errors import DataError
from tinyalex.system import storage, tensorfile

NAME = "test_images.json"
_FORMAT = "tinyalex test images 1"
_REMEDY = "remove it and run the same tinyalex prepare again, which writes it"


def write(folder, plan, listed):
    """Write the list of a set, unless it is there already.

    Parameters
    ----------
    folder : Path
    plan : str
        That of the set, as in its manifest.
    listed : ImageNames
    """
    fields = {"format": _FORMAT, "plan": plan, "ids": listed.ids, "names": listed.names}
    storage.write_text(folder / NAME, json.dumps(fields | {"check": _digest(fields)}, indent=1) + "\n")


def read(folder, manifest):
    """Read the list of a set.

    Parameters
    ----------
    folder : Path
    manifest : dict

    Returns
    -------
    ImageNames, or None
        None if there is no such file.

    Raises
    ------
    DataError
        If it is damaged or of another set.
    """
    path = folder / NAME
    try:
        found = tensorfile.parse(path.read_text(encoding="utf-8"))
        if found.pop("check") != _digest(found) or found["format"] != _FORMAT:
            raise ValueError("it was changed after it was written")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: damaged ({error}); {_REMEDY}") from error
    if found["plan"] != manifest["plan"] or len(found["names"]) != manifest["splits"]["test"]["count"]:
        raise DataError(f"{path}: belongs to another prepared set; {_REMEDY}")
    return ImageNames(found["names"], found["ids"])


def _digest(fields):
    return hashlib.blake2b(json.dumps(fields).encode(), digest_size=16).hexdigest()
