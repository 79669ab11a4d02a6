"""Deep Compression (Han, Mao and Dally, ICLR 2016): pruned weights, a codebook for each layer, relative indices.

A file of ``github.com/songhan/Deep-Compression-AlexNet``, whose decode.py fills a net of Caffe from it, holds no names
and no sizes. It begins with the number of entries of each layer, uint32. Then, for each layer, come

    codebook   float32: 256 for a convolution, 16 for a fully connected layer; weights without an entry have the first
    biases     float32
    codes      of each entry 8 bits, or 4 bits, of which the lower half of a byte comes first
    gaps       of each entry 4 bits: how many weights without an entry lie between it and the entry before

in the order of Caffe's arrays, with the colours BGR. A gap of more than 15 is filled with entries whose code is 0.
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinyalex.errors import CheckpointError, UsageError
from tinyalex.interop import caffe, chain, layout
from tinyalex.interop.imported import Imported, Options, named_classes, one_line, recipe_of
from tinyalex.recipes import recipe as recipes
from tinyalex.recipes.recipe import Net
from tinyalex.runs import finetune
from tinyalex.runs.run_folder import Run
from tinyalex.system import storage

NAME = "Deep Compression (.net)"
# The shares of AlexNet's weights that Han et al., "Learning both weights and connections", 2015, keep and train again.
KEPT = dict(zip(chain.LAYERS, (0.84, 0.38, 0.35, 0.37, 0.37, 0.09, 0.09, 0.25), strict=True))
_GAP = 16  # weights that an entry may advance
_MOST = 1 << 27  # entries of a layer that a file may declare: fc6 has 38 million weights
_MOST_BIASES = 1 << 20
BVLC_ALEXNET = Net(
    input=227, pads=(0, 2, 1, 1, 1), conv_rounding="floor", norm_k=1.0, norm_alpha=2e-5, norm_window="all"
)


class Report(NamedTuple):
    """What compression did to a layer; errors are relative to the size of the weights.

    Attributes
    ----------
    layer : str
    weights, kept : int
    stored : int
        Bytes in the file.
    pruned, quantized : float
        ``||W - W'|| / ||W||`` after pruning, and after pruning and quantization.
    largest : float
        The largest ``|W - W'|`` after both, over the largest ``|W|``.
    """

    layer: str
    weights: int
    kept: int
    stored: int
    pruned: float
    quantized: float
    largest: float


def bits_of(layer: str) -> int:
    """Return the bits of a code in a layer: 8 in a convolution, 4 in a fully connected layer."""
    return 8 if layer.startswith("conv") else 4


def recognizes(head: bytes, size: int) -> bool:
    """Whether a file may be of eight layers: its counts leave a whole number of biases, and not too many."""
    biases = _biases(head, size)
    return biases is not None and biases >= 8


def _biases(head: bytes, size: int) -> int | None:
    # How many biases a file of eight layers has, by its size; None if it is no such file.
    layers = chain.LAYERS
    if len(head) < 4 * len(layers):
        return None
    counts = np.frombuffer(head[: 4 * len(layers)], "<u4").astype(int).tolist()
    rest = size - 4 * len(layers) - sum(_size(name, count, 0) for name, count in zip(layers, counts, strict=True))
    fits = all(0 < count <= _MOST for count in counts) and rest % 4 == 0 and 0 < rest // 4 <= _MOST_BIASES
    return rest // 4 if fits else None


def _size(layer: str, count: int, biases: int) -> int:
    # Bytes of a layer after the counts.
    bits = bits_of(layer)
    return 4 * 2**bits + 4 * biases + -(-count * bits // 8) + -(-count // 2)


# Reading.


def read(path: Path, options: Options) -> Imported:
    """Read a file; the net is bvlc_alexnet with any number of classes, unless the options say another.

    Parameters
    ----------
    path : Path
    options : Options
        `deploy` is a deploy.prototxt of Caffe, and `like` a run, or its file of weights, whose net the weights are of;
        `mean` is a mean.binaryproto.

    Raises
    ------
    CheckpointError
        If the file is damaged, or its sizes are not those of the net.
    UsageError
        If both `deploy` and `like` are given.
    """
    try:
        size = path.stat().st_size
        if size > 1 << 30:
            raise CheckpointError(f"{path}: larger than 1 GiB; give a compressed AlexNet")
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); give a file of weights") from None
    if options.deploy is not None and options.like is not None:
        raise UsageError("--deploy and --like: both say the net; give one")
    if options.like is not None:
        return _like(path, content, options)
    notes: list[str] = []
    if options.deploy is not None:
        net = caffe.describe(options.deploy)
    else:
        biases = _biases(content, size)
        shapes = layout.shapes(BVLC_ALEXNET)
        classes = (biases or 0) - sum(shape[0] for name, shape in shapes.items() if name != "fc8")
        if classes < 1:
            raise CheckpointError(
                f"{path}: its sizes are not those of bvlc_alexnet; say the net with --deploy FILE or --like RUN"
            )
        net = dataclasses.replace(BVLC_ALEXNET, classes=classes)
        notes.append("the file does not say its net: taken to be bvlc_alexnet; else add --deploy or --like")
    state = state_of(net, decode(content, layout.shapes(net), str(path)))
    mean = caffe.mean_or_colour(options.mean, net.input, None, notes)
    names, words = named_classes(net.classes, options.words)
    if options.words is None:
        notes.append("classes are numbers, as no file of words was given: add --words synset_words.txt for their names")
    source = f"deep compression of {one_line(path.name)}"
    recipe = recipe_of(one_line(path.stem), net)
    return Imported(recipe, state, mean, names, words, source, tuple(notes))


def _like(path: Path, content: bytes, options: Options) -> Imported:
    # Net, mean image and classes are those of a run.
    for key in ("mean", "words"):
        if getattr(options, key) is not None:
            raise UsageError(f"--like and --{key}: the run has its own; give one of the two")
    tensors, metadata = finetune.read(options.like or "")
    recipe = recipes.parse(metadata["recipe"])
    _require(recipe.net, str(options.like))
    state = state_of(recipe.net, decode(content, layout.shapes(recipe.net), str(path)))
    classes = list(metadata["classes"])
    words = list(metadata.get("words") or classes)
    source = f"deep compression of {one_line(path.name)}, net and mean image of {one_line(str(options.like))}"
    return Imported(recipe, state, tensors["data/mean"], classes, words, source)


def _require(net: Net, where: str) -> None:
    if net.kind != "alexnet" or tuple(layout.shapes(net)) != chain.LAYERS:
        raise UsageError(
            f"{where}: not a net of {', '.join(chain.LAYERS)}, as files of deep compression hold; use safetensors"
        )


def decode(content: bytes, shapes: dict[str, tuple[int, ...]], name: str = "weights") -> layout.Weights:
    """Return the weights that a file holds, in Caffe's order.

    Parameters
    ----------
    content : bytes
        The file.
    shapes : dict of str to tuple of int
        Each layer's W, in the order of the file: see `layout.shapes`.
    name : str
        What an error message begins with.

    Raises
    ------
    CheckpointError
        If the file is longer or shorter than the layers need, or an entry lies outside its layer.
    """
    counts = np.frombuffer(content[: 4 * len(shapes)], "<u4").astype(int).tolist()
    needed = 4 * len(shapes)
    for (layer, shape), count in zip(shapes.items(), counts, strict=False):
        needed += _size(layer, count, shape[0])
    if len(counts) < len(shapes) or needed != len(content):
        raise CheckpointError(
            f"{name}: {len(content):,} bytes, but a file of this net with its counts has {needed:,}; it is damaged, or "
            "of another net"
        )
    weights: layout.Weights = {}
    at = 4 * len(shapes)

    def take(dtype: str, count: int) -> np.ndarray:
        nonlocal at
        found = np.frombuffer(content, dtype, count, at)
        at += found.nbytes
        return found

    for (layer, shape), count in zip(shapes.items(), counts, strict=True):
        bits, total = bits_of(layer), int(np.prod(shape))
        codebook, b = take("<f4", 2**bits), take("<f4", shape[0])
        packed = take("u1", -(-count * bits // 8))
        codes = packed if bits == 8 else _halves(packed, count)
        places = np.cumsum(_halves(take("u1", -(-count // 2)), count).astype(np.int64) + 1) - 1
        if count and places[-1] >= total:
            raise CheckpointError(f"{name}: {layer} has an entry beyond its {total:,} weights; the file is damaged")
        every = np.zeros(total, np.uint8)
        every[places] = codes
        weights[layer] = codebook[every].reshape(shape).astype("float32", copy=False), b.astype("float32", copy=False)
    return weights


def _halves(packed: np.ndarray, count: int) -> np.ndarray:
    # The numbers of 4 bits in bytes, the lower half of each first.
    return np.stack([packed & 15, packed >> 4], axis=1).ravel()[:count]


# Writing.


def encode(weights: layout.Weights, pruned: layout.Weights, codebook: str = "kmeans") -> tuple[bytes, list[Report]]:
    """Compress weights in Caffe's order; return a file's content, and what it did to each layer.

    Parameters
    ----------
    weights : dict of str to (ndarray, ndarray)
        See `layout.from_state`.
    pruned : dict of str to (ndarray, ndarray)
        The same with zeros in the place of weights that are not kept: see `prune`.
    codebook : {"kmeans", "linear"}
        Values of the weights that are kept: centres by k-means, from equal steps between the smallest and the largest
        (the paper's linear initialization), or these steps.
    """
    counts, parts, reports = [], [], []
    for layer, (whole, b) in weights.items():
        W, rest = whole.ravel(), pruned[layer][0].ravel()
        places = _even(np.flatnonzero(rest), W.size)
        book, codes = quantize(rest[places], 2 ** bits_of(layer) - 1, codebook)
        gaps, entries = _relative(places, codes)
        part = b"".join(
            (book.astype("<f4").tobytes(), np.asarray(b, "<f4").tobytes(), _packed(entries, bits_of(layer)),
             _packed(gaps, 4))
        )  # fmt: skip
        counts.append(len(entries))
        parts.append(part)
        made = np.zeros_like(W)
        made[places] = book[codes]
        size = np.linalg.norm(W.astype(float)) or 1.0
        errors = (np.linalg.norm((W - other).astype(float)) / size for other in (rest, made))
        largest = np.abs(W - made).max() / (np.abs(W).max() or 1.0)
        reports.append(Report(layer, W.size, int(np.count_nonzero(rest)), len(part), *map(float, (*errors, largest))))
    return b"".join([np.array(counts, "<u4").tobytes(), *parts]), reports


def prune(W: np.ndarray, share: float) -> np.ndarray:
    """Return weights of which all but the largest are 0; of equal ones the first are kept.

    >>> prune(np.array([0.1, -3.0, 2.0, 0.5]), 0.5)
    array([ 0., -3.,  2.,  0.])
    """
    size, count = np.abs(W).ravel(), round(share * W.size)
    if count == W.size:
        return W
    limit = np.partition(size, W.size - count - 1)[W.size - count - 1]  # the largest that is not kept
    kept = size > limit
    kept[np.flatnonzero(size == limit)[: count - np.count_nonzero(kept)]] = True
    return np.where(kept.reshape(W.shape), W, W.dtype.type(0))


def share_above(W: np.ndarray, deviations: float) -> float:
    """Return the share of weights that are as large as so many standard deviations of all of them."""
    return float(np.mean(np.abs(W) >= deviations * W.std()))


def quantize(values: np.ndarray, size: int, how: str, rounds: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Return a codebook of 0 and ``size`` values, and the code of each of the values (n,), 0 for those that are 0.

    Parameters
    ----------
    values : ndarray of float32, shape (n,)
    size : int
    how : {"kmeans", "linear"}
        See `encode`.
    rounds : int
        Of k-means, at most.
    """
    given = np.sort(values[values != 0].astype(float))
    if not given.size:
        return np.zeros(size + 1, np.float32), np.zeros(values.size, np.uint8)
    centres = np.linspace(given[0], given[-1], size)
    sums = np.concatenate([[0.0], np.cumsum(given)])
    for _ in range(rounds if how == "kmeans" else 0):
        # In one dimension the values of a centre lie side by side, up to the middle to the next centre.
        ends = np.concatenate([[0], np.searchsorted(given, (centres[:-1] + centres[1:]) / 2), [given.size]])
        counts = np.diff(ends)
        moved = np.where(counts > 0, np.diff(sums[ends]) / np.maximum(counts, 1), centres)
        if (moved == centres).all():
            break
        centres = moved
    codes = np.searchsorted((centres[:-1] + centres[1:]) / 2, values) + 1
    codes[values == 0] = 0
    return np.concatenate([[0.0], centres]).astype(np.float32), codes.astype(np.uint8)


def _relative(places: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Gaps and codes of all entries; every 16 weights without an entry take one that fills.
    steps = np.diff(places, prepend=-1)
    fillers = (steps - 1) // _GAP
    own = np.cumsum(fillers + 1) - 1
    total = int(own[-1]) + 1 if own.size else 0
    gaps, entries = np.full(total, _GAP - 1, np.uint8), np.zeros(total, np.uint8)
    gaps[own], entries[own] = steps - 1 - _GAP * fillers, codes
    return gaps, entries


def _even(places: np.ndarray, size: int) -> np.ndarray:
    # The authors' decode.py takes an even number of entries only, and one or more: add a weight that is 0.
    def odd(places: np.ndarray) -> bool:
        return not places.size or len(_relative(places, places)[0]) % 2 == 1

    if not odd(places):
        return places
    free = np.ones(min(size, places.size + 2 * _GAP), bool)
    free[places[places < free.size]] = False
    for place in np.flatnonzero(free):
        longer = np.insert(places, np.searchsorted(places, place), place)
        if not odd(longer):
            return longer
    return places


def _packed(numbers: np.ndarray, bits: int) -> bytes:
    if bits == 8:
        return numbers.tobytes()
    pairs = np.append(numbers, np.zeros(numbers.size % 2, np.uint8)).reshape(-1, 2)
    return (pairs[:, 0] | pairs[:, 1] << 4).astype(np.uint8).tobytes()


def weights_of(run: Run) -> layout.Weights:
    """Return a run's weights in Caffe's order; UsageError if the net has other layers than AlexNet's eight."""
    _require(run.recipe.net, run.recipe.name)
    state = {name: device.get(view) for name, device, view in run.network.tensors()}
    weights = layout.from_state(run.recipe.net, state)
    weights["conv1"] = layout.swap_colours(weights["conv1"][0]), weights["conv1"][1]
    return weights


def state_of(net: Net, weights: layout.Weights) -> dict[str, np.ndarray]:
    """Return the tensors of a net, named as in `Network.state`, from weights in Caffe's order."""
    rgb = layout.swap_colours(weights["conv1"][0]), weights["conv1"][1]
    return layout.to_state(net, weights | {"conv1": rgb})


def check_target(path: str | Path) -> None:
    """Raise ForeignFileError if a file is there already: what is compressed cannot be told from others' files."""
    storage.check(Path(path), lambda _: False)


def write(content: bytes, path: str | Path) -> Path:
    """Write a file that does not exist yet."""
    storage.write_bytes(Path(path), content, may_replace=lambda _: False)
    return Path(path)
