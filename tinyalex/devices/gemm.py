"""The product of two matrices by cuBLAS itself: CuPy's would copy a matrix that is a part of wider rows."""

import numpy as np

# Of float and double: CUDA's name of the type, and of the arithmetic, exact and with operands rounded to TF32.
_TYPES = {"f": (0, 68, 77), "d": (1, 70, 70)}  # CUDA_R_32F, CUDA_R_64F; CUBLAS_COMPUTE_32F, _32F_FAST_TF32, _64F
_DEFAULT_ALGORITHM = -1
_ONE, _ZERO = ({char: np.full(1, value, char) for char in _TYPES} for value in (1, 0))


def supports(a, b, out):
    """Whether `gemm` can do it: all of one type, float32 or float64."""
    return a.dtype == b.dtype == out.dtype and out.dtype.char in _TYPES


def gemm(cublas, handle, a, b, out, tf32=False):
    """Write the product of ``a`` (m, k) and ``b`` (k, n) to ``out`` (m, n), on the current stream.

    Parameters
    ----------
    cublas : module
        ``cupy_backends.cuda.libs.cublas``.
    handle : int
        cuBLAS's own, of the card.
    a, b : array
        The numbers of a row lie together, or those of a column; `arranged` sees to it.
    out : array
        The numbers of a row lie together.
    tf32 : bool
        Whether float32 operands may be rounded to 11 significant bits.

    Raises
    ------
    ValueError
        If the numbers lie otherwise.
    """
    (m, n), k, char = out.shape, a.shape[1], out.dtype.char
    (b_turned, ldb), (a_turned, lda), (turned, ldc) = map(_leading, (b, a, out))
    if turned:
        raise ValueError(f"a product of strides {out.strides}: its rows do not lie together")
    kind, *computes = _TYPES[char]
    # cuBLAS counts by columns, and so reads our rows as columns: it is asked for out' = b' a'.
    cublas.gemmEx(
        *(handle, b_turned, a_turned, n, m, k, _ONE[char].ctypes.data, b.data.ptr, kind, ldb, a.data.ptr, kind, lda),
        *(_ZERO[char].ctypes.data, out.data.ptr, kind, ldc, computes[tf32], _DEFAULT_ALGORITHM),
    )


def arranged(xp, matrix):
    """Return a matrix as `gemm` takes it, a copy if need be."""
    least = min(matrix.strides)
    together = least == matrix.itemsize or (least > 0 and 1 in matrix.shape)
    return matrix if together else xp.ascontiguousarray(matrix)


def _leading(matrix):
    # Whether its columns lie together instead of its rows, and how far one is from the next.
    rows, columns = matrix.shape
    down, across = (stride // matrix.itemsize for stride in matrix.strides)
    if across == 1 or columns == 1:
        return 0, max(down, columns)
    if down == 1 or rows == 1:
        return 1, max(across, rows)
    raise ValueError(f"a matrix of strides {matrix.strides}: neither its rows nor its columns lie together")
