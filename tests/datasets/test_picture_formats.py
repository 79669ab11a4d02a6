"""Every format and mode of image files, against closed forms: files are written by hand, byte by byte, where that is
short, so that what a decoder has to give is known without one."""

import io
import itertools
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, features
from PIL import __version__ as pillow

from tinyalex.datasets import picture
from tinyalex.errors import DataError

Image.init()
AVIF = "AVIF" in Image.OPEN and features.check("avif")
RECENT = pytest.mark.skipif(int(pillow.split(".")[0]) < 12, reason="older versions of Pillow refuse such files")

RNG = np.random.default_rng(0)
SCENE = np.asarray(
    Image.fromarray(RNG.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((60, 50), Image.Resampling.BILINEAR)
)
DEEP = SCENE.astype(np.uint16) << 8 | RNG.integers(0, 256, SCENE.shape, dtype=np.uint16)
ALPHA = np.linspace(0, 255, 3000).astype(np.uint8).reshape(50, 60, 1)


def over_white(colours, alpha):
    return (colours * (alpha / 255.0) + 255 * (1 - alpha / 255.0)) * np.ones(3)


def encoded(image, form, **options):
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, form, **options)
    return stream.getvalue()


def check(content, wanted, odd, most=0):
    """Decode a file; compare its pixels, and its unusual properties with a line of them."""
    image, found = picture.decode(content)
    pixels = np.asarray(image).astype(float)
    assert image.mode == ("L" if pixels.ndim == 2 else "RGB") and found == odd.split(", ")
    wanted = np.asarray(wanted, float)
    if pixels.ndim < wanted.ndim:
        pixels = pixels[..., None] * np.ones(3)
    np.testing.assert_allclose(pixels, wanted, atol=most)


