"""Fast forms of layers, one file an operation; each equals the readable form in `tinyalex.layers`, for
finite numbers, and is tested to.
"""
