"""The settings of a recipe as frozen dataclasses, which check each value, and the values against each other."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, ClassVar

from tinyalex.errors import UsageError
from tinyalex.recipes.cuda_convnet import description
from tinyalex.recipes.ranges import check, unknown
from tinyalex.words import counted

LAYERS = {  # all layers with weights that a kind of net can have, first to last
    "alexnet": ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "fc6", "fc7", "bottleneck7", "fc8"),
    "cifar10": ("conv1", "conv2", "conv3", "fc10"),
    "cifar10-local": ("conv1", "conv2", "local3", "local4", "fc10"),
}
_MAP_COUNTS = {"alexnet": (5, 6), "cifar10": (3,), "cifar10-local": (4,)}  # lengths of net.maps and net.kernels
_OMISSIBLE = ("conv3", "conv4", "conv5")  # paper section 7
_OF_ALEXNET = (  # keys of net that the other kinds of nets lack
    *("pads", "conv_rounding", "pool_rounding"),
    *("norm_size", "norm_k", "norm_alpha", "norm_beta", "norm_window", "norm_order"),
)
FILES = "cuda-convnet"  # the kind of a net that the authors' files describe
_TEXTS = ("layers_cfg", "layer_params_cfg")
_OF_FILES = ("kind", "input", "classes", "convolution", "precision", *_TEXTS)  # the keys of such a net


@lru_cache(maxsize=16)
def _parsed(layer_text: str, rate_text: str) -> description.Description:
    return description.parse(layer_text, rate_text, ("net.layers_cfg", "net.layer_params_cfg"))


@dataclass(frozen=True)
class _Checked:
    section: ClassVar[str]

    def __post_init__(self) -> None:
        for key in fields(self):
            object.__setattr__(self, key.name, check(f"{self.section}.{key.name}", getattr(self, key.name)))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that have a meaning, in their order."""
        return tuple(key.name for key in fields(self))


