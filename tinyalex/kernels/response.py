"""Response normalization on a card; the readable forms are in `tinyalex.layers.normalization`.

Across maps nothing is kept but x: a thread computes the nine squares that its five windows take in, and their d, anew,
which is less than reading them would be.
"""

import math

SOURCE = """
#ifndef SIZE
#define SIZE 1
#endif
#define BEFORE (SIZE / 2)
#define AFTER (SIZE - 1 - BEFORE)

// d^-beta; r d^-1/4 with r = d^-1/2 for the paper's 3/4.
__device__ real power(real d, real beta)
{
    if (beta != (real)0.75) return pow(d, -beta);
    const real r = rsqrt(d);
    return r * sqrt(r);
}

extern "C" __global__ void across(const real *x, real *y, int count, int maps, real k, real alpha, real beta)
{
    EACH(row, t, count);
    const int map = t % maps;
    const size_t at = (size_t)row * count + t;
    real sum = 0;
    for (int a = -BEFORE; a <= AFTER; ++a) {
        const real v = map + a >= 0 && map + a < maps ? x[at + a] : 0;
        sum += v * v;
    }
    y[at] = x[at] * power(k + alpha * sum, beta);
}

extern "C" __global__ void across_backward(const real *dy, const real *x, real *dx, int count, int maps,
                                           real k, real alpha, real beta)
{
    EACH(row, t, count);
    const int map = t % maps;
    const size_t at = (size_t)row * count + t;
    real v[2 * SIZE - 1];  // x from map - (SIZE - 1) to map + (SIZE - 1)
    for (int a = 0; a < 2 * SIZE - 1; ++a) {
        const int other = map + a - (SIZE - 1);
        v[a] = other >= 0 && other < maps ? x[at + a - (SIZE - 1)] : 0;
    }
    real own = 0, cross = 0;
    for (int a = 0; a < SIZE; ++a) {  // whose windows take this map in; the middle of window a is v[BEFORE + a]
        const int other = map + a - AFTER;
        real sum = 0;
        for (int b = 0; b < SIZE; ++b) sum += v[a + b] * v[a + b];
        const real d = k + alpha * sum, p = power(d, beta);
        if (other >= 0 && other < maps) cross += dy[at + a - AFTER] * v[BEFORE + a] * p / d;
        if (a == AFTER) own = p;
    }
    dx[at] = dy[at] * own - 2 * alpha * beta * v[SIZE - 1] * cross;
}

extern "C" __global__ void around(const real *x, real *y, real *p, real *q, int count, int h, int w, int c, int size,
                                  real k, real alpha, real beta)
{
    EACH(row, t, count);  // (n h, w c)
    const int i = row % h, j = t / c;
    const size_t at = (size_t)row * count + t;
    real sum = 0;
    for (int u = max(-i, -(size / 2)); u < size - size / 2 && i + u < h; ++u) {
        for (int v = max(-j, -(size / 2)); v < size - size / 2 && j + v < w; ++v) {
            const real other = x[at + (u * w + v) * c];
            sum += other * other;
        }
    }
    const real d = k + alpha * sum;
    p[at] = power(d, beta);
    y[at] = x[at] * p[at];
    q[at] = y[at] / d;
}

extern "C" __global__ void around_backward(const real *dy, const real *x, const real *p, const real *q, real *dx,
                                           int count, int h, int w, int c, int size, real alpha, real beta)
{
    EACH(row, t, count);
    const int i = row % h, j = t / c, before = size - 1 - size / 2;
    const size_t at = (size_t)row * count + t;
    real cross = 0;
    for (int u = max(-i, -before); u < size - before && i + u < h; ++u) {
        for (int v = max(-j, -before); v < size - before && j + v < w; ++v) {
            const size_t other = at + (u * w + v) * c;
            cross += dy[other] * q[other];
        }
    }
    dx[at] = dy[at] * p[at] - 2 * alpha * beta * x[at] * cross;
}
"""


def across(layer, x, step=None):
    """Run `LRN` forward."""
    x = layer.device.xp.ascontiguousarray(x)
    y = layer.device.empty(x.shape, x.dtype)
    _launch(layer, "across", x, x, y)
    layer.saved = x
    return y


def across_backward(layer, dy):
    """Run `LRN` backward."""
    x, dy = layer.recall(), layer.device.xp.ascontiguousarray(dy)
    dx = layer.device.empty(x.shape, dy.dtype)
    _launch(layer, "across_backward", x, dy, x, dx)
    return dx


def _launch(layer, name, x, *arrays):
    maps = x.shape[-1] // layer.groups
    layer.expect(maps * layer.groups == x.shape[-1], x.shape, f"maps in {layer.groups} equal groups")
    count = math.prod(x.shape[-2:])  # a row of pixels
    settings = layer.k, layer.alpha, layer.beta
    layer.device.launch(SOURCE, name, x.size // count, count, *arrays, maps, *settings, SIZE=layer.size)


def around(layer, x, step=None):
    """Run `SpatialNorm` forward."""
    x = layer.device.xp.ascontiguousarray(x)
    n, h, w, c = x.shape
    y, p, q = (layer.device.empty(x.shape, x.dtype) for _ in range(3))
    settings = h, w, c, layer.size, layer.k, layer.alpha, layer.beta
    layer.device.launch(SOURCE, "around", n * h, w * c, x, y, p, q, *settings)
    layer.saved = x, p, q
    return y


def around_backward(layer, dy):
    """Run `SpatialNorm` backward."""
    (x, p, q), dy = layer.recall(), layer.device.xp.ascontiguousarray(dy)
    n, h, w, c = x.shape
    dx = layer.device.empty(x.shape, dy.dtype)
    settings = h, w, c, layer.size, layer.alpha, layer.beta
    layer.device.launch(SOURCE, "around_backward", n * h, w * c, dy, x, p, q, dx, *settings)
    return dx
