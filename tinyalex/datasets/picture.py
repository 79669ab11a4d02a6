"""Decode an image file, and resize and crop it to a square of S x S pixels (paper, section 2).

The shorter side is resized to S and the middle S x S is kept. The format is recognised by the first bytes, never by the
name. A truncated file is refused, not filled up with grey. Pixels are used as they are stored: colour profiles, gamma
and the EXIF orientation are ignored, as in 2012.
"""

import contextlib
import gzip
import importlib
import io
import logging
import math
import os
import re
import sys
import warnings
import zlib

import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError, features

from tinyalex.errors import DataError

# Endings of the names of image files, also of those for which Pillow needs a plugin and of cameras' raw files: these
# are reported if they cannot be read, never silently left out.
ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".gif", ".webp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".hif", ".jxl"),
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw"),
)
MOST_PIXELS = 89_478_485  # 256 MiB of RGB; a picture whose header claims more is refused before memory is allocated
_GZIP = b"\x1f\x8b"
_LARGEST_UNPACKED = 64 << 20  # bytes of a file packed by gzip
FILTER = "bicubic"  # of Pillow, whose width grows with the factor when a picture is made smaller
_REACH = 2  # of the filter to either side, in pixels of the coarser grid
_ORIENTATION = 0x0112  # EXIF: 1 is upright, 2 to 8 are turned or mirrored
_ODD = {"1": "grey", "L": "grey", "LA": "grey", "La": "grey", "I": "grey", "P": "palette", "PA": "palette"}
_ODD |= {"CMYK": "cmyk"}

