"""Time what Python needs to issue a training step on a GPU, without a GPU.

Run: ``python -m tests.programs.issue_time original --rounds 20``. Whole steps of a recipe run as on ``cuda:0``, and
with two columns as on ``cuda:0 cuda:1``, over a stand-in for CuPy whose launches, copies, events and matrix products
return at once (`tests.support.null_gpu`). It prints the processor time of the thread for a step, what a step issues,
and where the time goes, of steps that repeat a recorded one and of steps that run as they are written. With ``--beside
FOLDER`` the code of another checkout takes turns with this one in the same process. CuPy's own time in a launch is not
in it; the time that it needs to make and to slice arrays is, where CuPy is installed.
"""

import argparse
import contextlib
import importlib
import statistics
import sys
import time
from collections import Counter, defaultdict

import numpy as np

from tests.support import null_gpu

WARM = 3  # steps before those that are measured: kernels are prepared in the first one
LAUNCHES = "kernels", "products", "array operations"


class Code:
    """The package as it is in one folder; two of them can be loaded in one process.

    Parameters
    ----------
    folder : str
        That contains ``tinyalex``.
    """

    def __init__(self, folder):
        self._folder, self._modules = folder, {}

    @contextlib.contextmanager
    def current(self):
        """In the block, let imports of ``tinyalex`` find this code."""
        before = self._swap(self._modules)
        sys.path.insert(0, self._folder)
        try:
            yield lambda name: importlib.import_module(f"tinyalex.{name}")
        finally:
            sys.path.remove(self._folder)
            self._modules = self._swap(before)

    @staticmethod
    def _swap(modules):
        found = {name: each for name, each in sys.modules.items() if name.split(".")[0] == "tinyalex"}
        for name in found:
            del sys.modules[name]
        sys.modules.update(modules)
        return found


class Steps:
    """Training steps of a recipe's net on the null GPU.

    Parameters
    ----------
    code : Code
    name : str
        The recipe's.
    columns : int
        1 or 2, each on a GPU of its own.
    batch : int
    settings : sequence of str
        Changes to the recipe, ``"net.norm=none"``.
    """

    def __init__(self, code, name, columns, batch, settings=()):
        self._code, self._parts = code, None
        with code.current() as module, null_gpu.planted(module("devices.cuda")):
            # Weights of zeros: drawing 61 million of them takes longer than all that is measured.
            module("layers.layer").first_value = lambda parameter, seed, dtype: np.zeros(parameter.shape, dtype)
            made = module("recipes.recipe").load(name, [f"learning.batch={batch}", *settings])
            side, classes = made.net.input + 32, made.net.classes or 12
            images = np.broadcast_to(np.zeros((), np.uint8), (100 * batch, side, side, 3))
            datasets = module("datasets")
            found = datasets.ImageSet(images, np.arange(len(images)) % classes)
            data = datasets.Dataset("zeros", [f"class {number}" for number in range(classes)], found, found)
            devices = [f"cuda:{number}" for number in range(columns)]
            self.training = module("training.loop").Training(made, data, devices)
            self.network = self.training.network
            self._batches = self._feed(module, images[:batch], found.labels[:batch], side, made.net.input)
        for _ in range(WARM):
            self.step()

    def _feed(self, module, images, labels, side, crop):
        augment, loader = module("datasets.loading.augment"), module("datasets.loading.loader")
        cropper = augment.Cropper(np.zeros((side, side, 3), np.float32), crop, False, [1 / 1.1])
        params = augment.AugmentParams(*(np.zeros((len(labels), *rest), dtype) for rest, dtype in
                                         (((2,), np.int64), ((), bool), ((3,), np.float32))))  # fmt: skip
        raw = loader.RawBatch(images, labels, np.arange(len(labels)), params)

        def endless():
            while True:
                yield raw

        return module("datasets.loading.batches")._uploaded(endless(), cropper, self.network.devices)

    def step(self):
        """Take a step, as `Training.train_steps` does; return its seconds of processor time."""
        with self._code.current():
            started = time.thread_time()
            batch = next(self._batches)
            self.training.train_step(batch)
            return time.thread_time() - started

    def parts(self, count, recorded):
        """Take steps and return the seconds and the launches of each part of a step: ``{name: [seconds, launches]}``.

        Each part is timed, which takes time too: compare parts with each other, not their sum with `step`.

        Parameters
        ----------
        count : int
            Steps.
        recorded : bool
            Whether they repeat a recorded step. If not, each layer is a part.
        """
        found, patches = defaultdict(lambda: [0.0, 0]), []

        def timed(name, owner, method):
            function = getattr(owner, method)

            def run(*arguments, **named):
                launched, started = _launched(), time.thread_time()
                try:
                    return function(*arguments, **named)
                finally:
                    found[name][0] += (time.thread_time() - started) / count
                    found[name][1] += (_launched() - launched) / count

            patches.append((owner, method))
            setattr(owner, method, run)

        training, network, before = self.training, self.network, (self._batches, self.network.recorded)
        if recorded:
            for direction in ("forward", "backward"):
                timed(f"all layers/{direction}", network.recorded, direction)
        else:
            network.recorded = None
            for stage in network.executors:
                for direction in ("forward", "backward"):
                    timed(f"exchange before {stage.name}/{direction}", stage.exchange, direction)
                    for column in stage.columns:
                        for layer in column:
                            timed(f"{_name(layer)}/{direction}", layer, direction)
        timed("loss/forward", network.loss, "forward_checked")
        timed("loss/backward", network.loss, "backward")
        timed("update", training.optimizer, "update")
        timed("whole step, without its batch", training, "train_step")
        self._batches = self._timed_batches(self._batches, found["batch, uploaded and cropped"], count)
        for _ in range(count):
            self.step()
        self._batches, network.recorded = before
        for owner, method in patches:
            delattr(owner, method)
        return dict(found)

    @staticmethod
    def _timed_batches(batches, found, count):
        while True:
            launched, started = _launched(), time.thread_time()
            batch = next(batches)
            found[0] += (time.thread_time() - started) / count
            found[1] += (_launched() - launched) / count
            yield batch

    def issued(self):
        """Return how often a step issues what, by kind."""
        before = Counter(null_gpu.calls)
        self.step()
        return null_gpu.calls - before


