"""Small nets in the form of the authors' files, as recipes, and data to train them on for a few steps."""

import re

import numpy as np

from tinyalex.datasets import Dataset, ImageSet
from tinyalex.network import conversion
from tinyalex.recipes import recipe
from tinyalex.recipes.cuda_convnet import description

# Two GPUs; a blurred and subsampled image beside the whole one, contrast normalization, a sum of two layers, a layer
# whose inputs have weights of their own, dropout of maps and units, and two last layers side by side.
LAYERS = """
[data]
type=data
dataIdx=0

[labels]
type=data
dataIdx=1

[blur0]
type=blur
inputs=data
stdev=2
filterSize=5
channels=3
gpu=0

[nails]
type=nailbed
inputs=blur0
stride=2
channels=3

[conv1a]
type=conv
inputs=nails
channels=3
filters=6
padding=1
stride=1
filterSize=3
initW=0.01
gpu=0

[conv1b]
type=conv
inputs=data
channels=3
filters=6
padding=0
stride=2
filterSize=3
neuron=tanh[1.5,0.5]
initW=0.01
gpu=1

[cnorm1]
type=cnorm
inputs=conv1a
channels=6
size=3
neuron=relu

[sum]
type=eltsum
inputs=cnorm1,conv1b
coeffs=1,-0.5
gpu=0

[hs1]
type=hs
keep=0.75
inputs=sum

[conv2]
type=conv
inputs=hs1,nails
channels=6,3
filters=8,8
padding=1,1
stride=1,1
filterSize=3,3
initW=0.1,0.2
initB=0.5
neuron=relu
gpu=1

[pool2]
type=pool
pool=max
inputs=conv2
sizeX=3
stride=2
channels=8

[fc16]
type=fc
inputs=pool2,conv1a
outputs=16
initW=0.05,0.05
neuron=relu
gpu=0

[hs2]
type=hs
keep=0.5
inputs=fc16

[fc4a]
type=fc
inputs=hs2
outputs=2
initW=0.1
gpu=0

[fc4b]
type=fc
inputs=hs2,pool2
outputs=2
initW=0.1,0.2
gpu=1

[all]
type=concat
inputs=fc4a,fc4b
gpu=0

[probs]
type=softmax
inputs=all

[cost]
type=cost.logreg
inputs=labels,probs
"""
RATES = """
[conv1a]
epsW=0.001
epsB=0.002
momW=0.9
momB=0.9
wc=0.004

[conv1b]
epsW=0.0001
epsB=0.002
momW=0.9
momB=0.8
wc=0

[conv2]
epsW=0.001,0.0005
epsB=0.001
momW=0.9,0.5
momB=0.9
wc=0.004,0.1

[fc16]
epsW=0.001,0.001
epsB=0.002
momW=0.9,0.9
momB=0.9
wc=0.004,0.004

[fc4a]
epsW=0.001
epsB=0.002
momW=0.9
momB=0.9
wc=0.004

[fc4b]
epsW=0.001,0.002
epsB=0.004
momW=0.9,0.9
momB=0.9
wc=0.004,0.004

[cnorm1]
scale=0.001
pow=0.75

[hs1]
enable=true

[hs2]
enable=true

[cost]
coeff=1
"""


def parsed(layers=LAYERS, rates=RATES, name="toy"):
    """Read two texts as a pair of files."""
    return description.parse(layers, rates, (f"layers-{name}.cfg", f"layer-params-{name}.cfg"))


def as_recipe(made, side=12, *overrides):
    """Return the recipe of a net, as `tinyalex train` makes it, with changes."""
    converted = conversion.of_files(made, side)
    return recipe.parse(recipe.to_toml(converted), converted.name, overrides)


def shrunk(made, units=24):
    """Limit the outputs of all fully connected layers, so that a net of the authors takes little memory."""
    layers = re.sub(r"(?m)^outputs=(\d+)", lambda found: f"outputs={min(int(found[1]), units)}", made.texts[0])
    return description.parse(layers, made.texts[1], made.files)


def images(side=14, count=24, classes=4):
    """Return a data set of noise whose classes have different means."""
    rng = np.random.default_rng(5)
    labels = np.arange(count) % classes
    pixels = rng.integers(0, 160, (count, side, side, 3)) + 90 * labels[:, None, None, None] // classes
    both = [ImageSet(pixels.astype(np.uint8), labels.astype(np.int64)) for _ in "ab"]
    return Dataset("means", [f"class{number}" for number in range(classes)], *both)
