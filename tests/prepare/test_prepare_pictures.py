"""Decoding and resizing: expected pixels for every kind of picture, and a message for every kind of broken one."""

import io
import struct
import subprocess
import sys
import tarfile
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from tinyalex.datasets.picture import MOST_PIXELS, decode, square
from tinyalex.errors import DataError

BICUBIC = Image.Resampling.BICUBIC


@pytest.fixture(scope="module")
def scene():
    """A picture with edges and colours, uint8 (50, 60, 3)."""
    coarse = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((60, 50), Image.Resampling.BILINEAR))


def encoded(picture, form="JPEG", **options):
    stream = io.BytesIO()
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(stream, form, **options)
    return stream.getvalue()


def pixels(content):
    image, odd = decode(content)
    assert image.mode in ("RGB", "L")
    return np.asarray(image), odd


# Formats and modes.


@pytest.mark.parametrize(("form", "odd"), [("JPEG", []), ("PNG", ["png"]), ("BMP", ["bmp"]), ("PPM", ["ppm"])])
def test_formats(scene, form, odd):
    found, unusual = pixels(encoded(scene, form, **({"quality": 100, "subsampling": 0} if form == "JPEG" else {})))
    assert unusual == odd
    assert np.abs(found.astype(int) - scene).max() <= (4 if form == "JPEG" else 0)


def test_grey(scene):
    grey = scene[..., 0]
    found, odd = pixels(encoded(grey))
    assert odd == ["grey"] and found.shape == (50, 60)
    assert square(Image.fromarray(grey), 20).shape == (20, 20, 3)
    bits, odd = pixels(encoded(Image.fromarray(grey).convert("1"), "PNG"))
    assert odd == ["png", "grey"] and set(np.unique(bits)) == {0, 255}


def cmyk_jpeg(ink, adobe):
    """A JPEG of one colour in CMYK: as Photoshop stores it, or as in the standard, without Adobe's marker."""
    content = encoded(Image.new("CMYK", (16, 16), tuple(ink)), quality=100)
    at = content.index(b"\xff\xee")  # Adobe's marker: Pillow writes as Photoshop does
    end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    if adobe:
        return content
    plain = encoded(Image.new("CMYK", (16, 16), tuple(255 - each for each in ink)), quality=100)
    return plain[:at] + plain[end:]


@pytest.mark.parametrize("adobe", [True, False])
@pytest.mark.parametrize("ink", [(0, 0, 0, 0), (255, 0, 0, 0), (0, 200, 100, 50), (10, 20, 30, 200), (0, 0, 0, 255)])
def test_cmyk(ink, adobe):
    found, odd = pixels(cmyk_jpeg(ink, adobe))
    wanted = [(255 - each) * (255 - ink[3]) / 255 for each in ink[:3]]
    assert odd == ["cmyk"]
    np.testing.assert_allclose(found.reshape(-1, 3), np.tile(wanted, (256, 1)), atol=3)


def test_ycck():
    """Adobe's other form, three inks as luminance and colour differences: libjpeg's formulas, then the complement."""
    content = bytearray(cmyk_jpeg((0, 0, 0, 60), adobe=True))  # stored: planes of 255, 255, 255 and 195
    at = content.index(b"\xff\xee")
    assert content[at + 4 : at + 9] == b"Adobe" and content[at + 15] == 0
    content[at + 15] = 2
    rgb = np.clip([255 + 1.402 * 127, 255 - (0.344136 + 0.714136) * 127, 255 + 1.772 * 127], 0, 255)
    found, odd = pixels(bytes(content))
    assert odd == ["cmyk"]
    np.testing.assert_allclose(found[8, 8], (255 - rgb) * 195 / 255, atol=4)