def refused(content):
    with pytest.raises(DataError) as caught:
        picture.decode(content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# PNG: every kind of the specification, as PngSuite has them.


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_rows(samples, depth):
    """Pack rows of samples (h, w * channels), each with the filter "none"."""
    if depth == 16:
        return b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    bits = samples[..., None] >> np.arange(depth)[::-1] & 1
    return b"".join(b"\0" + np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in bits)


ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def png(samples, depth, colour, extra=b"", interlaced=False, split=1):
    """Write a PNG by hand: samples (h, w) or (h, w, channels) of any depth."""
    h, w = samples.shape[:2]
    passes = [samples[top::down, left::across] for top, left, down, across in ADAM7] if interlaced else [samples]
    body = b"".join(png_rows(each.reshape(len(each), -1), depth) for each in passes if each.size)
    packed = zlib.compress(body)
    pieces = [packed[k * len(packed) // split : (k + 1) * len(packed) // split] for k in range(split)]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, interlaced))
    return (
        b"\x89PNG\r\n\x1a\n" + header + extra + b"".join(chunk(b"IDAT", each) for each in pieces) + chunk(b"IEND", b"")
    )


CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
KINDS = [(colour, depth, False) for colour, depths in DEPTHS.items() for depth in depths]
KINDS += [(colour, depth, True) for colour, depth, _ in KINDS if colour < 4]  # others have an alpha channel
# Chunks that change nothing: gamma, background, chromaticities, time, significant bits, a text, a suggested palette.
ANCILLARY = chunk(b"gAMA", struct.pack(">I", 35_000)) + chunk(b"cHRM", bytes(32)) + chunk(b"tIME", bytes(7))
ANCILLARY += chunk(b"tEXt", b"Title\0a picture") + chunk(b"pHYs", struct.pack(">IIB", 1, 4, 0))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour", "depth", "transparent"), KINDS)
def test_every_kind_of_png(colour, depth, transparent, interlaced):
    samples = np.random.default_rng(depth).integers(0, 2**depth, (11, 13, CHANNELS[colour]))
    samples[3:5, 2:6] = samples[0, 0]
    palette = np.random.default_rng(3).integers(0, 256, (2**depth, 3), dtype=np.uint8) if colour == 3 else None
    scaled = samples >> 8 if depth == 16 else samples * 255 // (2**depth - 1)
    extra, odd = ANCILLARY, "png"
    odd += {0: ", grey", 3: ", palette", 4: ", grey"}.get(colour, "")
    if depth == 16:
        odd += ", 16-bit"
        odd = odd.replace(", grey", "") if colour == 4 else odd  # which Pillow reads as RGBA
    colours, alpha = scaled, np.full((11, 13, 1), 255)
    if colour in (4, 6):
        colours, alpha = scaled[..., :-1], scaled[..., -1:]
        odd += ", alpha"
    if colour == 3:
        colours, extra = palette[samples[..., 0]], extra + chunk(b"PLTE", palette.tobytes())
    if transparent:
        odd += ", alpha"
        key = samples[0, 0]
        if colour == 3:
            entries = np.arange(2**depth)[::-1] % 256
            alpha, extra = entries[samples], extra + chunk(b"tRNS", entries.astype(np.uint8).tobytes())
        else:
            alpha = np.where((samples == key).all(axis=2, keepdims=True), 0, 255)
            extra += chunk(b"tRNS", key.astype(">u2").tobytes())
    content = png(samples, depth, colour, extra + chunk(b"bKGD", bytes({3: 1, 2: 6, 6: 6}.get(colour, 2))), interlaced)
    check(content, over_white(colours, alpha), odd, most=1 if (alpha % 255).any() else 0)


@pytest.mark.parametrize("side", [1, 2, 3, 5, 7, 8, 9, 31, 33])
@pytest.mark.parametrize("interlaced", [False, True])
def test_png_of_every_size_and_in_many_pieces(side, interlaced):
    samples = np.random.default_rng(side).integers(0, 256, (side, side + 1, 3))
    check(png(samples, 8, 2, interlaced=interlaced, split=min(4, side)), samples, "png")


def test_png_with_every_filter():
    rows, wanted = b"", np.random.default_rng(2).integers(0, 256, (10, 9, 3))
    for y, row in enumerate(wanted):
        up = wanted[y - 1] if y else np.zeros_like(row)
        left, corner = (np.concatenate([np.zeros((1, 3), int), each[:-1]]) for each in (row, up))
        near = [np.abs(left + up - corner - each) for each in (left, up, corner)]
        paeth = np.where((near[0] <= near[1]) & (near[0] <= near[2]), left, np.where(near[1] <= near[2], up, corner))
        guess = (0, left, up, (left + up) // 2, paeth)[y % 5]
        rows += bytes([y % 5]) + ((row - guess) % 256).astype(np.uint8).tobytes()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 10, 8, 2, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    check(content, wanted, "png")


@pytest.mark.parametrize(("form", "odd"), [("PNG", "png"), ("GIF", "gif, palette"), ("WEBP", "webp"), ("AVIF", "avif")])
def test_of_several_frames_the_first_is_used(form, odd):
    if form == "AVIF" and not AVIF:
        pytest.skip("this Pillow was built without AVIF")
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("#ff0000", "#00ff00")]
    exact = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100}}.get(form, {})
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:], duration=100, **exact)
    check(content, np.broadcast_to([255, 0, 0], (16, 16, 3)), f"{odd}, several frames", most=2 if form == "AVIF" else 0)


# GIF


def gif(samples, palette, screen, at=(0, 0), clear=None, local=False, more=b""):
    """Write a GIF by hand: samples (h, w) below 128, sent as codes of 8 bits with a reset after every hundred."""
    h, w = samples.shape
    codes = b"".join(b"\x80" + samples.reshape(-1)[k : k + 100].tobytes() for k in range(0, h * w, 100)) + b"\x81"
    blocks = b"".join(bytes([len(codes[k : k + 255])]) + codes[k : k + 255] for k in range(0, len(codes), 255))
    control = b"" if clear is None else b"!\xf9\x04\x01\0\0" + bytes([clear]) + b"\0"
    frame = b"," + struct.pack("<HHHHB", *at, w, h, 0x86 if local else 0) + (palette.tobytes() if local else b"")
    head = (
        b"GIF89a" + struct.pack("<HHBBB", *screen, 0 if local else 0xF6, 5, 0) + (b"" if local else palette.tobytes())
    )
    return head + control + frame + b"\x07" + blocks + b"\0" + more + b";"


