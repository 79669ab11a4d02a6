"""Bias, ReLU and dropout on a card, in one pass over a layer's outputs instead of three.

The readable forms are in `tinyalex.layers`: `Conv2d` and `Linear` add their bias, `ReLU` and `Dropout` follow.
"""

SOURCE = """
__device__ unsigned mixed(unsigned x)  // randomness._mix
{
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    x = (x ^ (x >> 15)) * 0x846CA68Bu;
    return x ^ (x >> 16);
}

__device__ unsigned bits(unsigned low, unsigned high, unsigned image, unsigned unit)  // randomness.bits
{
    unsigned state = mixed(mixed(image * 0x9E3779B9u ^ low) + high);
    return mixed(mixed(unit * 0x9E3779B9u ^ state) + high);
}

// In y's place: y + b, what of it is positive, and of that what dropout keeps; PART neighbouring outputs a thread.
extern "C" __global__ void rectify(real *y, const real *b, int count, int positive, real scale,
                                   int threshold, int low, int high, int image, int unit)
{
    EACH(row, t, count);
    Reals<PART> *const place = (Reals<PART> *)y + (size_t)row * count + t;
    const Reals<PART> bias = ((const Reals<PART> *)b)[t % (OUTPUTS / PART)];
    Reals<PART> values = *place;
    for (int e = 0; e < PART; ++e) {
        real value = values.at[e] + bias.at[e];
        if (positive && value <= 0) value = 0;  // a NaN stays
        if (threshold && bits(low, high, image + row, unit + t * PART + e) < (unsigned)threshold) value = 0;
        values.at[e] = value * scale;
    }
    *place = values;
}

// One column of a stretch of rows: dy where the unit spoke, and their sum.
extern "C" __global__ void rectify_backward(const real *dy, const real *y, real *dz, real *sums, int count,
                                            int rows, int stretch, int positive, real scale)
{
    EACH(row, t, count);  // (stretches, outputs)
    const int last = min(rows, (row + 1) * stretch);
    real sum = 0;
    #pragma unroll 4
    for (int r = row * stretch; r < last; ++r) {
        const size_t at = (size_t)r * count + t;
        real value = dy[at];
        if (positive) {
            value = y[at] > 0 ? value * scale : 0;
            dz[at] = value;
        }
        sum += value;
    }
    sums[(size_t)row * count + t] = sum;
}
"""