def test_16_bits_lose_the_lower_8():
    values = (np.arange(3000) * 21).astype(np.uint16).reshape(50, 60)
    grey = b"P5 60 50 65535\n" + values.astype(">u2").tobytes()  # not all versions of Pillow write this
    for form, content in (("png", encoded(Image.fromarray(values), "PNG")), ("ppm", grey)):
        found, odd = pixels(content)
        np.testing.assert_array_equal(found, values >> 8)
        assert odd == [form, "grey", "16-bit"]
    deep = np.stack([values, values[::-1], values[:, ::-1]], axis=2)
    found, odd = pixels(png(deep, depth=16, colour=2))
    np.testing.assert_array_equal(found, deep >> 8)
    assert odd == ["png", "16-bit"]


def test_a_transparent_grey_of_16_bits_is_white():
    values = np.array([[300, 40_000], [40_001, 300]], np.uint16)
    found, odd = pixels(png(values, 16, 0, chunk(b"tRNS", struct.pack(">H", 300))))
    np.testing.assert_array_equal(found, [[255, 156], [156, 255]])
    assert odd == ["png", "grey", "16-bit", "alpha"]


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(values, depth, colour, extra=b""):
    """Write a PNG by hand: values (h, w) or (h, w, channels) of 8 or 16 bits."""
    h, w = values.shape[:2]
    rows = values.astype(">u2" if depth == 16 else np.uint8).reshape(h, -1)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + extra + body + chunk(b"IEND", b"")


def test_palette(scene):
    found, odd = pixels(encoded(Image.fromarray(scene).quantize(200), "PNG"))
    np.testing.assert_array_equal(found, np.asarray(Image.fromarray(scene).quantize(200).convert("RGB")))
    assert odd == ["png", "palette"]


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "one colour", "one grey"])
def test_alpha_is_laid_over_white(scene, kind):
    alpha = np.linspace(0, 255, 3000).astype(np.uint8).reshape(50, 60, 1)
    colours = scene
    if kind == "RGBA":
        content = png(np.concatenate([scene, alpha], axis=2), 8, 6)
    elif kind == "LA":
        colours = scene[..., :1]
        content = png(np.concatenate([colours, alpha], axis=2), 8, 4)
    elif kind == "palette":
        entries = np.arange(768).reshape(256, 3).astype(np.uint8)
        alpha = scene[..., :1]
        colours = entries[scene[..., 0]]
        content = png(scene[..., 0], 8, 3, chunk(b"PLTE", entries.tobytes()) + chunk(b"tRNS", bytes(range(256))))
    else:
        deep = 2 if kind == "one colour" else 0
        colours = scene if deep else scene[..., :1]
        key = colours[10, 10]
        alpha = np.where((colours == key).all(axis=2, keepdims=True), 0, 255)
        content = png(colours, 8, deep, chunk(b"tRNS", b"".join(bytes([0, each]) for each in key)))
    found, odd = pixels(content)
    wanted = (colours * (alpha / 255.0) + 255 * (1 - alpha / 255.0)) * np.ones(3)
    np.testing.assert_allclose(found, wanted, atol=1)
    assert odd[0] == "png" and odd[-1] == "alpha"


# EXIF.


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_ignored_and_reported(scene, orientation):
    upright, _ = pixels(encoded(scene))
    for form in ("JPEG", "PNG"):
        found, odd = pixels(encoded(scene, form, exif=exif(orientation)))
        np.testing.assert_array_equal(found, upright if form == "JPEG" else scene)
        assert ("exif orientation" in odd) == (orientation != 1)


BROKEN_EXIF = {
    "cut": exif(6)[:-8],
    "no TIFF": b"Exif\0\0" + b"nonsense" * 5,
    "wild offset": b"Exif\0\0II*\0" + struct.pack("<I", 2**31),
    "wild count": b"Exif\0\0II*\0" + struct.pack("<IH", 8, 40000) + bytes(30),
    "bad type": b"Exif\0\0II*\0" + struct.pack("<IHHHII", 8, 1, 0x0112, 99, 1, 6) + bytes(4),
    "long value": b"Exif\0\0II*\0" + struct.pack("<IHHHII", 8, 1, 0x010E, 2, 2**30, 5000) + bytes(4),
}


