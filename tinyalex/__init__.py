"""AlexNet (2012) from scratch: every layer written out over arrays, for NumPy on the CPU and CuPy on the GPU.

What most programs need can be reached from here, and is loaded when it is first used:

>>> import tinyalex
>>> recipe = tinyalex.recipe.load("shapes", ["net.classes=12"])
>>> network = tinyalex.alexnet.build(recipe.net, recipe.init, devices=["cpu"])
>>> network.input_shape
(56, 56, 3)

Everything else is in the folders: layers, network, datasets, training, runs, devices and more.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors
    from tinyalex import datasets, errors, figures, gradcheck, layers, randomness
    from tinyalex.devices.device import Device
    from tinyalex.layers import loops
    from tinyalex.network import alexnet, columns, summary
    from tinyalex.network.network import Network
    from tinyalex.recipes import recipe
    from tinyalex.runs import finetune
    from tinyalex.runs.classifier import Classifier, Prediction, load
    from tinyalex.runs.run_folder import load as load_run
    from tinyalex.runs.train import train
    from tinyalex.training import confusion, evaluation, schedule
    from tinyalex.training.loop import Training
    from tinyalex.training.optimizer import Optimizer

__version__ = "0.1.0"
_PUBLIC = {  # a module, or a name in one
    "Classifier": "runs.classifier:Classifier",
    "Device": "devices.device:Device",
    "Network": "network.network:Network",
    "Optimizer": "training.optimizer:Optimizer",
    "Prediction": "runs.classifier:Prediction",
    "Training": "training.loop:Training",
    "alexnet": "network.alexnet",
    "columns": "network.columns",
    "confusion": "training.confusion",
    "datasets": "datasets",
    "errors": "errors",
    "evaluation": "training.evaluation",
    "figures": "figures",
    "finetune": "runs.finetune",
    "gradcheck": "gradcheck",
    "layers": "layers",
    "load": "runs.classifier:load",
    "load_run": "runs.run_folder:load",
    "loops": "layers.loops",
    "randomness": "randomness",
    "recipe": "recipes.recipe",
    "schedule": "training.schedule",
    "summary": "network.summary",
    "train": "runs.train:train",
}
__all__ = [
    "Classifier", "Device", "Network", "Optimizer", "Prediction", "Training", "alexnet", "columns", "confusion",
    "datasets", "errors", "evaluation", "figures", "finetune", "gradcheck", "layers", "load", "load_run", "loops",
    "randomness", "recipe", "schedule", "summary", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tinyalex' has no attribute {name!r}")
    path, _, attribute = _PUBLIC[name].partition(":")
    module = import_module(f"tinyalex.{path}")
    return getattr(module, attribute) if attribute else module


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