# Formats by their first bytes, under Pillow's names.
_MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"BM": "BMP", b"GIF87a": "GIF", b"GIF89a": "GIF"}
_MAGIC |= dict.fromkeys((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), "PPM")
_MAGIC |= dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF")
_MAGIC |= dict.fromkeys((b"\xff\x0a", b"\0\0\0\x0cJXL "), "JXL")
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"}
_BRANDS |= dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIF")
_FEATURE = {"WEBP": "webp", "AVIF": "avif"}  # what Pillow may have been built without
_PLUGIN = {  # Pillow's name: the format, the module that adds it to Pillow, and its package
    "HEIF": ("HEIC", "pillow_heif", "pillow-heif"),
    "JXL": ("JPEG XL", "pillow_jxl", "pillow-jxl-plugin"),
    "AVIF": ("AVIF", "pillow_avif", "pillow-avif-plugin"),
}
# Other files that are found among images, by their first bytes.
_RAW = "a camera's raw file"
_OTHERS = dict.fromkeys((b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM"), _RAW)
_OTHERS |= dict.fromkeys((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), "JPEG 2000")
_OTHERS |= {b"P7": "a PAM file", b"PF": "a PFM file", b"Pf": "a PFM file", b"8BPS": "a Photoshop file", b"%PDF": "PDF"}
_OTHERS |= {b"%!PS": "PostScript", b"<svg": "SVG", b"v/1\x01": "OpenEXR", b"#?RADIANCE": "a Radiance picture"}
# Tags of a TIFF.
_DNG_VERSION, _PHOTOMETRIC, _SUBFILE, _BITS, _PLANES, _COMPRESSION = 50706, 262, 254, 258, 284, 259
_TURN_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_HEADER_OF_COLOURS = re.compile(rb"P([36])" + 3 * rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})")  # with comments anywhere
logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it reports of a broken file is raised as well


def is_image(name):
    """Return whether a file is an image, by its name."""
    return name.lower().endswith(ENDINGS)


def decode(content):
    """Decode an image file: the first frame or page of a JPEG, PNG, BMP, PBM, PGM, PPM, GIF, TIFF, WebP or AVIF.

    HEIC and JPEG XL are decoded if Pillow's plugin for them is installed. Grey stays grey. Of 16 bits the upper 8 are
    kept; a PGM or PPM with another largest value above 255 is scaled to 16 bits first. Transparent pixels, and those
    that a GIF's first frame does not cover, are laid over white. CMYK becomes RGB by (255 - C) (255 - K) / 255; Adobe's
    programs store its complement in a JPEG, and mark the file as theirs. A file packed by gzip is unpacked first: a
    JPEG in ILSVRC-2010's archives is, n02487347_1956.

    Parameters
    ----------
    content : bytes

    Returns
    -------
    image : PIL.Image.Image
        Of mode "RGB" or "L".
    odd : list of str
        Unusual properties: the format in lower case if it is not JPEG, and any of "gzip", "grey", "palette", "cmyk",
        "alpha", "16-bit", "exif orientation", "several frames" and "warnings": Pillow issued a warning, for example
        about a broken EXIF block.

    Raises
    ------
    DataError
        If it is not such a file, is truncated, broken or too large, or if a plugin is missing. The message gives the
        reason, not the file's name.
    """
    packed = content.startswith(_GZIP)
    content = _unpacked(content) if packed else content
    kind = _kind(content)
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        _check_support(kind)
        try:
            image, odd = _read(content, kind)
        except (DataError, MemoryError):
            raise
        except Image.DecompressionBombError as error:
            raise DataError(f"more than {MOST_PIXELS:,} pixels") from error
        except Exception as error:  # decoders can raise anything on malicious bytes
            known = not isinstance(error, UnidentifiedImageError)  # its text contains a memory address
            unread = "no complete directory, or of a kind that Pillow does not read" if kind == "TIFF" else "no header"
            reason = " ".join(str(error).split()) if known else unread
            raise DataError(f"a broken {kind} file ({reason or type(error).__name__})") from error
    return image, ["gzip"] * packed + odd + ["warnings"] * bool(complaints)


def square(image, size):
    """Resize a picture so that its shorter side is ``size``, and keep the middle square.

    Only the pixels of the square are computed. The longer side is rounded to whole pixels and the square's offset is
    rounded down. Columns are resized before rows, whatever the picture's proportions; Pillow, since version 13, chooses
    the order by them, and rounds in between. The values are those of resizing the whole picture in this order and
    cropping it then, except for one in 8,000 (photographs, size 256), which differs by 1 or 2. Decoding a JPEG at half
    its size where that suffices would save 8 % of the time and change values by up to 69.

    Parameters
    ----------
    image : PIL.Image.Image
        Of mode "RGB" or "L".
    size : int

    Returns
    -------
    uint8 (size, size, 3)
    """
    w, h = image.size
    full_width, full_height = (max(size, round(side * size / min(w, h))) for side in (w, h))
    left, top = (full_width - size) // 2, (full_height - size) // 2
    if (full_width, full_height) == (w, h):
        image = image.crop((left, top, left + size, top + size))
    else:
        across, down = w / full_width, h / full_height  # steps from one new pixel to the next
        reach = _REACH * max(1.0, down)
        first, last = max(0, math.floor(top * down - reach)), min(h, math.ceil((top + size) * down + reach))
        rows = last - first
        image = image if rows == h else image.crop((0, first, w, last))
        x, y = (left * across, min((left + size) * across, w)), (top * down, min((top + size) * down, h))
        image = image.resize((size, rows), Image.Resampling.BICUBIC, (x[0], 0, x[1], rows))
        image = image.resize((size, size), Image.Resampling.BICUBIC, (0, y[0] - first, size, y[1] - first))
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def _unpacked(content):
    try:
        with gzip.open(io.BytesIO(content)) as stream:
            whole = stream.read(_LARGEST_UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"packed by gzip, and broken ({error})") from error
    if len(whole) > _LARGEST_UNPACKED:
        raise DataError(f"packed by gzip, and more than {_LARGEST_UNPACKED >> 20} MB when unpacked")
    return whole


def _kind(content):
    # Return Pillow's name of a file's format.
    if kind := next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), None):
        return kind
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    other = next((name for magic, name in _OTHERS.items() if content.startswith(magic)), None)
    if content[4:8] == b"ftyp":  # the container of AVIF, HEIC, videos and others: a list of brands of 4 bytes
        brands = [content[k : k + 4] for k in range(8, min(int.from_bytes(content[:4], "big"), 256), 4)]
        if kind := next((kind for brand, kind in _BRANDS.items() if brand in brands), None):
            return kind
        other = _RAW if b"crx " in brands else "a video"
    if other:
        raise DataError(f"{other}, which is not read: convert it to JPEG or PNG")
    begins = f"begins with {content[:12]!r}" if content else "is empty"
    raise DataError(f"not a JPEG, PNG, BMP, PPM, GIF, TIFF, WebP or AVIF file: it {begins}")


def _check_support(kind):
    # Refuse a format that this Pillow cannot read, after its plugin was tried.
    Image.init()
    if kind in Image.OPEN and (kind not in _FEATURE or features.check(_FEATURE[kind])):
        return
    name, module, package = _PLUGIN.get(kind, (kind, None, "--upgrade pillow"))
    try:
        plugin = importlib.import_module(module) if module else None
    except ImportError:
        plugin = None
    if hasattr(plugin, "register_heif_opener"):
        plugin.register_heif_opener()
    if plugin is None or kind not in Image.OPEN:
        raise DataError(f"{name}, for which Pillow needs a plugin: pip install {package}, or convert it to JPEG or PNG")