PALETTE = np.random.default_rng(4).integers(0, 256, (128, 3), dtype=np.uint8)
INDICES = np.random.default_rng(5).integers(0, 128, (20, 30), dtype=np.uint8)


@pytest.mark.parametrize("local", [False, True])
def test_gif(local):
    check(gif(INDICES, PALETTE, (30, 20), local=local), PALETTE[INDICES], "gif, palette")
    clear = int(INDICES[3, 3])
    wanted = np.where((clear == INDICES)[..., None], 255, PALETTE[INDICES])
    check(gif(INDICES, PALETTE, (30, 20), clear=clear, local=local), wanted, "gif, palette, alpha")


@pytest.mark.parametrize("clear", [None, 7])
def test_a_gif_whose_first_frame_is_smaller_is_white_around_it(clear):
    wanted = np.full((40, 50, 3), 255)
    wanted[6:26, 11:41] = np.where((clear == INDICES)[..., None], 255, PALETTE[INDICES])
    odd = "gif, palette" if clear is None else "gif, palette, alpha"
    check(gif(INDICES, PALETTE, (50, 40), (11, 6), clear), wanted, odd)


def test_damage_after_a_gifs_first_frame_does_no_harm():
    check(gif(INDICES, PALETTE, (30, 20), more=b",\0\0"), PALETTE[INDICES], "gif, palette")
    assert refused(gif(INDICES, PALETTE, (30, 20))[:700]).startswith("a broken GIF file (image file is truncated")


# BMP


def bmp(body, width, height, bits, compression=0, palette=b"", masks=b"", header=40):
    """Write a BMP by hand; ``masks`` follow the first 40 bytes of the header."""
    fields = struct.pack(
        "<IiiHHIIiiII", header, width, height, 1, bits, compression, len(body), 0, 0, len(palette) // 4, 0
    )
    whole = (fields + masks).ljust(header, b"\0") + palette
    return b"BM" + struct.pack("<IHHI", 14 + len(whole) + len(body), 0, 0, 14 + len(whole)) + whole + body


def padded(rows):
    """Rows of bytes, each filled up to a multiple of four."""
    return b"".join(row + bytes(-len(row) % 4) for row in rows)


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_bmp_with_a_palette(bits):
    samples = np.random.default_rng(bits).integers(0, 2**bits, (6, 9))
    palette = np.random.default_rng(9).integers(0, 256, (2**bits, 4), dtype=np.uint8)
    rows = [
        np.packbits((row[:, None] >> np.arange(bits)[::-1] & 1).astype(np.uint8)).tobytes() for row in samples[::-1]
    ]
    content = bmp(padded(rows), 9, 6, bits, palette=palette.tobytes())
    check(content, palette[samples][..., 2::-1], "bmp, palette")


@RECENT
def test_bmp_of_16_24_and_32_bits():
    blue, green, red = (np.random.default_rng(k).integers(0, 32, (6, 9)) for k in range(3))
    words = (blue | green << 5 | red << 10).astype("<u2")
    exact = np.stack([red, green, blue], axis=2) * 255 / 31
    for height, rows in ((6, words[::-1]), (-6, words)):  # from below, and from above
        check(bmp(padded([row.tobytes() for row in rows]), 9, height, 16), exact, "bmp", most=1)
    words = (blue | green << 6 | red << 11).astype("<u2")  # of green's 6 bits the lowest is 0
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    wanted = np.stack([red * 255 / 31, 2 * green * 255 / 63, blue * 255 / 31], axis=2)
    check(
        bmp(padded([row.tobytes() for row in words[::-1]]), 9, 6, 16, 3, masks=masks, header=52), wanted, "bmp", most=1
    )
    body = padded([row[:, ::-1].tobytes() for row in SCENE[::-1]])
    check(bmp(body, 60, 50, 24), SCENE, "bmp")
    four = np.concatenate([SCENE[::-1, :, ::-1], ALPHA[::-1]], axis=2).tobytes()
    check(bmp(four, 60, 50, 32), SCENE, "bmp")  # the fourth byte means nothing
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)  # here it is alpha
    check(bmp(four, 60, 50, 32, 3, masks=masks, header=108), over_white(SCENE, ALPHA), "bmp, alpha", most=1)


