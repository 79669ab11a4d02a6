"""Test data from outside: the configuration files of 2012, as the Computer History Museum published them."""

import tarfile
from pathlib import Path

from tinyalex.recipes.cuda_convnet import description

ARCHIVE = "cuda-convnet-2012-cfg.tar.xz"

# Files of layers without a file of rates of the same name, and the file of rates that has all their layers.
OTHER_RATES = {
    "layers-126": "layer-params-126-2012-full",
    "layers-141-2009-2010": "layer-params-141-2009",
    "layers-141-2009-2012": "layer-params-141-2009",
    "layers-153-4gpu": "layer-params-170-4gpu",
    "layers-cifar/layers-18pct": "layer-params-18pct-noisylr",
    "layers-cifar/layers-conv-local-13pct": "layer-params-conv-local-13pct-noisylr",
}


def extract(archive, folder):
    """Extract the archive, or take a folder that has its files; return the folder with ``layers/`` in it."""
    if Path(archive).is_dir():
        return Path(archive)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return Path(folder)


def pairs(folder):
    """Return all pairs, ``{"layers/layers-145": (layer file, rate file)}``."""
    found = {}
    for path in sorted(Path(folder).glob("*layers*/layers*.cfg")):
        own = path.with_name(path.name.replace("layers", "layer-params", 1))
        name = f"{path.parent.name}/{path.stem}"
        other = OTHER_RATES.get(name) or OTHER_RATES.get(path.stem if path.parent.name == "layers" else "")
        found[name] = path, path.with_name(f"{other}.cfg") if other else own
    return found


def read(folder, name):
    """Read a pair by the name that `pairs` gives it."""
    return description.read(*pairs(folder)[name])


def side(name):
    """Pixels of an image that a file's net reads: 224 for ImageNet, 32 for CIFAR-10, 24 for the local nets' crops."""
    return 224 if name.startswith("layers/") else 24 if "local" in name else 32
