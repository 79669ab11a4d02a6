"""Who takes part: which program computes, with which algorithm, where, and in which environment."""

import importlib.util
from dataclasses import dataclass, field

from tinyalex.errors import UsageError

# glibc unmaps a freed array of this net and lets the kernel zero its pages anew each step; with these it keeps them.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
}


@dataclass(frozen=True)
class Contender:
    """One that is measured.

    Attributes
    ----------
    name : str
        As the option and the files have it.
    title : str
        For people.
    kind : {"ours", "torch"}
        The program: see `tinyalex.bench.worker`.
    devices : tuple of str
        One for the net's grouped form, or one a column.
    convolution : str
        Our algorithm: "im2col" or "winograd".
    environment : dict
        Variables of its process; those that steer malloc are unset otherwise.
    """

    name: str
    title: str
    kind: str = "ours"
    devices: tuple = ("cpu",)
    convolution: str = "im2col"
    environment: dict = field(default_factory=dict)


TUNED, SHIPPED = "torch-tuned", "torch"
ALL = {
    each.name: each
    for each in (
        Contender("im2col", "tinyalex, im2col"),
        Contender("winograd", "tinyalex, Winograd", convolution="winograd"),
        Contender("im2col-columns", "im2col, cpu cpu", devices=("cpu", "cpu")),
        Contender("winograd-columns", "Winograd, cpu cpu", devices=("cpu", "cpu"), convolution="winograd"),
        Contender(SHIPPED, "PyTorch as shipped", "torch"),
        Contender(TUNED, "PyTorch, malloc tuned", "torch", environment=MALLOC),
    )
}
DEFAULT = ("im2col", "winograd", SHIPPED, TUNED)


def torch_is_there():
    """Whether PyTorch is installed; it is not imported for that."""
    return importlib.util.find_spec("torch") is not None


def choose(names, columns):
    """Return the contenders of these names that can take part.

    Parameters
    ----------
    names : sequence of str
    columns : int
        Of the recipe's net.

    Returns
    -------
    list of Contender
    notes : list of str
        Who is missing, and why.

    Raises
    ------
    UsageError
        When a net of one column is to run as two, or nobody is left.
    """
    chosen, notes = [ALL[name] for name in dict.fromkeys(names)], []
    for each in chosen:
        if len(each.devices) > columns:
            raise UsageError(f"--contenders {each.name}: this recipe's net has one column; leave it out")
    if any(each.kind == "torch" for each in chosen) and not torch_is_there():
        notes.append("PyTorch is not installed, so there is nothing to compare with: pip install 'tinyalex[parity]'")
        chosen = [each for each in chosen if each.kind != "torch"]
    if not chosen:
        raise UsageError("--contenders: none of them is here; add im2col or winograd")
    return chosen, notes