@dataclass(frozen=True)
class Net(_Checked):
    """The shape of the net (paper section 3); `maps`, `hidden` and `bottleneck` are totals over the columns.

    A sixth number in `maps` and `kernels` adds conv6 after the last pool; with 0 maps conv3, conv4 or conv5 is left
    out. `bottleneck` is the number of linear units between fc7 and fc8, 0 for none. `talk` names the layers before
    which the columns exchange their maps. `pads` are the pixels of padding of each convolution; without any, conv1 has
    none and the others half their kernel, rounded down (one pixel less in conv2 and conv5 if `pool` is 2). Whether a
    last window that hangs over the edge counts is `conv_rounding` for convolutions, of which only conv1 may have a
    stride, and `pool_rounding` for pools: "ceil" if it does; a list of three says it of each pool.

    `norm` is "none", or where the normalization across maps (paper section 3.3) stands and what `norm_alpha`
    multiplies: after the ReLU and the sum of squares, "paper", or in layer 1 before it and their mean, "2012", where
    layer 2 is also normalized across pixels. `norm_size`, `norm_k`, `norm_alpha` and `norm_beta` are its constants n,
    k, alpha and beta. Its window ends where the column does (`norm_window` "column") or crosses over to the other
    column ("all"), for which two devices exchange their maps. `norm_order` is the order of norm and pool.

    `fc8` is where the last layer is: on column "a" alone, as in 2012, or "split"
    over the columns. `classes` 0 means as many as the data has. `convolution` is the algorithm on the CPU: "auto" is
    Winograd's for layers whose kernel has transforms and whose groups have 8 channels or more (in conv1 the channels
    are the pixels of a stride x stride block), and im2col for the others; "im2col" is im2col for all.

    `precision` has an effect only on a GPU. "tf32" rounds the factors of matrix products to 11 significant bits, which
    is several times as fast as "float32". "bf16" rounds them to 8 bits, and stores activations and their gradients in
    such numbers (bfloat16); weights, sums, normalization and loss stay in float32.

    The net of `kind` "cuda-convnet" is that of two files of 2012, whose texts are `layers_cfg` and `layer_params_cfg`:
    the second has the constants of layers. Of the other keys only `input`, `classes`, `convolution` and `precision`
    (without "bf16") belong to such a net; `columns` is the number of its GPUs.
    """

    section = "net"
    kind: str = "alexnet"
    input: int = 224
    columns: int = 2
    maps: tuple[int, ...] = (96, 256, 384, 384, 256)
    kernels: tuple[int, ...] = (11, 5, 3, 3, 3)
    stride: int = 4
    hidden: int = 4096
    bottleneck: int = 0
    classes: int = 1000
    talk: tuple[str, ...] = ("conv3", "fc6", "fc7", "fc8")
    pads: tuple[int, ...] = ()
    conv_rounding: str = "ceil"
    pool_rounding: str | tuple[str, ...] = "ceil"
    norm: str = "paper"
    norm_size: int = 5
    norm_k: float = 2.0
    norm_alpha: float = 1e-4
    norm_beta: float = 0.75
    norm_window: str = "column"
    norm_order: str = "norm-pool"
    pool: int = 3
    fc8: str = "a"
    activation: str = "relu"
    dropout: float = 0.5
    convolution: str = "auto"
    precision: str = "float32"
    layers_cfg: str | None = None
    layer_params_cfg: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind == FILES:
            self._check_files()
            return
        for key in _TEXTS:
            if getattr(self, key) is not None:
                raise UsageError(f"net.{key}: belongs to a net of kind {FILES!r}, not {self.kind!r}; take it out")
        if self.columns not in (1, 2):
            raise UsageError(f"net.columns: {self.columns} is not valid; give 1 or 2")
        wanted = _MAP_COUNTS[self.kind]
        for key in ("maps", "kernels"):
            given = len(getattr(self, key))
            if given not in wanted:
                which = " or ".join(map(str, wanted))
                raise UsageError(f"net.{key}: {counted(given, 'number')}; give {which}, one for each convolution")
        if len(self.kernels) != len(self.maps):
            raise UsageError(
                f"net.kernels: {counted(len(self.kernels), 'number')} for {len(self.maps)} of net.maps; give as many"
            )
        for layer, maps in zip(LAYERS[self.kind], self.maps, strict=False):
            if not maps and (self.kind != "alexnet" or layer not in _OMISSIBLE):
                raise UsageError(f"net.maps: 0 for {layer}; only {', '.join(_OMISSIBLE)} can be left out of an alexnet")
        if self.fc8 == "split" and 0 < self.classes < self.columns:
            raise UsageError(f"net.fc8: 'split' needs a class for each column, but there is {self.classes}; use 'a'")
        sizes = [("hidden", self.hidden), ("bottleneck", self.bottleneck)]
        for key, value in [*(("maps", maps) for maps in self.maps), *sizes]:
            if value % self.columns:
                raise UsageError(
                    f"net.{key}: {value} is not a multiple of net.columns, {self.columns}; give a multiple"
                )
        if self.kind != "alexnet":
            defaults = {key.name: key.default for key in fields(self)}
            for key, only in {"columns": 1, "bottleneck": 0, **{key: defaults[key] for key in _OF_ALEXNET}}.items():
                if (value := getattr(self, key)) != only:
                    use = list(only) if isinstance(only, tuple) else only
                    raise UsageError(f"net.{key}: {value} is not valid for a {self.kind} net; use {use}")
        if len(self.pads) not in (0, len(self.kernels)):
            raise UsageError(
                f"net.pads: {counted(len(self.pads), 'number')} for {len(self.kernels)} of net.kernels; give as many, "
                "or [] for the usual ones"
            )
        if isinstance(self.pool_rounding, tuple) and len(self.pool_rounding) != 3:
            count = counted(len(self.pool_rounding), "word")
            raise UsageError(f"net.pool_rounding: a list of {count}; give one for each of the 3 pools")
        for layer, pad, kernel in zip(LAYERS[self.kind], self.pads, self.kernels, strict=False):
            if pad >= kernel:
                raise UsageError(f"net.pads: {pad} for {layer}, whose kernel has {kernel} pixels a side; give fewer")
        _known_layers("net.talk", self.talk, LAYERS[self.kind])

    def _check_files(self) -> None:
        for key in _TEXTS:
            if getattr(self, key) is None:
                raise UsageError(f"net.{key}: is missing; a net of kind {FILES!r} needs the text of that file")
        if self.precision == "bf16":
            raise UsageError(f"net.precision: 'bf16' is not valid for a net of kind {FILES!r}; use 'tf32' or 'float32'")
        gpus = len(self.files.gpus)
        for setting in fields(self):
            allowed = (setting.default, gpus) if setting.name == "columns" else (setting.default,)
            if setting.name not in _OF_FILES and getattr(self, setting.name) not in allowed:
                raise self.not_of_files(setting.name)
        object.__setattr__(self, "columns", gpus)

    @staticmethod
    def not_of_files(key: str) -> UsageError:
        """Make the error for a key that a net of the authors' files does not have."""
        return UsageError(f"net.{key}: a net of kind {FILES!r} is what net.layers_cfg says; take out net.{key}")

    @property
    def files(self) -> description.Description:
        """The net of the authors' files, for `kind` "cuda-convnet" alone; UsageError if they are not valid."""
        assert self.layers_cfg is not None and self.layer_params_cfg is not None
        return _parsed(self.layers_cfg, self.layer_params_cfg)

    @property
    def keys(self) -> tuple[str, ...]:
        return _OF_FILES if self.kind == FILES else super().keys

    def by_tensor(self, values: Mapping[str, float]) -> Mapping[str, float]:
        """Return a table of layers as one of tensors, for nets of the authors' files; others as it is."""
        if self.kind != FILES or not values:
            return values
        found = {}
        for layer in self.files.layers.values():
            for tensor in layer.tensors:
                if (key := tensor if tensor in values else layer.name) in values:
                    found[tensor] = values[key]
        return found

    @property
    def learned(self) -> tuple[str, ...]:
        """What tables of the learning section may name: layers, and for the authors' files also tensors."""
        tensors = [name for layer in self.files.layers.values() for name in layer.tensors] if self.kind == FILES else []
        return *self.layers, *tensors

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers with weights, first to last."""
        if self.kind == FILES:
            return tuple(layer.name for layer in self.files.layers.values() if layer.biases)
        absent = {f"conv{number}" for number, maps in enumerate((*self.maps, 0), 1) if not maps}
        absent |= set() if self.bottleneck else {"bottleneck7"}
        return tuple(name for name in LAYERS[self.kind] if name not in absent)

    @property
    def padding(self) -> tuple[int, ...]:
        """The padding of each convolution: `pads`, or what an alexnet without `pads` has."""
        # Run 147: with 2 x 2 pools, conv2 and conv5 pad one pixel less, so that maps are 13 x 13 and 6 x 6 as usual.
        less = [int(self.pool == 2 and number in (2, 5)) for number in range(1, len(self.kernels) + 1)]
        usual = [k // 2 - one for k, one in zip(self.kernels, less, strict=True)]
        return self.pads or (0, *usual[1:])

    @property
    def pool_roundings(self) -> tuple[str, ...]:
        """How the number of windows is rounded in pool1, pool2 and pool5."""
        return self.pool_rounding if isinstance(self.pool_rounding, tuple) else (self.pool_rounding,) * 3

    @property
    def exchanges(self) -> tuple[str, ...]:
        """The layers before which columns exchange maps: those of `talk`; for one not in the net, the next that is."""
        if self.kind == FILES:
            return ()
        found, pending = [], False
        for name in LAYERS[self.kind]:
            pending = pending or name in self.talk
            if pending and name in self.layers:
                found.append(name)
                pending = False
        return tuple(found)


@dataclass(frozen=True)
class Init(_Checked):
    """Initialization (paper section 5): for each layer the weights' standard deviation, or "he", and the biases.

    The key "default" is for the layers that are not named; without it they have 0.01 and 0. `anew` and `like_run` are
    for a net that starts with the weights of another run: `anew` names layers that keep these initial values even if
    that run's would fit; with `like_run` the net and the scale of its input are that run's.
    """

    section = "init"
    weights: dict[str, float | str] = field(default_factory=dict)
    biases: dict[str, float] = field(default_factory=dict)
    anew: tuple[str, ...] = ()
    like_run: bool = False


@dataclass(frozen=True)
class Data(_Checked):
    """Data and augmentation (paper sections 2 and 4.1).

    `set` is the data set to use if none is given; `test_share` is the share of every class that becomes its test
    images, if it is a folder or an archive without any. `size` is the side of the images that `input` is cropped from,
    to which photographs are prepared; None is in the paper's proportion, 256 for an input of 224. `shared_crop`
    consecutive images share one crop and one flip. The part of the mean image that is subtracted is that of the crop
    (`mean` "image") or always the central one ("centre", 2012); the difference is multiplied by `scale`.
    `colour_noise` is how strongly colours are augmented. `sampling` is which images an epoch consists of: "each image
    once", or "balanced", as many but all classes equally often. `order` "random" permutes all images, which a disk has
    to seek for one by one; "shards", for prepared sets on slow disks, reads the shards in random order, each from its
    beginning to its end as the 2012 code read its files, and shuffles the images in a buffer of `shuffle_buffer`, which
    stays in memory: 0.8 GB for 4,096 images of 256 x 256.
    """

    section = "data"
    set: str = ""
    test_share: float | None = None
    size: int | None = field(default=None, compare=False)  # as `set` it only says which images
    flip: bool = True
    shared_crop: int = 1
    mean: str = "image"
    scale: float = 1.0
    colour: str = "none"
    colour_noise: float = 0.1
    sampling: str = "each image once"
    order: str = "random"
    shuffle_buffer: int = 4096


@dataclass(frozen=True)
class Phase(_Checked):
    """Learning rates from an epoch on.

    `bias_rate` None means the recipe's multiple of `rate`; `colour_noise` None means no change. `lr_mult` multiplies
    the rates of single layers, in this phase only; 0 freezes them.
    """

    section = "learning.phases"
    epoch: float
    rate: float
    bias_rate: float | None = None
    colour_noise: float | None = None
    lr_mult: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Learning(_Checked):
    """How the net learns (paper section 5); `epochs` and `warmup` are passes over the training images.

    A batch is divided into `parts`, whose gradients are computed one by one and summed in a fixed order: any number of
    processes up to it gives the same bits. 0 means as many as there are processes when a run begins.

    `steps` is the smallest number of updates: with few images the epochs are raised to it (`recipe.with_steps`).
    Schedule "phases" uses `phases` (without any, `rate` all the time); the other schedules have no phases. "plateau"
    divides the rate by 10 after `patience` epochs without a better test error, at most `drops` times. "cosine" lowers
    it along half a cosine to near zero, "polynomial" along a parabola. With `scale` "linear" all rates are for batches
    of 128 images, and are multiplied by `batch` / 128. `bias_rate` is a multiple of the rate.
    `layer_weight_decay` and `layer_momentum` are for layers whose weight decay or momentum is another. `lr_mult`
    multiplies the rates of single layers during the whole run; 0 freezes them. For a net of the authors' files these
    tables may name tensors, ``"fc10.0/W"``. `lars` above 0 multiplies the rates of each layer by its trust ratio
    (`tinyalex.training.optimizer`). `class_weights` is how much an image counts in the loss: "none", all the same;
    "balanced", more in rare classes, so that each class counts as much as any other; or a table of classes, in which
    those that are not named have 1. `stop_after` ends training after so many epochs without a better test error; 0
    never does.
    """

    section = "learning"
    batch: int = 128
    parts: int = 0
    epochs: int = 90
    steps: int | None = None
    rate: float = 0.01
    bias_rate: float = 1.0
    lr_mult: dict[str, float] = field(default_factory=dict)
    momentum: float = 0.9
    layer_momentum: dict[str, float] = field(default_factory=dict)
    weight_decay: float = 0.0005
    layer_weight_decay: dict[str, float] = field(default_factory=dict)
    lars: float = 0.0
    scale: str = "none"
    schedule: str = "phases"
    warmup: float = 0.0
    patience: int = 4
    drops: int = 3
    class_weights: str | dict[str, float] = "none"
    stop_after: int = 0
    phases: tuple[Phase, ...] = ()

    def images_at_once(self, ranks: int = 1) -> int:
        """Return how many images go forward and backward together: the largest part of a batch."""
        return -(-self.batch // (self.parts or ranks))

    def __post_init__(self) -> None:
        super().__post_init__()
        phases = tuple(phase if isinstance(phase, Phase) else build(Phase, phase) for phase in self.phases)
        phases = (phases or (Phase(0.0, self.rate),)) if self.schedule == "phases" else ()
        object.__setattr__(self, "phases", phases)
        starts = [phase.epoch for phase in phases]
        if phases and (starts[0] != 0 or sorted(set(starts)) != starts or starts[-1] >= self.epochs):
            raise UsageError(f"learning.phases: epochs {starts}; begin at 0, increase, end before {self.epochs}")
        if phases and not math.isclose(self.rate, phases[0].rate, rel_tol=1e-6):
            raise UsageError(f"learning.rate: {self.rate} is not the first phase's {phases[0].rate}; make them equal")
        if self.warmup >= self.epochs:
            raise UsageError(f"learning.warmup: {self.warmup} of {counted(self.epochs, 'epoch')}; give fewer")


@dataclass(frozen=True)
class Recipe:
    """All settings of a run except data, seed and devices; `notes` say what was converted while it was read."""

    name: str
    net: Net = field(default_factory=Net)
    init: Init = field(default_factory=Init)
    data: Data = field(default_factory=Data)
    learning: Learning = field(default_factory=Learning)
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def judged_by(self) -> str:
        """The error by which epochs are compared: where rare classes count more, the mean of the classes' errors."""
        equal = self.data.sampling != "balanced" and self.learning.class_weights == "none"
        return "test error" if equal else "mean error of the classes"

    @property
    def image_size(self) -> int:
        """Side of the images that the net's input is cropped from: see `Data`."""
        return self.data.size or round(self.net.input * 256 / 224)

    def __post_init__(self) -> None:
        check("name", self.name)
        kind = self.net.kind
        layers = self.net.layers if kind == FILES else LAYERS[kind]
        learned = self.net.learned if kind == FILES else layers
        if kind == FILES and self.init != Init():
            raise UsageError(
                f"init: the first values of a {FILES} net are initW and initB in net.layers_cfg; take that section out"
            )
        norms = ("none", "2012") if kind == "cifar10-local" else ("none",)
        for key, allowed in (("norm", norms), ("dropout", (0.0,))) if kind not in ("alexnet", FILES) else ():
            value = getattr(self.net, key)
            if value not in allowed:
                use = " or ".join(map(repr, allowed))
                raise UsageError(f"net.{key}: {value!r} is not valid for a {kind} net; use {use}")
        _known_layers("init.weights", self.init.weights, (*layers, "default"))
        _known_layers("init.biases", self.init.biases, (*layers, "default"))
        _known_layers("init.anew", self.init.anew, layers)
        for key in ("lr_mult", "layer_momentum", "layer_weight_decay"):
            _known_layers(f"learning.{key}", getattr(self.learning, key), learned)
        if self.data.sampling == self.learning.class_weights == "balanced":
            raise UsageError(
                "data.sampling: 'balanced' together with learning.class_weights = 'balanced' would count rare classes "
                "twice; use one of them"
            )
        if self.data.order == "shards" and self.data.sampling == "balanced":
            raise UsageError(
                "data.order: 'shards' reads each image once, which data.sampling = 'balanced' does not; use 'random'"
            )
        for phase in self.learning.phases:
            _known_layers("learning.phases.lr_mult", phase.lr_mult, learned)


def build(part: type[_Checked], table: Any) -> Any:
    """Make one of the classes above from a table of keys; for an unknown one, a UsageError names the most similar."""
    known = [f"{part.section}.{key.name}" for key in fields(part)]
    if not isinstance(table, dict):
        raise UsageError(f"{part.section}: {table!r} is not valid; give a table of keys")
    for key in table:
        if f"{part.section}.{key}" not in known:
            raise unknown(f"{part.section}.{key}")
    try:
        made = part(**table)
    except TypeError:
        raise UsageError(f"{part.section}: {table!r} lacks a key; give epoch and rate") from None
    for key in table:
        if key not in made.keys:
            raise Net.not_of_files(key)
    return made


def _known_layers(key: str, layers: Iterable[str], known: tuple[str, ...]) -> None:
    for layer in layers:
        if layer not in known:
            raise unknown(layer, known, f"layer for {key}")
