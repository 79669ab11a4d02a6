"""Weights from elsewhere: each module reads the files of another library as a net of this package.

imported.py     what every reader returns, and how it is written as a file of weights
layout.py       how other libraries order the numbers of a layer, in both directions
formats.py      finds the reader of a file by its content
caffe.py        nets of Caffe: a .caffemodel, with or without its deploy.prototxt
"""