def test_bmp_with_runs():
    palette = np.random.default_rng(9).integers(0, 256, (256, 4), dtype=np.uint8)
    body = b"\x05\x07\x00\x03\x01\x02\x03\x00\x00\x00" + b"\x08\x09\x00\x00" + b"\x00\x01"
    wanted = np.array([[9] * 8, [7] * 5 + [1, 2, 3]])
    check(bmp(body, 8, 2, 8, 1, palette.tobytes()), palette[wanted][..., 2::-1], "bmp, palette")


# TIFF


def tiff(planes, photometric, order="<", bits=8, pages=(), **tags):
    """Write an uncompressed TIFF by hand: uint8 or uint16 (h, w, channels) for each page, one strip a page."""
    kinds = {"H": 3, "I": 4}
    content, links = bytearray(b"II*\0\0\0\0\0" if order == "<" else b"MM\0*\0\0\0\0"), 4
    for page in (planes, *pages):
        data = page.astype(page.dtype.newbyteorder(order)).tobytes()
        h, w, channels = page.shape
        at = len(content)
        content += data + b"\0" * (len(data) % 2)
        fields = {256: ("H", [w]), 257: ("H", [h]), 258: ("H", [bits] * channels), 259: ("H", [1])}
        fields |= {262: ("H", [photometric]), 273: ("I", [at]), 277: ("H", [channels]), 278: ("I", [h])}
        fields |= {279: ("I", [len(data)])} | {int(name[1:]): ("H", value) for name, value in tags.items()}
        entries = b""
        for tag, (kind, values) in sorted(fields.items()):
            value = struct.pack(f"{order}{len(values)}{kind}", *values)
            if len(value) > 4:
                value, where = struct.pack(f"{order}I", len(content)), value
                content += where + b"\0" * (len(where) % 2)
            entries += struct.pack(f"{order}HHI", tag, kinds[kind], len(values)) + value.ljust(4, b"\0")
        struct.pack_into(f"{order}I", content, links, len(content))
        content += struct.pack(f"{order}H", len(fields)) + entries + bytes(4)
        links = len(content) - 4
    return bytes(content)


ORDERS = pytest.mark.parametrize("order", ["<", ">"])
INK = np.random.default_rng(6).integers(0, 256, (50, 60, 4), dtype=np.uint8)


@ORDERS
def test_tiff_of_8_bits(order):
    grey = SCENE[..., :1]
    check(tiff(SCENE, 2, order), SCENE, "tiff")
    check(tiff(grey, 1, order), grey[..., 0], "tiff, grey")
    check(tiff(grey, 0, order), 255 - grey[..., 0], "tiff, grey")
    colours = np.random.default_rng(1).integers(0, 256, (3, 256))
    check(tiff(grey, 3, order, t320=(colours << 8).reshape(-1).tolist()), colours.T[grey[..., 0]], "tiff, palette")
    check(tiff(INK, 5, order), (255.0 - INK[..., :3]) * (255 - INK[..., 3:]) / 255, "tiff, cmyk", most=1)


@RECENT
@ORDERS
def test_of_a_tiff_of_16_bits_the_upper_8_are_kept(order):
    grey = DEEP[..., :1]
    check(tiff(DEEP, 2, order, 16), DEEP >> 8, "tiff, 16-bit")
    check(tiff(grey, 1, order, 16), grey[..., 0] >> 8, "tiff, grey, 16-bit")
    deep = np.concatenate([DEEP, ALPHA.astype(np.uint16) * 257], axis=2)
    check(tiff(deep, 2, order, 16, t338=[2]), over_white(DEEP >> 8, ALPHA), "tiff, 16-bit, alpha", most=1)
    ink = INK.astype(np.uint16) * 257
    wanted = (255.0 - INK[..., :3]) * (255 - INK[..., 3:]) / 255
    check(tiff(ink, 5, order, 16), wanted, "tiff, cmyk, 16-bit", most=1)


