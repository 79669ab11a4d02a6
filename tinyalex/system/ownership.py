"""Which files of a folder tinyalex made: a marker file lists them, and no other file is replaced or removed.

The marker, ``.tinyalex.jsonl``, has one JSON object a line: a name is listed before a file of that name appears. It is
only ever appended to, one line in one write, so that several processes may add to it and a killed one leaves it valid.

{"tinyalex": ..., "format": 1}          the first line, by which the marker itself is recognised
{"file": "curves.png", "hash": "..."}   made here; the hash of its contents, null for files that grow or are large
{"token": "3f2a9c1b5d7e8a60"}           partial files of one process are named ".NAME.TOKEN.part"
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
from pathlib import Path

from tinyalex.errors import StorageError

MARKER = ".tinyalex.jsonl"
_HEADER = b'{"tinyalex": "the files that tinyalex made here; it replaces and removes no others", "format": 1}\n'
_PNG, _RESOLUTION = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x17\x12\x00\x00\x17\x12\x01"  # 5906 pixels a metre
_PARTIAL = re.compile(r"\..*\.([0-9a-f]{16})\.part", re.DOTALL)
_tokens: dict[tuple[int, str], str] = {}  # process and folder: the token of this process's partial files there
# Marker: its inode, size and time of change when it was read, and what it lists.
_read: dict[str, tuple[tuple[int, int, int], "_Listed"]] = {}


class _Listed:
    def __init__(self):
        self.files, self.tokens = {}, set()  # names, each with the hashes of what was written; None: any contents


def is_marked(folder):
    """Return whether a folder has a marker."""
    return _listed(folder) is not None


def is_ours(path):
    """Return whether there is a file at a path that tinyalex made, with the contents that it wrote.

    Links and folders are not: tinyalex makes files only.
    """
    path = Path(path)
    try:
        status = os.lstat(path)
    except OSError:
        return False
    listed = _listed(path.parent)
    if not stat.S_ISREG(status.st_mode) or listed is None or path.name not in listed.files:
        return False
    hashes = listed.files[path.name]
    return None in hashes or digest(path.read_bytes()) in hashes


def check(path):
    """Raise StorageError if there is something at a path that tinyalex did not make, or that was changed since."""
    path = Path(path)
    if os.path.lexists(path) and not is_ours(path):
        listed = _listed(path.parent)
        what = "was not made by tinyalex"
        if listed is not None and path.name in listed.files and path.is_file() and not path.is_symlink():
            what = "was changed after tinyalex wrote it"
        raise StorageError(f"{path}: exists and {what}, so it is not replaced; move it, or write to another folder")


def claim(paths, contents_hash=None):
    """List files of one folder as ours, before they appear under these names.

    Parameters
    ----------
    paths : list of Path
        In one folder, which exists.
    contents_hash : str, optional
        `digest` of what is about to be written; None: any contents count as ours.

    Raises
    ------
    StorageError
        If there is a file of such a name that is not ours; then none is listed.
    OSError
        If the marker cannot be written.
    """
    for path in paths:
        check(path)
    listed = _listed(paths[0].parent) or _Listed()
    new = [path.name for path in paths if not listed.files.get(path.name, set()) & {None, contents_hash}]
    _append(paths[0].parent, [{"file": name, "hash": contents_hash} for name in new])


def adopt(folder, names, fixed=()):
    """Write the marker of a folder that an earlier version made: list those of its files that exist.

    Parameters
    ----------
    folder : Path
        Recognised by its contents as made by tinyalex. If it has a marker, nothing is done.
    names : iterable of str
        Files that may change, such as logs.
    fixed : iterable of str
        Files that count as ours only as long as their contents stay as they are now.
    """
    if is_marked(folder):
        return
    found = [(name, folder / name) for name in (*names, *fixed)]
    found = [(name, path) for name, path in found if path.is_file() and not path.is_symlink()]
    hashed = {name: digest(path.read_bytes()) for name, path in found if name in fixed}
    _append(folder, [{"file": name, "hash": hashed.get(name)} for name, _ in found])


def is_picture(path):
    """Return whether there is a PNG file as tinyalex draws its figures: 150 dots an inch, and no text in it.

    Earlier versions kept no list of the pictures that they drew.
    """
    path = Path(path)
    if not path.is_file() or path.is_symlink():
        return False
    content, kinds, resolution = path.read_bytes(), set(), b""
    at = len(_PNG)
    while content.startswith(_PNG) and at + 8 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4]), content[at + 4 : at + 8]
        resolution = content[at + 8 : at + 8 + length] if kind == b"pHYs" else resolution
        kinds.add(kind)
        at += 12 + length
    return kinds == {b"IHDR", b"pHYs", b"IDAT", b"IEND"} and resolution == _RESOLUTION


def partial(path):
    """Return the path of a partial file for ``path``, in its folder, whose name the marker lists."""
    path = Path(path)
    key = os.getpid(), os.path.abspath(path.parent)
    listed = _listed(path.parent) or _Listed()
    if _tokens.get(key) not in listed.tokens:
        token = os.urandom(8).hex()
        _append(path.parent, [{"token": token}])
        _tokens[key] = token
    return _partial(path, _tokens[key])


def unlisted_partial(path):
    """Return the path of a partial file with a name that no other process uses; the folder gets no marker."""
    return _partial(Path(path), os.urandom(8).hex())


def remove_partial_files(folder):
    """Remove the partial files that killed processes left in a folder; no other process may be writing there."""
    listed = _listed(folder)
    for name in os.listdir(folder) if listed else ():
        match = _PARTIAL.fullmatch(name)
        if (match and match[1] in listed.tokens) or (name.endswith(".part") and name in listed.files):
            with contextlib.suppress(OSError):
                os.unlink(Path(folder) / name)


def remove_made(folder):
    """Remove the files that tinyalex made in a folder, and the folder if nothing else is in it.

    A folder without a marker stays as it is; no error if something cannot be removed.
    """
    folder = Path(folder)
    with contextlib.suppress(OSError, StorageError):
        listed = _listed(folder)
        if listed is None or folder.is_symlink():
            return
        remove_partial_files(folder)
        for name in os.listdir(folder):
            if name in listed.files and is_ours(folder / name):
                os.unlink(folder / name)
        if os.listdir(folder) == [MARKER]:
            os.unlink(folder / MARKER)
            os.rmdir(folder)


def digest(content):
    """Return the hash of a file's contents, bytes, as the marker holds it."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _partial(path, token):
    return path.with_name(f".{path.name[:40]}.{token}.part")


