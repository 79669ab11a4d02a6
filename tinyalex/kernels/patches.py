"""im2col and col2im on a card; the readable forms are in `tinyalex.layers.patches`.

Row ``i`` of a launch is a row of places (n, i) or of pixels (n, y). What neighbouring threads read and write lies side
by side, since patches and images both end in the channels.
"""

SOURCE = """
// Four neighbours of a patch: (n, i, j; u, v, channel), zero outside the image and beyond the patch's k k c numbers.
extern "C" __global__ void im2col(const real *x, real *patches, int count, int h, int w, int c, int wide,
                                  int ho, int wo, int k, int s, int p, int quads)
{
    EACH(row, t, count);  // (n ho, wo quads)
    const int n = row / ho, i = row % ho, j = t / quads, column = 4 * (t % quads);
    int u = column / (k * c), v = column / c % k, channel = column % c;
    real *out = patches + ((size_t)row * wo * quads + t) * 4;
    for (int e = 0; e < 4; ++e) {
        const int y = s * i + u - p, z = s * j + v - p;
        const bool inside = u < k && y >= 0 && y < h && z >= 0 && z < w;
        out[e] = inside ? x[((size_t)(n * h + y) * w + z) * wide + channel] : 0;
        if (++channel == c) {
            channel = 0;
            if (++v == k) {
                v = 0;
                ++u;
            }
        }
    }
}

// A pixel gathers its share of all patches that cover it, u and v ascending, so in the readable form's order.
extern "C" __global__ void col2im(const real *patches, real *x, int count, int h, int w, int c, int length,
                                  int ho, int wo, int k, int s, int p)
{
    EACH(row, t, count);  // (n h, w c)
    const int n = row / h, y = row % h + p, z = t / c + p, channel = t % c;
    const int top = y < k ? 0 : (y - k) / s + 1, left = z < k ? 0 : (z - k) / s + 1;
    real sum = 0;
    for (int i = min(y / s, ho - 1); i >= top; --i) {
        for (int j = min(z / s, wo - 1); j >= left; --j) {
            const int u = y - i * s, v = z - j * s;
            sum += patches[((size_t)(n * ho + i) * wo + j) * length + (u * k + v) * c + channel];
        }
    }
    x[(size_t)row * count + t] = sum;
}
"""


def im2col(device, x, ho, wo, kernel, stride, pad):
    """Write patches (n ho wo, k k c) of images (n, h, w, c), which may be some of the channels of wider ones.

    A row takes a multiple of four numbers of memory, as tensor cores want it: the view leaves out what is beyond.
    """
    n, h, w, c = x.shape
    if x.strides != tuple(x.itemsize * step for step in (h * w * _wide(x), w * _wide(x), _wide(x), 1)):
        x = device.xp.ascontiguousarray(x)
    quads = -(-kernel * kernel * c // 4)
    patches = device.empty((n * ho * wo, 4 * quads), x.dtype)
    sizes = (h, w, c, _wide(x), ho, wo, kernel, stride, pad, quads)
    device.launch(SOURCE, "im2col", n * ho, wo * quads, x, patches, *sizes)
    return patches[:, : kernel * kernel * c]


def col2im(device, patches, shape, ho, wo, kernel, stride, pad):
    """Add patches (n ho wo, k k c), whose rows may lie apart, up to images (n, h, w, c)."""
    n, h, w, c = shape
    x = device.empty(shape, patches.dtype)
    length = patches.strides[0] // patches.itemsize
    device.launch(SOURCE, "col2im", n * h, w * c, patches, x, h, w, c, length, ho, wo, kernel, stride, pad)
    return x


def _wide(x):
    # Numbers from one pixel to the next.
    return x.strides[2] // x.itemsize