def _launched():
    return sum(null_gpu.calls[kind] for kind in LAUNCHES)


def _name(layer):
    whole = getattr(layer, "layer", layer).names
    return whole[0].rstrip("ab") if len(whole) == 1 else whole[0][:-1]


def measure(sides, rounds, steps):
    """Return the median seconds of a step of each side; in every round each side takes some steps, one after another.

    Parameters
    ----------
    sides : dict of str to Steps
    rounds, steps : int
    """
    found = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            found[name].append(statistics.median(side.step() for _ in range(steps)))
    return {name: statistics.median(times) for name, times in found.items()}


def main(name, rounds, steps, batch, beside, settings):
    """Measure and print."""
    print(f"arrays: {'CuPy' if null_gpu.NullCuPy().arrays_of_cupy else 'NumPy, as CuPy is not installed'}")
    folders = {"this code": "."} | ({"beside": beside} if beside else {})
    for columns in (1, 2):
        sides = {side: Steps(Code(folder), name, columns, batch, settings) for side, folder in folders.items()}
        medians = measure(sides, rounds, steps)
        for side, seconds in medians.items():
            issued = sides[side].issued()
            ratio = f", {medians['beside'] / seconds:.2f} times as fast" if beside and side == "this code" else ""
            print(f"\n{name}, {columns} column(s), {side}: {1000 * seconds:.3f} ms a step{ratio}")
            print("  " + ", ".join(f"{count} {kind}" for kind, count in sorted(issued.items())))
        for recorded in (True, False):
            print(f"  {'a repeated step' if recorded else 'a step as it is written'}:")
            for part, (seconds, launches) in sides["this code"].parts(steps, recorded).items():
                print(f"    {part:40} {1e6 * seconds:8.1f} us {launches:6.0f} launches")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", default="original")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=10, help="in each round")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--beside", metavar="FOLDER", help="another checkout, to compare this one with")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    options = parser.parse_args()
    main(options.name, options.rounds, options.steps, options.batch, options.beside, options.set)