@pytest.mark.parametrize("name", BROKEN_EXIF)
def test_pictures_with_broken_exif_are_read(scene, name, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # even if the caller turns warnings into errors
        found, odd = pixels(encoded(scene, exif=BROKEN_EXIF[name]))
    np.testing.assert_array_equal(found, pixels(encoded(scene))[0])
    assert set(odd) <= {"warnings", "exif orientation"}
    assert capfd.readouterr() == ("", "")


def test_warnings_are_reported(scene):
    assert any("warnings" in pixels(encoded(scene, exif=block))[1] for block in BROKEN_EXIF.values())


# Files that are not pictures, or truncated ones.


def broken(scene):
    jpeg = encoded(scene, quality=95)
    good = encoded(scene, "PNG")
    twisted = bytearray(good)
    twisted[60] ^= 255
    return {
        "empty": (b"", "not a JPEG, PNG, BMP, PPM, GIF, TIFF, WebP or AVIF file: it is empty"),
        "html": (
            b"<!DOCTYPE html><html>",
            "not a JPEG, PNG, BMP, PPM, GIF, TIFF, WebP or AVIF file: it begins with b'<!DOCTYPE ht'",
        ),
        "jpeg 60 %": (jpeg[: len(jpeg) * 6 // 10], "a broken JPEG file ("),
        "jpeg without end": (jpeg[:-2], "a broken JPEG file (image file is truncated"),
        "jpeg header": (jpeg[:30], "a broken JPEG file ("),
        "jpeg magic": (jpeg[:3], "a broken JPEG file (no header)"),
        "png half": (good[: len(good) // 2], "a broken PNG file (image file is truncated"),
        "png flipped": (bytes(twisted), "a broken PNG file ("),
        "bmp half": (encoded(scene, "BMP")[:4000], "a broken BMP file (image file is truncated"),
        "ppm half": (encoded(scene, "PPM")[:4000], "a broken PPM file (image file is truncated"),
        "plain ppm": (b"P3 2 2 255 1 2 3 4 5", "a broken PPM file (not enough image data"),
        "no pixels": (b"P6 0 5 255\n", "a broken PPM file ("),
    }


@pytest.mark.parametrize("name", broken(np.zeros((50, 60, 3), np.uint8)))
def test_broken(scene, name):
    content, message = broken(scene)[name]
    with pytest.raises(DataError) as caught:
        decode(content)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value) and "0x" not in str(caught.value)
    with pytest.raises(
        DataError
    ) as again:  # the message is written to the manifest, so it has to be the same every time
        decode(bytes(content))
    assert str(again.value) == str(caught.value)


def test_any_changed_byte_gives_a_picture_or_a_data_error(scene):
    rng = np.random.default_rng(5)
    for content in (
        encoded(scene),
        encoded(scene, "PNG"),
        encoded(scene, "BMP"),
        encoded(scene, "PPM"),
        cmyk_jpeg((9, 9, 9, 9), True),
    ):
        for at in [*range(0, 60), *rng.integers(0, len(content), 60)]:
            spoilt = bytearray(content)
            spoilt[at] ^= int(rng.integers(1, 256))
            try:
                image, _ = decode(bytes(spoilt))
                assert square(image, 8).shape == (8, 8, 3)
            except DataError as error:
                assert "\n" not in str(error)


def claims(w, h, form):
    """A small file whose header claims a large picture."""
    if form == "PNG":
        return png(np.zeros((1, 1, 3)), 8, 2).replace(
            chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)),
            chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)),
        )
    if form == "JPEG":
        content = bytearray(encoded(np.zeros((8, 8, 3), np.uint8)))
        at = content.index(b"\xff\xc0")
        content[at + 5 : at + 9] = struct.pack(">HH", h, w)
        return bytes(content)
    if form == "BMP":
        content = bytearray(encoded(np.zeros((8, 8, 3), np.uint8), "BMP"))
        content[18:26] = struct.pack("<ii", w, h)
        return bytes(content)
    return b"P6 %d %d 255\n" % (w, h)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "PPM"])
