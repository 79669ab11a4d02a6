"""Fast forms of layers, one file for each operation: CUDA kernels here, NumPy's in `tinyalex.kernels.cpu`.

Their functions take a device, arrays and numbers, and return arrays; they know no layer. For finite numbers each equals
the readable form in `tinyalex.layers` up to rounding, which tests check.
"""
