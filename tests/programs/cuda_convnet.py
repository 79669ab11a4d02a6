"""Prints a table of all nets in the authors' configuration files of 2012: which train, and what the others need.

    python -m tests.programs.cuda_convnet cuda-convnet-2012-cfg.tar.xz

The argument is the archive, or a folder in which it was extracted. A net that is built trains as a recipe of the kind
that the table names; "cuda-convnet" is a recipe that holds the two files. With ``--gradients`` the gradients of each
net that is built are checked at a reduced size, along a random direction for each parameter.
"""

import argparse
import tempfile

from tests.support.cuda_convnet_files import extract, pairs, side
from tests.support.directional import wrong_gradients
from tinyalex.errors import UsageError
from tinyalex.gradcheck.cuda_convnet import batch, small_network
from tinyalex.network import conversion, cuda_convnet
from tinyalex.randomness import Step
from tinyalex.recipes.cuda_convnet import description


def row(name, layer_file, rate_file, gradients=False):
    """Return whether a pair's net is built, and its line of the table."""
    rates = "" if rate_file.stem.endswith(layer_file.stem.removeprefix("layers")) else f" with {rate_file.name}"
    made = description.read(layer_file, rate_file)
    try:
        network = cuda_convnet.describe(made, side(name))
    except UsageError as error:
        needed = str(error).split(": not supported")[0]
        return False, f"{name + '.cfg' + rates:64} not built: {needed}"
    parameters = sum(parameter.size for parameter in network.parameters())
    gpus = len(made.gpus)
    line = f"{name + '.cfg' + rates:64} built: {parameters:>11,} parameters, {gpus} GPU{'s' * (gpus > 1)}, "
    line += f"{network.classes:,} classes, trains as {conversion.of_files(made, side(name)).net.kind}"
    if gradients:
        small = small_network(made)
        wrong = wrong_gradients(small, *batch(small), Step(seed=3, number=5))
        line += f", gradients of {len(small.parameters())} parameters {f'wrong: {wrong}' if wrong else 'right'}"
    return True, line


def main(arguments=None):
    """Print the table; return the number of nets that are built."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", help="the archive, or the folder with layers/, layers-cifar/ and example-layers/")
    parser.add_argument("--gradients", action="store_true", help="check the gradients of all nets that are built")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = pairs(extract(options.source, folder))
        built = 0
        for name, files in found.items():
            done, line = row(name, *files, options.gradients)
            built += done
            print(line, flush=True)
    print(f"{built} of {len(found)} are built; pixels of an image: 224, CIFAR-10: 32, or 24 with local layers")
    return built


if __name__ == "__main__":
    main()
