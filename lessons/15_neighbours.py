"""
Lesson 15: Nearest neighbours in feature space
==============================================

:Question: Which images does the last hidden layer consider similar, and how few bits of its features are enough to find
    them?
:Paper: §6.1, Figure 4, and its last paragraph on binary codes.
:At the end: you have the nearest neighbours of a picture by features and by pixels, and a search with binary codes.
:Takes: 20 s on two cores.
:Run: ``python lessons/15_neighbours.py``

"If two images produce feature activation vectors with a small Euclidean separation, we can say that the higher levels
of the neural network consider them to be similar. [...] Notice that at the pixel level, the retrieved training images
are generally not close in L2 to the query images."
"""

# %%
# A net and its features
# ----------------------
# The lessons' small net, trained on drawn images. In the paper the last hidden layer has 4096 units, here **128**. The
# features are its outputs after the ReLU, at test time.

import matplotlib.pyplot as plt
import numpy as np
from shared import BLUE, GREEN, MUTED, VERMILION, bare, epochs, keep, middles, small

from tinyalex.datasets import ImageSet
from tinyalex.datasets.loading.batches import test_batches
from tinyalex.gallery import retrieval
from tinyalex.randomness import key, normal

data = middles(960, 120)
*_, (run, _, error) = epochs(small("learning.epochs=9"), data)
print(f"training error {error:.1%}")


def features(images):
    rows = []

    def forward_hook(layer, y):
        if layer.name.split()[0] in ("relu7", "relu7a"):
            rows.append(np.array(y))  # of the whole batch, in order; a convolutional layer would give blocks of it

    for batch in test_batches(images, data.mean, run.recipe, 60):
        run.network.forward(batch.images, forward_hook=forward_hook)
    return np.concatenate(rows)


gallery, queries = features(ImageSet(data.train.images, data.train.labels)), features(data.test)
print("features", gallery.shape, queries.shape)
assert gallery.shape == (960, 128) and (gallery >= 0).all()
assert np.allclose(retrieval.features_of(run.network, data.test, data.mean, run.recipe), queries, atol=1e-5)
print("tinyalex.gallery.retrieval.features_of agrees")

# %%
# Near by features or by pixels
# -----------------------------
# ``|x - y|² = |x|² - 2 x.y + |y|²``, so one matrix product gives all distances at once. A few of them are checked
# against a loop.


def distances(a, b):
    a, b = a.reshape(len(a), -1).astype(np.float64), b.reshape(len(b), -1).astype(np.float64)
    return (a * a).sum(axis=1)[:, None] - 2 * a @ b.T + (b * b).sum(axis=1)


by_features = distances(queries, gallery)
by_pixels = distances(data.test.images, data.train.images)
for i, j in ((0, 0), (3, 700), (119, 959)):
    assert np.isclose(
        by_features[i, j], sum((float(p) - float(q)) ** 2 for p, q in zip(queries[i], gallery[j], strict=True))
    )


def same_class(distance, count=6):
    """Which share of the nearest images has the query's class."""
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :count]
    return (data.train.labels[nearest] == data.test.labels[:, None]).mean()


features_share, pixels_share = same_class(by_features), same_class(by_pixels)
print(f"of the six nearest, of the query's class: by features {features_share:.0%}, by pixels {pixels_share:.0%}, "
      f"by chance {1 / 12:.0%}")  # fmt: skip
assert features_share > pixels_share + 0.3
found = retrieval.nearest(queries, gallery, 6)
assert np.isclose(retrieval.precision(found, data.train.labels, data.test.labels), features_share, atol=0.005)

# %%
# Are the nearest neighbours by features also near by pixels? Look up their rank in the order by pixels.

nearest = by_features.argmin(axis=1)
order = np.argsort(np.argsort(by_pixels, axis=1), axis=1)
rank = np.median(order[np.arange(len(nearest)), nearest])
print(f"the nearest by features has rank {rank:.0f} of 960 by pixels, in the median")
assert rank > 20

# %%
# Few bits
# --------
# "Computing similarity by using Euclidean distance between two 4096-dimensional, real-valued vectors is inefficient,
# but it could be made efficient by training an auto-encoder to compress these vectors to short binary codes." There is
# a simpler method that needs no training (random projections): draw random planes through the mean of the features, and
# store one bit for each plane, the side on which a point lies. Points with a small angle between them differ in few
# bits. The Hamming distance of two codes is the number of ones in their exclusive or. Eight bits are packed into a
# byte.

centre = gallery.mean(axis=0)


def codes(points, bits):
    planes = normal(key(0, "planes"), np.arange(points.shape[1])[:, None], np.arange(bits))
    return np.packbits((points - centre) @ planes > 0, axis=1)


def hamming(a, b):
    return np.bitwise_count(a[:, None] ^ b[None]).sum(axis=2, dtype=np.int64)


