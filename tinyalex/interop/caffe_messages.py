"""The part of Caffe's protocol buffers that an AlexNet needs; fields that are not named here are skipped.

Two generations of layers: V1 (``layers``, whose type is an enumeration) and the present one (``layer``, whose type is
text). The numbers of a blob are read as bytes, so that the arrays are views of what was read; files that do not pack
them, one tag for each number, are read by the message ``LooseBlob``.
"""

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tinyalex.errors import CheckpointError, UsageError

_LARGEST = 1 << 30  # bytes of a file of weights; AlexNet's has 244 million
_LARGEST_TEXT = 4 << 20  # of a prototxt
_LARGEST_MEAN = 64 << 20  # of a mean image; that of 256 x 256 has 786 thousand
_MOST_FIELDS = 4096  # of a net, and of a layer: an AlexNet with its data layers has some thirty

# Message: its fields as number, type and name; "*" repeats, "=" gives a default.
_MESSAGES = {
    "BlobShape": "1 *int64 dim",
    "Blob": "7 BlobShape shape, 5 bytes data, 8 bytes double_data, 1 int32 num, 2 int32 channels, 3 int32 height,"
    " 4 int32 width",
    "LooseBlob": "5 *float data, 8 *double double_data",
    "Transform": "1 float scale=1, 3 uint32 crop_size, 4 string mean_file, 5 *float mean_value",
    "Rule": "1 Phase phase",
    "Convolution": "1 uint32 num_output, 2 bool bias_term=true, 3 *uint32 pad, 4 *uint32 kernel_size, 6 *uint32 stride,"
    " 18 *uint32 dilation, 9 uint32 pad_h, 10 uint32 pad_w, 11 uint32 kernel_h, 12 uint32 kernel_w, 13 uint32 stride_h,"
    " 14 uint32 stride_w, 5 uint32 group=1",
    "InnerProduct": "1 uint32 num_output, 2 bool bias_term=true, 6 bool transpose",
    "LRN": "1 uint32 local_size=5, 2 float alpha=1, 3 float beta=0.75, 4 Region norm_region, 5 float k=1",
    "Pooling": "1 Method pool, 4 uint32 pad, 9 uint32 pad_h, 10 uint32 pad_w, 2 uint32 kernel_size, 5 uint32 kernel_h,"
    " 6 uint32 kernel_w, 3 uint32 stride=1, 7 uint32 stride_h, 8 uint32 stride_w, 12 bool global_pooling,"
    " 13 Round round_mode",
    "ReLU": "1 float negative_slope",
    "Dropout": "1 float dropout_ratio=0.5",
    "Input": "1 *BlobShape shape",
    "Layer": "1 string name, 2 string type, 3 *string bottom, 4 *string top, 10 Phase phase, 7 *Blob blobs,"
    " 8 *Rule include, 100 Transform transform_param, 106 Convolution convolution_param, 108 Dropout dropout_param,"
    " 117 InnerProduct inner_product_param, 118 LRN lrn_param, 121 Pooling pooling_param, 123 ReLU relu_param,"
    " 143 Input input_param",
    "V1Layer": "4 string name, 5 Type type, 2 *string bottom, 3 *string top, 6 *Blob blobs, 32 *Rule include,"
    " 36 Transform transform_param, 10 Convolution convolution_param, 12 Dropout dropout_param,"
    " 17 InnerProduct inner_product_param, 18 LRN lrn_param, 19 Pooling pooling_param, 30 ReLU relu_param,"
    " 1 bytes layer",
    "Net": "1 string name, 2 *V1Layer layers, 3 *string input, 4 *int32 input_dim, 8 *BlobShape input_shape,"
    " 100 *Layer layer",
}
_ENUMS = {
    "Phase": ["TRAIN", "TEST"],
    "Region": ["ACROSS_CHANNELS", "WITHIN_CHANNEL"],
    "Method": ["MAX", "AVE", "STOCHASTIC"],
    "Round": ["CEIL", "FLOOR"],
    "Type": [
        "NONE", "ACCURACY", "BNLL", "CONCAT", "CONVOLUTION", "DATA", "DROPOUT", "EUCLIDEAN_LOSS", "FLATTEN",
        "HDF5_DATA", "HDF5_OUTPUT", "IM2COL", "IMAGE_DATA", "INFOGAIN_LOSS", "INNER_PRODUCT", "LRN",
        "MULTINOMIAL_LOGISTIC_LOSS", "POOLING", "RELU", "SIGMOID", "SOFTMAX", "SOFTMAX_LOSS", "SPLIT", "TANH",
        "WINDOW_DATA", "ELTWISE", "POWER", "SIGMOID_CROSS_ENTROPY_LOSS", "HINGE_LOSS", "MEMORY_DATA", "ARGMAX",
        "THRESHOLD", "DUMMY_DATA", "SLICE", "MVN", "ABSVAL", "SILENCE", "CONTRASTIVE_LOSS", "EXP", "DECONVOLUTION",
    ],
}  # fmt: skip


@functools.cache
def _classes() -> dict[str, Any]:
    # The class of each message.
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="tinyalex/caffe.proto", package="caffe", syntax="proto2")
    for enum, values in _ENUMS.items():  # each in a message of its own, as names of values must differ in a scope
        inner = file.message_type.add(name=f"{enum}Scope").enum_type.add(name=enum)
        for index, value in enumerate(values):
            inner.value.add(name=value, number=index)
    for message, fields in _MESSAGES.items():
        made = file.message_type.add(name=message)
        for entry in fields.split(","):
            number, kind, name = entry.split()
            name, _, default = name.partition("=")
            label = 3 if kind[0] == "*" else 1
            kind, field = kind.lstrip("*"), made.field.add(name=name, number=int(number), label=label)
            if kind in _MESSAGES:
                field.type, field.type_name = field.TYPE_MESSAGE, f".caffe.{kind}"
            elif kind in _ENUMS:
                field.type, field.type_name = field.TYPE_ENUM, f".caffe.{kind}Scope.{kind}"
            else:
                field.type = getattr(field, f"TYPE_{kind.upper()}")
            if default:
                field.default_value = default
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}")) for name in _MESSAGES}


