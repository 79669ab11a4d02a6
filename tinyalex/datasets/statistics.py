"""Mean image and principal colours from integer sums (paper, sections 2 and 4.1).

Sums of bytes are exact: they do not depend on the order of the images or on the number of workers.
"""

import numpy as np

_ROWS = 1 << 12  # multiplied at a time, to stay in cache; float64 sums are exact below 2^53, enough for 10^11 pixels


def pixel_sums(images):
    """Add up images.

    Parameters
    ----------
    images : uint8 (n, S, S, 3)

    Returns
    -------
    total : int64 (S, S, 3)
        Sum of the images.
    products : int64 (3, 3)
        Over all pixels, the sum of channel i times channel j.
    """
    total = images.sum(axis=0, dtype=np.uint32 if len(images) < 1 << 24 else np.int64).astype(np.int64)
    width = 12 if images.size % 12 == 0 else 3  # four pixels a row: larger matrix products are faster
    rows, products = images.reshape(-1, width), np.zeros((width, width))
    block = np.empty((_ROWS, width))  # allocated once: new memory for each block would cost more than the products
    for start in range(0, len(rows), _ROWS):
        part = block[: len(rows) - start]
        np.copyto(part, rows[start : start + _ROWS])
        products += part.T @ part
    pixels = products.reshape(width // 3, 3, width // 3, 3)
    return total, np.einsum("pipj->ij", pixels).astype(np.int64)


def mean_image(total, count):
    """Mean of ``count`` images whose sum is ``total``, int64 (S, S, 3): float32 (S, S, 3), 0 to 255."""
    return (total / count).astype(np.float32)


def principal_colours(count, total, products):
    """Principal components of pixels' RGB values.

    Parameters
    ----------
    count : int
        Number of pixels.
    total : integers (3,)
        Sum of each channel.
    products : integers (3, 3)
        Over all pixels, the sum of channel i times channel j.

    Returns
    -------
    deviations : float64 (3,)
        Standard deviations along the components in grey levels (0 to 255), smallest first: the square roots of the
        covariance's eigenvalues. The 2012 files keep these; the paper names the eigenvalues, which are their squares.
    vectors : float64 (3, 3)
        Unit vectors, one a column, each with its largest entry positive.
    """
    covariance = [
        [(count * int(products[i][j]) - int(total[i]) * int(total[j])) / count**2 for j in range(3)] for i in range(3)
    ]
    variances, vectors = np.linalg.eigh(np.array(covariance))
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return np.sqrt(np.maximum(variances, 0.0)), vectors * np.where(largest < 0, -1.0, 1.0)
