"""Which `tinyalex prepare` makes a set of images that training cannot read as they are."""

import contextlib
import itertools
import os
import shlex
import tarfile
import zipfile
from pathlib import Path


def remedy(source, size=None, share=None):
    """Return what to do with images that training cannot read as they are: the command, and the option for after it.

    None if no file in it has the name of an image. ``size`` is the side of the images that are needed, if it is known,
    ``share`` that of each class to test on, if the user gave one.
    """
    if not (command := prepare_command(source, size, share)):
        return None
    out = shlex.quote(command[-1])
    return f"prepare the images, which may have any size and layout: {shlex.join(command)}; then give --data {out}"


def prepare_command(source, size=None, share=None):
    """Return the command that prepares the images of a folder or an archive, as a list of words.

    None if no file in it has the name of an image, or of an archive of ILSVRC's images.
    """
    from tinyalex.datasets.index import contest
    from tinyalex.datasets.index.layout import root_name
    from tinyalex.datasets.picture import is_image

    names = _some_names(source)
    archives = [found for name in names if (found := contest.archive(name.rsplit("/", 1)[-1]))]
    if not archives and not any(map(is_image, names)):
        return None
    splits = {root_name(part) for name in names for part in name.split("/")[:-1]}
    splits |= {found.split for found in archives}
    tested = [] if splits & {"val", "test"} else ["--test-share", f"{share or 0.1:g}"]
    side = ["--size", str(size)] if size else []
    return ["tinyalex", "prepare", *tested, *side, str(source), str(_new_folder(source))]


def _some_names(source, most=20_000):
    # Names of files below a folder or in an archive, with their folders.
    names = []
    with contextlib.suppress(Exception):  # of many kinds, on damaged bytes; the caller's error says what is wrong
        if source.is_dir() and not (source / "manifest.json").exists():
            for folder, _, files in os.walk(source):
                below = Path(folder).relative_to(source)
                names += [(below / file).as_posix() for file in files]
                if len(names) > most:
                    break
        elif source.is_file() and zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                names += archive.namelist()
        elif source.is_file():
            with tarfile.open(source) as archive:
                names += [member.name for member in itertools.islice(archive, most)]
    return names


def _new_folder(source):
    # A folder for a prepared set that does not exist yet and is not inside its source.
    name = Path(os.path.realpath(source)).name.split(".")[0] or "set"
    for folder in (Path("data") / name, Path(f"{name}-prepared"), Path("data") / f"{name}-prepared", Path("..") / name):
        resolved = Path(os.path.realpath(folder))
        if not folder.exists() and Path(os.path.realpath(source)) not in (resolved, *resolved.parents):
            return folder
    return Path(f"{os.path.realpath(source)}-prepared")
