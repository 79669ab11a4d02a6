"""Stages that share a network's parameters and compute beside it, down to the gradient of the image."""

from tinyalex.network.columns import Stage
from tinyalex.network.network import Network


def replicas(network: Network, gradients: bool = False, count: int | None = None) -> list[Stage]:
    """Return the readable stages of a built network, with saved arrays and byte counts of their own.

    Parameters
    ----------
    network : Network
        After `Network.build`. It is not changed: its own first layer goes on computing no input gradient.
    gradients : bool
        Whether backward is going to run: every layer then gets an array for its parameters' gradients, and the first
        layer computes the gradient of the image.
    count : int, optional
        Only so many stages, from the first on.

    Returns
    -------
    list of Stage
        Run them in order with `Stage.forward`, within `Network.step`.
    """
    network.require_arrays()
    stages = [stage.replica() for stage in network.stages[:count]]
    for stage in stages if gradients else ():
        for device, column in zip(network.devices, stage.columns, strict=True):
            for layer in column:
                layer.input_gradient = True
                for parameter in layer.parameters:
                    parameter.grad = device.zeros(parameter.shape, network.dtype)
    return stages
