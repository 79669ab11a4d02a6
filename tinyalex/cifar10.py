"""The small nets for CIFAR-10: Figure 1's kind (paper §3.1; 2012: ``layers-19pct.cfg`` without its weight decay)."""

from tinyalex.alexnet import Columns
from tinyalex.layers import AvgPool


def cifar10(net, init, devices=1):
    """Describe the CIFAR-10 net of Figure 1's kind: three convolutions, of which only the first pools by maximum."""
    columns = Columns(net, init, devices)
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
