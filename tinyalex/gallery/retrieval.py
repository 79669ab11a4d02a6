"""Images that a network considers alike: near each other in its last hidden layer (paper §6.1 and Figure 4, right)."""

import numpy as np

from tinyalex.datasets.loading.batches import test_batches
from tinyalex.errors import DataError
from tinyalex.layers import Linear

_ROWS = 256  # queries at once: their distances to everything fit into memory


def features(network, images, batch=128):
    """Compute what the last layer reads, with dropout as at test.

    Parameters
    ----------
    network : Network
        Built.
    images : ndarray, shape (n, h, w, c)
        Prepared as for `Network.predict`.
    batch : int

    Returns
    -------
    float32 ndarray, shape (n, m)
        4096 numbers an image in the paper's net; column a's units before column b's.
    """
    last = max(i for i, stage in enumerate(network.stages) if any(isinstance(x, Linear) for x in stage.columns[0]))
    rows = []
    for first in range(0, len(images), batch):
        part = images[first : first + batch]
        with network.step():
            xs = [device.to_device(part) for device in network.devices]
            for run in network.executors[:last]:
                xs = run.forward(xs, network.devices)
            columns = [d.get(x).reshape(len(part), -1) for d, x in zip(network.devices, xs, strict=True)]
            rows.append(np.concatenate(columns, axis=1))
    return np.concatenate(rows)


def features_of(network, images, mean, recipe):
    """Compute the `features` of a whole `ImageSet`: centre crops less the mean image of the training."""
    if images.size != len(mean):
        sizes = f"{images.size} x {images.size}, but the network was trained with {len(mean)} x {len(mean)}"
        raise DataError(f"images: {sizes}; prepare them in that size")
    batches = test_batches(images, mean, recipe, recipe.learning.batch, devices=network.devices)
    return np.concatenate([features(network, batch.images, recipe.learning.batch) for batch in batches])


def nearest(queries, shelf, count):
    """Find the nearest rows by Euclidean distance.

    Parameters
    ----------
    queries : array, shape (q, m)
    shelf : array, shape (n, m)
    count : int

    Returns
    -------
    int64 ndarray, shape (q, count)
        Numbers of rows of the shelf, the nearest first; of rows that are as near the first comes first.
    """
    centre = np.mean(shelf, axis=0, dtype=np.float64)  # what all have in common would cost digits
    queries, shelf = ((np.asarray(rows) - centre).astype(np.float32) for rows in (queries, shelf))
    squares, rows = np.einsum("nm,nm->n", shelf, shelf), []
    for first in range(0, len(queries), _ROWS):
        part = queries[first : first + _ROWS]
        # |q - s|^2 = |q|^2 - 2 q s + |s|^2, and |q|^2 is the same for all
        rows.append(np.argsort(squares - 2 * part @ shelf.T, axis=1, kind="stable")[:, :count])
    return np.concatenate(rows)


def precision(found, shelf_labels, query_labels):
    """Return the share of what was found that is of the query's class."""
    return float((np.asarray(shelf_labels)[found] == np.asarray(query_labels)[:, None]).mean())