@pytest.mark.parametrize("side", [60_000, 10_000])
def test_bombs_are_refused_by_their_header(form, side):
    """60,000 x 60,000 pixels would be 14 GB; 10,000 x 10,000 are refused too, which Pillow would allow."""
    with pytest.raises(DataError, match=f"^more than {MOST_PIXELS:,} pixels"):
        decode(claims(side, side, form))


def test_a_bomb_takes_no_memory(tmp_path):
    (tmp_path / "bomb.png").write_bytes(claims(60_000, 60_000, "PNG"))
    code = (
        "import sys\nfrom tinyalex.bench.memory import peak_memory\nfrom tinyalex.datasets.picture import decode\n"
        "try: decode(open(sys.argv[1], 'rb').read())\n"
        "except Exception as error: print(error)\n"
        "print(peak_memory())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "bomb.png"], capture_output=True, text=True, check=True
    )
    reason, most = done.stdout.splitlines()
    assert "pixels" in reason and int(most) < 500e6


# The square.


def plain(image, size):
    """As the paper describes it: resize the whole picture, columns first, then crop the middle."""
    w, h = image.size
    wide, high = (max(size, round(side * size / min(w, h))) for side in (w, h))
    resized = np.asarray(image.resize((wide, h), BICUBIC).resize((wide, high), BICUBIC))
    top, left = (high - size) // 2, (wide - size) // 2
    return resized[top : top + size, left : left + size]


SIZES = [
    (60, 50),
    (50, 60),
    (61, 33),
    (33, 90),
    (500, 375),
    (375, 500),
    (333, 500),
    (500, 21),
    (40, 1000),
    (32, 32),
    (7, 9),
]


@pytest.mark.parametrize("size", [20, 32, 64])
@pytest.mark.parametrize("shape", SIZES)
def test_square_equals_the_plain_form_except_for_rounding(shape, size):
    noise = np.random.default_rng(size).integers(0, 2, (shape[1], shape[0], 3), dtype=np.uint8) * 255
    image = Image.fromarray(noise)  # random black and white: the hardest case
    difference = np.abs(square(image, size).astype(int) - plain(image, size))
    assert difference.max() <= 2 and (difference > 0).mean() < 0.005


def test_square_of_real_photographs(test_data):
    """The figures in the docstring of `square`."""
    with tarfile.open(test_data / "imagenet-samples-dev.tar") as archive:
        members = [member for member in archive if member.isfile()][:40]
        pictures = [decode(archive.extractfile(member).read())[0] for member in members]
    differences = [np.abs(square(image, 256).astype(int) - plain(image.convert("RGB"), 256)) for image in pictures]
    assert len(differences) == 40 and max(map(np.max, differences)) <= 2
    assert np.mean([difference > 0 for difference in differences]) < 1 / 5000


@pytest.mark.parametrize("shape", [(64, 64), (64, 100), (99, 64)])
def test_pictures_of_the_right_size_are_not_resized(shape):
    noise = np.random.default_rng(0).integers(0, 256, (shape[1], shape[0], 3), dtype=np.uint8)
    left, top = (shape[0] - 64) // 2, (shape[1] - 64) // 2
    np.testing.assert_array_equal(square(Image.fromarray(noise), 64), noise[top : top + 64, left : left + 64])


def test_square_keeps_the_middle_and_the_proportions():
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (100, 200, 3))
    found = square(Image.fromarray(np.ascontiguousarray(ramp)), 50).astype(float)
    np.testing.assert_allclose(found[:, :, 0], np.broadcast_to(50.5 + 2 * np.arange(50), (50, 50)), atol=0.6)
    turned = square(Image.fromarray(np.ascontiguousarray(ramp.transpose(1, 0, 2))), 50)
    np.testing.assert_allclose(turned[:, :, 1].T, found[:, :, 1], atol=1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (2, 3), (1, 60_000)])
def test_extreme_shapes(shape):
    for mode in ("RGB", "L"):
        image = Image.new(mode, shape, 77)
        wanted = np.broadcast_to(np.array([77, 77 * (mode == "L"), 77 * (mode == "L")]), (256, 256, 3))
        np.testing.assert_array_equal(square(image, 256), wanted)
