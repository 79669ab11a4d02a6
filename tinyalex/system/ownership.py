"""Which files of a folder tinyalex made: a marker file lists them, and no other file is replaced or removed.

The marker, ``.tinyalex.jsonl``, has one JSON object a line: a name is listed before a file of that name appears. It is
only ever appended to, one line in one write, so that several processes may add to it and a killed one leaves it valid.

{"tinyalex": ..., "format": 1}          the first line, by which the marker itself is recognised
{"file": "curves.png", "hash": "..."}   made here; the hash of its contents, null for files that grow: logs and locks
{"file": "a.shard", "stamp": [9, 8, 7]} made here, and large: its size, time of change in nanoseconds, and inode
{"gone": "a.shard"}                     removed here: what appears under this name later is somebody else's

A file with other contents, or another stamp, is not the one that was made here: somebody put it there. While a file is
being written it is called ".NAME.TOKEN.part". The token names the machine and the process that write it, and ends with
a checksum: only files with a valid token are removed as partial files of killed processes.
"""

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import stat
from pathlib import Path

from tinyalex.errors import ForeignFileError, StorageError

MARKER = ".tinyalex.jsonl"
_HEADER = b'{"tinyalex": "the files that tinyalex made here; it replaces and removes no others", "format": 1}\n'
_PNG, _RESOLUTION = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x17\x12\x00\x00\x17\x12\x01"  # 5906 pixels a metre
SOFTWARE = "tinyalex"  # in the text "Software" of the pictures that tinyalex draws
_DRAWN = (b"tEXtSoftware\0" + SOFTWARE.encode(), b"tEXttinyalex\0")  # the second: earlier ones that a user named
_ENDS = 256  # bytes at the beginning and at the end of a picture, where its texts are
_SIGNATURE = b"\n<!-- tinyalex "
_PARTIAL = re.compile(r"\.(.*)\.([0-9a-f]{16})\.part", re.DOTALL)
writing: set[str] = set()  # the partial files that this process is writing
# Marker: its inode, size and time of change when it was read, and what it lists.
_read: dict[str, tuple[tuple[int, int, int], "_Listed"]] = {}


class _Listed:
    def __init__(self):
        self.files = {}  # names, each with the identities of what was written: a hash, a stamp, or None for any


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
    identities = listed.files[path.name]
    if None in identities or _stamp(status) in identities:
        return True
    return any(isinstance(each, str) for each in identities) and digest(path.read_bytes()) in identities


def check(path):
    """Raise ForeignFileError if there is something at a path that tinyalex did not make, or that was changed since."""
    path = Path(path)
    if os.path.lexists(path) and not is_ours(path):
        listed = _listed(path.parent)
        what = "was not made by tinyalex"
        if path.is_symlink():
            what = "is a link, which tinyalex does not make"
        elif listed is not None and path.name in listed.files and path.is_file():
            what = "was changed after tinyalex wrote it"
        raise ForeignFileError(f"{path}: exists and {what}, so it is not replaced; move it, or write to another folder")


def stamp(path):
    """Return the size, the time of change and the inode of a file, by which a large file is recognised."""
    return _stamp(os.lstat(path))


def _stamp(status):
    return status.st_size, status.st_mtime_ns, status.st_ino


def claim(path, identity=None):
    """List a file as ours, before it appears under its name.

    Parameters
    ----------
    path : Path
        Its folder exists.
    identity : str or tuple, optional
        What is about to be written: the `digest` of its contents, or, for large files, its `stamp`; None: any contents
        count as ours, for files that grow.

    Raises
    ------
    ForeignFileError
        If there is a file of this name that is not ours; then nothing is listed.
    OSError
        If the marker cannot be written.
    """
    check(path)
    listed = _listed(path.parent) or _Listed()
    if not listed.files.get(path.name, set()) & {None, identity}:
        _append(path.parent, [_entry(path.name, identity)])


def recognise(path):
    """List a file that exists as ours, because its caller has recognised it by its contents."""
    _append(path.parent, [_entry(path.name, stamp(path))])


def _entry(name, identity):
    return {"file": name, "stamp": identity} if isinstance(identity, tuple) else {"file": name, "hash": identity}


def remove(path):
    """Remove a file that is ours, and list that it is gone; no error if it cannot be removed."""
    _append(path.parent, [{"gone": path.name}])
    with contextlib.suppress(OSError):
        os.unlink(path)


