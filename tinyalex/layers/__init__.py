"""The layers of AlexNet, one file for each layer, with backward right below forward."""

from tinyalex.layers.activation import ReLU, Tanh
from tinyalex.layers.blur import GaussianBlur, Subsample
from tinyalex.layers.channels import ChannelSlice
from tinyalex.layers.contrast import ContrastNorm
from tinyalex.layers.convolution import Conv2d
from tinyalex.layers.dropout import Dropout
from tinyalex.layers.joined import ElementwiseSum, SumOfInputs
from tinyalex.layers.layer import Layer, Parameter
from tinyalex.layers.linear import Linear
from tinyalex.layers.locally_connected import LocallyConnected
from tinyalex.layers.loss import SoftmaxLoss
from tinyalex.layers.normalization import LRN, SpatialNorm
from tinyalex.layers.pooling import AvgPool, MaxPool
from tinyalex.layers.sparse import DealChannels
from tinyalex.layers.units import Abs, Logistic, ScaledTanh, SoftReLU, Square

__all__ = [
    "Abs", "AvgPool", "ChannelSlice", "ContrastNorm", "Conv2d", "DealChannels", "Dropout", "ElementwiseSum",
    "GaussianBlur", "LRN", "Layer", "Linear", "LocallyConnected", "Logistic", "MaxPool", "Parameter", "ReLU",
    "ScaledTanh", "SoftReLU", "SoftmaxLoss", "SpatialNorm", "Square", "Subsample", "SumOfInputs", "Tanh",
]  # fmt: skip
