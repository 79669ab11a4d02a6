"""Unpack a compressed tar or a zip into one plain tar, so that its images can be read by offset.

A compressed tar is decompressed as one stream; a zip is rewritten as a tar. No member becomes a file of its own.
"""

import bz2
import gzip
import hashlib
import lzma
import os
import stat
import tarfile
import zipfile
from pathlib import Path

from tinyalex.datasets import tars, zstd
from tinyalex.datasets.index.archives import stem
from tinyalex.datasets.streams import copy_blocks
from tinyalex.system.storage import atomic_write

_OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open, zstd.MAGIC: zstd.open_stream}
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_BLOCK = 1 << 18  # bytes
_BOMB = 200  # largest ratio of unpacked to packed size: images hardly shrink
_PATH = 4096  # bytes of a link's target, as Linux
_HARMLESS = 1 << 30  # bytes, allowed at any ratio


def is_archive(path):
    """Return whether a file is a tar, a compressed file or a zip, by its first bytes."""
    with open(path, "rb") as file:
        start = file.read(tarfile.BLOCKSIZE)
    return start.startswith((*_OPENERS, *_ZIP)) or _is_header(start)


def as_plain_tar(path, scratch, show):
    """Return the path of a plain tar with an archive's contents; unpack it if needed.

    Parameters
    ----------
    path : Path
        A tar, plain or packed by gzip, bzip2, xz or zstd, or a zip.
    scratch : Path
        Folder for unpacked tars. One that was made there earlier from the same file is used again.
    show : callable
        Called with a line of text before unpacking begins.

    Returns
    -------
    str
        The archive's own path if it is a plain tar.

    Raises
    ------
    DataError
        If it is damaged, or has no tar inside.
    StorageError
        If the disk is full.
    """
    with open(path, "rb") as packed:
        start = packed.read(6)
        opener = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)
        if opener is None and not start.startswith(_ZIP):
            return str(path)
        target = scratch_file(path, scratch, "tar")
        if not target.exists():
            show(f"{path}: unpacking to {target}")
            packed.seek(0)
            blocks = _tar_of_zip(packed) if opener is None else _decompressed(opener, packed)
            with atomic_write(target) as file:

                def read(_):
                    with tars.damage(path):
                        if (unpacked := file.tell()) > max(_HARMLESS, _BOMB * packed.tell()):
                            raise tarfile.ReadError(f"{packed.tell():,} bytes become {unpacked:,} and more")
                        return next(blocks, b"")

                copy_blocks(read, [file.write], path.name, path.stat().st_size, packed.tell)
    return str(target)


def scratch_file(path, scratch, ending):
    """Return the path of a scratch file, named after the path, size and date of the file it is made from."""
    status = os.stat(path)
    made_from = os.fsencode(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}")
    mark = hashlib.blake2b(made_from, digest_size=6).hexdigest()
    return Path(scratch) / f"{stem(path.name)}-{mark}.{ending}"


def _decompressed(opener, packed):
    with opener(packed) as stream:
        block = stream.read(_BLOCK)
        if not _is_header(block[: tarfile.BLOCKSIZE]):  # checked before something else fills the disk
            raise tarfile.ReadError("no tar inside")
        while block:
            yield block
            block = stream.read(_BLOCK)


def _tar_of_zip(packed):
    with zipfile.ZipFile(packed) as archive:
        for info in archive.infolist():
            member = tarfile.TarInfo(info.filename)
            if info.is_dir():
                member.type = tarfile.DIRTYPE
            member.size = left = info.file_size
            if stat.S_ISLNK(info.external_attr >> 16) and left <= _PATH:  # the contents are the target's path
                member.type, member.linkname = tarfile.SYMTYPE, os.fsdecode(archive.read(info))
                member.size = left = 0
                yield member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
                continue
            yield member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
            with archive.open(info) as stream:
                while block := stream.read(_BLOCK):
                    left -= len(block)
                    yield block
            if left:
                raise zipfile.BadZipFile(f"{info.filename} ends early")
            if rest := member.size % tarfile.BLOCKSIZE:
                yield bytes(tarfile.BLOCKSIZE - rest)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _is_header(block):
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.EOFHeaderError:
        return True  # an empty tar
    except tarfile.HeaderError:
        return False
    return True
