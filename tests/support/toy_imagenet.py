"""A toy ILSVRC-2012: three classes in the layout of the real one.

    toy = toy_imagenet.make(tmp_path)
    toy.train, toy.val, toy.devkit    paths: nested train tar, flat validation tar, devkit tar.gz, with their real names
    toy.folder                        the same images as train/<wnid>/*.JPEG and val/<wnid>/*.JPEG
    toy.classes, toy.words            sorted wnids, and their names
    toy.labels                        {"train": {name: label}, "test": {name: label}}, names as for the tars
    toy.content                       {name: bytes} of every image
    toy.ids                           {wnid: id in the devkit}: not in the order of the wnids

`tar` and `tar_gz` write archives from {name: bytes}, `tree` writes folders, `jpeg` makes a picture, `found` reads the
bytes of an index's entries.
"""

import io
import tarfile
from typing import NamedTuple

import numpy as np
from PIL import Image

CLASSES = ["n01440764", "n01443537", "n15075141"]  # the first two and the last of the thousand
WORDS = ["tench, Tinca tinca", "goldfish, Carassius auratus", "toilet tissue, toilet paper, bathroom tissue"]
IDS = {"n01440764": 2, "n01443537": 3, "n15075141": 1}  # neither sorted nor reversed
ANCESTOR = ("n02512053", "fish")  # the devkit has these too, after the thousand


class Toy(NamedTuple):
    """Paths of the sources, and the expected classes, labels and contents."""

    train: object
    val: object
    devkit: object
    folder: object
    classes: list
    words: list
    labels: dict
    content: dict
    ids: dict


def make(root, train=4, val=3):
    """Write the toy below a folder, with ``train`` and ``val`` images of each class.

    Returns
    -------
    Toy
    """
    rng = np.random.default_rng(12)
    content, labels = {}, {"train": {}, "test": {}}
    for label, wnid in enumerate(CLASSES):
        for number in rng.choice(30_000, train, replace=False):
            name = f"{wnid}/{wnid}_{number}.JPEG"
            content[name], labels["train"][name] = jpeg(rng), label
    for position, label in enumerate(rng.permutation(np.arange(val * len(CLASSES)) % len(CLASSES)).tolist()):
        name = f"ILSVRC2012_val_{position + 1:08d}.JPEG"
        content[name], labels["test"][name] = jpeg(rng), label
    toy = Toy(
        root / "ILSVRC2012_img_train.tar",
        root / "ILSVRC2012_img_val.tar",
        root / "ILSVRC2012_devkit_t12.tar.gz",
        root / "toy",
        list(CLASSES),
        list(WORDS),
        labels,
        content,
        dict(IDS),
    )
    tar(toy.train, {f"{wnid}.tar": tar(None, _of_class(toy, wnid)) for wnid in CLASSES})
    tar(toy.val, {name: content[name] for name in labels["test"]})
    tar_gz(toy.devkit, {f"ILSVRC2012_devkit_t12/{name}": each for name, each in devkit(toy).items()})
    tree(toy.folder / "train", {name: content[name] for name in labels["train"]})
    tree(toy.folder / "val", {f"{CLASSES[label]}/{name}": content[name] for name, label in labels["test"].items()})
    return toy


def devkit(toy):
    """Return the devkit's files, {name: bytes}."""
    truth = [toy.ids[toy.classes[toy.labels["test"][name]]] for name in sorted(toy.labels["test"])]
    return {
        "readme.txt": b"This is a toy.\n",
        "data/meta.mat": meta(
            {number: wnid for wnid, number in toy.ids.items()}, dict(zip(CLASSES, WORDS, strict=True))
        ),
        "data/ILSVRC2012_validation_ground_truth.txt": "".join(f"{number}\n" for number in truth).encode(),
        "evaluation/demo.val.pred.txt": b"1 2 3 4 5\n",
    }


def meta(wnids, words):
    """Make a meta.mat from {id: wnid} and {wnid: name}: the synsets in the order of their ids, then an ancestor."""
    from scipy.io import savemat

    fields = [(name, object) for name in ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children")]
    rows = [(number, wnid, words[wnid], "what it is", 0, []) for number, wnid in sorted(wnids.items())]
    rows.append((len(rows) + 1, *ANCESTOR, "what it is", 2, [1, 2]))
    synsets = np.empty((len(rows), 1), fields)
    for i, row in enumerate(rows):
        synsets[i, 0] = row
    stream = io.BytesIO()
    savemat(stream, {"synsets": synsets})
    return stream.getvalue()


def _of_class(toy, wnid):
    return {name.split("/")[1]: toy.content[name] for name in toy.labels["train"] if name.startswith(wnid)}


def jpeg(rng, width=48, height=40):
    """Make a small JPEG of coarse noise."""
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    stream = io.BytesIO()
    coarse.resize((width, height), Image.Resampling.BILINEAR).save(stream, "JPEG", quality=80)
    return stream.getvalue()


def tar(path, contents, mode="w"):
    """Write {name: bytes} as a tar, to a path if it is not None; return the tar's bytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    if path is not None:
        path.write_bytes(stream.getvalue())
    return stream.getvalue()


def tar_gz(path, contents):
    """Write {name: bytes} as a compressed tar."""
    return tar(path, contents, "w:gz")


def tree(root, contents):
    """Write {name: bytes} as files below a folder; return the folder."""
    for name, content in contents.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return root


def found(entries):
    """Read the bytes of entries: {name: (label, bytes)}."""
    seen = {}
    for entry in entries:
        with open(entry.file, "rb") as file:
            file.seek(entry.offset)
            seen[entry.name] = (entry.label, file.read(entry.size))
    return seen
