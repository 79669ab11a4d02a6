"""What a network has learned: kernels of the first layer, and similar images by activations of the last hidden one.

Images are similar if their activations in the last hidden layer are near (paper §6.1 and Figure 4, right).
"""

import numpy as np

from tinyalex.datasets.loading.batches import test_batches
from tinyalex.errors import DataError
from tinyalex.layers import Conv2d, SumOfInputs

_ROWS = 256  # queries at a time, so that the matrix of distances fits into memory


def first_kernels(network):
    """Return the kernels of the convolutions that read the image, by column.

    Returns
    -------
    dict of str to ndarray (k, k, c, n)
        The key is what follows ``conv1`` in the layer's name: "a" and "b", or "". Where the names begin otherwise, in
        nets of the authors' files, it is the whole name.
    """
    found = {}
    image = [True] * len(network.gpus)  # whether a column still has the image
    for stage in network.stages:
        image = [bool(sources) and all(image[source] for source in sources) for sources in stage.exchange.routes]
        for column, layers in enumerate(stage.columns):
            for layer in layers:
                parts = layer.layers if isinstance(layer, SumOfInputs) else [layer]
                if image[column] and layer.parameters and all(isinstance(part, Conv2d) for part in parts):
                    device = network.devices[column]
                    weights = (part.W.parts(part.W.value) for part in parts)
                    found |= {name.removesuffix("/W"): device.get(w) for each in weights for name, w in each.items()}
                image[column] = image[column] and not layer.parameters
    short = {name.removeprefix("conv1"): each for name, each in found.items()}
    fits = all(name.startswith("conv1") for name in found) and all(
        len(name) < 2 and not name.isdigit() for name in short
    )
    return dict(sorted((short if fits else found).items()))


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
    heads = network.last_layers()
    with_heads = [[any(layer in heads for layer in column) for column in stage.columns] for stage in network.stages]
    last = max(number for number, columns in enumerate(with_heads) if any(columns))
    pairs = zip(with_heads[last], network.stages[last].exchange.routes, strict=True)
    read = sorted({source for has_head, sources in pairs if has_head for source in sources})
    rows = []
    for first in range(0, len(images), batch):
        part = images[first : first + batch]
        with network.step():
            xs = [device.to_device(part) for device in network.devices]
            for executor in network.executors[:last]:
                xs = executor.forward(xs, network.devices)
            columns = [network.devices[source].get_float(xs[source]).reshape(len(part), -1) for source in read]
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