def _read(content, kind):
    colours = _HEADER_OF_COLOURS.match(content) if kind == "PPM" else None
    if colours and int(colours[4]) > 255:
        return _deep_ppm(content, *map(int, colours.groups()), colours.end())
    with Image.open(io.BytesIO(content), formats=[kind]) as image:
        _check_pixels(image.width, image.height)
        bits = _bits_of_tiff(image) if kind == "TIFF" else content[24] if kind == "PNG" else 16
        turned = image.getexif().get(_ORIENTATION) if kind == "TIFF" else None  # what loading makes upright
        covered = image.tile[0][1] if kind == "GIF" else None
        with _without_stderr() if kind == "TIFF" else contextlib.nullcontext():
            image.load()
        odd = [kind.lower()] if kind != "JPEG" else []
        odd += [_ODD[image.mode.split(";")[0]]] if image.mode.split(";")[0] in _ODD else []
        if (turned or _orientation(image)) in range(2, 9):
            odd.append("exif orientation")
        # Of RGB with 16 bits Pillow keeps only the upper 8.
        if kind in ("PNG", "TIFF") and bits > 8 or image.mode.startswith("I"):
            odd.append("16-bit")
        if image.has_transparency_data:
            odd.append("alpha")
        if kind != "TIFF" and _has_several_frames(image):  # TIFF's pages are seldom frames, and take long to count
            odd.append("several frames")
        page = _rgb_or_grey(image, kind, bits)
    if covered and covered != (0, 0, *page.size):
        whole = Image.new("RGB", page.size, "white")
        whole.paste(page.crop(covered), covered)
        page = whole
    return page.transpose(_TURN_BACK[turned]) if turned in _TURN_BACK else page, odd


def _check_pixels(width, height):
    if width * height > MOST_PIXELS:
        raise DataError(f"more than {MOST_PIXELS:,} pixels: {width} x {height}")


def _bits_of_tiff(image):
    # Return the bits of a channel of the first page; refuse what is no picture yet, or has no fixed range.
    tags = image.tag_v2
    # 32803 and 34892: a colour filter array, and linear raw; 1: a reduced version of another page.
    if _DNG_VERSION in tags or tags.get(_PHOTOMETRIC) in (32803, 34892) or tags.get(_SUBFILE, 0) & 1:
        raise DataError(f"{_RAW}, or a TIFF that begins with a preview, which is not read: convert it to JPEG or PNG")
    if image.mode in ("I", "F"):
        raise DataError(
            "a TIFF of signed, 32-bit or floating-point numbers, which have no fixed range for black and white: "
            "convert it to 8 or 16 bits"
        )
    bits = max(tags.get(_BITS, (1,)))
    if bits > 8 and tags.get(_PLANES) == 2 and tags.get(_COMPRESSION, 1) == 1:  # Pillow would mix up the bytes
        raise DataError("a TIFF of 16 bits with a plane for each colour, which is not read: convert it to 8 bits")
    return bits


@contextlib.contextmanager
def _without_stderr():
    # libtiff writes what it finds broken to the process's stderr; Pillow raises it as well.
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _deep_ppm(content, number, width, height, largest, end):
    # A PPM with more than 8 bits, of which Pillow rounds instead of keeping the upper 8: read as grey, three a pixel.
    _check_pixels(width, height)
    grey = b"P%d %d %d %d" % (number - 1, 3 * width, height, largest) + content[end:]
    with Image.open(io.BytesIO(grey), formats=["PPM"]) as image:
        deep = np.asarray(image).reshape(height, width, 3)
    return Image.fromarray((deep >> 8).astype(np.uint8)), ["ppm", "16-bit"]


def _has_several_frames(image):
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # damage after the first frame, which is all that is used
        return False


def _rgb_or_grey(image, kind, bits):
    # Convert what Pillow read to mode RGB or L; ``bits`` of a channel in the file.
    clear = image.info.get("transparency")
    if image.mode.startswith("I"):
        grey = np.asarray(image)
        upper = grey >> (bits - 8)
        if kind == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0:  # white is zero, which Pillow leaves so
            upper = 255 - upper
        return Image.fromarray(np.where(grey == (-1 if clear is None else clear), 255, upper).astype(np.uint8))
    if kind == "PNG" and clear is not None and image.mode in ("L", "RGB"):
        # The transparent colour is a number of the file's bits, the pixels have been brought to 8.
        scaled = [each >> 8 if bits == 16 else each * 255 // (2**bits - 1) for each in np.atleast_1d(clear).tolist()]
        image.info["transparency"] = tuple(scaled) if image.mode == "RGB" else scaled[0]
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        page = Image.new("RGB", image.size, "white")
        page.paste(image, mask=image)
        return page
    if kind == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow treats every file as one of Adobe's
    return image if image.mode in ("RGB", "L") else image.convert("L" if image.mode == "1" else "RGB")


def _orientation(image):
    try:
        return image.getexif().get(_ORIENTATION) if "exif" in image.info else None
    except Exception as error:  # for broken blocks Pillow mostly issues a warning only
        warnings.warn(f"EXIF: {error}", stacklevel=1)
        return None
