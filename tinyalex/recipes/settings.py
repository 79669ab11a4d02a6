"""The settings of a recipe as frozen dataclasses, which check each value, and the values against each other."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from tinyalex.errors import UsageError
from tinyalex.recipes.ranges import check, unknown
from tinyalex.words import counted

LAYERS = {  # all layers with weights that a kind of net can have, first to last
    "alexnet": ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "fc6", "fc7", "bottleneck7", "fc8"),
    "cifar10": ("conv1", "conv2", "conv3", "fc10"),
    "cifar10-local": ("conv1", "conv2", "local3", "local4", "fc10"),
}
_MAP_COUNTS = {"alexnet": (5, 6), "cifar10": (3,), "cifar10-local": (4,)}  # lengths of net.maps and net.kernels
_OMISSIBLE = ("conv3", "conv4", "conv5")  # paper section 7


@dataclass(frozen=True)
class _Checked:
    section: ClassVar[str]

    def __post_init__(self) -> None:
        for key in fields(self):
            object.__setattr__(self, key.name, check(f"{self.section}.{key.name}", getattr(self, key.name)))


@dataclass(frozen=True)
class Net(_Checked):
    """The shape of the net (paper section 3); `maps`, `hidden` and `bottleneck` are totals over the columns.

    A sixth number in `maps` and `kernels` adds conv6 after the last pool; with 0 maps conv3, conv4 or conv5 is left
    out. `bottleneck` is the number of linear units between fc7 and fc8, 0 for none. `talk` names the layers before
    which the columns exchange their maps. `fc8` is where the last layer is: on column "a" alone, as in 2012, or "split"
    over the columns. `classes` 0 means as many as the data has. `convolution` is the algorithm on the CPU: "auto" is
    Winograd's for layers whose kernel has transforms and whose groups have 8 channels or more (in conv1 the channels
    are the pixels of a stride x stride block), and im2col for the others; "im2col" is im2col for all. `tf32` lets a GPU
    round the operands of matrix products to 11 significant bits, which is several times as fast.
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
    norm: str = "paper"
    pool: int = 3
    fc8: str = "a"
    activation: str = "relu"
    dropout: float = 0.5
    convolution: str = "auto"
    tf32: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
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
        for key, only in (("columns", 1), ("bottleneck", 0)) if self.kind != "alexnet" else ():
            if getattr(self, key) != only:
                raise UsageError(f"net.{key}: {getattr(self, key)} is not valid for a {self.kind} net; use {only}")
        _known_layers("net.talk", self.talk, LAYERS[self.kind])

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers with weights, first to last."""
        absent = {f"conv{number}" for number, maps in enumerate((*self.maps, 0), 1) if not maps}
        absent |= set() if self.bottleneck else {"bottleneck7"}
        return tuple(name for name in LAYERS[self.kind] if name not in absent)

    @property
    def exchanges(self) -> tuple[str, ...]:
        """The layers before which columns exchange maps: those of `talk`; for one not in the net, the next that is."""
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
    `colour_noise` is how strongly colours are augmented.
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

    `steps` is the smallest number of updates: with few images the epochs are raised to it (`recipe.with_steps`).
    Schedule "phases" uses `phases` (without any, `rate` all the time); the other schedules have no phases. "plateau"
    divides the rate by 10 after `patience` epochs without a better test error, at most `drops` times. "cosine" lowers
    it along half a cosine to near zero. `bias_rate` is a multiple of the rate. `layer_weight_decay` is for layers whose
    weight decay is not `weight_decay`. `lr_mult` multiplies the rates of single layers during the whole run; 0 freezes
    them.
    """

    section = "learning"
    batch: int = 128
    epochs: int = 90
    steps: int | None = None
    rate: float = 0.01
    bias_rate: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 0.0005
    layer_weight_decay: dict[str, float] = field(default_factory=dict)
    lr_mult: dict[str, float] = field(default_factory=dict)
    schedule: str = "phases"
    warmup: float = 0.0
    patience: int = 4
    drops: int = 3
    phases: tuple[Phase, ...] = ()

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
    def image_size(self) -> int:
        """Side of the images that the net's input is cropped from: see `Data`."""
        return self.data.size or round(self.net.input * 256 / 224)

    def __post_init__(self) -> None:
        check("name", self.name)
        layers, kind = LAYERS[self.net.kind], self.net.kind
        norms = ("none", "2012") if kind == "cifar10-local" else ("none",)
        for key, allowed in (("norm", norms), ("dropout", (0.0,))) if kind != "alexnet" else ():
            value = getattr(self.net, key)
            if value not in allowed:
                use = " or ".join(map(repr, allowed))
                raise UsageError(f"net.{key}: {value!r} is not valid for a {kind} net; use {use}")
        _known_layers("init.weights", self.init.weights, (*layers, "default"))
        _known_layers("init.biases", self.init.biases, (*layers, "default"))
        _known_layers("init.anew", self.init.anew, layers)
        _known_layers("learning.layer_weight_decay", self.learning.layer_weight_decay, layers)
        _known_layers("learning.lr_mult", self.learning.lr_mult, layers)
        for phase in self.learning.phases:
            _known_layers("learning.phases.lr_mult", phase.lr_mult, layers)


def build(part: type[_Checked], table: Any) -> Any:
    """Make one of the classes above from a table of keys; for an unknown one, a UsageError names the most similar."""
    known = [f"{part.section}.{key.name}" for key in fields(part)]
    if not isinstance(table, dict):
        raise UsageError(f"{part.section}: {table!r} is not valid; give a table of keys")
    for key in table:
        if f"{part.section}.{key}" not in known:
            raise unknown(f"{part.section}.{key}")
    try:
        return part(**table)
    except TypeError:
        raise UsageError(f"{part.section}: {table!r} lacks a key; give epoch and rate") from None


def _known_layers(key: str, layers: Iterable[str], known: tuple[str, ...]) -> None:
    for layer in layers:
        if layer not in known:
            raise unknown(layer, known, f"layer for {key}")
