"""The contenders: which program computes, with which algorithm, on which device, and in which environment."""

import importlib.util
import os
import shutil
from dataclasses import dataclass, field, replace

from tinyalex.errors import UsageError

# By default glibc returns freed arrays of this size to the system, which then zeroes new pages at each step; with these
# settings it keeps the memory.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
}


@dataclass(frozen=True)
class Contender:
    """One program and configuration to be measured.

    Attributes
    ----------
    name : str
        Name in ``--contenders`` and in files.
    title : str
        Name in tables and pictures.
    kind : {"ours", "torch", "cpu-rates", "gpu-rates"}
        The program: see `tinyalex.bench.worker`.
    devices : tuple of str
        One device for the net's grouped form, or one for each column.
    convolution : str
        tinyalex's algorithm: "im2col", or "auto" for Winograd's where it has transforms.
    tf32 : bool
        Whether matrix products on a GPU use TF32, which rounds their factors to 11 bits, instead of float32.
    channels_last : bool
        Whether PyTorch keeps images and weights with the channels last.
    compiled : bool
        Whether PyTorch compiles the net (`torch.compile`), which needs a C++ compiler, and on a GPU Triton as well.
    bf16 : bool
        Whether tinyalex stores activations in bfloat16, or PyTorch computes in it where its autocast allows; weights
        and momenta stay float32. `tf32` is True as well then, as the factors of products are rounded.
    tuned : bool
        Whether PyTorch normalizes across maps by shifted slices, which compile to one kernel, and updates all weights
        by a fused SGD.
    environment : dict
        Environment variables of its process; those of malloc are unset otherwise.
    """

    name: str
    title: str
    kind: str = "ours"
    devices: tuple = ("cpu",)
    convolution: str = "im2col"
    tf32: bool = False
    channels_last: bool = False
    compiled: bool = False
    bf16: bool = False
    tuned: bool = False
    environment: dict = field(default_factory=dict)

    @property
    def arithmetic(self):
        """Name of the arithmetic on a GPU: "TF32", "float32" or "bf16"."""
        return "bf16" if self.bf16 else "TF32" if self.tf32 else "float32"


TUNED, SHIPPED = "torch-tuned", "torch"
TF32, FLOAT32, COLUMNS, TORCH_TF32, TORCH_FLOAT32 = "tf32", "float32", "tf32-columns", "torch-tf32", "torch-float32"
BF16, BEST_TF32, BEST_BF16 = "bf16", "torch-best-tf32", "torch-best-bf16"
ON_CPU = {
    contender.name: contender
    for contender in (
        Contender("im2col", "tinyalex, im2col"),
        Contender("winograd", "tinyalex, Winograd", convolution="auto"),
        Contender("im2col-columns", "im2col, cpu cpu", devices=("cpu", "cpu")),
        Contender("winograd-columns", "Winograd, cpu cpu", devices=("cpu", "cpu"), convolution="auto"),
        Contender(SHIPPED, "PyTorch as shipped", "torch"),
        Contender(TUNED, "PyTorch, malloc tuned", "torch", environment=MALLOC),
        *(
            Contender(
                "-".join(["torch", *(word.replace("_", "-") for word in words)]),
                f"PyTorch, {', '.join(words)}",
                "torch",
                channels_last="channels_last" in words,
                compiled="compiled" in words,
                environment=MALLOC,
            )
            for words in (["channels_last"], ["compiled"], ["compiled", "channels_last"])
        ),
    )
}
DEFAULT = ("im2col", "winograd", *(name for name in ON_CPU if name.startswith("torch")))
GPU = "cuda:0"
ON_GPU = {
    contender.name: contender
    for contender in (
        Contender(TF32, "tinyalex, TF32", devices=(GPU,), tf32=True),
        Contender(FLOAT32, "tinyalex, float32", devices=(GPU,)),
        Contender(BF16, "tinyalex, bf16", devices=(GPU,), tf32=True, bf16=True),
        Contender(COLUMNS, "two columns, TF32", devices=(GPU, GPU), tf32=True),
        *(
            Contender(
                name,
                f"PyTorch's best, {kind}",
                "torch",
                (GPU,),
                tf32=True,
                channels_last=True,
                compiled=True,
                bf16=kind == "bf16",
                tuned=True,
            )
            for name, kind in ((BEST_TF32, "TF32"), (BEST_BF16, "bf16"))
        ),
        Contender(TORCH_TF32, "PyTorch, TF32", "torch", (GPU,), tf32=True),
        Contender(TORCH_FLOAT32, "PyTorch, float32", "torch", (GPU,)),
    )
}
ALL = ON_CPU | ON_GPU


def gpu_environment(tf32):
    """Return the environment variables of a process on a GPU: CuPy also reads its TF32 setting from one."""
    return {"CUPY_TF32": str(int(tf32))}


def torch_installed():
    """Whether PyTorch is installed; does not import it."""
    return importlib.util.find_spec("torch") is not None


def compiler_installed():
    """Whether there is a C++ compiler, which PyTorch needs for a compiled net."""
    return any(map(shutil.which, (os.environ.get("CXX") or "g++", "clang++")))


def triton_installed():
    """Whether Triton is installed, which PyTorch needs for a compiled net on a GPU."""
    return importlib.util.find_spec("triton") is not None


def choose(names, columns, device="cpu"):
    """Return the contenders of these names that can run here.

    Parameters
    ----------
    names : sequence of str or None
        None: the device's default contenders.
    columns : int
        Columns of the recipe's net.
    device : str
        Pretend devices stand for a GPU, to try the measurement.

    Returns
    -------
    list of Contender
    notes : list of str
        Which contenders are missing, and why.

    Raises
    ------
    UsageError
        If a net with one column is to run as two, a contender does not run on this device, or none is left.
    """
    available = ON_CPU if device == "cpu" else ON_GPU
    wanted = names or (DEFAULT if device == "cpu" else [name for name in available if columns > 1 or name != COLUMNS])
    for name in wanted:
        if name not in available:
            raise UsageError(f"--contenders {name}: does not run on {device}; choose from {', '.join(available)}")
    chosen, notes = [_on(device, available[name]) for name in dict.fromkeys(wanted)], []
    for contender in chosen:
        if len(contender.devices) > columns:
            raise UsageError(f"--contenders {contender.name}: this recipe's net has one column; leave it out")
    if any(contender.kind == "torch" for contender in chosen) and not torch_installed():
        notes.append("PyTorch is not installed, so it is not measured: pip install 'tinyalex[parity]'")
        chosen = [contender for contender in chosen if contender.kind != "torch"]
    if any(contender.compiled for contender in chosen) and not compiler_installed():
        notes.append("There is no C++ compiler, so compiled nets are not measured: install g++")
        chosen = [contender for contender in chosen if not contender.compiled]
    if device.startswith("cuda") and any(contender.compiled for contender in chosen) and not triton_installed():
        notes.append("Triton is not installed, so PyTorch's best, a compiled net, is not measured: pip install triton")
        chosen = [contender for contender in chosen if not contender.compiled]
    if not chosen:
        raise UsageError(f"--contenders: none of them can run here; add {' or '.join(list(available)[:2])}")
    return chosen, notes


def _on(device, contender):
    if device == "cpu":
        return contender
    devices = tuple(device for _ in contender.devices)
    return replace(contender, devices=devices, environment=gpu_environment(contender.tf32))
