"""Files that are no folder or archive of images are named as what they are, whatever their names."""

import bz2
import gzip
import io
import lzma
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from tinyalex import datasets
from tinyalex.datasets import containers
from tinyalex.datasets.index import sources
from tinyalex.errors import DataError


def picture(kind):
    file = io.BytesIO()
    Image.new("RGB", (9, 7), "red").save(file, kind)
    return file.getvalue()


def zipped(names, locked=False):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    content = bytearray(file.getvalue())
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + flags] |= locked
    return bytes(content)


# The first 12 bytes of TensorFlow's own test file for records ("foo"): a length and its masked CRC-32C.
RECORD = struct.pack("<QI", 3, 0x4A3D4FE2)


def npy():
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


FILES = {
    "a 7-Zip archive": b"7z\xbc\xaf\x27\x1c" + bytes(60),
    "a RAR archive": b"Rar!\x1a\x07\x01\x00" + bytes(60),
    "a disc image (ISO 9660)": bytes(32769) + b"CD001" + bytes(99),
    "a Parquet table": b"PAR1" + bytes(60) + b"PAR1",
    "an Arrow table": b"ARROW1\0\0" + bytes(60),
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(60),
    "an LMDB database": bytes(16) + b"\xde\xc0\xef\xbe" + bytes(60),
    "a PDF document": b"%PDF-1.7\n",
    "a video (MP4 or QuickTime)": b"\0\0\0\x18ftypmp42" + bytes(60),
    "a video (Matroska or WebM)": b"\x1a\x45\xdf\xa3" + bytes(60),
    "a video (AVI)": b"RIFF\x10\0\0\0AVI LIST" + bytes(60),
    "a NumPy array": npy(),
    "a file of PyTorch": zipped(["model/data.pkl", "model/data/0"]),
    "an encrypted zip": zipped(["cat/1.jpg"], locked=True),
    "a single picture (JPEG)": picture("JPEG"),
    "a single picture (PNG)": picture("PNG"),
    "a single picture (BMP)": picture("BMP"),
    "a single picture (GIF)": picture("GIF"),
    "a single picture (TIFF)": picture("TIFF"),
    "a single picture (WebP)": picture("WEBP"),
    "a compressed file with a Parquet table inside": gzip.compress(b"PAR1" + bytes(60)),
    "a file of images in MNIST's format (IDX)": b"\0\0\x08\x03\0\0\xea\x60" + bytes(60),
    "a web page": b"\n<!DOCTYPE html><html><title>Sign in</title>",
    "a Git LFS pointer, not the file itself": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
}


@pytest.mark.parametrize("what", FILES)
@pytest.mark.parametrize("ending", ["tar", "my file"])
def test_a_file_is_named_by_its_contents(what, ending, tmp_path):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(FILES[what])
    for read in (datasets.load, lambda path: sources.index([path], tmp_path / "scratch", print)):
        with pytest.raises(DataError) as caught:
            read(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: is {what}; ") and "\n" not in message, message
    remedy = message.split("; ", 1)[1]
    assert str(path) not in remedy or ending == "tar" or f"'{path}'" in remedy  # quoted for the shell


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_damaged_archives_are_left_to_their_reader(pack, tmp_path):
    """Whatever byte is damaged, no error of a decompressor escapes."""
    content = pack(bytes(range(256)) * 20)
    for position in range(2, len(content)):
        path = tmp_path / "a"
        path.write_bytes(content[:position] + bytes([content[position] ^ 255]) + content[position + 1 :])
        assert containers.refusal(path) == ""


def test_a_tfrecord_is_known_by_its_checksum(tmp_path):
    (tmp_path / "a").write_bytes(RECORD[:8] + struct.pack("<I", masked_crc(RECORD[:8])) + bytes(60))
    assert containers.refusal(tmp_path / "a").startswith("is a TFRecord file; ")
    (tmp_path / "a").write_bytes(RECORD[:8] + struct.pack("<I", masked_crc(RECORD[:8]) ^ 1) + bytes(60))
    assert containers.refusal(tmp_path / "a") == ""


def masked_crc(content):
    """TensorFlow's masked CRC-32C, from a table, as RFC 3720 defines the polynomial."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    crc = 0xFFFFFFFF
    for byte in content:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15) | (crc << 17) & 0xFFFFFFFF) + 0xA282EAD8 & 0xFFFFFFFF


@pytest.mark.parametrize("content", [
    b"n01440764/x.jpg 0\n", b"BM, a brand of cars\n", b"\xef\xbb\xbfname,label\n", b"text", b"[net]\nclasses = 3\n",
])  # fmt: skip
def test_text_is_left_to_the_readers_of_lists(content, tmp_path):
    (tmp_path / "labels.txt").write_bytes(content)
    assert containers.refusal(tmp_path / "labels.txt") == ""


@pytest.mark.parametrize("name", ["data.mdb", "deep/train-00000.parquet"])
def test_a_folder_without_images_names_what_it_holds(name, tmp_path):
    path = tmp_path / "set" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(FILES["an LMDB database" if name == "data.mdb" else "a Parquet table"])
    assert containers.instead_of_images(tmp_path / "set").startswith(f"{path} is a")
    with pytest.raises(DataError, match="no images found; .* is a"):
        sources.index([tmp_path / "set"], tmp_path / "scratch", print)
