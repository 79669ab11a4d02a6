"""Crops, reflections, mean and colours on a GPU; the readable form is in `tinyalex.datasets.loading.augment`."""

SOURCE = """
extern "C" __global__ void cut(const unsigned char *images, const long long *offsets, const bool *flips,
                               const float *mean, const float *shifts, float *x, int count, int size, int crop,
                               int views, int matched, int shifted, float first, float second)
{
    EACH(row, t, count);  // rows: one for each row of each crop; t: the crop's pixels in that row, times 3 colours
    const int n = row / crop, i = row % crop, j = t / 3, colour = t % 3;
    const int y = (int)offsets[2 * n] + i, z = (int)offsets[2 * n + 1] + (flips[n] ? crop - 1 - j : j);
    const int mine = matched ? (y * size + z) * 3 + colour : (i * crop + j) * 3 + colour;
    float value = images[((size_t)(n / views * size + y) * size + z) * 3 + colour] - mean[mine];
    if (shifted) value += shifts[3 * n + colour];
    x[(size_t)row * count + t] = value * first * second;
}
"""


def cut(device, images, offsets, flips, shifts, mean, crop, matched, factors):
    """Return what `Cropper` makes of images on a device, with the same bits.

    Parameters
    ----------
    images : uint8 (n, S, S, 3)
    offsets, flips, shifts
        As in `AugmentParams`, of n views crops.
    mean : float32 (S, S, 3), or (crop, crop, 3) unless matched
    crop : int
    matched : bool
    factors : list of float
        Two at most.
    """
    n, views = len(offsets), len(offsets) // len(images)
    x = device.empty((n, crop, crop, 3), "float32")
    first, second = [*map(float, factors), 1.0, 1.0][:2]
    settings = images.shape[1], crop, views, matched, shifts is not None, first, second
    arrays = images, offsets, flips, mean, mean if shifts is None else shifts, x
    device.launch(SOURCE, "cut", n * crop, crop * 3, *arrays, *settings)
    return x