def test_a_tiff_of_16_bits_whose_zero_is_white():
    check(tiff(DEEP[..., :1], 0, "<", 16), 255 - (DEEP[..., 0] >> 8), "tiff, grey, 16-bit")


def test_a_tiff_of_12_bits():
    values = np.random.default_rng(8).integers(0, 4096, (4, 6))
    packed = np.packbits((values[..., None] >> np.arange(12)[::-1] & 1).reshape(4, -1).astype(np.uint8), axis=1)
    content = tiff(packed[..., None], 1, bits=12, t256=[6])
    check(content, values >> 4, "tiff, grey, 16-bit")


@RECENT
@ORDERS
@pytest.mark.parametrize("premultiplied", [False, True])
def test_alpha_of_a_tiff_is_laid_over_white(order, premultiplied):
    for colours, kind, odd in ((SCENE, 2, "tiff, alpha"), (SCENE[..., :1], 1, "tiff, grey, alpha")):
        stored = np.rint(colours * (ALPHA / 255.0)).astype(np.uint8) if premultiplied else colours
        content = tiff(np.concatenate([stored, ALPHA], axis=2), kind, order, t338=[1 if premultiplied else 2])
        check(content, over_white(colours, ALPHA), odd, most=2 if premultiplied else 1)
    unused = tiff(np.concatenate([SCENE, ALPHA], axis=2), 2, order, t338=[0])  # a fourth channel without a meaning
    check(unused, SCENE, "tiff")


def test_of_several_pages_of_a_tiff_the_first_is_used():
    check(tiff(SCENE, 2, pages=[SCENE[::-1], SCENE[:10]]), SCENE, "tiff")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_pixels_of_a_tiff_are_used_as_they_are_stored(orientation, compression):
    content = encoded(SCENE, "TIFF", compression=compression, tiffinfo={0x0112: orientation})
    check(content, SCENE, "tiff" if orientation == 1 else "tiff, exif orientation")


@RECENT
@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiffs(compression):
    check(encoded(SCENE, "TIFF", compression=compression), SCENE, "tiff")
    check(
        encoded(Image.fromarray(DEEP[..., 0]), "TIFF", compression=compression), DEEP[..., 0] >> 8, "tiff, grey, 16-bit"
    )
    ink = Image.fromarray(INK, "CMYK")
    wanted = (255.0 - INK[..., :3]) * (255 - INK[..., 3:]) / 255
    check(encoded(ink, "TIFF", compression=compression), wanted, "tiff, cmyk", most=1)


def test_tiffs_without_a_fixed_range_and_cameras_raw_files_are_refused():
    numbers = "a TIFF of signed, 32-bit or floating-point numbers, which have no fixed range for black and white"
    for mode in ("F", "I"):
        assert refused(encoded(Image.new(mode, (8, 8)), "TIFF")) == f"{numbers}: convert it to 8 or 16 bits"
    assert refused(tiff(DEEP, 2, "<", 16, t284=[2])).startswith("a TIFF of 16 bits with a plane for each colour, ")
    raw = "a camera's raw file, or a TIFF that begins with a preview, which is not read: convert it to JPEG or PNG"
    for content in (
        tiff(SCENE, 2, t254=[1]),  # Nikon's and Sony's files begin with a preview
        tiff(SCENE[..., :1], 1, t50706=[1, 4]),  # Adobe's DNG
        tiff(DEEP[..., :1], 32803, "<", 16),  # a colour filter array
    ):
        assert refused(content) in (
            raw,
            "a broken TIFF file (no complete directory, or of a kind that Pillow does not read)",
        )
    assert refused(tiff(SCENE, 2, t254=[1])) == raw


