"""Measure what the paper says of learning, with nets that train in a second, on CIFAR-10 averaged to 8 x 8 pixels.

    tinyalex prepare --subset 10x400 --size 32 cifar10.tar data/cifar10-4000
    python -m tests.programs.small_nets data/cifar10-4000                # all of NAMES, about 25 minutes
    python -m tests.programs.small_nets data/cifar10-4000                # all of NAMES, about 25 minutes

Each measurement is made with five seeds, or with twenty where a point or two is to be seen, and written to
``data/runs/small-nets/NAME.json`` with a picture beside it: for each net the numbers of each seed, in percent or in
steps, their means and standard deviations, by how much they differ from those of the first net, and in how many seeds
the paper's sentence holds. The sizes are small; what they decide is whether an effect exists, not how large it is for a
net of 60 million parameters on ImageNet.

The nets of one seed see the same batches, and layers of one shape in the same place begin with equal weights. So a
difference is the mean over the seeds of the differences in one seed, with its standard error. One of more than three
standard errors counts as an effect: with twenty seeds chance alone gives that in 7 of 1,000 comparisons.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from tinyalex import datasets, randomness
from tinyalex.layers import LRN, Conv2d, Dropout, Layer, Linear, Logistic, MaxPool, ReLU, SoftmaxLoss, Tanh
from tinyalex.randomness import Step, key

FEW, MANY = range(5), range(20)  # seeds
OUT = Path(__file__).parents[2] / "data" / "runs" / "small-nets"
BATCH, SIDE, BLOCKS = 50, 8, 10  # images a step; pixels that the nets read; pixels from which crops are cut
HIDDEN = 128
GAP, STEPS = "test minus training error", "steps to 10 % training error"


class Images:
    """Images of 10 x 10 pixels, the means of 3 x 3 each, minus the mean pixel and divided by the deviation."""

    def __init__(self, images, labels):
        cut = np.asarray(images)[:, 1:31, 1:31].reshape(-1, BLOCKS, 3, BLOCKS, 3, 3)
        self.pixels, self.labels = cut.mean(axis=(2, 4), dtype=np.float32), np.asarray(labels)

    def normalized(self, mean, deviation):
        self.pixels = (self.pixels - mean) / deviation
        return self

    def first(self, count):
        """The first ``count`` images, equally many of each class."""
        rank = np.empty(len(self.labels), np.int64)
        for label in np.unique(self.labels):
            members = np.flatnonzero(self.labels == label)
            rank[members] = np.arange(len(members))
        chosen = np.sort(np.argsort(rank, kind="stable")[:count])
        part = Images.__new__(Images)
        part.pixels, part.labels = self.pixels[chosen], self.labels[chosen]
        return part


def load(folder):
    """Return training and test images of a set of 32 x 32 images."""
    found = datasets.load(folder)
    train, test = (Images(part.read(np.arange(len(part))), part.labels) for part in (found.train, found.test))
    mean, deviation = train.pixels.mean(axis=(0, 1, 2)), train.pixels.std()
    return train.normalized(mean, deviation), test.normalized(mean, deviation)


def centre(pixels):
    return pixels[:, 1 : 1 + SIDE, 1 : 1 + SIDE]


def random_crops(pixels, step, seed):
    """Cut 8 x 8 of 10 x 10 pixels, each image elsewhere, and reflect half of the images."""
    n = np.arange(len(pixels))
    top, left = (randomness.below(key(seed, name, step), 3, n) for name in ("top", "left"))
    rows, columns = top[:, None] + np.arange(SIDE), left[:, None] + np.arange(SIDE)
    flipped = randomness.below(key(seed, "flip", step), 2, n)[:, None] == 1
    columns = np.where(flipped, columns[:, ::-1], columns)
    return pixels[n[:, None, None], rows[:, :, None], columns[:, None, :]]


def noisy_colours(deviation):
    """Return a function that shifts the colours of each image by normal numbers, and cuts the centre."""

    def change(pixels, step, seed):
        shift = randomness.normal(key(seed, "colour", step), np.arange(len(pixels))[:, None], np.arange(3))
        return centre(pixels) + (deviation * shift[:, None, None, :]).astype(np.float32)

    return change


class Net:
    """A chain of layers and its training by gradient descent with momentum 0.9."""

    def __init__(self, layers, seed):
        self.layers, self.seed, self.step, self.loss = layers, seed, 0, SoftmaxLoss()
        for number, layer in enumerate(layers):
            layer.named(f"fc{number}").build(seed=seed, dtype="float32")
        self.parameters = [each for layer in layers for each in layer.parameters]
        self.velocities = [np.zeros_like(each.value) for each in self.parameters]

    def outputs(self, x, silenced=0.0):
        """Compute logits at test; with a share of the hidden units silenced, and the others larger by as much."""
        for number, layer in enumerate(self.layers):
            x = layer.forward(x)
            if silenced and isinstance(layer, Dropout):
                kept = randomness.uniform(key(self.seed, "silenced", number), *np.indices(x.shape)) >= silenced
                x = x * (kept / (1 - silenced)).astype(x.dtype)
        return x

    def error(self, x, labels, **how):
        """Percent of images that get another class."""
        return 100 * float((self.outputs(x, **how).argmax(axis=1) != labels).mean())

    def train(self, data, steps, rate, change=None, labels=None, decay=0.0):
        """Take steps; a batch is changed by ``change(pixels, step, seed)``, or its centre is cut."""
        labels = data.labels if labels is None else labels
        for _ in range(steps):
            epoch, first = divmod(self.step * BATCH, len(data.labels))
            order = randomness.permutation(key(self.seed, "order", epoch), len(data.labels))
            chosen = order[first : first + BATCH]
            pixels = data.pixels[chosen]
            x = change(pixels, self.step, self.seed) if change else centre(pixels)
            for layer in self.layers:
                x = layer.forward(x, training=True, step=Step(self.seed, self.step))
            self.loss.forward(x, labels[chosen])
            g = self.loss.backward()
            for layer in self.layers[::-1]:
                g = layer.backward(g)
            for v, parameter in zip(self.velocities, self.parameters, strict=True):
                v[...] = 0.9 * v - rate * (
                    parameter.grad + (decay if parameter.value.ndim > 1 else 0.0) * parameter.value
                )
                parameter.value += v
            self.step += 1


def connected(dropped=0.0, seed=0, hidden=HIDDEN):
    """Three fully connected layers, with dropout after two of them."""
    layers = [Linear((SIDE, SIDE, 3), hidden), ReLU(), Dropout(dropped, "fc6"), Linear(hidden, hidden), ReLU()]
    return Net([*layers, Dropout(dropped, "fc7"), Linear(hidden, 10, std=0.01)], seed)


class Factor(Layer):
    """y = c x."""

    def __init__(self, factor):
        self.factor = factor

    def forward(self, x, training=False, step=None):
        return x * self.factor

    def backward(self, dy):
        return dy * self.factor


def convolutional(
    maps=12, depth=2, unit=ReLU, seed=0, window=2, without=None, bias=0.0, groups=(1, 1, 1), last=None, after=None,
    late=False,
):  # fmt: skip
    """Convolutions of 3 x 3, the first two with a pool after them, and a fully connected layer.

    ``last`` is the number of maps of the last convolution, and ``after`` makes a layer before each pool. If ``late``,
    the two pools come after all convolutions.
    """
    places = (depth, depth) if late else (1, 2)
    layers, channels, side = [], 3, SIDE
    for number in range(1, depth + 1):
        if number != without:
            width = last if last and number == depth else maps
            b = bias if number > 1 else 0.0
            layers += [Conv2d(channels, width, 3, pad=1, groups=groups[number - 1], bias=b), unit()]
            channels = width
        for _ in range(places.count(number)):
            layers, side = [*layers, *([after()] if after else []), MaxPool(window, 2)], side // 2
    return Net([*layers, Linear((side, side, channels), 10, std=0.01)], seed)


def compare(names, measure, holds, seeds=FEW):
    """Measure each net with each seed, and count the seeds in which a sentence holds.

    Parameters
    ----------
    names : sequence of str
    measure : callable
        ``measure(name, seed)`` returns a dict of numbers.
    holds : dict of str to callable
        For a sentence, a function of the numbers of all nets of one seed, a dict by name.
    seeds : sequence of int
    """
    found = {name: [measure(name, seed) for seed in seeds] for name in names}
    nets = {name: {what: _numbers([row[what] for row in rows]) for what in rows[0]} for name, rows in found.items()}
    by_seed = [{name: rows[n] for name, rows in found.items()} for n in range(len(seeds))]
    counts = {text: f"{sum(map(test, by_seed))} of {len(seeds)} seeds" for text, test in holds.items()}
    return {"nets": nets, "differences": differences(nets), "holds": counts}


def differences(nets):
    """Return for each net but the first, and each measure, how much larger it is than the first net's.

    Parameters
    ----------
    nets : dict of str to dict
        For each net and each of its measures the numbers of all ``seeds``.

    Returns
    -------
    dict of str to dict
        ``NET minus FIRST`` to the mean and the standard error of each measure.
    """
    first, *others = nets
    found = {}
    for name in others:
        found[f"{name} minus {first}"] = row = {}
        for what, numbers in nets[name].items():
            each = np.subtract(numbers["seeds"], nets[first][what]["seeds"])
            error = float(np.std(each, ddof=1)) / len(each) ** 0.5
            row[what] = {"mean": round(float(np.mean(each)), 2), "standard error": round(error, 2)}
    return found


def _numbers(values):
    values = [round(value, 1) for value in values]
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    return {"mean": round(mean, 1), "deviation": round(deviation, 1), "seeds": values}


def dropout(train, test):
    """Dropout (§4.2): the gap, the steps to 10 % training error, and the error with silenced units."""
    data, limit = train.first(1000), 3000
    x, y = centre(data.pixels), centre(test.pixels)

    def measure(name, seed):
        net, steps = connected(0.5 if name == "dropout" else 0.0, seed), None
        while net.step < limit and steps is None:
            net.train(data, 50, 0.02)
            if net.error(x, data.labels) <= 10:
                steps = net.step
        whole = net.error(y, test.labels)
        found = {STEPS: steps or limit, "test error": whole, GAP: whole - net.error(x, data.labels)}
        for share in (0.25, 0.5):
            found[f"rise with {share:.0%} silenced"] = net.error(y, test.labels, silenced=share) - whole
        return found

    without, with_ = "no dropout", "dropout"
    half = "rise with 50% silenced"
    return compare(
        (with_, without),
        measure,
        {
            "without dropout the gap is larger": lambda e: e[without][GAP] > e[with_][GAP],
            "dropout takes more steps": lambda e: e[with_][STEPS] > e[without][STEPS],
            "silencing half of the units does less harm after dropout": lambda e: e[with_][half] < e[without][half],
        },
    )


def crops(train, test):
    """Random crops and reflections (§4.1): the gap between test and training error."""
    data = train.first(1000)

    def measure(name, seed):
        net = convolutional(16, seed=seed)
        net.train(data, 1000, 0.02, random_crops if name == "random crops" else None)
        errors = net.error(centre(test.pixels), test.labels), net.error(centre(data.pixels), data.labels)
        return {
            "test error": errors[0],
            "training error": errors[1],
            GAP: errors[0] - errors[1],
        }

    return compare(
        ("random crops", "centre crop"),
        measure,
        {"without random crops the gap is larger": lambda e: e["centre crop"][GAP] > e["random crops"][GAP],
         "without random crops the test error is higher":
             lambda e: e["centre crop"]["test error"] > e["random crops"]["test error"]},
    )  # fmt: skip


def colour(train, test):
    """Colour noise (§4.1), 0.1 as in the paper, or 0.5: test errors, and with shifted colours."""
    noise = {"no noise": None, "noise of 0.1": noisy_colours(0.1), "noise of 0.5": noisy_colours(0.5)}

    def measure(name, seed):
        net = convolutional(16, seed=seed)
        net.train(train, 1500, 0.02, noise[name])
        shifted = noisy_colours(0.5)(test.pixels, 0, 1000 + seed)
        plain = net.error(centre(test.pixels), test.labels)
        return {"test error": plain, "rise with shifted colours": net.error(shifted, test.labels) - plain}

    without, *others = noise
    holds = {
        f"with {name} {text}": lambda e, name=name, what=what: e[name][what] < e[without][what]
        for name in others
        for what, text in (
            ("test error", "the test error is lower"),
            ("rise with shifted colours", "shifted colours do less harm"),
        )
    }
    return compare(list(noise), measure, holds, MANY)


def size(train, test):
    """Bigger data sets (§1): test error by the number of training images, after equally many steps."""
    counts = (250, 1000, 4000)

    def measure(name, seed):
        net = convolutional(16, seed=seed)
        net.train(train.first(int(name)), 800, 0.02)
        return {"test error": net.error(centre(test.pixels), test.labels)}

    def falls(errors):
        ordered = [errors[str(count)]["test error"] for count in counts]
        return all(a > b for a, b in zip(ordered, ordered[1:], strict=False))

    return compare([str(count) for count in counts], measure, {"each larger set gives a lower error": falls})


def capacity(train, test):
    """Depth and breadth (§1): how many of 500 random labels nets with late pools learn by heart in 800 steps."""
    data = train.first(500)
    nets = {"2 layers of 2 maps": (2, 2), "2 layers of 8 maps": (8, 2), "2 layers of 32 maps": (32, 2),
            "1 layer of 8 maps": (8, 1), "3 layers of 8 maps": (8, 3)}  # fmt: skip

    def measure(name, seed):
        maps, depth = nets[name]
        net = convolutional(maps, depth, seed=seed, late=True)
        random = randomness.below(key(seed, "labels"), 10, np.arange(500))
        net.train(data, 800, 0.02, labels=random)
        found = net.error(centre(data.pixels), random)
        return {"error on random labels": found, "parameters": sum(each.size for each in net.parameters)}

    def ordered(*names):
        def test(errors):
            found = [errors[name]["error on random labels"] for name in names]
            return all(a > b for a, b in zip(found, found[1:], strict=False))

        return test

    narrow, middle, broad, shallow, deep = nets
    holds = {
        "each broader net learns more": ordered(narrow, middle, broad),
        "two layers learn more than one": ordered(shallow, middle),
        "three layers learn more than two": ordered(middle, deep),
    }
    return compare(list(nets), measure, holds)


def units(train, test):
    """Units (§3.1): steps to 25 % training error, each at the fastest of five rates, found with another seed."""
    data, limit = train.first(500), 1500
    x = centre(data.pixels)

    def steps(name, seed, rate, at_most=limit):
        net = convolutional(12, 3, {"relu": ReLU, "tanh": Tanh, "logistic": Logistic}[name], seed)
        while net.step < at_most:
            net.train(data, 25, rate)
            if net.error(x, data.labels) <= 25:
                return net.step
        return limit

    rates, fastest = (0.01, 0.03, 0.1, 0.3, 1.0), {}

    def measure(name, seed):
        if name not in fastest:
            fastest[name] = min((steps(name, 99, rate), rate) for rate in rates)[1]
        return {"steps to 25 % training error": steps(name, seed, fastest[name])}

    what = "steps to 25 % training error"
    found = compare(
        ("relu", "tanh", "logistic"),
        measure,
        {"the logistic unit is slower than the ReLU": lambda e: e["logistic"][what] > e["relu"][what],
         "the logistic unit is at least twice as slow": lambda e: e["logistic"][what] >= 2 * e["relu"][what],
         "tanh is slower than the ReLU": lambda e: e["tanh"][what] > e["relu"][what]},
    )  # fmt: skip
    return found | {"rates": fastest, "at most": limit}


def overlap(train, test):
    """Overlapping pools (§3.4): test error, and the gap between test and training error."""
    data = train.first(2000)

    def measure(name, seed):
        net = convolutional(16, seed=seed, window=3 if name == "z = 3" else 2)
        net.train(data, 1000, 0.02)
        errors = net.error(centre(test.pixels), test.labels), net.error(centre(data.pixels), data.labels)
        return {"test error": errors[0], GAP: errors[0] - errors[1]}

    return compare(
        ("z = 3", "z = 2"),
        measure,
        {f"without overlap the {what} is higher": lambda e, what=what: e["z = 2"][what] > e["z = 3"][what]
         for what in ("test error", GAP)},
        MANY,
    )  # fmt: skip


def compare_with_the_first(train, test, nets, claim):
    """Compare the test errors of nets of three convolutions, given by their settings, with that of the first."""

    def measure(name, seed):
        net = convolutional(depth=3, seed=seed, **nets[name])
        net.train(train, 1500, 0.02)
        return {"test error": net.error(centre(test.pixels), test.labels)}

    first, *others = nets
    holds = {claim.format(name): lambda e, name=name: e[name]["test error"] > e[first]["test error"] for name in others}
    return compare(list(nets), measure, holds, MANY)


def depth(train, test):
    """Leaving out a convolution (§1, §7): test error of a net of three."""
    left_out = {"all three": None, "without conv1": 1, "without conv2": 2, "without conv3": 3}
    nets = {name: {"maps": 16, "without": number} for name, number in left_out.items()}
    return compare_with_the_first(train, test, nets, "{} the error is higher")


def decay(train, test):
    """Weight decay (§5): training and test error with 0.0005 and without."""
    data = train.first(2000)

    def measure(name, seed):
        net = convolutional(16, seed=seed)
        net.train(data, 1500, 0.02, decay=0.0005 if name == "decay" else 0.0)
        x, y = centre(data.pixels), centre(test.pixels)
        return {"training error": net.error(x, data.labels), "test error": net.error(y, test.labels)}

    return compare(
        ("decay", "no decay"),
        measure,
        {"decay lowers the training error":
             lambda e: e["decay"]["training error"] < e["no decay"]["training error"]},
        MANY,
    )  # fmt: skip


def bias(train, test):
    """Biases of 1 (§5): training error after few steps, with biases of 1 after the first convolution and of 0."""
    data = train.first(2000)
    x, early = centre(data.pixels), (25, 50, 100)

    def measure(name, seed):
        net, found = convolutional(16, 3, seed=seed, bias=1.0 if name == "biases of 1" else 0.0), {}
        for steps in early:
            net.train(data, steps - net.step, 0.02)
            found[f"training error after {steps} steps"] = net.error(x, data.labels)
        return found

    return compare(
        ("biases of 1", "biases of 0"),
        measure,
        {f"biases of 1 are ahead after {steps} steps":
             lambda e, what=f"training error after {steps} steps": e["biases of 1"][what] < e["biases of 0"][what]
         for steps in early},
        MANY,
    )  # fmt: skip


def norm(train, test):
    """Response normalization (§3.3): test error with it, without, and with a constant factor in its place."""
    kinds = {"normalized": LRN, "not normalized": lambda: Factor(1.0),
             "times 2 ** -0.75": lambda: Factor(2**-0.75)}  # fmt: skip

    def measure(name, seed):
        net = convolutional(16, 3, seed=seed, after=kinds[name])
        net.train(train, 1500, 0.02)
        return {"test error": net.error(centre(test.pixels), test.labels)}

    def lower(one, other):
        return lambda e: e[one]["test error"] < e[other]["test error"]

    with_, without, factor = kinds
    holds = {
        "normalization lowers the test error": lower(with_, without),
        "more than the factor does": lower(with_, factor),
    }
    return compare(list(kinds), measure, holds, MANY)


def columns(train, test):
    """Columns (§3.2): test error by where two columns exchange their maps, and with half the kernels."""
    nets = {
        "two columns": {"maps": 16, "groups": (1, 2, 1)},
        "no exchange": {"maps": 16, "groups": (1, 2, 2)},
        "exchange everywhere": {"maps": 16, "groups": (1, 1, 1)},
        "half the kernels": {"maps": 8, "last": 16},
    }
    return compare_with_the_first(train, test, nets, "{}: the error is higher")


NAMES = {
    each.__name__: each
    for each in (dropout, crops, colour, size, capacity, units, overlap, depth, decay, bias, norm, columns)
}


def picture(name, found):
    """Draw the numbers of all seeds, a panel for each measure."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    measures = [each for each in next(iter(found["nets"].values())) if each != "parameters"]
    nets, size = found["nets"], (3.1 * len(measures) + 1.2, 2.9)
    seeds = len(next(iter(nets.values()))[measures[0]]["seeds"])
    figure, axes = plt.subplots(1, len(measures), figsize=size, squeeze=False, layout="constrained")
    for axis, what in zip(axes[0], measures, strict=True):
        for row, numbers in enumerate(nets.values()):
            axis.plot(numbers[what]["seeds"], [row] * len(numbers[what]["seeds"]), "o", color="#0b64a0", alpha=0.5)
            axis.plot([numbers[what]["mean"]] * 2, [row - 0.3, row + 0.3], color="#c2410c", lw=2)
        axis.set_yticks(range(len(nets)), list(nets) if axis is axes[0][0] else [])
        axis.set(ylim=(len(nets) - 0.4, -0.6))
        axis.set_title(what if "steps to" in what else f"{what}, %", fontsize=9)
    figure.suptitle(f"{NAMES[name].__doc__.split(':')[0]}: {seeds} seeds and their mean", fontsize=10)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", help="a prepared set of 32 x 32 images in ten classes")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    train, test = load(options.data)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        command = f"python -m tests.programs.small_nets data/cifar10-4000 --only {name}"
        found = {"about": NAMES[name].__doc__, "command": command} | NAMES[name](train, test)
        (options.out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        picture(name, found).savefig(options.out / f"{name}.png", dpi=110)
        print(name, json.dumps(found["holds"]), flush=True)


if __name__ == "__main__":
    main()
