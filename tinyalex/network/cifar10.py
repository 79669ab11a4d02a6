"""The small nets for CIFAR-10: Figure 1's kind (paper §3.1) and the two of footnote 3 (§3.3)."""

from tinyalex.layers import AvgPool
from tinyalex.network.layout import NetBuilder


def cifar10(net, init, devices=1):
    """Describe the CIFAR-10 net of Figure 1's kind: three convolutions, of which only the first pools by maximum.

    2012: ``layers-19pct.cfg``, without its weight decay.
    """
    columns = NetBuilder(net, init, devices)
    columns.stage("conv1")
    columns.conv("conv1", net.maps[0], net.kernels[0], net.stride, net.kernels[0] // 2)
    columns.pool(1)
    columns.activation(1)
    for number in (2, 3):
        columns.conv(f"conv{number}", net.maps[number - 1], net.kernels[number - 1], pad=net.kernels[number - 1] // 2)
        columns.activation(number)
        columns.pool(number, AvgPool)
    columns.stage("fc10")
    columns.linear("fc10", net.classes)
    return columns.network()


def cifar10_local(net, init, devices=1):
    """Describe a net of footnote 3: two convolutions, two locally connected layers, and classes.

    2012: ``layers-conv-local-13pct.cfg``, and as of svn revision 540 ``layers-conv-local-11pct.cfg``, which adds
    normalization after the ReLUs of conv1 and conv2, before they are pooled: over 5 maps, with alpha 0.001 (of the
    mean) and k 1. (The file of that name which was published later also has a wider layer and another window.)
    """
    columns = NetBuilder(net, init, devices)
    columns.stage("conv1")
    for number, maps, kernel in zip((1, 2), net.maps[:2], net.kernels[:2], strict=True):
        columns.conv(f"conv{number}", maps, kernel, net.stride if number == 1 else 1, kernel // 2)
        columns.activation(number)
        columns.norm(number, k=1.0, alpha=1e-3)
        columns.pool(number)
    for number, maps, kernel in zip((3, 4), net.maps[2:], net.kernels[2:], strict=True):
        columns.local(f"local{number}", maps, kernel, pad=kernel // 2)
        columns.activation(number)
    columns.stage("fc10")
    columns.linear("fc10", net.classes)
    return columns.network()
