"""Reads the configuration files of cuda-convnet, in which the authors wrote their nets in 2012, as a description.

A net is a pair of INI files: one with its layers, one with their learning rates. `description.read` reads a pair,
`notes.schedule` the notes at the foot of the second, `learning.learning` makes a recipe's section of them. Nothing here
knows a layer: `tinyalex.network.cuda_convnet` builds the net.
"""
