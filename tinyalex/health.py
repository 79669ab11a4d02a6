"""What to look at when a run is sick."""


def first_not_finite(network, images, step=None):
    """Name the first layer, from the images on, whose weights or output hold a NaN or an infinity.

    Parameters
    ----------
    network : Network
    images : ndarray, shape (n, h, w, c)
    step : Step, optional

    Returns
    -------
    str or None
    """
    sick = set()

    def watch(layer, y):
        tensors = [y, *(parameter.value for parameter in layer.parameters)]
        if not all(bool(layer.device.xp.isfinite(tensor).all()) for tensor in tensors):
            sick.add((layer.device, layer.names))  # both columns have a relu2

    with network.step():
        network.forward(images, step, watch)
    return next((layer.name for _, layer in network.layers() if (layer.device, layer.names) in sick), None)
