"""The reference implementation: every layer in plain loops, slow and obvious, independent of `tinyalex.layers`.

Each layer is a pair of functions: ``layer`` computes the output, ``layer_backward`` the gradients. Arrays are NumPy's
in float64, images (n, h, w, c), kernels (k, k, c, o). Tests and lessons compare with them.

>>> import numpy as np
>>> from tinyalex.layers import loops
>>> x, W, b = np.ones((1, 7, 7, 3)), np.ones((3, 3, 3, 2)), np.zeros(2)
>>> y = loops.conv2d(x, W, b, stride=2)
>>> y.shape
(1, 3, 3, 2)
>>> dx, dW, db = loops.conv2d_backward(np.ones_like(y), x, W, stride=2)
>>> db
array([9., 9.])
"""

from tinyalex.layers.loops.activation import relu, relu_backward, tanh, tanh_backward
from tinyalex.layers.loops.blur import gaussian_blur, gaussian_blur_backward, subsample, subsample_backward
from tinyalex.layers.loops.contrast import contrast_norm, contrast_norm_backward
from tinyalex.layers.loops.convolution import conv2d, conv2d_backward
from tinyalex.layers.loops.dropout import dropout, dropout_backward
from tinyalex.layers.loops.joined import (
    channel_slice,
    channel_slice_backward,
    deal_channels,
    deal_channels_backward,
    elementwise_sum,
    elementwise_sum_backward,
)
from tinyalex.layers.loops.linear import linear, linear_backward
from tinyalex.layers.loops.locally_connected import locally_connected, locally_connected_backward
from tinyalex.layers.loops.loss import softmax_loss, softmax_loss_backward
from tinyalex.layers.loops.normalization import lrn, lrn_backward, spatial_norm, spatial_norm_backward
from tinyalex.layers.loops.pooling import avg_pool, avg_pool_backward, max_pool, max_pool_backward
from tinyalex.layers.loops.units import (
    absolute,
    absolute_backward,
    logistic,
    logistic_backward,
    scaled_tanh,
    scaled_tanh_backward,
    soft_relu,
    soft_relu_backward,
    square,
    square_backward,
)

__all__ = [
    "absolute",
    "absolute_backward",
    "avg_pool",
    "avg_pool_backward",
    "channel_slice",
    "channel_slice_backward",
    "contrast_norm",
    "contrast_norm_backward",
    "conv2d",
    "conv2d_backward",
    "deal_channels",
    "deal_channels_backward",
    "dropout",
    "dropout_backward",
    "elementwise_sum",
    "elementwise_sum_backward",
    "gaussian_blur",
    "gaussian_blur_backward",
    "linear",
    "linear_backward",
    "locally_connected",
    "locally_connected_backward",
    "logistic",
    "logistic_backward",
    "lrn",
    "lrn_backward",
    "max_pool",
    "max_pool_backward",
    "relu",
    "relu_backward",
    "scaled_tanh",
    "scaled_tanh_backward",
    "soft_relu",
    "soft_relu_backward",
    "softmax_loss",
    "softmax_loss_backward",
    "spatial_norm",
    "spatial_norm_backward",
    "square",
    "square_backward",
    "subsample",
    "subsample_backward",
    "tanh",
    "tanh_backward",
]
