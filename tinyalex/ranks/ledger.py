"""The bytes that a rank receives in a training step, for three ways to divide the work of a net among ranks.

- Data parallelism: each rank has the whole net and its own images; gradients are summed. `tinyalex.ranks.sums` does
  this, and counts the bytes.
- "One weird trick", scheme (a) (Krizhevsky, arXiv:1404.5997): the convolutions as before; the fully connected layers
  are divided, each rank has some units of each and computes them for the images of all ranks.
- Factors: as data parallelism, but for a fully connected layer each rank receives the inputs x and the gradients dy of
  the others' images, and computes the gradient of the weights, x' dy, of all images itself.

A rank sends as many bytes as it receives.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Net(NamedTuple):
    """What the bytes depend on.

    Attributes
    ----------
    convolutions : int
        Parameters of the convolutional layers.
    dense : tuple of (int, int)
        Inputs and outputs of each fully connected layer.
    itemsize : int
        Bytes of a number.
    """

    convolutions: int
    dense: tuple[tuple[int, int], ...]
    itemsize: int = 4


def data_parallel(net: Net, ranks: int, images: int) -> int:
    """Return the bytes that a rank receives, with ``images`` images on each rank: they do not matter here.

    Examples
    --------
    >>> alexnet = Net(2_334_080, ((9216, 4096), (4096, 4096), (4096, 1000)))
    >>> [f"{each(alexnet, 8, 128) / 1e6:.0f} MB" for each in (data_parallel, one_weird_trick, factors)]
    ['427 MB', '141 MB', '112 MB']
    """
    return _summed(net.convolutions + sum(inputs * outputs + outputs for inputs, outputs in net.dense), ranks, net)


def one_weird_trick(net: Net, ranks: int, images: int) -> int:
    """Return the bytes that a rank receives with scheme (a)."""
    # Of the first dense layer each rank needs the inputs of the other ranks' images; of a later one, whose inputs are
    # divided as units, it lacks (N - 1) / N of the units of N times as many images, which is as much. In backward the
    # gradients of these inputs come back.
    others = (ranks - 1) * images
    return _summed(net.convolutions, ranks, net) + sum(2 * others * inputs * net.itemsize for inputs, _ in net.dense)


def factors(net: Net, ranks: int, images: int) -> int:
    """Return the bytes that a rank receives if the factors of dense gradients are gathered."""
    others = (ranks - 1) * images
    dense = sum(others * (inputs + outputs) * net.itemsize for inputs, outputs in net.dense)
    return _summed(net.convolutions, ranks, net) + dense


def _summed(numbers: int, ranks: int, net: Net) -> int:
    # In a sum over all ranks each receives its slice from all others, and then the others' sums.
    return 2 * (ranks - 1) * numbers * net.itemsize // ranks


def table(net: Net, ranks: Sequence[int], images: int) -> list[str]:
    """Return lines of text: MB that a rank receives in a step, for several numbers of ranks."""
    kinds = ((data_parallel, "data parallel"), (one_weird_trick, "one weird trick (a)"), (factors, "factors"))
    lines = [f"MB that a rank receives in a step of {images} images a rank", f"{'ranks':>6}"]
    lines[1] += "".join(f"{name:>21}" for _, name in kinds)
    for count in ranks:
        lines.append(f"{count:>6}" + "".join(f"{function(net, count, images) / 1e6:>21,.1f}" for function, _ in kinds))
    return lines
