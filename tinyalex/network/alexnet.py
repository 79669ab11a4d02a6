"""The paper's net and its variants, from a recipe's settings (paper §3.5 and Figure 2; 2012: ``layers-145.cfg``).

`describe` lays out stages, columns and layers without arrays; `build` also allocates and initializes the parameters.
With one device for two columns the net takes its *grouped form* (see `tinyalex.network.layout`); normalization does not
cross from one column to the other unless ``net.norm_window`` says so. Names, shapes and initial values of the
parameters are the same in either form.
"""

from collections.abc import Sequence

import numpy as np

from tinyalex.errors import UsageError
from tinyalex.layers import SpatialNorm
from tinyalex.network import cuda_convnet
from tinyalex.network.cifar10 import cifar10, cifar10_local
from tinyalex.network.layout import NetBuilder
from tinyalex.network.network import Network
from tinyalex.recipes.recipe import Init, Net
from tinyalex.recipes.settings import FILES


def alexnet(net: Net, init: Init, devices: int = 1) -> Network:
    """Describe the paper's net on one device (one column, or the grouped form) or on two (one column each)."""
    builder = NetBuilder(net, init, devices)

    def normalize_and_pool(number: int) -> None:
        if net.norm_order == "pool-norm":
            builder.pool(number)
        builder.norm(number)
        if net.norm == "2012" and number == 2:  # not in the paper: a second one, over neighbouring positions
            builder.add(lambda *_: SpatialNorm().named("norm2s"))
        if net.norm_order == "norm-pool":
            builder.pool(number)

    builder.stage("conv1", routes=[[column] for column in range(devices)])  # each column reads the image
    builder.conv("conv1", net.maps[0], net.kernels[0], net.stride, net.padding[0])
    if net.norm == "2012":  # the 2012 order: normalization and pooling come before the ReLU
        normalize_and_pool(1)
        builder.activation(1)
    else:
        builder.activation(1)
        normalize_and_pool(1)

    def convolve(number: int) -> None:
        name, maps, kernel = f"conv{number}", net.maps[number - 1], net.kernels[number - 1]
        if maps:  # 0 in the experiment of paper §7, which leaves out a middle layer
            builder.exchange_before(name)
            builder.conv(name, maps, kernel, pad=net.padding[number - 1])
            builder.activation(number if number < 6 else "6c")  # fc6's is relu6

    convolve(2)
    normalize_and_pool(2)
    convolve(3)
    convolve(4)
    convolve(5)
    builder.pool(5)
    if len(net.maps) == 6:  # run 146, paper §6: "an extra sixth convolutional layer over the last pooling layer"
        convolve(6)

    for number in (6, 7):
        builder.stage(f"fc{number}")
        builder.linear(f"fc{number}", net.hidden)
        builder.activation(number)
        builder.dropout(number)
    if net.bottleneck:  # the 2012 file for 21,843 classes: linear, so that fc8 is the product of two smaller ones
        builder.stage("bottleneck7")
        builder.linear("bottleneck7", net.bottleneck)

    builder.classifier("fc8")
    return builder.network()


def describe(net: Net, init: Init | None = None, devices: int = 1) -> Network:
    """Lay out the net of a recipe without arrays.

    Parameters
    ----------
    net : recipe.Net
    init : recipe.Init, optional
        Initial values; not needed for shapes and counts.
    devices : int
        1, or the number of columns. A net of the authors' files has one form, which needs a device for each GPU.

    Returns
    -------
    Network

    Examples
    --------
    >>> from tinyalex import alexnet, recipe
    >>> network = alexnet.describe(recipe.load("original").net, devices=2)
    >>> network.parameters()[0].shape
    (11, 11, 3, 48)
    >>> f"{sum(parameter.size for parameter in network.parameters()):,}"
    '60,965,224'
    """
    if net.kind == FILES:
        return cuda_convnet.of_recipe(net)
    kinds = {"alexnet": alexnet, "cifar10": cifar10, "cifar10-local": cifar10_local}
    return kinds[net.kind](net, init or Init(), devices)


def build(
    net: Net,
    init: Init,
    devices: Sequence[str] = ("cpu",),
    seed: int | None = 0,
    dtype: str | np.dtype = "float32",
    kernels: bool = True,
    fall_back: bool = False,
) -> Network:
    """Lay out the net of a recipe and give it arrays, in its precision: see `Network.build`.

    With fewer devices than columns, or than GPUs of the authors' files, neighbouring ones are on one device.

    Examples
    --------
    >>> from tinyalex import alexnet, recipe
    >>> shapes = recipe.load("shapes", ["net.classes=12"])
    >>> network = alexnet.build(shapes.net, shapes.init, devices=["cpu", "cpu"], seed=1)
    >>> network.state()["conv1b/W"].shape
    (11, 11, 3, 16)
    """
    if not net.classes:
        raise UsageError("net.classes: 0 means as many as the data has; give their number to build a net without data")
    count = min(len(devices), net.columns)
    if net.kind == FILES and not isinstance(devices, str) and len(devices):
        devices = (
            [devices[gpu * count // net.columns] for gpu in range(net.columns)] if count == len(devices) else devices
        )
    return describe(net, init, count).build(devices, seed, dtype, kernels, net.precision, fall_back)
