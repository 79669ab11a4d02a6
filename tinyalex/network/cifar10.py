"""The small nets for CIFAR-10: one like that of Figure 1 (paper §3.1), and the two of footnote 3 (§3.3)."""

from tinyalex.layers import AvgPool
from tinyalex.network.layout import NetBuilder


def cifar10(net, init, devices=1):
    """Describe a CIFAR-10 net like that of Figure 1: three convolutions, one max pool and two average pools.

    2012: ``layers-19pct.cfg``, without its weight decay.
    """
    builder = NetBuilder(net, init, devices)
    builder.stage("conv1")
    builder.conv("conv1", net.maps[0], net.kernels[0], net.stride, net.kernels[0] // 2)
    builder.pool(1)
    builder.activation(1)
    for number in (2, 3):
        builder.conv(f"conv{number}", net.maps[number - 1], net.kernels[number - 1], pad=net.kernels[number - 1] // 2)
        builder.activation(number)
        builder.pool(number, AvgPool)
    builder.stage("fc10")
    builder.linear("fc10", builder.classes)
    return builder.network()


def cifar10_local(net, init, devices=1):
    """Describe a net of footnote 3: two convolutions, two locally connected layers, one fully connected.

    2012: ``layers-conv-local-13pct.cfg``, and ``layers-conv-local-11pct.cfg`` as of svn revision 540, which adds
    normalization after the ReLUs of conv1 and conv2, before pooling: over 5 maps, with alpha 0.001 (times the mean of
    the squares) and k 1. (A later file of the same name also has a wider layer and another window.)
    """
    builder = NetBuilder(net, init, devices)
    builder.stage("conv1")
    for number, maps, kernel in zip((1, 2), net.maps[:2], net.kernels[:2], strict=True):
        builder.conv(f"conv{number}", maps, kernel, net.stride if number == 1 else 1, kernel // 2)
        builder.activation(number)
        builder.norm(number, k=1.0, alpha=1e-3)
        builder.pool(number)
    for number, maps, kernel in zip((3, 4), net.maps[2:], net.kernels[2:], strict=True):
        builder.local(f"local{number}", maps, kernel, pad=kernel // 2)
        builder.activation(number)
    builder.stage("fc10")
    builder.linear("fc10", builder.classes)
    return builder.network()
