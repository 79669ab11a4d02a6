"""Pooling on a card; the readable forms are in `tinyalex.layers.pooling`.

Forward notes each window's winner in a byte; backward lets every pixel ask the windows that cover it.
"""

SOURCE = """
extern "C" __global__ void max_pool(const real *x, real *y, unsigned char *winners, int count, int h, int w, int c,
                                    int ho, int z, int s)
{
    EACH(row, t, count);  // (n ho, wo c)
    const int n = row / ho, top = row % ho * s, left = t / c * s;
    const real *corner = x + ((size_t)(n * h + top) * w + left) * c + t % c;
    real best = *corner;
    int winner = 0;
    for (int u = 0; u < z && top + u < h; ++u) {
        for (int v = 0; v < z && left + v < w; ++v) {
            const real value = corner[(u * w + v) * c];
            if (value > best || value != value) {  // a NaN stays
                best = value;
                winner = u * z + v;
            }
        }
    }
    y[(size_t)row * count + t] = best;
    winners[(size_t)row * count + t] = winner;
}

extern "C" __global__ void max_pool_backward(const real *dy, const unsigned char *winners, real *dx, int count,
                                             int h, int c, int ho, int wo, int z, int s)
{
    EACH(row, t, count);  // (n h, w c)
    const int n = row / h, i = row % h, j = t / c;
    const int top = i < z ? 0 : (i - z) / s + 1, left = j < z ? 0 : (j - z) / s + 1;
    real sum = 0;
    for (int a = min(i / s, ho - 1); a >= top; --a) {
        for (int b = min(j / s, wo - 1); b >= left; --b) {
            const size_t unit = ((size_t)(n * ho + a) * wo + b) * c + t % c;
            if (winners[unit] == (i - a * s) * z + j - b * s) sum += dy[unit];
        }
    }
    dx[(size_t)row * count + t] = sum;
}

extern "C" __global__ void average_pool(const real *x, real *y, int count, int h, int w, int c, int ho, int z, int s)
{
    EACH(row, t, count);  // (n ho, wo c)
    const int n = row / ho, top = row % ho * s, left = t / c * s, down = min(z, h - top), across = min(z, w - left);
    const real *corner = x + ((size_t)(n * h + top) * w + left) * c + t % c;
    real sum = 0;
    for (int u = 0; u < down; ++u) {
        for (int v = 0; v < across; ++v) sum += corner[(u * w + v) * c];
    }
    y[(size_t)row * count + t] = sum / (down * across);
}

extern "C" __global__ void average_pool_backward(const real *dy, real *dx, int count, int h, int w, int c,
                                                 int ho, int wo, int z, int s)
{
    EACH(row, t, count);  // (n h, w c)
    const int n = row / h, i = row % h, j = t / c;
    const int top = i < z ? 0 : (i - z) / s + 1, left = j < z ? 0 : (j - z) / s + 1;
    real sum = 0;
    for (int a = min(i / s, ho - 1); a >= top; --a) {
        for (int b = min(j / s, wo - 1); b >= left; --b) {
            const int area = min(z, h - a * s) * min(z, w - b * s);
            sum += dy[((size_t)(n * ho + a) * wo + b) * c + t % c] / area;
        }
    }
    dx[(size_t)row * count + t] = sum;
}
"""


def max_pool(layer, x, step=None):
    """Run `MaxPool` forward."""
    layer.expect(layer.window**2 <= 256, (layer.window,), "a window whose places fit in a byte, 16 or less")
    x, y = _in_and_out(layer, x)
    (n, h, w, c), (_, ho, wo, _) = x.shape, y.shape
    winners = layer.device.empty(y.shape, "uint8")
    layer.device.launch(SOURCE, "max_pool", n * ho, wo * c, x, y, winners, h, w, c, ho, layer.window, layer.stride)
    layer.saved = winners, x.shape
    return y


def max_pool_backward(layer, dy):
    """Run `MaxPool` backward."""
    winners, shape = layer.recall()
    dy, dx = layer.device.xp.ascontiguousarray(dy), layer.device.empty(shape, dy.dtype)
    (n, h, w, c), (_, ho, wo, _) = shape, dy.shape
    sizes = h, c, ho, wo, layer.window, layer.stride
    layer.device.launch(SOURCE, "max_pool_backward", n * h, w * c, dy, winners, dx, *sizes)
    return dx


def average_pool(layer, x, step=None):
    """Run `AvgPool` forward."""
    x, y = _in_and_out(layer, x)
    (n, h, w, c), (_, ho, wo, _) = x.shape, y.shape
    layer.device.launch(SOURCE, "average_pool", n * ho, wo * c, x, y, h, w, c, ho, layer.window, layer.stride)
    layer.saved = x.shape
    return y


def average_pool_backward(layer, dy):
    """Run `AvgPool` backward."""
    shape = layer.recall()
    dy, dx = layer.device.xp.ascontiguousarray(dy), layer.device.empty(shape, dy.dtype)
    (n, h, w, c), (_, ho, wo, _) = shape, dy.shape
    sizes = h, w, c, ho, wo, layer.window, layer.stride
    layer.device.launch(SOURCE, "average_pool_backward", n * h, w * c, dy, dx, *sizes)
    return dx


def _in_and_out(layer, x):
    return layer.device.xp.ascontiguousarray(x), layer.device.empty((len(x), *layer.output_shape(x.shape[1:])), x.dtype)