@RECENT
def test_libtiff_does_not_write_to_stderr(capfd):
    broken = encoded(SCENE, "TIFF", compression="jpeg")
    at = broken.index(b"\xff\xdb")
    assert "decoder error" in refused(broken[:at] + bytes(40) + broken[at + 40 :])
    print("after", file=sys.stderr, flush=True)
    assert capfd.readouterr() == ("", "after\n")


# WebP, AVIF, and formats for which Pillow needs a plugin


def test_webp():
    check(encoded(SCENE, "WEBP", lossless=True), SCENE, "webp")
    with_alpha = np.concatenate([SCENE, ALPHA], axis=2)
    check(encoded(with_alpha, "WEBP", lossless=True, exact=True), over_white(SCENE, ALPHA), "webp, alpha", most=1)
    lossy = encoded(SCENE, "WEBP", quality=95)
    assert np.abs(np.asarray(picture.decode(lossy)[0]).astype(int) - SCENE).mean() < 3
    for cut in (20, len(lossy) // 2, len(lossy) - 1):
        assert refused(lossy[:cut]).startswith("a broken WEBP file (")


def test_avif():
    if not AVIF:
        pytest.skip("this Pillow was built without AVIF")
    check(encoded(SCENE, "AVIF", quality=100, subsampling="4:4:4"), SCENE, "avif", most=3)
    turned = Image.Exif()
    turned[0x0112] = 6
    content = encoded(SCENE, "AVIF", quality=100, subsampling="4:4:4", exif=turned)
    check(content, SCENE, "avif, exif orientation", most=3)
    assert refused(content[:-30]).startswith("a broken AVIF file (")


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50)
JXL = b"\xff\x0a" + bytes(30)


@pytest.mark.parametrize(
    ("content", "name", "package"),
    [
        (HEIC, "HEIC", "pillow-heif"),
        (HEIC.replace(b"ftypheic", b"ftypmif1"), "HEIC", "pillow-heif"),
        (JXL, "JPEG XL", "pillow-jxl-plugin"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(30), "JPEG XL", "pillow-jxl-plugin"),
    ],
)
def test_a_format_without_its_plugin_names_what_to_install(content, name, package, monkeypatch):
    for module in ("pillow_heif", "pillow_jxl"):
        monkeypatch.setitem(sys.modules, module, None)
    Image.init()
    for kind in ("HEIF", "JXL"):
        monkeypatch.delitem(Image.OPEN, kind, raising=False)
    wanted = f"{name}, for which Pillow needs a plugin: pip install {package}, or convert it to JPEG or PNG"
    assert refused(content) == wanted


def test_avif_is_refused_with_a_hint_where_pillow_lacks_it(monkeypatch):
    monkeypatch.setattr(features, "check", lambda name: False)
    monkeypatch.setitem(sys.modules, "pillow_avif", None)
    assert refused(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf") == (
        "AVIF, for which Pillow needs a plugin: pip install pillow-avif-plugin, or convert it to JPEG or PNG"
    )


def test_a_plugin_is_used_where_it_is_installed():
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    check(encoded(SCENE, "HEIF", quality=-1, chroma=444), SCENE, "heif", most=2)


OTHERS = {
    "a camera's raw file": (
        b"FUJIFILMCCD-RAW 0201",
        b"IIRO\x08\0\0\0",
        b"IIU\0\x18\0",
        b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom",
    ),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    "a video": (b"\0\0\0\x18ftypisom\0\0\0\0isom",),
    "a PAM file": (b"P7\nWIDTH 1\n",),
    "SVG": (b"<svg xmlns=",),
    "a Photoshop file": (b"8BPS\0\1",),
}


@pytest.mark.parametrize(("name", "content"), [(name, each) for name, some in OTHERS.items() for each in some])
def test_other_formats_are_named(name, content):
    assert refused(content) == f"{name}, which is not read: convert it to JPEG or PNG"


# PPM, PGM, PBM


NUMBERS = np.random.default_rng(7).integers(0, 1024, (5, 7, 3))


