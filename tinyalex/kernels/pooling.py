"""Pooling on a GPU; the readable forms are in `tinyalex.layers.pooling`.

Forward saves the index of each window's maximum in a byte; in backward each pixel adds up the gradients of the windows
whose maximum it is. A thread computes PART neighbouring channels.
"""

from tinyalex.devices.launch import width
from tinyalex.errors import ShapeError

SOURCE = """
struct Winners { unsigned char at[PART]; };

// The first window, of those Z wide and S apart, that covers a pixel.
__device__ int first(int pixel)
{
    return pixel < Z ? 0 : (pixel - Z) / S + 1;
}

extern "C" __global__ void max_pool(const store *x, store *y, unsigned char *winners, int count)
{
    EACH(row, t, count);  // (n HO, WO C / PART)
    const int n = row / HO, top = row % HO * S, left = t / (C / PART) * S;
    const store *corner = x + ((size_t)(n * H + top) * W + left) * C + t % (C / PART) * PART;
    Vector<store, PART> best = *(const Vector<store, PART> *)corner;
    Winners winner = {};
    for (int u = 0; u < Z && top + u < H; ++u) {
        for (int v = 0; v < Z && left + v < W; ++v) {
            const Vector<store, PART> pixel = *(const Vector<store, PART> *)(corner + (u * W + v) * C);
            for (int e = 0; e < PART; ++e) {
                const bool first_nan = pixel.at[e] != pixel.at[e] && best.at[e] == best.at[e];
                if (pixel.at[e] > best.at[e] || first_nan) {
                    best.at[e] = pixel.at[e];
                    winner.at[e] = u * Z + v;
                }
            }
        }
    }
    ((Vector<store, PART> *)y)[(size_t)row * count + t] = best;
    ((Winners *)winners)[(size_t)row * count + t] = winner;
}

extern "C" __global__ void max_pool_backward(const store *dy, const unsigned char *winners, store *dx, int count)
{
    EACH(row, t, count);  // (n H, W C / PART)
    const int n = row / H, i = row % H, j = t / (C / PART);
    Vector<real, PART> sum = {};
    for (int a = min(i / S, HO - 1); a >= first(i); --a) {
        for (int b = min(j / S, WO - 1); b >= first(j); --b) {
            const size_t unit = ((size_t)(n * HO + a) * WO + b) * (C / PART) + t % (C / PART);
            const Vector<store, PART> gradient = ((const Vector<store, PART> *)dy)[unit];
            const Winners winner = ((const Winners *)winners)[unit];
            for (int e = 0; e < PART; ++e) {
                if (winner.at[e] == (i - a * S) * Z + j - b * S) sum.at[e] += gradient.at[e];
            }
        }
    }
    ((Vector<store, PART> *)dx)[(size_t)row * count + t] = stored(sum);
}

extern "C" __global__ void average_pool(const store *x, store *y, int count)
{
    EACH(row, t, count);  // (n HO, WO C)
    const int n = row / HO, top = row % HO * S, left = t / C * S, down = min(Z, H - top), across = min(Z, W - left);
    const store *corner = x + ((size_t)(n * H + top) * W + left) * C + t % C;
    real sum = 0;
    for (int u = 0; u < down; ++u) {
        for (int v = 0; v < across; ++v) sum += corner[(u * W + v) * C];
    }
    y[(size_t)row * count + t] = sum / (down * across);
}

extern "C" __global__ void average_pool_backward(const store *dy, store *dx, int count)
{
    EACH(row, t, count);  // (n H, W C)
    const int n = row / H, i = row % H, j = t / C;
    real sum = 0;
    for (int a = min(i / S, HO - 1); a >= first(i); --a) {
        for (int b = min(j / S, WO - 1); b >= first(j); --b) {
            const int area = min(Z, H - a * S) * min(Z, W - b * S);
            sum += (real)dy[((size_t)(n * HO + a) * WO + b) * C + t % C] / area;
        }
    }
    dx[(size_t)row * count + t] = sum;
}
"""


def max_pool(device, x, shape, window, stride):
    """Pool x (n, h, w, c) to ``shape`` (n, ho, wo, c); return y and what backward needs."""
    if window**2 > 256:
        raise ShapeError(f"max pooling on {device.name}: a window of {window} pixels a side; use 16 or less")
    x, y, winners = device.xp.ascontiguousarray(x), device.empty(shape, x.dtype), device.empty(shape, "uint8")
    _launch(device, "max_pool", x.shape, shape, shape, window, stride, width(x.shape[3]), x, y, winners)
    return y, (winners, x.shape)


def max_pool_backward(device, dy, saved, window, stride):
    """Return dx: each window's gradient goes to its first maximum."""
    winners, shape = saved
    dy, dx = device.xp.ascontiguousarray(dy), device.empty(shape, dy.dtype)
    _launch(device, "max_pool_backward", shape, dy.shape, shape, window, stride, width(shape[3]), dy, winners, dx)
    return dx


def average_pool(device, x, shape, window, stride):
    """Average x (n, h, w, c) over windows clipped at the edges, to ``shape`` (n, ho, wo, c); return y and None."""
    x, y = device.xp.ascontiguousarray(x), device.empty(shape, x.dtype)
    _launch(device, "average_pool", x.shape, shape, shape, window, stride, 1, x, y)
    return y, None


def average_pool_backward(device, dy, areas, shape, window, stride):
    """Return dx of ``shape`` (n, h, w, c): every pixel of a window gets dy / area. ``areas`` is not used."""
    dy, dx = device.xp.ascontiguousarray(dy), device.empty(shape, dy.dtype)
    _launch(device, "average_pool_backward", shape, dy.shape, shape, window, stride, 1, dy, dx)
    return dx


def _launch(device, name, shape, pooled, result, window, stride, part, *arrays):
    # With a thread for each ``part`` neighbouring channels of the result.
    (_, h, w, c), (_, ho, wo, _), (n, rows, columns, _) = shape, pooled, result
    sizes = {"H": h, "W": w, "C": c, "HO": ho, "WO": wo, "Z": window, "S": stride, "PART": part}
    device.launch(SOURCE, name, n * rows, columns * c // part, *arrays, **sizes)
