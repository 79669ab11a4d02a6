"""Find similar images: those whose activations in the last hidden layer are near (paper §6.1 and Figure 4, right)."""

import numpy as np

from tinyalex.datasets.loading.batches import test_batches
from tinyalex.errors import DataError
from tinyalex.layers import Linear

_ROWS = 256  # queries at a time, so that the matrix of distances fits into memory


def features(network, images, batch=128):
    """Compute the inputs of the last layer, with dropout in test mode.

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
        4096 numbers per image in the paper's net; the units of column a come before those of column b.
    """
    last = max(
        i for i, stage in enumerate(network.stages) if any(isinstance(layer, Linear) for layer in stage.columns[0])
    )
    rows = []
    for first in range(0, len(images), batch):
        part = images[first : first + batch]
        with network.step():
            xs = [device.to_device(part) for device in network.devices]
            for executor in network.executors[:last]:
                xs = executor.forward(xs, network.devices)
            columns = [d.get(x).reshape(len(part), -1) for d, x in zip(network.devices, xs, strict=True)]
            rows.append(np.concatenate(columns, axis=1))
    return np.concatenate(rows)


def features_of(network, images, mean, recipe):
    """Compute the `features` of a whole `ImageSet`, from centre crops minus the mean image of the training set."""
    if images.size != len(mean):
        sizes = f"{images.size} x {images.size}, but the network was trained with {len(mean)} x {len(mean)}"
        raise DataError(f"images: {sizes}; prepare them with --size {len(mean)}")
    batches = test_batches(images, mean, recipe, recipe.learning.batch, devices=network.devices)
    return np.concatenate([features(network, batch.images, recipe.learning.batch) for batch in batches])


def nearest(queries, stored, count):
    """Find the nearest stored rows of each query by Euclidean distance.

    Parameters
    ----------
    queries : array, shape (q, m)
    stored : array, shape (n, m)
    count : int

    Returns
    -------
    int64 ndarray, shape (q, count)
        Indices of stored rows, nearest first; of equal distances, the lower index first.
    """
    centre = np.mean(stored, axis=0, dtype=np.float64)  # subtracted, because a large common offset would cost digits
    queries, stored = ((np.asarray(rows) - centre).astype(np.float32) for rows in (queries, stored))
    squares, rows = np.einsum("nm,nm->n", stored, stored), []
    for first in range(0, len(queries), _ROWS):
        part = queries[first : first + _ROWS]
        # |q - s|^2 = |q|^2 - 2 q s + |s|^2; |q|^2 does not change the order and is left out
        rows.append(np.argsort(squares - 2 * part @ stored.T, axis=1, kind="stable")[:, :count])
    return np.concatenate(rows)


def precision(found, stored_labels, query_labels):
    """Return the fraction of the found rows that have the query's class."""
    return float((np.asarray(stored_labels)[found] == np.asarray(query_labels)[:, None]).mean())
