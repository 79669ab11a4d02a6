"""Small prepared sets with known contents, written directly in the format on disk."""

import numpy as np

from tinyalex import randomness
from tinyalex.datasets import ImageSet
from tinyalex.datasets.shards import jpeg, manifest, shards
from tinyalex.datasets.statistics import mean_image, pixel_sums

PLAN = "0123456789abcdef" * 2


def pictures(split, count, size, classes=3):
    """Labels (n,), every class in turn, and images of noise on a colour of their class, uint8 (n, S, S, 3)."""
    labels = np.arange(count) % classes
    noise = randomness.below(randomness.key(0, "prepared", split, size), 56, np.arange(count * size * size * 3))
    colours = 40 + 160 * (labels[:, None] // 2 ** np.arange(3) % 2)
    return labels, (noise.reshape(count, size, size, 3) + colours[:, None, None, :]).astype(np.uint8)


def cheap_pictures(split, count, size, classes=3):
    """Labels, and images cropped from one noise image: a thousand large `pictures` would take half a minute."""
    one = pictures(split, 1, 2 * size, classes)[1][0]
    labels = np.arange(count) % classes
    images = np.empty((count, size, size, 3), np.uint8)
    for number, image in enumerate(images):
        top, left = number * 7 % size, number * 13 % size
        image[...] = one[top : top + size, left : left + size]
    return labels, images


def make(folder, train=20, test=10, size=8, per_shard=6, classes=3, plan=PLAN, draw=pictures, quality=None, **changes):
    """Write a set with that many images and return its folder; ``changes`` replace fields of its manifest.

    With ``quality`` it is a set of JPEG files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    splits, drawn = {}, {}
    for split, count in (("train", train), ("test", test)):
        labels, images = draw(split, count, size, classes)
        files = [jpeg.encode(image, quality) for image in images] if quality else []
        if files:
            images = np.array([jpeg.decode(file, size) for file in files])
        drawn[split], written = images, []
        for number, start in enumerate(range(0, count, per_shard)):
            part = np.s_[start : start + per_shard]
            name = shards.file_name(split, number)
            about = folder / name, plan, split, number, labels[part], images[part]
            digest = shards.write_jpeg(*about, files[part]) if files else shards.write(*about)
            written.append({"file": name, "count": len(labels[part]), "hash": digest})
        splits[split] = {"count": count, "shards": written, "skipped": []}
    source = drawn["train"] if train else images
    total, products = pixel_sums(source)
    fields = {
        "plan": plan,
        "kind": "drawn",
        "sources": ["nowhere"],
        "size": size,
        "seed": 0,
        "per_shard": per_shard,
        "classes": [f"n{k:08d}" for k in range(classes)],
        "words": [f"thing {k}, whatever" for k in range(classes)],
        "splits": splits,
        "statistics": {
            "from": "train" if train else "f" * 32,
            "images": len(source),
            "pixels": len(source) * size**2,
            "sum": total.sum(axis=(0, 1)).tolist(),
            "products": products.tolist(),
            "mean": manifest.write_mean(folder, mean_image(total, len(source))),
        },
        "odd": {"png": 1},
        "duplicates": [],
        "decoder": {"pillow": "12.0", "libjpeg": jpeg.library() if quality else "9.5", "filter": "bicubic"},
    }
    if quality:
        fields["jpeg"] = {"quality": quality, "kept": 0, "bytes": 1000, "squares": 10**6, "largest": 30}
    manifest.write(folder, fields | changes)
    return folder


def in_memory(split, count, size=8, classes=3):
    """The same images as an `ImageSet`."""
    labels, images = pictures(split, count, size, classes)
    return ImageSet(images, labels)


def rewrite(folder, **changes):
    """Write a set's manifest again with other fields and matching hashes."""
    fields = manifest.read(folder) | changes
    manifest.write(folder, {name: value for name, value in fields.items() if name not in ("format", "identity")})


def flip(path, at, bit=0):
    """Change one bit of a file."""
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))
