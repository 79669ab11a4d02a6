"""Masks for NumPy: numbers where a condition holds, and 0 elsewhere."""


def masked(device, a, mask, out):
    """Write a where a mask is True, and 0 elsewhere, to ``out``, and return it.

    By their bits, which is as fast as a product of a and the mask. The product would spread infinities and NaN, since
    infinity times 0 is NaN.

    Parameters
    ----------
    device : Device
    a : array
    mask : array of bool
        In the shape of a; overwritten.
    out : array
        In the shape and dtype of a.
    """
    xp, whole = device.xp, f"i{a.itemsize}"
    bits = mask.view("i1")
    xp.negative(bits, out=bits)  # 1 becomes -1, all of whose bits are set
    xp.bitwise_and(a.view(whole), bits, out=out.view(whole))
    return out
