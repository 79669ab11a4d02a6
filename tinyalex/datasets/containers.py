"""Files that hold no images for tinyalex, or none that it can reach: what they are, by their first bytes, not by name.

Used for messages only: a user who gives such a file reads what it is and what to do with it.
"""

import bz2
import gzip
import lzma
import os
import shlex
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

_HEAD = 4096  # bytes that are looked at, besides those of a disc image, which has its name further on
_DISC = 32769
_UNPACK = "unpack it and give the folder"
_CONVERT = "save its images as files, {train,test}/<class>/<name>.jpg or .png, and give the folder"
_FRAMES = "save its frames as files, in a folder for each class, and give the folder that holds these"
_OPENERS: dict[bytes, Callable] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}

_KINDS: list[tuple[int, bytes, str, str]] = [  # where in the file, which bytes, what it is, what to do
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", f"{_UNPACK}: 7z x {{file}}"),
    (0, b"Rar!\x1a\x07", "a RAR archive", f"{_UNPACK}: unrar x {{file}}"),
    (0, b"\x04\x22\x4d\x18", "an LZ4 file", f"{_UNPACK}: lz4 -d {{file}}"),
    (0, b"LZIP", "an lzip file", f"{_UNPACK}: lzip -d {{file}}"),
    (0, b"\x1f\x9d", "a file of compress (.Z)", f"{_UNPACK}: uncompress {{file}}"),
    (0, b"MSCF", "a Cabinet archive", f"{_UNPACK}: cabextract {{file}}"),
    (0, b"!<arch>", "an ar archive", f"{_UNPACK}: ar x {{file}}"),
    (0, b"PK\x07\x08", "one part of a zip in several parts", "join the parts and give the whole zip"),
    (0, b"PAR1", "a Parquet table", _CONVERT),
    (0, b"ARROW1", "an Arrow table", _CONVERT),
    (0, b"FEA1", "a Feather table", _CONVERT),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", _CONVERT),
    (0, b"MATLAB 5.0 MAT-file", "a MATLAB file", _CONVERT),
    (0, b"\x93NUMPY", "a NumPy array", _CONVERT),
    (0, b"SQLite format 3\0", "an SQLite database", _CONVERT),
    (0, b"\0\0\x08\x03", "a file of images in MNIST's format (IDX)", _CONVERT),
    (0, b"\0\0\x08\x01", "a file of labels in MNIST's format (IDX)", _CONVERT),
    (16, b"\xde\xc0\xef\xbe", "an LMDB database", _CONVERT),
    (0, b"%PDF", "a PDF document", "extract its pictures (pdfimages -all), sort them into a folder for each class"),
    (0, b"\x1a\x45\xdf\xa3", "a video (Matroska or WebM)", _FRAMES),
    (0, b"FLV\x01", "a video (Flash)", _FRAMES),
    (0, b"\0\0\x01\xba", "a video (MPEG)", _FRAMES),
    (0, b"\0\0\x01\xb3", "a video (MPEG)", _FRAMES),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a video (Windows Media)", _FRAMES),
    (0, b"OggS", "an Ogg file, of sound or video", _FRAMES),
    (8, b"AVI ", "a video (AVI)", _FRAMES),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch the file: git lfs pull"),
    (0, b"\x7fELF", "a program", "give a folder or an archive of images"),
    (_DISC, b"CD001", "a disc image (ISO 9660)", f"{_UNPACK}: 7z x {{file}}"),
    (_DISC, b"BEA01", "a disc image (UDF)", f"{_UNPACK}: 7z x {{file}}"),
]
_PICTURES = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF8": "GIF"}
_PICTURES |= dict.fromkeys((b"II*\0", b"MM\0*"), "TIFF") | dict.fromkeys((b"P3\n", b"P5\n", b"P6\n"), "PPM")
_BMP_HEADERS = {bytes([size, 0, 0, 0]) for size in (12, 40, 52, 56, 64, 108, 124)}
_STILL = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"hevc": "HEIC"}


def refusal(path: Path) -> str:
    """Return what a file is and what to do with it, if it is of a kind from which no images are read.

    Parameters
    ----------
    path : Path
        An existing file.

    Returns
    -------
    str
        ``"is a RAR archive; unpack it and give the folder: unrar x FILE"``; "" for any other file, such as a tar, a zip
        or a text.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(_HEAD)
        file.seek(_DISC)
        disc = file.read(5)
    what = _kind(head, disc)
    if not what and zipfile.is_zipfile(path) and head.startswith(b"PK"):
        what = _locked_zip(path)
    opener = next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), None)
    if not what and opener:
        try:
            with opener(path) as packed:
                inside = _kind(packed.read(_HEAD), b"")
        except Exception:  # of many kinds, on damaged bytes: whoever reads the file says so
            inside = None
        what = inside and (f"a compressed file with {inside[0]} inside", inside[1])
    return f"is {what[0]}; {what[1].replace('{file}', shlex.quote(str(path)))}" if what else ""


def instead_of_images(folder: Path) -> str:
    """Return what the files of a folder are that `refusal` knows, with an example; "" if there is none."""
    for path in _some_files(folder):
        try:
            reason = refusal(path)
        except OSError:
            continue
        if reason and "a single picture" not in reason:
            return f"{path} {reason}"
    return ""


def _some_files(folder: Path, most: int = 50) -> Iterator[Path]:
    # The first files below a folder, fewer than a second takes to read.
    for parent, subfolders, names in os.walk(folder):
        subfolders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() and not name.startswith("."):
                most -= 1
                yield path
            if not most:
                return


def _kind(head: bytes, disc: bytes) -> tuple[str, str] | None:
    for at, magic, what, remedy in _KINDS:
        found = disc if at == _DISC else head[at : at + len(magic)]
        if found == magic:
            return what, remedy
    if head[4:8] == b"ftyp" and head[8:12] not in _STILL:
        return "a video (MP4 or QuickTime)", _FRAMES
    picture = next((name for magic, name in _PICTURES.items() if head.startswith(magic)), None)
    picture = "WebP" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else picture
    picture = _STILL.get(head[8:12], picture) if head[4:8] == b"ftyp" else picture
    picture = "BMP" if head[:2] == b"BM" and head[14:18] in _BMP_HEADERS else picture
    if picture:
        remedy = (
            "give the folder that holds a folder of pictures for each class; to classify it: tinyalex predict {file}"
        )
        return f"a single picture ({picture})", f"{remedy} --run RUN"
    if _is_tfrecord(head):
        return "a TFRecord file", _CONVERT
    if head[:4] == b"\xff\xff\xff\xff" and 0 < int.from_bytes(head[4:8], "little") < 1 << 24:
        return "an Arrow table", _CONVERT
    start = head[:200].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page", "the download needs a login or another address; fetch the file itself"
    return None


def _is_tfrecord(head: bytes) -> bool:
    # A record begins with its length, 8 bytes, and the masked CRC-32C of these.
    if len(head) < 12:
        return False
    crc = 0xFFFFFFFF
    for byte in head[:8]:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return int.from_bytes(head[8:12], "little") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _locked_zip(path: Path) -> tuple[str, str] | None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception:  # of many kinds, on damaged bytes
        return None
    if any(member.flag_bits & 1 for member in members):
        return "an encrypted zip", f"{_UNPACK}: unzip {{file}}, which asks for the password"
    if any(member.filename.endswith("data.pkl") for member in members):
        return "a file of PyTorch", _CONVERT
    if members and all(member.filename.endswith(".npy") for member in members):
        return "a file of NumPy arrays (npz)", _CONVERT
    return None
