"""Weights from elsewhere: each module reads the files of another library as a net of this package.

::

    imported.py     what every reader returns, and how it is written as a file of weights
    layout.py       how other libraries order the numbers of a layer, in both directions
    formats.py      finds the reader of a file by its content
    chain.py        recognizes an AlexNet in a chain of layers, and says as a recipe's net what it is
    caffe.py        nets of Caffe: a .caffemodel, with or without its deploy.prototxt; caffe_messages.py: its messages
    deep_compression.py  pruned weights with a codebook for each layer, in both directions
    torchvision.py  torchvision's AlexNet; torch_file.py reads files of torch.save without running their pickles
    onnx_format.py  ONNX: onnx_import.py reads a graph that is a chain of layers (onnx_graph.py); onnx_export.py writes
                    a run, whose layers onnx_layout.py says as nodes
"""
