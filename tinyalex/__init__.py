"""AlexNet (2012) from scratch: every layer written out over arrays, for NumPy on the CPU and CuPy on the GPU.

What README and lessons use are attributes, loaded when first used::

    import tinyalex

    recipe = tinyalex.recipe.load("shapes", ["net.classes=12"])
    network = tinyalex.alexnet.build(recipe.net, recipe.init, devices=["cpu"])
"""

from importlib import import_module

__version__ = "0.1.0"
_MODULES = {
    "alexnet": "network.alexnet",
    "checkpoint": "runs.checkpoint",
    "columns": "network.columns",
    "confusion": "training.confusion",
    "datasets": "datasets",
    "device": "devices.device",
    "errors": "errors",
    "evaluation": "training.evaluation",
    "figures": "figures",
    "finetune": "runs.finetune",
    "footnote3": "experiments.footnote3",
    "gradcheck": "gradcheck",
    "layers": "layers",
    "loops": "layers.loops",
    "network": "network.network",
    "optimizer": "training.optimizer",
    "randomness": "randomness",
    "recipe": "recipes.recipe",
    "runs": "runs.run_folder",
    "schedule": "training.schedule",
    "summary": "network.summary",
    "training": "training.loop",
}
__all__ = sorted(_MODULES)


def __getattr__(name):
    if name in _MODULES:
        return import_module(f"tinyalex.{_MODULES[name]}")
    raise AttributeError(f"module 'tinyalex' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