@pytest.mark.parametrize("largest", [1, 15, 100, 255, 256, 1023, 4095, 65535])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_netpbm_of_any_depth(largest, plain, channels):
    values = NUMBERS[..., :channels] % (largest + 1)
    values[0, 0] = largest
    kind = {(1, True): 2, (3, True): 3, (1, False): 5, (3, False): 6}[channels, plain]
    body = " ".join(map(str, values.reshape(-1))).encode()
    stored = body if plain else values.astype(">u2" if largest > 255 else np.uint8).tobytes()
    content = b"P%d # a comment\n#12 9\n7 5\n%d\n" % (kind, largest) + stored
    deep = largest > 255
    wanted = np.rint(values / largest * 65535).astype(int) >> 8 if deep else np.rint(values / largest * 255)
    odd = "ppm" + ", grey" * (channels == 1) + ", 16-bit" * deep
    check(content, wanted if channels == 3 else wanted[..., 0], odd)
    assert refused(content[:-3]).startswith("a broken PPM file (")


def test_bitmaps():
    wanted = [[0, 255] * 4 + [0], [255] * 4 + [0] * 4 + [255]]
    check(b"P4 9 2\n\xaa\x80\x0f\x00", wanted, "ppm, grey")
    check(b"P1 9 2\n101010101\n0 0 0 0 1 1 1 1 0", wanted, "ppm, grey")


# All of them


def test_every_ending_is_listed_once_and_names_are_recognised_in_any_case():
    assert len(set(picture.ENDINGS)) == len(picture.ENDINGS)
    for name in ("a.JPG", "b.Tiff", "c.webp", "d.HEIC", "e.dng", "f.gif", "g.pgm", "h.apng", ".png"):
        assert picture.is_image(name)
    assert not any(map(picture.is_image, ("a.txt", "jpg", "a.jpg.txt", "a.csv")))


def test_any_changed_byte_gives_a_picture_or_a_data_error(capfd):
    rng = np.random.default_rng(5)
    small = SCENE[:9, :8]
    contents = [encoded(small, "WEBP"), encoded(small, "TIFF", compression="tiff_lzw"), tiff(small, 2, ">")]
    contents += [gif(INDICES[:4, :5], PALETTE, (9, 8), (1, 1), 3), png(small.astype(int), 8, 2, interlaced=True), HEIC]
    contents += [encoded(small, "AVIF")] if AVIF else []
    for content in contents:
        for at in itertools.chain(range(min(40, len(content))), rng.integers(0, len(content), 40)):
            spoilt = bytearray(content)
            spoilt[at] ^= int(rng.integers(1, 256))
            try:
                assert picture.square(picture.decode(bytes(spoilt))[0], 8).shape == (8, 8, 3)
            except DataError as error:
                assert "\n" not in str(error) and "0x" not in str(error)
    assert capfd.readouterr() == ("", "")


def bomb(form):
    if form == "GIF":
        return gif(INDICES, PALETTE, (60_000, 60_000))
    if form == "TIFF":
        return tiff(SCENE, 2, t256=[60_000], t257=[60_000])
    content = bytearray(encoded(np.zeros((8, 8, 4), np.uint8), "WEBP", lossless=True))
    size = struct.pack("<I", 16_382 | 16_382 << 14 | 1 << 28)
    content[21:25] = size
    return bytes(content)


@pytest.mark.parametrize("form", ["GIF", "TIFF", "WEBP"])
def test_bombs_are_refused_and_take_no_memory(form, tmp_path):
    (tmp_path / "bomb").write_bytes(bomb(form))
    code = (
        "import sys\nfrom tinyalex.bench.memory import peak_memory\nfrom tinyalex.datasets.picture import decode\n"
        "try: decode(open(sys.argv[1], 'rb').read())\nexcept Exception as error: print(error)\nprint(peak_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "bomb"], capture_output=True, text=True, check=True)
    reason, most = done.stdout.splitlines()
    assert reason.startswith("more than 89,478,485 pixels") and int(most) < 500e6
