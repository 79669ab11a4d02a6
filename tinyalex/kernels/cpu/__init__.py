"""Fast forms of the layers for NumPy in float32, one file for each operation.

They compute blocks of n images in the layout (h, w, n c): at every pixel the numbers of all images and channels lie
side by side, image after image. A convolution's patches, a pool's windows and Winograd's tiles are then views whose
innermost runs have n c numbers, hundreds to thousands instead of the c of (n, h, w, c), and NumPy's operations reach
the speed of memory only in long runs.

All arrays are allocated once. A form yields its work as calls, ``(function, argument, ...)``, which
`tinyalex.network.fast` collects once and repeats for every batch: much of NumPy's time for small arrays goes into
making views, and these are made only then. Forms know arrays and numbers, never a layer.
"""