short_a, short_b = codes(queries, 64), codes(gallery, 64)
table = hamming(short_a, short_b)
slow = sum(x != y for x, y in zip(np.unpackbits(short_a[5]), np.unpackbits(short_b[7]), strict=True))
assert table[5, 7] == slow and short_b.nbytes == 8 * 960
print(f"64-bit codes: {gallery.nbytes // short_b.nbytes} times smaller than the features")

# %%
# And the paper's 4096 numbers? A distance reads **16,384** bytes of each stored image, and takes 4096 subtractions,
# 4096 products and 4095 additions: **12,287** operations. A code of 32 bits has **4** bytes, and its distance takes
# one exclusive or and one count of ones. Whether short codes still find the right images is the other half of the
# question:

numbers = np.zeros(4096, np.float32)
short_code = np.packbits(numbers[:32] > 0)
print(
    f"4096 numbers: {numbers.nbytes:,} bytes, {3 * numbers.size - 1:,} operations; 32 bits: {short_code.nbytes} bytes"
)
assert numbers.nbytes // short_code.nbytes == 4096

sizes = (8, 16, 32, 64, 128, 256)
found = [same_class(hamming(codes(queries, bits), codes(gallery, bits))) for bits in sizes]
raw_pixels = data.train.images.reshape(960, -1).astype(float)
shift = raw_pixels.mean(axis=0)
planes = normal(key(0, "planes"), np.arange(3072)[:, None], np.arange(256))
a, b = (
    np.packbits((x.reshape(len(x), -1) - shift) @ planes > 0, axis=1) for x in (data.test.images, data.train.images)
)
pixel_codes_share = same_class(hamming(a, b))
for bits, share in zip(sizes, found, strict=True):
    print(f"{bits:4} bits: {share:.0%} of six of the same class")
print(f" 256 bits of the pixels: {pixel_codes_share:.0%}")
assert found[-1] > found[0] and found[-1] > features_share - 0.1 and pixel_codes_share < found[2]

# %%
# What it looks like
# ------------------

figure = plt.figure(figsize=(9.6, 3.5))
left, right = figure.subfigures(1, 2, width_ratios=[1.7, 1])
far_by_pixels = np.argsort(order[np.arange(len(nearest)), nearest])[::-1]
chosen = [next(i for i in far_by_pixels if data.test.labels[i] == label) for label in (2, 4, 8, 11)]
axes = left.subplots(4, 11, gridspec_kw={"wspace": 0.05, "width_ratios": [1, 0.2, 1, 1, 1, 1, 0.2, 1, 1, 1, 1]})
for row, query in zip(axes, chosen, strict=True):
    row[0].imshow(data.test.images[query])
    for offset, distance in ((2, by_features), (7, by_pixels)):
        for axis, other in zip(row[offset : offset + 4], np.argsort(distance[query], kind="stable"), strict=False):
            axis.imshow(data.train.images[other])
            right_class = data.train.labels[other] == data.test.labels[query]
            axis.add_patch(
                plt.Rectangle((-0.5, -0.5), 32, 32, fill=False, lw=3, color=GREEN if right_class else VERMILION)
            )
    bare(*row)
for column, text in ((0, "query"), (2, "nearest by features"), (7, "nearest by pixels")):
    axes[0, column].text(0, -4, text, weight="bold").set_in_layout(False)
curve = right.subplots()
curve.semilogx(sizes, [100 * share for share in found], "o-", color=BLUE, lw=2, base=2)
for level, text, colour in (
    (features_share, "features, not coded", GREEN),
    (pixels_share, "pixels", VERMILION),
    (1 / 12, "chance", MUTED),
):
    curve.axhline(100 * level, color=colour, ls="--", lw=1)
    curve.text(8, 100 * level + 1.5, text, color=colour)
curve.set_xticks(sizes, sizes)
curve.set(title="six nearest: % of the right class", xlabel="bits of the code", ylim=(0, 106))
keep(figure, "15_neighbours")

# %%
# Try
# ---
# - Use the outputs of fc6 (``relu6``) as features. Are they better or worse? (Remove the assertions below ``features``:
#   they are for relu7.)
#
#   .. answer::
#
#      As good: 96 % of the six nearest are of the right class, as with relu7.
#
# - Use the outputs *before* the ReLU (``fc7a``), again without these assertions: their signs are a binary code that
#   needs no planes.
#
#   .. answer::
#
#      Each of fc7's units gives one bit: is its sum of inputs above zero? The planes are the weights that training has
#      found, instead of random ones. These 128 bits find the right class as often as the features do, for 96 % of the
#      six nearest.
#
# - Which pairs of classes does the net confuse most often?
#
#   .. answer::
#
#      None: it is wrong on 3 of the 120 test images, and each of them is another pair, such as fine and coarse stripes.
#      To find out more, take more test images, ``middles(960, 4800)``.
#
# Exercise
# --------
# Write the codes and the distances in ``lessons/exercises/ex15_codes.py``; then ``pytest -m ex15``.
