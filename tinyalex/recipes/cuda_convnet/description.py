"""A net of cuda-convnet as plain values: its layers with their inputs, settings, first values and learning rates.

The 2012 code reads the files the same way: settings of an input that are not given have defaults, a layer's GPU is that
of its first input unless it has its own, and the maps of a convolution are counted per group.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyalex.recipes.cuda_convnet import notes, sections
from tinyalex.recipes.cuda_convnet.sections import Section, flag

WEIGHTED = ("conv", "local", "fc")  # types of layers with weights


@dataclass(frozen=True)
class Rates:
    """How one tensor learns.

    Attributes
    ----------
    rate, momentum : float
        ``epsW`` and ``momW``, or ``epsB`` and ``momB``.
    weight_decay : float
        ``wc``; 0 for biases.
    """

    rate: float
    momentum: float
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Layer:
    """One layer of a net.

    Attributes
    ----------
    name, type : str
    where : str
        File and line of its section.
    inputs : tuple of str
        Names of the layers that it reads, in this order.
    gpu : int
    neuron : str
        The nonlinearity that follows: ``relu``, ``tanh[1,1]``, ...; ``ident`` if there is none.
    settings : dict
        What its type has: whole numbers, numbers, or a list with one for each input. For a type that is not known, the
        values as text.
    lines : dict
        Key to line of the file, for messages.
    first_weights : tuple of float
        Standard deviation of the first weights, for each input ("he" as in `tinyalex.layers`, not in the files).
    first_bias : float
    weights : tuple of Rates
        For each input.
    biases : Rates or None
        None for layers without weights.
    source : str
        ``weightSource``, the layer whose weights these are; "" if they are its own.
    """

    name: str
    type: str
    where: str
    inputs: tuple[str, ...] = ()
    gpu: int = 0
    neuron: str = "ident"
    settings: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    first_weights: tuple[float | str, ...] = ()
    first_bias: float = 0.0
    weights: tuple[Rates, ...] = ()
    biases: Rates | None = None
    source: str = ""

    @property
    def apart(self) -> bool:
        """Whether the inputs have weights of their own, or each output position has its own bias."""
        kinds = [zip(self.first_weights, self.weights, strict=True)]
        keys = ("filterSize", "padding", "stride", "groups", "randSparse") if self.type == "conv" else ()
        kinds += [self.settings[key] for key in keys]
        several = len(self.inputs) > 1 and (
            any(len(set(values)) > 1 for values in kinds) or any(g > 1 for g in self.settings.get("groups", ()))
        )
        return several or not self.settings.get("sharedBiases", True)

    @property
    def tensors(self) -> dict[str, Rates]:
        """How each parameter learns: ``conv1a/W`` and ``conv1a/b``, or ``conv2a.0/W`` if each input has its own."""
        if not self.biases:
            return {}
        numbered = self.type != "local" and self.apart
        names = [f"{self.name}.{number}" for number in range(len(self.inputs))] if numbered else [self.name]
        weights = {f"{name}/W": rate for name, rate in zip(names, self.weights, strict=False)}
        return weights | {f"{self.name}/b": self.biases}

    def place(self, key: str) -> str:
        """Return file and line of a key: ``layers-145.cfg, line 12``."""
        return f"{self.where.rpartition(' ')[0]} {self.lines[key.lower()]}" if key.lower() in self.lines else self.where


@dataclass(frozen=True)
class Description:
    """A net.

    Attributes
    ----------
    name, run : str
        Of the file of layers, and of that of rates, without ``layers-``, ``layer-params-`` and ``.cfg``.
    layers : dict
        Name to `Layer`, each after its inputs.
    phases : tuple of notes.Change
        The schedule in the notes at the foot of the file of rates.
    left_out : tuple of str
        What the files say that the description leaves out: limits of weights, schedules by a formula, unknown keys.
    copied : tuple of str
        The layers whose first values came from another net (``initWFunc``).
    texts : tuple of str
        What the two files hold.
    files : tuple of str
        Their names, for messages.
    """

    name: str
    run: str
    layers: dict[str, Layer]
    phases: tuple[notes.Change, ...] = ()
    left_out: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()
    texts: tuple[str, str] = ("", "")
    files: tuple[str, str] = ("", "")

    @property
    def gpus(self) -> list[int]:
        """The GPUs of all layers between the data and the cost, ascending."""
        ends = ("data", "softmax", "cost.logreg")
        return sorted({layer.gpu for layer in self.layers.values() if layer.type not in ends})

    def readers(self, name: str) -> list[str]:
        """Return the names of the layers that read a layer."""
        return [layer.name for layer in self.layers.values() if name in layer.inputs]


def read(layer_file: str | Path, rate_file: str | Path) -> Description:
    """Read a pair of files.

    Parameters
    ----------
    layer_file : str or Path
        ``layers-145.cfg``.
    rate_file : str or Path
        ``layer-params-145.cfg``.

    Returns
    -------
    Description

    Raises
    ------
    UsageError
        If a file cannot be read, a key is missing or not valid, or a layer reads one that is not above it. The message
        names file and line.
    """
    texts = sections.read_text(layer_file), sections.read_text(rate_file)
    return parse(*texts, (Path(layer_file).name, Path(rate_file).name))


def parse(layer_text: str, rate_text: str, files: tuple[str, str]) -> Description:
    """Read the texts of a pair of files, as `read` does; ``files`` are their names in messages."""
    layers: dict[str, Layer] = {}
    above, rates = sections.parse(layer_text, files[0]), sections.parse(rate_text, files[1])
    for name, section in above.items():
        layers[name] = _layer(section, rates.get(name), layers, files[1])
    return Description(
        _run(files[0]),
        _run(files[1]),
        layers,
        notes.schedule(rate_text),
        _left_out(above, rates),
        tuple(section.name for section in above.values() if "initwfunc" in section.values),
        (layer_text, rate_text),
        files,
    )


def _run(file: str | Path) -> str:
    # 145-2010 of layer-params-145-2010.cfg, gc of layers.gc.cfg.
    return re.sub(r"^layers?(-params)?[-.]", "", Path(file).stem)


def _layer(section: Section, rates: Section | None, above: dict[str, Layer], rate_file: str) -> Layer:
    type_ = section.text("type")
    inputs = () if type_ == "data" else tuple(each.strip() for each in section.text("inputs").split(","))
    for each in inputs:
        if each not in above:
            raise section.error(f"reads {each}, which no section above it defines", "inputs")
    gpu = section.number("gpu", int, above[inputs[0]].gpu if inputs else 0)
    if gpu < 0:
        raise section.error(f"gpu={gpu} is not valid; give 0 or more", "gpu")
    read, own = _SETTINGS.get(type_), rates or Section(rate_file, section.name, {}, {})
    settings = read(section, own, len(inputs)) if read else dict(section.values)
    learned: dict[str, Any] = {}
    if type_ in WEIGHTED:
        if rates is None:
            raise section.error(f"has no section in {rate_file}; add one with epsW, epsB, momW, momB and wc")
        learned = _learned(section, rates, len(inputs))
        if "weightsource" in section.values:
            learned["source"] = section.values["weightsource"]
    neuron = section.text("neuron", "ident").replace(" ", "")
    return Layer(type=type_, name=section.name, where=section.where(), inputs=inputs, gpu=gpu, neuron=neuron,
                 settings=settings, lines=section.lines, **learned)  # fmt: skip


def _learned(section: Section, rates: Section, count: int) -> dict[str, Any]:
    columns = (rates.numbers(key, float, count) for key in ("epsW", "momW", "wc"))
    return {
        "first_weights": tuple(section.numbers("initW", float, count, 0.01)),
        "first_bias": section.number("initB", float, 0.0),
        "weights": tuple(Rates(*each) for each in zip(*columns, strict=True)),
        "biases": Rates(rates.number("epsB", float), rates.number("momB", float)),
    }


def _convolution(section: Section, rates: Section, count: int) -> dict[str, Any]:
    keys = {"channels": None, "filters": None, "filterSize": None, "padding": 0, "stride": 1, "groups": 1}
    found = {key: section.numbers(key, int, count, default) for key, default in keys.items()}
    for key, values in found.items():
        for value in values:
            if value < (key != "padding"):
                raise section.error(
                    f"{key}={section.text(key)} is not valid; give {int(key != 'padding')} or more", key
                )
    shares = [channels // groups for channels, groups in zip(found["channels"], found["groups"], strict=True)]
    found["filterChannels"] = section.numbers("filterChannels", int, count, 0)
    found["filterChannels"] = [given or share for given, share in zip(found["filterChannels"], shares, strict=True)]
    found["randSparse"] = section.numbers("randSparse", flag, count, False)
    return found | {"sharedBiases": section.number("sharedBiases", flag, True)}


def _fully_connected(section: Section, rates: Section, count: int) -> dict[str, Any]:
    return {"outputs": section.number("outputs", int)}


def _pool(section: Section, rates: Section, count: int) -> dict[str, Any]:
    found = {key: section.number(key, int) for key in ("sizeX", "stride")}
    return found | {"pool": section.text("pool")} | {key: section.number(key, int, 0) for key in ("start", "outputsX")}


def _norm(section: Section, rates: Section, count: int) -> dict[str, Any]:
    # Older files have sizeX for size, and scale and pow beside it.
    size = section.number("size" if "size" in section.values else "sizeX", int)
    found = {key: (section if key in section.values else rates).number(key, float) for key in ("scale", "pow")}
    return {"size": size, **found, "minDiv": rates.number("minDiv", float, 1.0)}


def _dropout(section: Section, rates: Section, count: int) -> dict[str, Any]:
    return {"keep": section.number("keep", float, 0.5), "enable": rates.number("enable", flag, True)}


def _blur(section: Section, rates: Section, count: int) -> dict[str, Any]:
    return {"stdev": section.number("stdev", float), "filterSize": section.number("filterSize", int)}


def _nailbed(section: Section, rates: Section, count: int) -> dict[str, Any]:
    return {"stride": section.number("stride", int), "start": section.number("start", int, 0)}


_SETTINGS = {
    "data": lambda section, rates, count: {"dataIdx": section.number("dataIdx", int)},
    "conv": _convolution,
    "local": _convolution,
    "fc": _fully_connected,
    "pool": _pool,
    "rnorm": _norm,
    "cnorm": _norm,
    "cmrnorm": _norm,
    "hs": _dropout,
    "blur": _blur,
    "nailbed": _nailbed,
    "softmax": lambda section, rates, count: {},
    "concat": lambda section, rates, count: {},
    "eltsum": lambda section, rates, count: {"coeffs": section.numbers("coeffs", float, count, 1.0)},
    "cost.logreg": lambda section, rates, count: {"coeff": rates.number("coeff", float, 1.0)},
}


# What a description has or need not have: names of GPUs' work, what is reported, and what is said twice.
_KNOWN = (
    "type", "inputs", "gpu", "neuron", "dataidx", "initw", "initb", "initwfunc", "initbfunc", "initcfunc", "channels",
    "filters", "filtersize", "padding", "stride", "groups", "filterchannels", "randsparse", "sharedbiases",
    "partialsum", "outputs", "sizex", "start", "outputsx", "pool", "size", "scale", "pow", "mindiv", "keep", "enable",
    "stdev", "coeffs", "coeff", "topk", "epsw", "epsb", "momw", "momb", "wc", "wball", "wcnorm", "wcnormmin",
    "wcnormmax", "sched", "schedw", "schedb", "weightsource",
)  # fmt: skip


def _left_out(layers: dict[str, Section], rates: dict[str, Section]) -> tuple[str, ...]:
    found = []
    for section in [*layers.values(), *rates.values()]:
        for key in section.values:
            if key not in _KNOWN:
                found.append(f"{section.where(key)}: {key} of [{section.name}] is not known, and left out")
    for section in rates.values():
        for key in ("wball", "wcnorm", "wcnormmin", "wcnormmax"):
            if any(section.numbers(key, float, section.values.get(key, "0").count(",") + 1, 0.0)):
                found.append(f"{section.where(key)}: {key} of [{section.name}] limits weights, which is left out")
    for section in rates.values():
        for key in ("sched", "schedw", "schedb"):
            if key in section.values and not section.values[key].startswith(("linear[1,1]", "default")):
                found.append(f"{section.where(key)}: the rates follow {key}={section.values[key]}, which is left out")
                return tuple(found)
    return tuple(found)
