"""Numbers stored in bfloat16: the upper 16 bits of a float32, which keep its exponent and 8 significant bits.

NumPy has no such type, and CuPy's (from version 14 on, with `ml_dtypes`) is new and would also compute and sum in it.
So an array holds the bits as uint16, a type that nets use for nothing else: it is copied and cut like any other, and
only CUDA kernels (``bf16`` in `tinyalex.devices.launch`), cuBLAS and the functions here know what the bits mean.
"""

import numpy as np

BFLOAT16 = np.dtype("uint16")

SOURCE = """
extern "C" __global__ void round_to_bfloat16(const float *x, store *y, int count)
{
    EACH(row, t, count);
    y[(size_t)row * count + t] = x[(size_t)row * count + t];
}

extern "C" __global__ void widen_to_float(const store *x, float *y, int count)
{
    EACH(row, t, count);
    y[(size_t)row * count + t] = x[(size_t)row * count + t];
}
"""


def rounded(xp, x):
    """Round float32 numbers on the CPU to the nearest bfloat16; of two that are equally near, to the even one.

    Parameters
    ----------
    xp : module
        NumPy, or that of a pretend device.
    x : array of float32

    Returns
    -------
    array of uint16

    Examples
    --------
    >>> widened(np, rounded(np, np.array([1 + 2**-8, 1 + 3 * 2**-8], "float32")))  # both are halfway
    array([1.      , 1.015625], dtype=float32)
    """
    bits = xp.ascontiguousarray(x).view("uint32")
    nearest = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return xp.where(x != x, 0x7FFF, nearest).astype(BFLOAT16)  # else some NaNs would become infinite or 0


def widened(xp, x):
    """Return bfloat16 numbers, an array of uint16 on the CPU, as float32."""
    return (x.astype("uint32") << 16).view("float32")
