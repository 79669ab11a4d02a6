"""How a net of cuda-convnet's files learns, as the learning section of a recipe.

The files have a rate, a momentum and a weight decay for every tensor; the section has those of most tensors, and
tables of the layers and tensors that differ. The schedule is that of the notes at the foot of the file of rates. The
files were saved at the end of a run, when the rates had been lowered: a net begins with the rates of which its notes
say that they were changed, and with those of the files if the notes change none. Biases then begin at twice the
weights' rate, as in the files that were saved at the beginning, and keep the rate of the file from the first change on.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from tinyalex.errors import UsageError
from tinyalex.recipes.cuda_convnet.description import Description
from tinyalex.recipes.cuda_convnet.notes import Change
from tinyalex.recipes.settings import Learning, Phase

EPOCHS = 90  # where the notes do not say when the run was ended


def learning(description: Description) -> tuple[Learning, list[str]]:
    """Return the learning section, and a line for everything that it cannot say.

    Raises
    ------
    UsageError
        If no weights learn.
    """
    rates = {name: rate for layer in description.layers.values() for name, rate in layer.tensors.items()}
    weights = {name: rate for name, rate in rates.items() if name.endswith("/W")}
    momentum = _most(each.momentum for each in rates.values())
    decay = _most(each.weight_decay for each in weights.values())
    schedule = _Schedule(description)
    made = Learning(
        epochs=schedule.epochs,
        rate=schedule.phases[0].rate,
        bias_rate=_ratio(schedule.phases[0].bias_rate or 0.0, schedule.phases[0].rate),
        momentum=momentum,
        layer_momentum=_differing(description, {name: each.momentum for name, each in rates.items()}, momentum),
        weight_decay=decay,
        layer_weight_decay=_differing(description, {n: each.weight_decay for n, each in weights.items()}, decay),
        lr_mult=_differing(description, schedule.multiples, 1.0),
        phases=tuple(schedule.phases),
    )
    left_out = [*description.left_out, *schedule.left_out]
    if description.copied:
        copied = ", ".join(description.copied)
        left_out.append(f"first values of {copied}: in the files from another net (initWFunc), here random")
    return made, left_out


class _Schedule:
    # ``phases`` and ``epochs`` of the section; ``multiples`` of the rates by tensor, all the time; ``left_out``, lines.

    def __init__(self, description: Description) -> None:
        self.description, self.left_out = description, list[str]()
        self._learned = [layer for layer in description.layers.values() if layer.biases]
        weights = {n: each.rate for layer in self._learned for n, each in layer.tensors.items() if n.endswith("/W")}
        biases = {n: each.rate for layer in self._learned for n, each in layer.tensors.items() if n.endswith("/b")}
        if not any(weights.values()):
            raise UsageError(f"{description.files[1]}: epsW is 0 for all layers, so that nothing learns; give a rate")
        self._file_rate, bias_rate = _most(filter(None, weights.values())), _most(filter(None, biases.values()))
        changes = sorted((c for c in description.phases if not c.end), key=lambda change: change.epoch)
        common = [change for change in changes if change.rate and not change.layers]
        named = [name for change in changes if change.rate is not None for name in self._named(change)]
        begun = next((change.before for change in common if change.before), None)
        self._with_notes = bool(common or named)
        self._weights_alone: set[str] = set()  # layers of which the notes change the weights' rate and not the biases'
        self.multiples = self._constant(weights, biases, bias_rate, set(named), bool(begun))
        self.phases = [*self._phases(changes, begun or self._file_rate, bias_rate, bool(begun))]
        ends = [change.epoch for change in description.phases if change.end]
        self.epochs = max(1, math.ceil(ends[0])) if ends else max(EPOCHS, math.ceil(self.phases[-1].epoch) + 1)
        self.phases = [phase for phase in self.phases if phase.epoch < self.epochs]
        if self._with_notes:
            self._compare(weights)

    def _constant(
        self, weights: dict[str, float], biases: dict[str, float], bias_rate: float, named: set[str], begun: bool
    ) -> dict[str, float]:
        # Where the notes change the rate of all layers, the weights' rates in the file are those of the end.
        found: dict[str, float] = {}
        for layer in self._learned:
            own = {n: _ratio(weights[n], self._file_rate) for n in layer.tensors if n in weights}
            multiple = _most(own.values())
            fixed = layer.name in named or begun
            for name, each in own.items():
                found[name] = each if not fixed else _ratio(each, multiple) if multiple else 1.0
            bias = f"{layer.name}/b"
            ratio = _ratio(biases[bias], bias_rate) if bias_rate else 1.0
            lowered = layer.name in named and multiple not in (0.0, 1.0)
            if lowered and ratio != multiple:
                self._weights_alone.add(layer.name)
            frozen = fixed and not multiple and not ratio  # at the end of the run
            found[bias] = 1.0 if frozen or (lowered and ratio == multiple) else ratio
        return found

    def _phases(self, changes: list[Change], rate: float, bias_rate: float, begun: bool) -> Iterable[Phase]:
        # Epochs are not always in order; what both orders say is meant.
        orders = [self._began(order, rate).items() for order in (changes, self.description.phases)]
        multiples, noise = {name: each for name, each in orders[0] if (name, each) in orders[1]}, None
        first = max(2 * rate, bias_rate) if begun and bias_rate else bias_rate
        waiting = Phase(0.0, rate, first, None, self._keys(multiples))
        for epoch in sorted({change.epoch for change in changes}):
            now = [change for change in changes if change.epoch == epoch]
            for change in now:
                if change.rate and not change.layers:
                    rate, multiples = change.rate, {name: 0.0 for name, each in multiples.items() if not each}
            for change in now:
                noise = noise if change.colour_noise is None else change.colour_noise
                if change.rate is not None:
                    multiples = multiples | {name: _ratio(change.rate, rate) for name in self._named(change, True)}
            multiples = {name: each for name, each in multiples.items() if each != 1}
            if epoch > 0:
                yield waiting
            waiting = Phase(max(0.0, epoch), rate, bias_rate, noise, self._keys(multiples))
        yield waiting

    def _keys(self, multiples: dict[str, float]) -> dict[str, float]:
        # Layers whose weights alone have the multiple are named by their weights, unless they are frozen.
        found: dict[str, float] = {}
        for name, each in multiples.items():
            own = [key for key in self.description.layers[name].tensors if key.endswith("/W")]
            found |= dict.fromkeys(own if each and name in self._weights_alone else [name], each)
        return found

    def _began(self, changes: Sequence[Change], rate: float) -> dict[str, float]:
        # The multiples of layers whose first change says that they had a rate of their own before.
        found: dict[str, float] = {}
        for change in changes:
            if change.rate and not change.layers:
                rate = change.rate
            for name in self._named(change) if change.rate is not None else ():
                found.setdefault(name, _ratio(change.before or rate, rate))
        return {name: each for name, each in found.items() if each != 1}

    def _named(self, change: Change, tell: bool = False) -> list[str]:
        # The layers that a note calls conv1, for conv1a and conv1b, or fc, for all of this type.
        found = []
        for name in change.layers:
            layers = [layer.name for layer in self._learned if re.fullmatch(rf"{re.escape(name)}[a-z]?", layer.name)]
            layers = layers or [layer.name for layer in self._learned if layer.type == name]
            if not layers and tell:
                self._leave_out(change, f"the rate {change.rate:g} of {name}, which is no layer")
            found += layers
        if tell and not change.layers and change.rate == 0:
            self._leave_out(change, "the rate 0 of all layers")
        return found

    def _leave_out(self, change: Change, what: str) -> None:
        self.left_out.append(f"{self.description.files[1]}, notes, epoch {change.epoch:g}: {what}, is left out")

    def _compare(self, weights: dict[str, float]) -> None:
        # Names the layers to which the file, saved at the end of the run, gives another rate than the notes' last.
        last, differing = self.phases[-1], []
        for layer in self._learned:
            for name in [each for each in layer.tensors if each in weights]:
                ours = last.rate * last.lr_mult.get(name, last.lr_mult.get(layer.name, 1.0)) * self.multiples[name]
                if not math.isclose(ours, weights[name], rel_tol=1e-6):
                    differing.append(f"{layer.name} {ours:g} ({weights[name]:g})")
                    break
        if differing:
            shown = ", ".join(differing[:3]) + (f" and {len(differing) - 3} more" if len(differing) > 3 else "")
            self.left_out.append(
                f"last rates by the notes, and in brackets those of {self.description.files[1]}: {shown}"
            )


def _differing(description: Description, values: dict[str, float], common: float) -> dict[str, float]:
    # By layer where all its tensors have one value, else by tensor; without what is common.
    found: dict[str, float] = {}
    for layer in description.layers.values():
        own = {name: values[name] for name in layer.tensors if name in values}
        if len(set(own.values())) == 1:
            own = {layer.name: next(iter(own.values()))}
        found |= {name: value for name, value in own.items() if value != common}
    return found


def _most(values: Iterable[float]) -> float:
    return Counter(values).most_common(1)[0][0] if (values := list(values)) else 0.0


def _ratio(rate: float, other: float) -> float:
    return float(f"{rate / other:.9g}")
