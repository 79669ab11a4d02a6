"""What commands share that take a pair of cuda-convnet's files, such as layers-145.cfg layer-params-145.cfg."""

import os
import shlex
from dataclasses import replace

from tinyalex.errors import UsageError
from tinyalex.words import counted


def pair(layers, rates):
    """Read a pair of files, or return None if the arguments are something else.

    Parameters
    ----------
    layers, rates : str or None
        A command's arguments: a LAYERS.cfg and its LAYER-PARAMS.cfg, or a recipe and None.

    Returns
    -------
    Description or None

    Raises
    ------
    UsageError
        For one file without the other, and as `tinyalex.recipes.cuda_convnet.description.read`.
    """
    from tinyalex.recipes.cuda_convnet import description

    is_file = str(layers).endswith(".cfg")
    if rates is None and not is_file:
        return None
    if rates is None:
        raise UsageError(f"{layers}: files of cuda-convnet come in pairs; add its file of rates, LAYER-PARAMS.cfg")
    if not is_file and os.path.exists(rates) and not rates.endswith(".cfg"):
        raise UsageError(f"{rates}: a second argument; to train on its images: --data {shlex.quote(rates)}")
    if not is_file:
        raise UsageError(f"{rates}: follows {layers}, which is not a LAYERS.cfg of cuda-convnet; give one argument")
    return description.read(layers, rates)


def side(description, overrides):
    """Return the pixels of an image, from ``--set net.input=N``, or for a net that names none what it was made for.

    The files do not say the size. Nets with 10 classes read CIFAR-10's 32 pixels, or with locally connected layers
    crops of 24; all others ImageNet's crops of 224.
    """
    for override in overrides:
        key, _, value = override.partition("=")
        if key.strip() != "net.input" or not value.strip().isdecimal() or int(value) < 1:
            raise UsageError(
                f"--set {override}: only net.input can be set here, to a number of pixels; for other keys, "
                "write the recipe with tinyalex convert"
            )
        return int(value)
    outputs = [layer.settings["outputs"] for layer in description.layers.values() if layer.type == "fc"]
    local = any(layer.type == "local" for layer in description.layers.values())
    return 224 if not outputs or outputs[-1] != 10 else 24 if local else 32


def load_recipe(name, rates, overrides):
    """Load a recipe, or convert a pair of files to one; the overrides are changes to the recipe."""
    from tinyalex.network import conversion
    from tinyalex.recipes import recipe as recipes

    description = pair(name, rates)
    if description is None:
        return recipes.load(name, overrides)
    size = [override for override in overrides if override.partition("=")[0].strip() == "net.input"]
    made = conversion.of_files(description, side(description, size[-1:]))
    changed = recipes.parse(recipes.to_toml(made), made.name, overrides)
    return replace(changed, notes=(*made.notes, *_other_classes(made.net, changed.net), *changed.notes))


def _other_classes(files, net):
    # A line if the last layer has another number of outputs than in the files.
    if files.classes == net.classes or files.kind != "cuda-convnet":
        return ()
    from tinyalex.recipes.cuda_convnet import classes

    names = ", ".join(layer.name for layer in classes.heads(files.files))
    now = counted(net.classes, "output") if net.classes else "as many outputs as the data has classes"
    return (f"net.classes: {names} with {now}, in the files {files.classes:,}",)
