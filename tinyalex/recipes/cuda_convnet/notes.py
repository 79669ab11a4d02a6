"""The schedule that the authors wrote down, by hand and in words, at the foot of a file of learning rates.

# epoch 67: set epsw to 0.00001 from 0.0001 on conv1
#           set color noise to 0 from 0.1
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """What was changed at an epoch.

    Attributes
    ----------
    epoch : float
    rate : float or None
        New learning rate of the weights (``epsW``).
    before : float or None
        The rate that it replaces, where the note says it.
    layers : tuple of str
        The layers whose rate it is, without the letter of their column; empty for all.
    colour_noise : float or None
        New strength of the colour noise.
    end : bool
        Whether the run was ended.
    """

    epoch: float
    rate: float | None = None
    before: float | None = None
    layers: tuple[str, ...] = ()
    colour_noise: float | None = None
    end: bool = False


_EPOCH = re.compile(r"#\s*epoch\s+([\d.]+):\s*(.*)")
_RATE = re.compile(
    r"set (?:(?P<before>\w+) )?eps?t?w(?: (?P<within>\w+))? (?:to|ot) (?P<rate>[\d.]+)(?: from (?P<old>[\d.]+))?"
    r"(?: on (?P<on>\w+(?:,\s*(?!set\b)[a-z]\w*)*))?"
)
_ELSEWHERE = re.compile(r", ([\d.]+) elsewhere")
_NOISE = re.compile(r"set colou?r(?: \(\w+\))? noise to ([\d.]+)")


def schedule(text: str) -> tuple[Change, ...]:
    """Read the changes of the first run that a file notes, up to its end.

    Notes that say something else, such as where the run moved, are passed over.

    >>> slower, noise, end = schedule('''
    ... # epoch 66: set epsw to 0.00001 from 0.0001 on conv1, set color noise to 0 from 0.1
    ... # epoch 96: killed''')
    >>> slower.rate, slower.layers, noise.colour_noise, end.epoch
    (1e-05, ('conv1',), 0.0, 96.0)
    """
    changes: list[Change] = []
    epoch = None
    for line in text.splitlines():
        if note := _EPOCH.match(line):
            epoch, words = float(note[1].rstrip(".")), note[2]
        elif epoch is not None and re.match(r"#\s{6,}\S", line):  # goes on with the note above
            words = line.lstrip("# ")
        else:
            continue
        changes += _changes(epoch, words)
        if words.startswith("killed"):
            return *changes, Change(epoch, end=True)
    return tuple(changes)


def _changes(epoch: float, words: str) -> list[Change]:
    found = []
    if elsewhere := _ELSEWHERE.search(words):  # before the layers that it is not for
        found.append(Change(epoch, rate=float(elsewhere[1])))
    for match in _RATE.finditer(words):
        on = match["on"] or match["before"] or match["within"] or ""
        layers = tuple(each.strip() for each in on.split(",") if each.strip())
        before = float(match["old"]) if match["old"] else None
        found.append(Change(epoch, rate=float(match["rate"]), before=before, layers=layers))
    if noise := _NOISE.search(words):
        found.append(Change(epoch, colour_noise=float(noise[1])))
    return found
