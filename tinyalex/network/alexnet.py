"""The paper's nets, from a handful of switches (paper §3.5 and Figure 2; 2012: ``layers-145.cfg`` and its relatives).

`describe` lays out stages, columns and layers; it needs no arrays. `build` gives them some. With one device for two
columns the net takes its *grouped form* (see `tinyalex.network.layout`); normalization stays within its column. Names, shapes
and first values of the parameters are the same in either form.
"""

from tinyalex.layers import SpatialNorm
from tinyalex.network.cifar10 import cifar10, cifar10_local
from tinyalex.network.layout import NetBuilder
from tinyalex.recipes.recipe import Init


def alexnet(net, init, devices=1):
    """Describe the paper's net on one device (grouped form, or one column) or on two (a column each)."""
    columns = NetBuilder(net, init, devices)
    loose = net.pool == 2  # run 147: with 2 x 2 pools, conv2 and conv5 pad less so that 13 x 13 and 6 x 6 remain

    columns.stage("conv1", routes=[[column] for column in range(devices)])  # each sees the image
    columns.conv("conv1", net.maps[0], net.kernels[0], net.stride)
    if net.norm == "2012":  # the 2012 order: normalization and pooling see conv1's linear output
        columns.norm(1)
        columns.pool(1)
        columns.activation(1)
    else:
        columns.activation(1)
        columns.norm(1)
        columns.pool(1)

    def convolve(number, padding_less=0):
        name, maps, kernel = f"conv{number}", net.maps[number - 1], net.kernels[number - 1]
        if maps:  # paper §7 leaves one of the middle ones out
            columns.talk(name)
            columns.conv(name, maps, kernel, pad=kernel // 2 - padding_less)
            columns.activation(number if number < 6 else "6c")  # fc6 has a relu6, too

    convolve(2, loose)
    columns.norm(2)
    if net.norm == "2012":  # not in the paper: a second normalization, over space
        columns.add(lambda *_: SpatialNorm().named("norm2s"))
    columns.pool(2)
    convolve(3)
    convolve(4)
    convolve(5, loose)
    columns.pool(5)
    if len(net.maps) == 6:  # run 146, paper §6: "an extra sixth convolutional layer over the last pooling layer"
        convolve(6)

    for number in (6, 7):
        columns.stage(f"fc{number}")
        columns.linear(f"fc{number}", net.hidden)
        columns.activation(number)
        columns.dropout(number)
    if net.bottleneck:  # the 2012 file for 21,843 classes: linear, so that fc8 is the product of two smaller ones
        columns.stage("bottleneck7")
        columns.linear("bottleneck7", net.bottleneck)

    columns.classifier("fc8")
    return columns.network()


def describe(net, init=None, devices=1):
    """Lay out the net of a recipe, without arrays.

    Parameters
    ----------
    net : recipe.Net
    init : recipe.Init, optional
        First values; not needed to look at shapes and counts.
    devices : int
        1, or one a column.

    Returns
    -------
    Network
    """
    kinds = {"alexnet": alexnet, "cifar10": cifar10, "cifar10-local": cifar10_local}
    return kinds[net.kind](net, init or Init(), devices)


def build(net, init, devices=("cpu",), seed=0, dtype="float32", kernels=True):
    """Lay out the net of a recipe and give it arrays; see `Network.build`."""
    count = min(len(devices), net.columns)
    network = describe(net, init, count).build(devices, seed, dtype, kernels)
    for device in network.devices:
        device.tf32 = net.tf32
    return network
