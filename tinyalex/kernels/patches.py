"""im2col and col2im on a GPU; the readable forms are in `tinyalex.layers.patches`.

A row of a launch is a row of output positions, (n, i), or of pixels, (n, y). If the channels allow it, a thread moves
four neighbours at once, 16 bytes of float32: these kernels are limited by instructions, not by memory.
"""

from tinyalex.devices.bfloat16 import BFLOAT16
from tinyalex.devices.launch import width

SOURCE = """
// WIDE: numbers from one pixel of x to the next, LENGTH: from one patch to the next.
// Four neighbours of a patch: (n, i, j; u, v, channel), zero outside the image and beyond the patch's K K C numbers.
extern "C" __global__ void im2col(const store *x, store *patches, int count)
{
    EACH(row, t, count);  // (n HO, WO LENGTH / 4)
    const int n = row / HO, i = row % HO, j = t / (LENGTH / 4), column = t % (LENGTH / 4) * 4;
    Vector<store, 4> out;
    for (int e = 0; e < 4; e += PART) {
        const int u = (column + e) / (K * C), v = (column + e) / C % K, y = S * i + u - P, z = S * j + v - P;
        const bool inside = u < K && y >= 0 && y < H && z >= 0 && z < W;
        const store *from = x + ((size_t)(n * H + y) * W + z) * WIDE + (column + e) % C;
        Vector<store, PART> part = {};
        if (inside) part = *(const Vector<store, PART> *)from;
        for (int f = 0; f < PART; ++f) out.at[e + f] = part.at[f];
    }
    ((Vector<store, 4> *)patches)[(size_t)row * count + t] = out;
}

// A pixel gathers its share of all patches that cover it, u and v ascending.
extern "C" __global__ void col2im(const store *patches, store *x, int count)
{
    EACH(row, t, count);  // (n H, W C / PART)
    const int n = row / H, y = row % H + P, z = t / (C / PART) + P, channel = t % (C / PART) * PART;
    const int top = y < K ? 0 : (y - K) / S + 1, left = z < K ? 0 : (z - K) / S + 1;
    Vector<real, PART> sum = {};
    for (int i = min(y / S, HO - 1); i >= top; --i) {
        for (int j = min(z / S, WO - 1); j >= left; --j) {
            const int column = ((y - i * S) * K + z - j * S) * C + channel;
            const store *from = patches + ((size_t)(n * HO + i) * WO + j) * LENGTH + column;
            const Vector<store, PART> part = *(const Vector<store, PART> *)from;
            for (int e = 0; e < PART; ++e) sum.at[e] += part.at[e];
        }
    }
    *(Vector<store, PART> *)(x + ((size_t)row * W + t / (C / PART)) * WIDE + channel) = stored(sum);
}
"""


def im2col(device, x, ho, wo, kernel, stride, pad):
    """Write patches (n ho wo, k k c) of images (n, h, w, c), which may be one of the equal groups of wider ones.

    Rows are filled up with zeros to a multiple of four numbers, in bfloat16 of eight, which tensor cores need.
    """
    n, h, w, c = x.shape
    wide = x.strides[2] // x.itemsize
    if wide % c or x.strides != tuple(x.itemsize * step for step in (h * w * wide, w * wide, wide, 1)):
        x, wide = device.xp.ascontiguousarray(x), c
    multiple = 8 if x.dtype == BFLOAT16 else 4
    length = -(-kernel * kernel * c // multiple) * multiple
    patches = device.empty((n * ho * wo, length), x.dtype)
    geometry = _geometry(h, w, c, ho, wo, kernel, stride, pad, length)
    device.launch(SOURCE, "im2col", n * ho, wo * length // 4, x, patches, **geometry, WIDE=wide)
    return patches


def col2im(device, patches, x, ho, wo, kernel, stride, pad):
    """Add patches (n ho wo, k k c), whose rows may lie apart, up to images x (n, h, w, c): all channels, or a group."""
    n, h, w, c = x.shape
    geometry = _geometry(h, w, c, ho, wo, kernel, stride, pad, patches.strides[0] // patches.itemsize)
    device.launch(
        SOURCE, "col2im", n * h, w * c // geometry["PART"], patches, x, **geometry, WIDE=x.strides[2] // x.itemsize
    )


def _geometry(h, w, c, ho, wo, k, s, p, length):
    part = width(c, length)
    return {"H": h, "W": w, "C": c, "HO": ho, "WO": wo, "K": k, "S": s, "P": p, "LENGTH": length, "PART": part}
