"""The layers of AlexNet, one file for each layer, with backward right below forward."""

from tinyalex.layers.activation import ReLU, Tanh
from tinyalex.layers.convolution import Conv2d
from tinyalex.layers.dropout import Dropout
from tinyalex.layers.layer import Layer, Parameter
from tinyalex.layers.linear import Linear
from tinyalex.layers.locally_connected import LocallyConnected
from tinyalex.layers.loss import SoftmaxLoss
from tinyalex.layers.normalization import LRN, SpatialNorm
from tinyalex.layers.pooling import AvgPool, MaxPool

__all__ = [
    "AvgPool", "Conv2d", "Dropout", "LRN", "Layer", "Linear", "LocallyConnected", "MaxPool", "Parameter", "ReLU",
    "SoftmaxLoss", "SpatialNorm", "Tanh",
]  # fmt: skip
