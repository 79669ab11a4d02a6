"""Decode an image file, and resize and crop it to a square of S x S pixels (paper, section 2).

The shorter side is resized to S and the middle S x S is kept. The format is recognised by the first bytes, never by the
name. A truncated file is refused, not filled up with grey. Pixels are used as they are stored: colour profiles and the
EXIF orientation are ignored, as in 2012.
"""

import io
import math
import warnings

import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError

from tinyalex.errors import DataError

# Endings of the names of image files.
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".ppm")
MOST_PIXELS = 89_478_485  # 256 MiB of RGB; a picture whose header claims more is refused before memory is allocated
FILTER = "bicubic"  # of Pillow, whose width grows with the factor when a picture is made smaller
_REACH = 2  # of the filter to either side, in pixels of the coarser grid
_FORMATS = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"BM": "BMP"}
_FORMATS |= dict.fromkeys((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), "PPM")
_ORIENTATION = 0x0112  # EXIF: 1 is upright, 2 to 8 are turned or mirrored
_ODD = {"1": "grey", "L": "grey", "LA": "grey", "I": "grey", "P": "palette", "PA": "palette", "CMYK": "cmyk"}


def is_image(name):
    """Return whether a file is an image, by its name."""
    return name.lower().endswith(ENDINGS)


def decode(content):
    """Decode a JPEG, PNG, BMP or PPM file.

    Grey stays grey, and of 16 bits the upper 8 are kept. Transparent pixels are laid over white. CMYK becomes RGB by
    (255 - C) (255 - K) / 255; Adobe's programs store its complement, and mark the file as theirs.

    Parameters
    ----------
    content : bytes

    Returns
    -------
    image : PIL.Image.Image
        Of mode "RGB" or "L".
    odd : list of str
        Unusual properties, of "png", "bmp", "ppm", "grey", "palette", "cmyk", "alpha", "16-bit", "exif orientation" and
        "warnings": Pillow issued a warning, for example about a broken EXIF block.

    Raises
    ------
    DataError
        If it is not such a file, is truncated, broken or too large. The message gives the reason, not the file's name.
    """
    kind = next((kind for magic, kind in _FORMATS.items() if content.startswith(magic)), None)
    if kind is None:
        begins = f"begins with {content[:12]!r}" if content else "is empty"
        raise DataError(f"not a JPEG, PNG, BMP or PPM file: it {begins}")
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        try:
            image, odd = _read(content, kind)
        except (DataError, MemoryError):
            raise
        except Image.DecompressionBombError as error:
            raise DataError(f"more than {MOST_PIXELS:,} pixels") from error
        except Exception as error:  # decoders can raise anything on malicious bytes
            known = not isinstance(error, UnidentifiedImageError)  # its text contains a memory address
            reason = " ".join(str(error).split()) if known else "no header"
            raise DataError(f"a broken {kind} file ({reason or type(error).__name__})") from error
    return image, odd + ["warnings"] * bool(complaints)


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


def _read(content, kind):
    with Image.open(io.BytesIO(content), formats=[kind]) as image:
        if image.width * image.height > MOST_PIXELS:
            raise DataError(f"more than {MOST_PIXELS:,} pixels: {image.width} x {image.height}")
        image.load()
        odd = [kind.lower()] if kind != "JPEG" else []
        odd += [_ODD[image.mode.split(";")[0]]] if image.mode.split(";")[0] in _ODD else []
        if _orientation(image) in range(2, 9):
            odd.append("exif orientation")
        # Of RGB with 16 bits Pillow keeps only the upper 8.
        if kind == "PNG" and content[24] == 16 or image.mode.startswith("I"):
            odd.append("16-bit")
        if image.has_transparency_data:
            odd.append("alpha")
        return _rgb_or_grey(image), odd


def _rgb_or_grey(image):
    # Convert what Pillow read to mode RGB or L.
    if image.mode.startswith("I"):
        grey = np.asarray(image)
        clear = grey == image.info.get("transparency", -1)
        return Image.fromarray(np.where(clear, 255, grey >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        page = Image.new("RGB", image.size, "white")
        page.paste(image, mask=image)
        return page
    if image.mode == "CMYK" and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow treats every file as one of Adobe's
    return image if image.mode in ("RGB", "L") else image.convert("L" if image.mode == "1" else "RGB")


def _orientation(image):
    try:
        return image.getexif().get(_ORIENTATION) if "exif" in image.info else None
    except Exception as error:  # for broken blocks Pillow mostly issues a warning only
        warnings.warn(f"EXIF: {error}", stacklevel=1)
        return None
