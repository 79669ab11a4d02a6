"""Matrix products by calling cuBLAS directly: CuPy's matmul would copy a matrix that is a slice of wider rows."""

import numpy as np

from tinyalex.devices.bfloat16 import BFLOAT16

# For float, double and bfloat16 (held as uint16): CUDA's number of the type, and of the arithmetic, full and with
# factors rounded to TF32; the type of its scale factors.
_TYPES = {  # CUDA_R_32F, CUDA_R_64F, CUDA_R_16BF; CUBLAS_COMPUTE_32F, _32F_FAST_TF32, _64F
    "f": (0, 68, 77, "f"),
    "d": (1, 70, 70, "d"),
    BFLOAT16.char: (14, 68, 68, "f"),
}
_DEFAULT_ALGORITHM = -1
_ONE, _ZERO = ({char: np.full(1, value, char) for char in "fd"} for value in (1, 0))
_ADDRESSES = {char: (_ONE[char].ctypes.data, _ZERO[char].ctypes.data) for char in "fd"}


def supports(a, b, out):
    """Whether `gemm` supports these arrays: all float32, all float64, or of bfloat16 to it or to float32."""
    fits = a.dtype == out.dtype or (a.dtype, out.dtype.char) == (BFLOAT16, "f")
    return a.dtype == b.dtype and fits and out.dtype.char in _TYPES


def arguments(handle, a, b, out, tf32=False):
    """Return the arguments with which cuBLAS's gemmEx writes the product of ``a`` (m, k) and ``b`` (k, n) to ``out``.

    Parameters
    ----------
    handle : int
        cuBLAS's handle of the GPU.
    a, b : array
        Contiguous along rows or along columns; `arranged` makes sure of that.
    out : array, shape (m, n)
        Contiguous along rows.
    tf32 : bool
        Whether float32 factors may be rounded to 11 significant bits.

    Raises
    ------
    ValueError
        If an array is contiguous along neither.
    """
    (m, n), k = out.shape, a.shape[1]
    (b_turned, ldb), (a_turned, lda), (turned, ldc) = map(_leading, (b, a, out))
    if turned:
        raise ValueError(f"a product of strides {out.strides}: its rows do not lie together")
    kind, *computes, char = _TYPES[a.dtype.char]
    one, zero = _ADDRESSES[char]
    # cuBLAS is column-major and reads our rows as columns, so it computes out' = b' a'.
    return (
        *(handle, b_turned, a_turned, n, m, k, one, b.data.ptr, kind, ldb, a.data.ptr, kind, lda),
        *(zero, out.data.ptr, _TYPES[out.dtype.char][0], ldc, computes[tf32], _DEFAULT_ALGORITHM),
    )


def arranged(xp, matrix):
    """Return a matrix as `gemm` needs it, a copy if necessary."""
    least = min(matrix.strides)
    together = least == matrix.itemsize or (least > 0 and 1 in matrix.shape)
    return matrix if together else xp.ascontiguousarray(matrix)


def _leading(matrix):
    # Whether the matrix is contiguous along columns instead of rows, and its leading dimension.
    rows, columns = matrix.shape
    down, across = (stride // matrix.itemsize for stride in matrix.strides)
    if across == 1 or columns == 1:
        return 0, max(down, columns)
    if down == 1 or rows == 1:
        return 1, max(across, rows)
    raise ValueError(f"a matrix of strides {matrix.strides}: neither its rows nor its columns lie together")
