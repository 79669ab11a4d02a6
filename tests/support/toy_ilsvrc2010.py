"""A toy ILSVRC-2010: eight classes in the layout of the real one.

    toy = toy_ilsvrc2010.make(tmp_path)
    toy.train, toy.val, toy.test, toy.patches, toy.devkit, toy.truth     paths, with their real names
    toy.sources                                                          all of them
    toy.ids                                                              {wnid: ILSVRC2010_ID}
    toy.labels                                                           {"train", "val", "test": {name: wnid}}
    toy.content                                                          {name: bytes}, before the patches

Training images are a tar of tars; some of them are packed by gzip, as one is in the real tar. Validation and test
images are in a folder of their tars. The devkit has pictures of its own.
"""

import gzip
import io
from typing import NamedTuple

import numpy as np

from tests.support.toy_imagenet import jpeg, tar, tar_gz

CLASSES = [f"n0{number}" for number in (1440764, 1443537, 1484850, 1491361, 1494475, 1496331, 1498041, 1514668)]
IDS = dict(zip(CLASSES, (5, 1, 8, 3, 7, 2, 6, 4), strict=True))
VAL_TRUTH, TEST_TRUTH = "ILSVRC2010_validation_ground_truth.txt", "ILSVRC2010_test_ground_truth.txt"


class Toy(NamedTuple):
    """Paths of the sources, and what is in them."""

    train: object
    val: object
    test: object
    patches: object
    devkit: object
    truth: object
    ids: dict
    labels: dict
    content: dict

    @property
    def sources(self):
        return [self.train, self.val, self.test, self.patches, self.devkit, self.truth]


def make(root, train=3, val=2, test=2):
    """Write the toy below a folder, with so many images of each class; return a `Toy`."""
    rng = np.random.default_rng(10)
    labels, content = {"train": {}, "val": {}, "test": {}}, {}
    for wnid in CLASSES:
        for number in rng.choice(30_000, train, replace=False):
            name = f"{wnid}/{wnid}_{number}.JPEG"
            labels["train"][name], content[name] = wnid, jpeg(rng, 40, 40)
    for split, count in (("val", val), ("test", test)):
        for position, label in enumerate(rng.permutation(np.arange(count * len(CLASSES)) % len(CLASSES)).tolist()):
            name = f"ILSVRC2010_{split}_{position + 1:08d}.JPEG"
            labels[split][name], content[name] = CLASSES[label], jpeg(rng, 40, 40)
    names = ["images_train.tar", "images_val.tar", "images_test.tar", "patch", "devkit-1.0.tar.gz", TEST_TRUTH[11:]]
    paths = [root / f"ILSVRC2010_{name}" for name in names]
    paths[3] = root / "patch_images.tar"
    toy = Toy(*paths, dict(IDS), labels, content)
    packed = {name: gzip.compress(content[name], mtime=0) for name in list(labels["train"])[::4]}
    stored = content | packed
    of_class = {wnid: {n.split("/")[1]: stored[n] for n in labels["train"] if n.startswith(wnid)} for wnid in CLASSES}
    tar(toy.train, {f"{wnid}.tar": tar(None, images) for wnid, images in of_class.items()})
    for split in ("val", "test"):
        tar(getattr(toy, split), {f"{split}/{name}": content[name] for name in labels[split]})
    tar(
        toy.patches,
        {f"patch_images/{name}": each for name, each in patched(toy).items()} | {"patch_images/README": b""},
    )
    tar_gz(toy.devkit, {f"devkit-1.0/{name}": each for name, each in devkit(toy).items()})
    toy.truth.write_bytes(truth(toy, "test"))
    return toy


def patched(toy):
    """Return the patches, {name: bytes}: of the first image of each split."""
    rng = np.random.default_rng(11)
    firsts = {split: min(toy.labels[split]).split("/")[-1] for split in toy.labels}
    return {f"{split}/{name}": jpeg(rng, 44, 40) for split, name in firsts.items()}


def truth(toy, split):
    """Return a ground truth: an id a line, in the order of the images' names."""
    return "".join(f"{toy.ids[toy.labels[split][name]]}\n" for name in sorted(toy.labels[split])).encode()


def devkit(toy, **changed):
    """Return the devkit's files, {name: bytes}."""
    rng = np.random.default_rng(12)
    return {
        "readme.txt": b"This is a toy.\n",
        "data/meta.mat": meta(toy.ids, **changed),
        f"data/{VAL_TRUTH}": truth(toy, "val"),
        "evaluation/demo.val.pred.txt": b"1 2 3 4 5\n",
        "feature/img1.jpg": jpeg(rng),
        "feature/img2.jpg": jpeg(rng),
    }


def meta(ids, field="ILSVRC2010_ID", compressed=False, dtype="float64", leaves_only=False):
    """Make a table of synsets: the classes in the order of their ids, then two inner nodes, and the matrix of costs."""
    from scipy.io import savemat

    words = "words" if not leaves_only else "name"
    fields = [field, "WNID", words, "gloss", "num_children", "children", "wordnet_height", "num_train_images"]
    fields = [name for name in fields if not leaves_only or name != "num_children"]
    rows = [
        dict.fromkeys(fields, 0)
        | {field: number, "WNID": wnid, words: f"class {number}, number {number}", "gloss": "what it is"}
        | {"children": []}
        for wnid, number in sorted(ids.items(), key=lambda pair: pair[1])
    ]
    if not leaves_only:
        for number, wnid in ((len(ids) + 1, "n00001740"), (len(ids) + 2, "n00001930")):
            rows.append(rows[0] | {field: number, "WNID": wnid, words: "entity", "num_children": 2, "children": [1, 2]})
    synsets = np.empty((len(rows), 1), [(name, object) for name in fields])
    for i, row in enumerate(rows):
        synsets[i, 0] = tuple(np.array(row[name], dtype) if type(row[name]) is int else row[name] for name in fields)
    stream = io.BytesIO()
    costs = np.zeros((len(ids), len(ids)), np.uint8)
    savemat(stream, {"synsets": synsets, "cost_matrix": costs}, do_compression=compressed)
    return stream.getvalue()