def _listed(folder):
    # What a folder's marker lists; None if it has none.
    marker = Path(folder) / MARKER
    try:
        descriptor = os.open(marker, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"{marker}: cannot be read ({error.strerror}); move it, or use another folder") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise StorageError(f"{marker}: is not a file; move it, or use another folder")
    with open(descriptor, "rb") as file:
        state = status.st_ino, status.st_size, status.st_mtime_ns
        key = os.path.abspath(marker)
        if key not in _read or _read[key][0] != state:
            _read[key] = state, _parse(marker, file.read())
    return _read[key][1] if status.st_size else None  # an empty marker lists nothing: the folder counts as unmarked


def _parse(marker, content):
    first, *lines = content.split(b"\n")
    begin = _record(first)
    incomplete = not lines and _HEADER.startswith(first)  # ours as well: a process was killed while it wrote
    if not incomplete and not ("tinyalex" in begin and isinstance(begin.get("format"), int)):
        raise StorageError(f"{marker}: was not made by tinyalex; move it, or use another folder")
    if not incomplete and begin["format"] != 1:
        raise StorageError(f"{marker}: written by a later version of tinyalex; use that, or another folder")
    listed = _Listed()
    for record in map(_record, lines):
        if isinstance(record.get("file"), str):
            listed.files.setdefault(record["file"], set()).add(record.get("hash"))
        if isinstance(record.get("token"), str):
            listed.tokens.add(record["token"])
    return listed


def _record(line):
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}  # a line that a killed process, or a full disk, left incomplete
    return record if isinstance(record, dict) else {}


def _append(folder, records):
    # One write for all records; on the disk before the caller makes the files.
    if not records:
        return
    _listed(folder)  # raises StorageError if the marker is somebody else's
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    descriptor = os.open(Path(folder) / MARKER, flags, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        rest = _HEADER[size:]  # all of it in a new marker, some where a killed process left it incomplete
        begin = rest or (b"" if os.pread(descriptor, 1, size - 1) == b"\n" else b"\n")
        content = begin + b"".join(json.dumps(record).encode() + b"\n" for record in records)
        if os.write(descriptor, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(Path(folder) / MARKER))
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
    finally:
        os.close(descriptor)
