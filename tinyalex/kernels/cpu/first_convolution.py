"""The first convolution for NumPy, by im2col; the readable form is in `tinyalex.layers.convolution`.

Images have three channels, so that runs along the channels would be short: here they are (h, phase, c, w/s, n), where
the pixels of one phase are s apart, and a patch's number is a run over all outputs of a row and all images. What a line
of pixels gives to the patches of a row is a matrix (k c + 1, wo n); its last row is ones, for the bias. It is made once
for all rows of outputs that read the line: their patches are k of these matrices, one below the other. The input needs
no gradient.
"""

import numpy as np

from tinyalex.kernels.cpu.scratch import steps, strided
from tinyalex.kernels.cpu.winograd import SMALL

PATCHES = 1 << 17  # numbers of lines at a time, to stay in cache


class FirstConvolution:
    """A convolution of images, and its parameters as one array (k, k c + 1, o).

    Parameters
    ----------
    shape, outputs : tuple of int
        (h, w, c) and (ho, wo, o) of one image.
    kernel, stride, pad : int
    dtype : dtype
    """

    def __init__(self, shape, outputs, kernel, stride, pad, dtype):
        self.shape, self.outputs, self.kernel, self.stride, self.pad = shape, outputs, kernel, stride, pad
        self.line = kernel * shape[2] + 1  # numbers that a line gives to a patch
        self.height, width = ((size - 1) * stride + kernel for size in outputs[:2])
        self.width = -(-width // stride)
        self.W = np.zeros((kernel, self.line, outputs[2]), dtype)  # one array for all batches: the calls refer to it

    def prepare(self, W, b):
        """Take the parameters of a new batch, W (k, k, c, o) and b (o,)."""
        self.W[:, :-1], self.W[0, -1] = W.reshape(self.kernel, -1, len(b)), b

    def gradients(self, scratch):
        """Return one worker's sum of the gradient over its blocks."""
        return (scratch.get(("dW", id(self)), self.W.shape),)

    def finish(self, sums, dW, db):
        """Write the gradients of the parameters from all workers' sums."""
        total = sum(each for (each,) in sums)
        dW[...], db[...] = total[:, :-1].reshape(dW.shape), total[0, -1]

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
        for chunk in self._chunks(images):
            patches = yield from self._patches(scratch, images, x, chunk)
            yield np.matmul, patches.swapaxes(2, 3), self.W.reshape(-1, self.outputs[2]), self._parts(y, images, chunk)

    def backward(self, scratch, images, x, dy, first):
        """Yield the calls that compute the gradient of the parameters, or add to it; return None, for dx."""
        dW = self.gradients(scratch)[0].reshape(-1, self.outputs[2])
        for number, chunk in enumerate(self._chunks(images)):
            patches = yield from self._patches(scratch, images, x, chunk)
            parts = scratch.get("dW parts", (*patches.shape[:2], *dW.shape))
            part = scratch.get("dW part", dW.shape)
            yield np.matmul, patches, self._parts(dy, images, chunk), parts
            yield np.add.reduce, parts.reshape(-1, *dW.shape), 0, None, part
            yield (np.copyto, dW, part) if first and number == 0 else (np.add, dW, part, dW)
        return None

    def _chunks(self, images):
        # What is computed together, so that its lines stay in cache: some rows of outputs, and in each some parts of
        # its positions. A line is made once for all rows of a chunk that read it: so a chunk has twice as many rows.
        ho, size, part = self.outputs[0], self.outputs[1] * images, self._part(images)
        rows = min(ho, -(-2 * self.kernel // self.stride))
        together = max(1, PATCHES // (self._lines(rows) * self.line * part))
        if together * part >= size:
            rows = max(rows, (PATCHES // (self.line * size) - self.kernel) // self.stride + 1)
        return [
            (slice(low, min(low + rows, ho)), slice(left, min(left + together, size // part)))
            for low in range(0, ho, rows)
            for left in range(0, size // part, together)
        ]

    def _patches(self, scratch, images, x, chunk):
        # The patches of a chunk, in parts so that products are small: (rows, parts, numbers, positions).
        (rows, parts), k, s, c, part = chunk, self.kernel, self.stride, self.shape[2], self._part(images)
        count, together = rows.stop - rows.start, parts.stop - parts.start
        lines = scratch.get("lines", (self._lines(count), self.line, together * part))
        lines[:, -1] = 1
        numbers = lines[:, :-1].reshape(len(lines), k, c, together * part)
        down, _, channels, pixels, _ = steps(x)
        pixel, image = divmod(parts.start * part, images)
        for phase in range(min(s, k)):
            shape = len(lines), -(-(k - phase) // s), c, together * part
            start = x[s * rows.start :, phase, :, pixel:, image:]
            yield np.copyto, numbers[:, phase::s], strided(start, shape, (down, pixels, channels, 1))
        line, number, _ = steps(lines)
        return strided(lines, (count, together, k * self.line, part), (s * line, part, number, 1))

    def _parts(self, y, images, chunk):
        rows, parts = chunk
        return y.reshape(len(y), -1, self._part(images), self.outputs[2])[rows, parts]

    def _lines(self, rows):
        return (rows - 1) * self.stride + self.kernel

    def _part(self, images):
        # Positions in a part: the most that keep a product small.
        size, limit = self.outputs[1] * images, max(48, SMALL // (self.kernel * self.line * self.outputs[2]))
        return max(part for part in range(1, min(limit, size) + 1) if size % part == 0)
