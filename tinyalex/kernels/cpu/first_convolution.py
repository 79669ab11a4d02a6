"""The first convolution for NumPy, by im2col; the readable form is in `tinyalex.layers.convolution`.

Images have three channels, so that runs along the channels would be short: here they are (h, phase, c, w/s, n), where
the pixels of one phase are s apart, and a patch's number is a run over all outputs of a row and all images. The patches
of some rows are a matrix (k k c + 1, wo n) each; the last row is ones, for the bias. The input needs no gradient.
"""

import numpy as np

from tinyalex.kernels.cpu.scratch import steps, strided
from tinyalex.kernels.cpu.winograd import SMALL

PATCHES = 1 << 17  # numbers of patches at a time, to stay in cache


class FirstConvolution:
    """A convolution of images, and its parameters as one matrix (k k c + 1, o).

    Parameters
    ----------
    shape, outputs : tuple of int
        (h, w, c) and (ho, wo, o) of one image.
    kernel, stride, pad : int
    dtype : dtype
    """

    def __init__(self, shape, outputs, kernel, stride, pad, dtype):
        self.shape, self.outputs, self.kernel, self.stride, self.pad = shape, outputs, kernel, stride, pad
        self.numbers = kernel**2 * shape[2] + 1
        self.height, width = ((size - 1) * stride + kernel for size in outputs[:2])
        self.width = -(-width // stride)
        self.W = np.empty((self.numbers, outputs[2]), dtype)  # one array for all batches, as the calls refer to it

    def prepare(self, W, b):
        """Take the parameters of a new batch, W (k, k, c, o) and b (o,)."""
        self.W[:-1], self.W[-1] = W.reshape(-1, len(b)), b

    def gradients(self, scratch):
        """Return one worker's sum of the gradient over its blocks."""
        return (scratch.get(("dW", id(self)), (self.numbers, self.outputs[2])),)

    def finish(self, sums, dW, db):
        """Write the gradients of the parameters from all workers' sums."""
        total = sum(each for (each,) in sums)
        dW[...], db[...] = total[:-1].reshape(dW.shape), total[-1]

    def input(self, scratch, images):
        """Return a new array for images, twice."""
        x = np.zeros((self.height, self.stride, self.shape[2], self.width, images), scratch.dtype)
        return x, x

    def load(self, x, images):
        """Write images (n, h, w, c) into an array of `input`; those beyond n become 0."""
        p, s, n = self.pad, self.stride, len(images)
        rows = images[:, : self.height - p]
        x[..., n:] = 0
        for phase in range(s):
            first = (phase - p) % s
            left = (first + p) // s
            pixels = rows[:, :, first::s][:, :, : self.width - left]
            to = x[p : p + rows.shape[1], phase, :, left : left + pixels.shape[2], :n]
            to[...] = pixels.transpose(1, 3, 2, 0)

    def output(self, scratch, images):
        """Return scratch for the outputs (ho, wo, n o), twice."""
        ho, wo, o = self.outputs
        y = scratch.get("outputs", (ho, wo, images * o))
        return y, y

    def gradient(self, scratch, images):
        """Return scratch for dy (ho, wo, n o), twice."""
        ho, wo, o = self.outputs
        dy = scratch.get("dy", (ho, wo, images * o))
        return dy, dy

    def forward(self, scratch, images, x, y):
        """Yield the calls that compute y of `output` from x of `input`."""
        for rows in self._rows(images):
            patches = yield from self._patches(scratch, images, x, rows)
            yield np.matmul, patches.swapaxes(2, 3), self.W, self._parts(y[rows], images)

    def backward(self, scratch, images, x, dy, first):
        """Yield the calls that compute the gradient of the parameters, or add to it; return None, for dx."""
        (dW,) = self.gradients(scratch)
        for rows in self._rows(images):
            patches = yield from self._patches(scratch, images, x, rows)
            parts = scratch.get("dW parts", (*patches.shape[:2], *dW.shape))
            part = scratch.get("dW part", dW.shape)
            yield np.matmul, patches, self._parts(dy[rows], images), parts
            yield np.add.reduce, parts.reshape(-1, *dW.shape), 0, None, part
            yield (np.copyto, dW, part) if first and rows.start == 0 else (np.add, dW, part, dW)
        return None

    def _rows(self, images):
        # The rows of outputs whose patches are made together.
        ho, wo, _ = self.outputs
        count = max(1, PATCHES // (self.numbers * wo * images))
        return [slice(low, min(low + count, ho)) for low in range(0, ho, count)]

    def _patches(self, scratch, images, x, rows):
        # The patches of some rows, each cut into parts so that products are small: (rows, parts, numbers, positions).
        k, s, c, size = self.kernel, self.stride, self.shape[2], self.outputs[1] * images
        first, count = rows.start, rows.stop - rows.start
        patches = scratch.get("patches", (count, self.numbers, size))
        patches[:, -1] = 1
        numbers, (rows, _, channels, pixels, _) = patches[:, :-1].reshape(count, k, k, c, size), steps(x)
        for phase in range(min(s, k)):
            window = strided(
                x[s * first :, phase], (count, k, -(-(k - phase) // s), c, size), (s * rows, rows, pixels, channels, 1)
            )
            yield np.copyto, numbers[:, :, phase::s], window
        parts, (row, number, _) = self._count(images), steps(patches)
        return strided(patches, (count, parts, self.numbers, size // parts), (row, size // parts, number, 1))

    def _parts(self, y, images):
        parts = self._count(images)
        return y.reshape(len(y), parts, self.outputs[1] * images // parts, self.outputs[2])

    def _count(self, images):
        # How many parts: as few as keep the products small.
        size, limit = self.outputs[1] * images, max(48, SMALL // (self.numbers * self.outputs[2]))
        return next(parts for parts in range(1, size + 1) if size % parts == 0 and size // parts <= limit)
