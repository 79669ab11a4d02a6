"""Matrix products by calling cuBLAS directly: CuPy's matmul would copy a matrix that is a slice of wider rows."""

import numpy as np

# For float and double: CUDA's number of the type, and of the arithmetic, full and with operands rounded to TF32.
_TYPES = {"f": (0, 68, 77), "d": (1, 70, 70)}  # CUDA_R_32F, CUDA_R_64F; CUBLAS_COMPUTE_32F, _32F_FAST_TF32, _64F
_DEFAULT_ALGORITHM = -1
_ONE, _ZERO = ({char: np.full(1, value, char) for char in _TYPES} for value in (1, 0))
_ADDRESSES = {char: (_ONE[char].ctypes.data, _ZERO[char].ctypes.data) for char in _TYPES}


def supports(a, b, out):
    """Whether `gemm` supports these arrays: all float32 or all float64."""
    return a.dtype == b.dtype == out.dtype and out.dtype.char in _TYPES


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
        Whether float32 operands may be rounded to 11 significant bits.

    Raises
    ------
    ValueError
        If an array is contiguous along neither.
    """
    (m, n), k, char = out.shape, a.shape[1], out.dtype.char
    (b_turned, ldb), (a_turned, lda), (turned, ldc) = map(_leading, (b, a, out))
    if turned:
        raise ValueError(f"a product of strides {out.strides}: its rows do not lie together")
    (kind, *computes), (one, zero) = _TYPES[char], _ADDRESSES[char]
    # cuBLAS is column-major and reads our rows as columns, so it computes out' = b' a'.
    return (
        *(handle, b_turned, a_turned, n, m, k, one, b.data.ptr, kind, ldb, a.data.ptr, kind, lda),
        *(zero, out.data.ptr, kind, ldc, computes[tf32], _DEFAULT_ALGORITHM),
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
