"""Images of a prepared set as JPEG files: made once when the set is prepared, decoded each time they are read."""

import io

import numpy as np
from PIL import Image, features

from tinyalex.errors import DataError

_FULL_COLOUR = 0  # Pillow's 4:4:4: with fewer colour samples, bytes are saved better by a lower quality


def encode(pixels, quality):
    """Return a JPEG file of an image, uint8 (S, S, 3); a grey image becomes a grey file."""
    grey = (pixels[..., :1] == pixels).all()
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0]) if grey else np.ascontiguousarray(pixels))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, subsampling=_FULL_COLOUR, optimize=True)
    return stream.getvalue()


def decode(content, size, out=None):
    """Decode a JPEG file of a prepared set, with the bits that `tinyalex.datasets.picture` gives; in any thread.

    Parameters
    ----------
    content : bytes
    size : int
        Side of the image.
    out : uint8 (S, S, 3), optional
        Array for the pixels.

    Returns
    -------
    uint8 (S, S, 3)

    Raises
    ------
    DataError
        If it cannot be decoded or is of another size; the message gives the reason alone.
    """
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            if image.size != (size, size) or image.mode not in ("L", "RGB"):
                raise DataError(f"{image.width} x {image.height} pixels of mode {image.mode}")
            pixels = np.asarray(image)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # decoders can raise anything on malicious bytes
        raise DataError(" ".join(str(error).split()) or type(error).__name__) from error
    out = np.empty((size, size, 3), np.uint8) if out is None else out
    out[...] = pixels if pixels.ndim == 3 else pixels[:, :, None]
    return out


def library():
    """Return name and version of the library that decodes JPEG, on which the last bits of pixels depend."""
    turbo = features.version("libjpeg_turbo")
    return f"turbo {turbo}" if turbo else str(features.version("jpg"))
