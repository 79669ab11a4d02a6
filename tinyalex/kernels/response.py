"""Response normalization on a GPU; the readable forms are in `tinyalex.layers.normalization`.

Across maps only x is saved: backward computes d again for the windows that contain a map, which is faster than reading
it from memory.
"""

import math

from tinyalex.devices.launch import real_of

SOURCE = """
#define BEFORE (SIZE / 2)
#define AFTER (SIZE - 1 - BEFORE)

// Backward sums x d^(-beta - 1), which in float is less than the smallest number if x is 1e11 or more, times this.
#define SCALE ((real)1099511627776)

// d^-beta and r = d^-1/2. For the paper's 3/4 by square roots: d^-3/4 = r r^1/2 = r (r r^-1/2), and 0 if d is infinite.
__device__ real powers(real d, real beta, real *r)
{
    *r = rsqrt(d);
    if (beta != (real)0.75) return pow(d, -beta);
    return *r * (*r * rsqrt(*r > 0 ? *r : 1));
}

extern "C" __global__ void across(const store *x, store *y, int count, real k, real alpha, real beta)
{
    EACH(row, t, count);
    const int map = t % MAPS;
    const size_t at = (size_t)row * count + t;
    real sum = 0, r;
    for (int a = -BEFORE; a <= AFTER; ++a) {
        const real v = map + a >= 0 && map + a < MAPS ? (real)x[at + a] : 0;
        sum += v * v;
    }
    y[at] = x[at] * powers(k + alpha * sum, beta, &r);
}

extern "C" __global__ void across_backward(const store *dy, const store *x, store *dx, int count,
                                           real k, real alpha, real beta)
{
    EACH(row, t, count);
    const int map = t % MAPS;
    const size_t at = (size_t)row * count + t;
    real v[2 * SIZE - 1];  // x from map - (SIZE - 1) to map + (SIZE - 1)
    for (int a = 0; a < 2 * SIZE - 1; ++a) {
        const int other = map + a - (SIZE - 1);
        v[a] = other >= 0 && other < MAPS ? (real)x[at + a - (SIZE - 1)] : 0;
    }
    real own = 0, cross = 0;
    for (int a = 0; a < SIZE; ++a) {  // the windows that contain this map; the middle of window a is v[BEFORE + a]
        const int other = map + a - AFTER;
        real sum = 0, r;
        for (int b = 0; b < SIZE; ++b) sum += v[a + b] * v[a + b];
        const real p = powers(k + alpha * sum, beta, &r);
        if (other >= 0 && other < MAPS) cross += dy[at + a - AFTER] * (v[BEFORE + a] * r * r * SCALE * p);
        if (a == AFTER) own = p;
    }
    dx[at] = dy[at] * own - 2 * alpha * beta / SCALE * (v[SIZE - 1] * cross);
}

extern "C" __global__ void around(const store *x, store *y, real *p, real *q, int count, real k, real alpha, real beta)
{
    EACH(row, t, count);  // (n H, W MAPS)
    const int i = row % H, j = t / MAPS;
    const size_t at = (size_t)row * count + t;
    real sum = 0, r;
    for (int u = -BEFORE; u <= AFTER; ++u) {
        for (int v = -BEFORE; v <= AFTER; ++v) {
            const bool inside = i + u >= 0 && i + u < H && j + v >= 0 && j + v < W;
            const real other = inside ? (real)x[at + (u * W + v) * MAPS] : 0;
            sum += other * other;
        }
    }
    p[at] = powers(k + alpha * sum, beta, &r);
    y[at] = x[at] * p[at];
    q[at] = x[at] * r * r * SCALE * p[at];
}

extern "C" __global__ void around_backward(const store *dy, const store *x, const real *p, const real *q, store *dx,
                                           int count, real alpha, real beta)
{
    EACH(row, t, count);  // (n H, W MAPS)
    const int i = row % H, j = t / MAPS;
    const size_t at = (size_t)row * count + t;
    real cross = 0;
    for (int u = -AFTER; u <= BEFORE; ++u) {
        for (int v = -AFTER; v <= BEFORE; ++v) {
            const bool inside = i + u >= 0 && i + u < H && j + v >= 0 && j + v < W;
            if (inside) cross += dy[at + (u * W + v) * MAPS] * q[at + (u * W + v) * MAPS];
        }
    }
    dx[at] = dy[at] * p[at] - 2 * alpha * beta / SCALE * (x[at] * cross);
}
"""


def forward(device, x, size, k, alpha, beta, groups):
    """Normalize x; return y and what backward needs.

    Parameters
    ----------
    device : Device
    x : array, shape (n, h, w, c)
        With ``groups``, any shape with the maps last.
    size : int
    k, alpha, beta : float
    groups : int or None
        Windows over maps, in so many groups (`LRN`); None for windows over pixels (`SpatialNorm`).
    """
    x = device.xp.ascontiguousarray(x)
    y = device.empty(x.shape, x.dtype)
    if groups is None:
        p, q = (device.empty(x.shape, real_of(x.dtype)) for _ in range(2))
        _around(device, "around", x, size, x, y, p, q, k, alpha, beta)
        return y, (x, p, q)
    _across(device, "across", x, size, groups, x, y, k, alpha, beta)
    return y, (x, None, None)


def backward(device, dy, saved, size, k, alpha, beta, groups):
    """Return dx."""
    (x, p, q), dy = saved, device.xp.ascontiguousarray(dy)
    dx = device.empty(x.shape, dy.dtype)
    if groups is None:
        _around(device, "around_backward", x, size, dy, x, p, q, dx, alpha, beta)
    else:
        _across(device, "across_backward", x, size, groups, dy, x, dx, k, alpha, beta)
    return dx


def _across(device, name, x, size, groups, *arguments):
    count = math.prod(x.shape[-2:])  # a row of pixels
    sizes = {"SIZE": size, "MAPS": x.shape[-1] // groups, "H": 1, "W": 1}
    device.launch(SOURCE, name, x.size // count, count, *arguments, **sizes)


def _around(device, name, x, size, *arguments):
    n, h, w, c = x.shape
    device.launch(SOURCE, name, n * h, w * c, *arguments, SIZE=size, MAPS=c, H=h, W=w)
