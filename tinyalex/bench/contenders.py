"""Who takes part: which program computes, with which algorithm, where, and in which environment."""

import importlib.util
from dataclasses import dataclass, field, replace

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
    kind : {"ours", "torch", "chainer"}
        The program: see `tinyalex.bench.worker`.
    devices : tuple of str
        One for the net's grouped form, or one a column.
    convolution : str
        Our algorithm: "im2col" or "winograd".
    tf32 : bool
        Whether products round their factors to 11 bits, on a card; otherwise they are those of float32.
    environment : dict
        Variables of its process; those that steer malloc are unset otherwise.
    """

    name: str
    title: str
    kind: str = "ours"
    devices: tuple = ("cpu",)
    convolution: str = "im2col"
    tf32: bool = False
    environment: dict = field(default_factory=dict)


TUNED, SHIPPED = "torch-tuned", "torch"
TF32, FLOAT32, COLUMNS, TORCH_TF32, TORCH_FLOAT32, CHAINER = (
    "tf32", "float32", "tf32-columns", "torch-tf32", "torch-float32", "chainer-tf32",
)  # fmt: skip
ON_PROCESSOR = {
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
CARD = "cuda:0"
ON_CARD = {
    each.name: each
    for each in (
        Contender(TF32, "tinyalex, TF32", devices=(CARD,), tf32=True),
        Contender(FLOAT32, "tinyalex, float32", devices=(CARD,)),
        Contender(COLUMNS, "two columns, TF32", devices=(CARD, CARD), tf32=True),
        Contender(TORCH_TF32, "PyTorch, TF32", "torch", (CARD,), tf32=True),
        Contender(TORCH_FLOAT32, "PyTorch, float32", "torch", (CARD,)),
        Contender(CHAINER, "Chainer-style, TF32", "chainer", (CARD,), tf32=True),
    )
}
ALL = ON_PROCESSOR | ON_CARD


def surrounded(tf32):
    """Return the variables of a process on a card: CuPy reads its TF32 there too."""
    return {"CUPY_TF32": str(int(tf32))}


def torch_is_there():
    """Whether PyTorch is installed; it is not imported for that."""
    return importlib.util.find_spec("torch") is not None


def choose(names, columns, device="cpu"):
    """Return the contenders of these names that can take part.

    Parameters
    ----------
    names : sequence of str or None
        None: those that a device has by default.
    columns : int
        Of the recipe's net.
    device : str
        Where to compute. Pretend devices stand for a card, to try everything out.

    Returns
    -------
    list of Contender
    notes : list of str
        Who is missing, and why.

    Raises
    ------
    UsageError
        When a net of one column is to run as two, a contender is not one of this device's, or nobody is left.
    """
    there = ON_PROCESSOR if device == "cpu" else ON_CARD
    wanted = names or (DEFAULT if device == "cpu" else [each for each in there if columns > 1 or each != COLUMNS])
    for name in wanted:
        if name not in there:
            raise UsageError(f"--contenders {name}: not on {device}; choose of {', '.join(there)}")
    chosen, notes = [_on(device, there[name]) for name in dict.fromkeys(wanted)], []
    for each in chosen:
        if len(each.devices) > columns:
            raise UsageError(f"--contenders {each.name}: this recipe's net has one column; leave it out")
    if any(each.kind == "torch" for each in chosen) and not torch_is_there():
        notes.append("PyTorch is not installed, so there is nothing to compare with: pip install 'tinyalex[parity]'")
        chosen = [each for each in chosen if each.kind != "torch"]
    if not chosen:
        raise UsageError(f"--contenders: none of them is here; add {' or '.join(list(there)[:2])}")
    return chosen, notes


def _on(device, contender):
    if device == "cpu":
        return contender
    devices = tuple(device for _ in contender.devices)
    return replace(contender, devices=devices, environment=surrounded(contender.tf32))
