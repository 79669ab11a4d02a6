"""Fast forms of layers, one file an operation.

For finite numbers each equals the readable form in `tinyalex.layers`, and is tested to.
"""