def message(name: str) -> Any:
    """Return an empty message; a UsageError says what to install if protobuf is missing."""
    try:
        return _classes()[name]()
    except ImportError:
        raise UsageError("Caffe's files: the package protobuf is missing; pip install '.[interop]'") from None


def read_net(path: str | Path) -> Any:
    """Read a .caffemodel; CheckpointError if it is none."""
    content = _content(path, _LARGEST, "a .caffemodel")
    net = message("Net")
    if not _is_sparse(memoryview(content), ("Net", "Layer", "Blob")):
        raise _damaged(path, ".caffemodel")
    return _parsed(net, content, path, ".caffemodel")


def read_text(path: str | Path) -> Any:
    """Read a prototxt; CheckpointError if it is none."""
    from google.protobuf import text_format

    net = message("Net")
    content = _content(path, _LARGEST_TEXT, "a deploy.prototxt")
    try:
        return text_format.Parse(content.decode(), net, allow_unknown_field=True)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        why = " ".join(str(error).split())[:120]
        raise CheckpointError(f"{path}: is not a prototxt of Caffe ({why}); give a deploy.prototxt") from None


def read_blob(path: str | Path) -> Any:
    """Read a .binaryproto, one blob; CheckpointError if it is none."""
    blob, content = message("Blob"), _content(path, _LARGEST_MEAN, "a .binaryproto")
    if not _is_sparse(memoryview(content), ("Blob",)):
        raise _damaged(path, ".binaryproto")
    return _parsed(blob, content, path, ".binaryproto")


def numbers(blob: Any) -> np.ndarray:
    """Return the numbers of a blob, float32 (n,), packed or not, in single or double precision.

    ValueError if they are not whole numbers of bytes.
    """
    for content, dtype in ((blob.data, "<f4"), (blob.double_data, "<f8")):
        if content:
            return np.frombuffer(content, dtype).astype("float32", copy=False)
    loose = message("LooseBlob")
    loose.ParseFromString(blob.SerializeToString())
    return np.fromiter(loose.data or loose.double_data, "float32")


def shape(blob: Any) -> tuple[int, ...]:
    """Return the shape of a blob: of four numbers in old files, of any number in new ones."""
    if blob.HasField("shape"):
        return tuple(blob.shape.dim)
    return blob.num, blob.channels, blob.height, blob.width


def _is_sparse(content: memoryview, levels: tuple[str, ...]) -> bool:
    # Whether a net, its layers and their blobs have so few fields that parsing them takes little more memory than the
    # file. What is damaged is left to the parser.
    nested = {"Net": (2, 100), "Layer": (6, 7), "Blob": ()}[levels[0]]
    for count, (number, kind, part) in enumerate(_fields(content)):
        if (
            count > _MOST_FIELDS
            or kind > _FIXED32
            or (levels[0] == "Blob" and number == 7 and len(part) > _MOST_FIELDS)
        ):
            return False
        if number in nested and kind == _BYTES and not _is_sparse(part, levels[1:]):
            return False
    return True


_VARINT, _FIXED64, _BYTES, _FIXED32, _GROUP = 0, 1, 2, 5, 6  # 6: what Caffe has not


def _fields(content: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    # The number, the wire type and the bytes of each field of a message, up to the first that is damaged. Numbers that
    # are not packed, one field after the other, are one.
    at, end = 0, len(content)

    def varint() -> int:
        nonlocal at
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                break
            byte = content[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                break
        return value

    while at < end:
        start, tag = at, varint()
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            varint()
            size = 0
        elif kind in (_FIXED32, _FIXED64):
            width = at - start + (4 if kind == _FIXED32 else 8)
            size = start + width * max(1, _repeated(content, start, width)) - at
        elif kind == _BYTES:
            size = varint()
        else:
            kind, size = _GROUP, 0
        if size > end - at:
            return
        yield number, kind, content[at : at + size]
        at += size


def _repeated(content: memoryview, at: int, width: int) -> int:
    # How many fields of ``width`` bytes follow each other that begin with the same byte.
    count, step = 0, 64
    while True:
        block = np.frombuffer(content[at + count * width : at + (count + step) * width], np.uint8)
        same = block[: block.size // width * width : width] == content[at]
        if same.size < step or not same.all():
            return count + (same.size if same.all() else int(same.argmin()))
        count, step = count + step, 2 * step


def _content(path: str | Path, limit: int, what: str) -> bytes:
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > limit:
                raise CheckpointError(f"{path}: larger than {limit >> 20} MiB; give {what} of an AlexNet")
            return file.read() if Path(path).is_file() else b""
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); give {what}") from None


def _parsed(empty: Any, content: bytes, path: str | Path, kind: str) -> Any:
    from google.protobuf.message import DecodeError

    try:
        empty.ParseFromString(content)
    except DecodeError:
        raise _damaged(path, kind) from None
    return empty


def _damaged(path: str | Path, kind: str) -> CheckpointError:
    return CheckpointError(f"{path}: truncated or damaged, or no {kind} of Caffe; copy it again")