def adopt(folder, names, fixed=(), growing=()):
    """Write the marker of a folder that an earlier version made: list those of its files that exist.

    Parameters
    ----------
    folder : Path
        Recognised by its contents as made by tinyalex. If it has a marker, nothing is done.
    names : iterable of str
        Large files, which are listed by their stamps.
    fixed : iterable of str
        Small files, which are listed by their contents.
    growing : iterable of str
        Files that may change, such as logs.
    """
    if is_marked(folder):
        return
    entries = []
    for kind, identity in (
        (names, stamp),
        (fixed, lambda path: digest(path.read_bytes())),
        (growing, lambda path: None),
    ):
        paths = [folder / name for name in kind]
        entries += [_entry(path.name, identity(path)) for path in paths if path.is_file() and not path.is_symlink()]
    _append(folder, entries)


def is_picture(path):
    """Return whether there is a PNG file as tinyalex draws its figures: 150 dots an inch, and no text but its name.

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
        if content[at + 4 : at + 8 + length] != _DRAWN[0]:
            kinds.add(kind)
        at += 12 + length
    return kinds == {b"IHDR", b"pHYs", b"IDAT", b"IEND"} and resolution == _RESOLUTION


def is_drawn(path):
    """Return whether a file is a PNG picture that says that tinyalex drew it; only its two ends are read."""
    if not str(path).lower().endswith(".png"):
        return False
    with contextlib.suppress(OSError), open(path, "rb") as file:
        ends = file.read(_ENDS)
        file.seek(max(_ENDS, os.fstat(file.fileno()).st_size - _ENDS))
        ends += file.read(_ENDS)
        return ends.startswith(_PNG) and any(text in ends for text in _DRAWN)
    return False


def signed_page(content):
    """Return a page, bytes, with a comment at its end by which `is_page` recognises it."""
    return content + _SIGNATURE + digest(content).encode() + b" -->\n"


def is_page(path):
    """Return whether there is a page that tinyalex wrote, unchanged since: see `signed_page`."""
    path = Path(path)
    if not path.is_file() or path.is_symlink():
        return False
    content = path.read_bytes()
    before, signature, _ = content.rpartition(_SIGNATURE)
    return bool(signature) and content == signed_page(before)


def partial(path):
    """Return the path of the partial file for ``path``, in its folder, while this process writes it."""
    path = Path(path)
    name = path.name[:40]
    return path.with_name(f".{name}.{_token(name, _machine(), os.getpid())}.part")


def _machine():
    return hashlib.blake2b(platform.node().encode()).hexdigest()[:3]


def _token(name, machine, process):
    check = hashlib.blake2b(f"tinyalex {name} {machine} {process}".encode()).hexdigest()[:7]
    return f"{machine}{process:06x}{check}"


def remove_partial_files(folder, of=None):
    """Remove the partial files that killed processes left in a folder.

    Those of this machine whose process is still running stay. Whether a process of another machine is running cannot be
    found out: its files are removed only if ``of`` is None, when the caller holds the folder's lock.

    Parameters
    ----------
    folder : Path
    of : Path, optional
        Remove only the partial files for this path.
    """
    listed = _listed(folder)
    for name in os.listdir(folder):
        path, match = Path(folder) / name, _PARTIAL.fullmatch(name)
        if match and _token(match[1], match[2][:3], int(match[2][3:9], 16)) == match[2]:
            wanted = match[1] == of.name[:40] and match[2][:3] == _machine() if of else True
            ours = wanted and not (match[2][:3] == _machine() and _is_running(int(match[2][3:9], 16), path))
        else:  # of an earlier version
            ours = of is None and name.endswith(".part") and listed is not None and is_ours(path)
        if ours and stat.S_ISREG(os.lstat(path).st_mode):
            with contextlib.suppress(OSError):
                os.unlink(path)


def _is_running(process, path):
    # Whether a partial file is still being written. This process may have the number of one that was killed, as the
    # first process of a container has.
    if process == os.getpid():
        return os.path.abspath(path) in writing
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


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
            if is_ours(folder / name):
                os.unlink(folder / name)
        if os.listdir(folder) == [MARKER]:
            os.unlink(folder / MARKER)
            os.rmdir(folder)


def digest(content):
    """Return the hash of a file's contents, bytes, as the marker holds it."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


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
            stamp = record.get("stamp")
            identity = tuple(stamp) if isinstance(stamp, list) else record.get("hash")
            listed.files.setdefault(record["file"], set()).add(identity)
        if isinstance(record.get("gone"), str):
            listed.files.pop(record["gone"], None)
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
