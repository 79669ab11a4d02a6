"""AlexNet (2012) from scratch: every layer written out over arrays, for NumPy on the CPU and CuPy on the GPU.

The modules are attributes, loaded when first used::

    import tinyalex

    recipe = tinyalex.recipe.load("shapes", ["net.classes=12"])
    network = tinyalex.alexnet.build(recipe.net, recipe.init, devices=["cpu"])
"""

from importlib import import_module

__version__ = "0.1.0"
__all__ = [
    "alexnet",
    "backend",
    "checkpoint",
    "columns",
    "confusion",
    "datasets",
    "errors",
    "evaluation",
    "figures",
    "finetune",
    "footnote3",
    "gradcheck",
    "layers",
    "loops",
    "network",
    "optimizer",
    "randomness",
    "recipe",
    "runs",
    "schedule",
    "summary",
    "training",
]


def __getattr__(name):
    if name in __all__:
        return import_module(f"tinyalex.{name}")
    raise AttributeError(f"module 'tinyalex' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
