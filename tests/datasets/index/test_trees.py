"""Trees of files as they come: training and prepare see the same images, classes and splits, also in archives."""

import errno
import io
import os
import re
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from tests.support.toy_imagenet import found
from tinyalex import datasets
from tinyalex.datasets.index.sources import index
from tinyalex.errors import DataError


class Tree(NamedTuple):
    """Files as "cat/1.png cat/2.png"; links as "cat/3.png->../dog/1.png"; hard links with =>; "cat/" an empty folder.

    Attributes
    ----------
    files : str
    train, test : str
        The expected images, as "cat/1.png", with the class before the last slash; "file=class" for one with a label
        from a list.
    lines : tuple of str
        Each is part of a line that is shown.
    texts : dict of str to str
        Files with a given text.
    """

    files: str
    train: str
    test: str = ""
    lines: tuple = ()
    texts: dict = {}


SPLITS = "{a}/cat/1.png {a}/dog/2.png {b}/cat/3.png {b}/dog/4.png"
TREES = {
    "class folders": Tree("cat/1.png dog/2.png", "cat/1.png dog/2.png"),
    "one folder more": Tree("photos/cat/1.png photos/dog/2.png", "cat/1.png dog/2.png"),
    "extensions in capitals": Tree("cat/1.PNG dog/2.Png", "cat/1.PNG dog/2.Png"),
    **{
        f"{a} and {b}": Tree(SPLITS.format(a=a, b=b), "cat/1.png dog/2.png", "cat/3.png dog/4.png")
        for a, b in [
            *(("train", "val"), ("Train", "Test"), ("Training", "validation"), ("train", "test1"), ("trn", "tst")),
            *(("train", "dev"), ("training_set", "test_set"), ("training_set/training_set", "test_set/test_set")),
            *(("seg_train/seg_train", "seg_test/seg_test"), ("TRAIN", "Eval"), ("train_images", "val_images")),
            *(("train/images", "val/images"), ("split/train", "split/test")),
        ]
    },
    "three splits": Tree(
        SPLITS.format(a="train", b="val") + " test/cat/5.png test/dog/6.png",
        "cat/1.png dog/2.png",
        "cat/3.png dog/4.png",
        ("(2 images: a third split)",),
    ),
    "test images without labels": Tree(
        SPLITS.format(a="train", b="val") + " test/5.png",
        "cat/1.png dog/2.png",
        "cat/3.png dog/4.png",
        ("(1 image: without labels)",),
    ),
    "nested": Tree(
        "animals/cat/1.png animals/dog/2.png things/car/3.png",
        "animals/cat/1.png animals/dog/2.png things/car/3.png",
        lines=("folders inside folders; their classes are named by their paths, such as animals/cat",),
    ),
    "nested in splits": Tree(
        "train/animals/cat/1.png train/animals/dog/2.png val/animals/cat/3.png val/animals/dog/4.png",
        "animals/cat/1.png animals/dog/2.png",
        "animals/cat/3.png animals/dog/4.png",
        ("such as animals/cat",),
    ),
    "nested at several depths": Tree(
        "cat/1.png birds/owl/2.png birds/2.png birds/a/b/3.png",
        "cat/1.png birds/owl/2.png birds/2.png birds/a/b/3.png",
        lines=("such as birds/a/b",),
    ),
    "classes called as splits": Tree(
        "test/1.png exam/2.png quiz/3.png", "test/1.png exam/2.png quiz/3.png", lines=("test: taken as a class",)
    ),
    "classes called as two splits": Tree(
        "test/1.png train/2.png plane/3.png", "test/1.png train/2.png plane/3.png", lines=("train: taken as a class",)
    ),
    "test images beside class folders and labelled validation images": Tree(
        "cat/1.png dog/2.png val/3.png test/4.png",
        "cat/1.png dog/2.png",
        "3.png=dog",
        lines=("/test (1 image: without labels)",),
        texts={"val.txt": "3.png dog\n"},
    ),
    "test images beside class folders and those of validation images": Tree(
        "cat/1.png dog/2.png val/cat/3.png val/dog/4.png test/5.png",
        "cat/1.png dog/2.png",
        "cat/3.png dog/4.png",
        lines=("/test (1 image: without labels)",),
    ),
    "test images beside wnids": Tree(
        "n00000001/1.png n00000002/2.png test/3.png",
        "n00000001/1.png n00000002/2.png",
        lines=("/test (1 image: without labels)",),
    ),
    "classes called as splits in splits": Tree(
        "train/test/1.png train/exam/2.png val/test/3.png val/exam/4.png",
        "test/1.png exam/2.png",
        "test/3.png exam/4.png",
    ),
    "classes called train and test": Tree("train/train/1.png train/test/2.png", "train/1.png test/2.png"),
    "a class called images": Tree("images/1.png photos/2.png", "images/1.png photos/2.png"),
    "a folder images in every class": Tree("cat/images/1.png dog/images/2.png", "cat/1.png dog/2.png"),
    "numbers": Tree(
        " ".join(f"{n}/{n}.png" for n in (1, 2, 5, 10, 20, 50)), " ".join(f"{n}/{n}.png" for n in (1, 2, 5, 10, 20, 50))
    ),
    "folders and files of tools": Tree(
        "cat/1.png dog/2.png .ipynb_checkpoints/3.png @eaDir/4.png #recycle/5.png __MACOSX/6.png .thumbnails/7.png "
        "$RECYCLE.BIN/8.png lost+found/9.png cat/Thumbs.db cat/.DS_Store dog/._2.png dog/.ipynb_checkpoints/2.png "
        "cat/desktop.ini cat/@eaDir/1.png",
        "cat/1.png dog/2.png",
        lines=("skipped: ", "8 more (hidden, or made by a system or a tool)"),
    ),
    "lists beside class folders": Tree(
        "cat/1.png dog/2.png",
        "cat/1.png dog/2.png",
        lines=(
            "/val.txt (a list of labels, which class folders do not need)",
            "/words.txt (a list that cannot be read, which class folders do not need)",
            "/README.md (not an image by its name)",
        ),
        texts={"val.txt": "a.png 0\nb.png 1\n", "words.txt": "cat a\ncat b\n", "README.md": "x", "labels.csv": "a,b\n"},
    ),
    "a list of labels that is needed": Tree(
        "train/cat/1.png train/dog/2.png val/3.png val/4.png",
        "cat/1.png dog/2.png",
        "3.png=dog 4.png=cat",
        texts={"val.txt": "3.png dog\n4.png cat\n"},
    ),
    "images beside class folders": Tree(
        "1.png cat/2.png dog/3.png", "cat/2.png dog/3.png", lines=("1.png (an image beside the class folders)",)
    ),
    "a folder without images": Tree(
        "cat/1.png dog/2.png eel/notes.txt", "cat/1.png dog/2.png", lines=("/eel (a folder without images)",)
    ),
    "linked images": Tree(
        "train/cat/1.png->../../.store/x train/dog/2.png->../../.store/y train/eel/3.png .store/x .store/y",
        "cat/1.png dog/2.png eel/3.png",
        lines=("/.store (hidden",),
    ),
    "linked classes": Tree(
        "train/cat->../store/a train/dog->../store/b train/eel/3.png store/a/1.png store/b/2.png",
        "cat/1.png dog/2.png eel/3.png",
        lines=("and 1 more (outside of the folders of the splits)",),
    ),
    "linked splits": Tree(
        "train->.store/a val->.store/b .store/a/cat/1.png .store/a/dog/2.png .store/b/cat/3.png .store/b/dog/4.png",
        "cat/1.png dog/2.png",
        "cat/3.png dog/4.png",
        lines=("/.store (hidden",),
    ),
    "links through links": Tree(
        "cat->.store/one dog/2.png .store/one->two .store/two/1.png->../../.store/three .store/three",
        "cat/1.png dog/2.png",
        lines=("/.store (hidden",),
    ),
    "hard links": Tree(
        "train/cat/1.png train/dog/2.png val/cat/3.png=>train/cat/1.png val/dog/4.png=>val/cat/3.png",
        "cat/1.png dog/2.png",
        "cat/3.png dog/4.png",
        ("duplicates: 1 image, 1 of them in both training and test, 1 in several classes, such as test/cat/3.png and",),
    ),
    "loops of links": Tree(
        "cat/1.png dog/2.png cat/up->.. dog/cats->../cat cat/dogs->../dog",
        "cat/1.png dog/2.png cat/dogs/2.png dog/cats/1.png",
        lines=(" and 3 more (a link to a folder above it)", "such as cat/dogs"),
    ),
    "dangling links": Tree(
        "cat/1.png dog/2.png cat/3.png->nowhere cat/4.png->4.png dog/5->../6.png",
        "cat/1.png dog/2.png",
        lines=(" and 2 more (a dangling link)",),
    ),
}


def png(k):
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (k, 255 - k, 7 * k % 256)).save(stream, "PNG")
    return stream.getvalue()


def make(root, tree):
    """Write a tree below a folder; return the folder."""
    for k, each in enumerate(tree.files.split(" ")):
        name, hard, other = each.partition("=>")
        name, soft, target = name.partition("->")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if hard:
            os.link(root / other, path)
        elif soft:
            path.symlink_to(target)
        else:
            path.write_bytes(png(k))
    for name, text in tree.texts.items():
        (root / name).write_text(text)
    return root


def as_tar(root):
    """Write a folder as a tar, in which the second of two hard links is a link."""
    with tarfile.open(root.with_suffix(".tar"), "w") as archive:
        archive.add(root, "set")
    return root.with_suffix(".tar")


def as_tar_without_its_name(root):
    """Write a folder as `tar -C FOLDER .` does."""
    with tarfile.open(root.with_suffix(".tar"), "w") as archive:
        archive.add(root, ".")
    return root.with_suffix(".tar")


def as_zip(root):
    """Write a folder as `zip --symlinks` does, which knows no hard links."""
    with zipfile.ZipFile(root.with_suffix(".zip"), "w") as archive:
        for folder, folders, names in os.walk(root):
            for path in (Path(folder, name) for name in folders + names):
                name, is_link = str(path.relative_to(root.parent)), path.is_symlink()
                info = zipfile.ZipInfo(name if is_link or path.is_file() else f"{name}/")
                info.external_attr = (stat.S_IFLNK | 0o777) << 16 if is_link else 0
                content = os.readlink(path) if is_link else b"" if info.is_dir() else path.read_bytes()
                archive.writestr(info, content)
    return root.with_suffix(".zip")


def expected(text):
    """{(file name, class)} of the images in a field of a `Tree`."""
    pairs = [each.split("=") if "=" in each else each.rsplit("/", 1)[::-1] for each in text.split()]
    return sorted(map(tuple, pairs))


def seen(path, scratch):
    """What prepare sees: {split: {name: (class, bytes)}}, the classes, and the lines shown."""
    lines = []
    indexed = index([path], scratch, lines.append)
    splits = {
        split: {name: (indexed.classes[label], content) for name, (label, content) in found(entries).items()}
        for split, entries in indexed.splits.items()
    }
    return splits, indexed.classes, [line for line in lines if ": unpacking to " not in line]


def missing(parts, lines):
    return [part for part in parts if not any(part in line for line in lines)]


@pytest.mark.parametrize("name", TREES)
def test_a_tree_has_these_images_and_classes(name, tmp_path):
    tree = TREES[name]
    splits, classes, lines = seen(make(tmp_path / "set", tree), tmp_path / "scratch")
    for split, wanted in (("train", expected(tree.train)), ("test", expected(tree.test))):
        images = splits[split].items()
        assert sorted((each.rsplit("/")[-1], label) for each, (label, _) in images) == wanted
        assert all(each.rpartition("/")[0] in (label, "") for each, (label, _) in images)
    wanted = {label for _, label in expected(tree.train)}
    assert classes == sorted(wanted, key=lambda name: (int(name), name) if name.isdigit() else (0, name))
    assert missing([part for part in tree.lines if not part.startswith("duplicates")], lines) == []
    assert tree.lines or lines == []


def test_every_name_that_the_readme_of_the_data_gives_is_in_a_tree():
    text = (Path(__file__).parents[3] / "data/README.md").read_text(encoding="utf-8")
    names = re.findall(r"`([^`]+)`", text.split("## Images in folders")[1].split("\n## ")[0])
    trees = " ".join(f"{tree.files} {' '.join(tree.texts)}" for tree in TREES.values())
    names = [name for name in names if not name.startswith(("prepare", "tinyalex prepare")) and "--" not in name]
    assert len(names) > 20
    for name in names:
        assert re.search(rf"(^|[ /]){re.escape(name)}", trees), name


@pytest.mark.parametrize("name", TREES)
def test_an_archive_is_read_like_the_folder(name, tmp_path):
    root = make(tmp_path / "set", TREES[name])
    splits, classes, lines = seen(root, tmp_path / "scratch")
    for pack in (as_tar, as_zip, as_tar_without_its_name):
        archive = seen(pack(root), tmp_path / "scratch")
        assert archive[:2] == (splits, classes) and len(archive[2]) == len(lines)
        assert missing([part for part in TREES[name].lines if not part.startswith("duplicates")], archive[2]) == []


@pytest.mark.parametrize("name", TREES)
def test_training_sees_the_images_and_classes_that_prepare_sees(name, tmp_path):
    root = make(tmp_path / "set", TREES[name])
    splits, classes, lines = seen(root, tmp_path / "scratch")
    for path in (root, as_tar(root), as_zip(root)):
        shown = []
        dataset = datasets.load(path, show=shown.append)
        assert dataset.classes == classes and missing(TREES[name].lines, shown) == []
        if path is root:
            assert [line for line in shown if not line.startswith("duplicates")] == lines
        for split, images in splits.items():
            wanted = sorted((classes.index(label), each, content) for each, (label, content) in images.items())
            have = getattr(dataset, split)
            assert have.labels.tolist() == [label for label, _, _ in wanted]
            pixels = [np.array(Image.open(io.BytesIO(content))) for _, _, content in wanted]
            assert len(have) == len(pixels) and all(map(np.array_equal, have.images, pixels))


FILL = "fill them, or remove those that are no classes"
REFUSED = {  # files, and the message without the path of the set
    "one class": ("cat/1.png cat/2.png", ": only one class, 'cat'; give images of at least two"),
    "one class in splits": (
        "train/cat/1.png val/cat/2.png", "/train: only one class, 'cat'; give images of at least two"
    ),
    "an empty class": ("cat/1.png dog/2.png eel/", f": no images in eel; {FILL}"),
    "an empty nested class": ("a/cat/1.png a/eel/ b/dog/2.png", f": no images in a/eel; {FILL}"),
    "a class with other files only, in a split": (
        "train/cat/1.png train/dog/2.png train/eel/notes.txt", f"/train: no images in eel; {FILL}"
    ),
    "a class without test images": (
        SPLITS.format(a="train", b="val") + " train/eel/5.png",
        "/val: not the same classes as {}/train, eel missing; both need the same",
    ),
    "no images": (
        "cat/notes.txt dog/notes.txt",
        ": no images found (skipped: set/cat/notes.txt and 1 more (not an image by its name)); expected class "
        "folders, ILSVRC's tars, or CIFAR's files",
    ),
    "flat images": (
        "1.png 2.png",
        ": contains 2 images, but no class folders; put the images of each class into a folder of its own, or add a "
        "list of their labels",
    ),
    "flat training images": (
        "train/cat.1.png test1/1.png",
        "/train: contains 1 image, but no class folders; put the images of each class into a folder of its own",
    ),
    "parts of a set": (
        "one/cat/1.png one/dog/2.png two/cat/3.png two/dog/4.png",
        ": class folders in two folders, {0}/one and {0}/two; give one of them",
    ),
    "splits in class folders": (
        "cat/train/1.png cat/test/2.png dog/train/3.png dog/test/4.png",
        "/cat: a split in a class folder, test; expected test/cat",
    ),
}  # fmt: skip


def test_a_folder_called_test_has_test_images_and_a_line_says_so(tmp_path):
    root = make(tmp_path / "flowers-test", Tree("cat/1.png dog/2.png", ""))
    splits, _, lines = seen(root, tmp_path / "scratch")
    assert not splits["train"] and len(splits["test"]) == 2
    assert lines == [f"{root}: taken as test images, as its name says"]


@pytest.mark.parametrize("name", REFUSED)
def test_training_and_prepare_refuse_a_tree_with_the_same_message(name, tmp_path):
    root, (files, message) = tmp_path / "set", REFUSED[name]
    for each in files.split():
        (root / each).parent.mkdir(parents=True, exist_ok=True)
        (root / each).mkdir() if each.endswith("/") else (root / each).write_bytes(png(1))
    for look in (lambda: index([root], tmp_path / "scratch", print), lambda: datasets.load(root)):
        with pytest.raises(DataError) as caught:
            look()
        assert str(caught.value) == f"{root}{message.format(root)}"


def test_training_and_prepare_name_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    root, scan = make(tmp_path / "set", Tree("cat/1.png dog/2.png", "")), os.scandir

    def closed(path):
        if str(path).endswith("dog"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    for look in (lambda: index([root], tmp_path / "scratch", print), lambda: datasets.load(root)):
        with pytest.raises(DataError) as caught:
            look()
        assert str(caught.value) == f"{root}/dog: cannot be read (Permission denied); check its permissions"


@pytest.mark.parametrize("kind, target, reason", [
    (tarfile.SYMTYPE, "../../../secret.png", "a link that points outside of the archive"),
    (tarfile.SYMTYPE, "/etc/passwd", "a link that points outside of the archive"),
    (tarfile.SYMTYPE, "../../../set/cat/1.png", "a link that points outside of the archive"),
    (tarfile.LNKTYPE, "../secret.png", "a link that points outside of the archive"),
    (tarfile.LNKTYPE, "/etc/passwd", "a dangling link"),
    (tarfile.SYMTYPE, "3.png", "a dangling link"),
    (tarfile.SYMTYPE, "..", "a link to a folder above it"),
    (tarfile.SYMTYPE, "../cat/./../cat//1.png", ""),
    (tarfile.LNKTYPE, "./set/cat/1.png", ""),
])  # fmt: skip
def test_a_link_in_a_tar_leads_to_a_member_or_is_named(tmp_path, kind, target, reason):
    (tmp_path / "secret.png").write_bytes(b"secret")
    path = as_tar(make(tmp_path / "set", Tree("cat/1.png dog/2.png", "")))
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("set/dog/3.png")
        link.type, link.linkname = kind, target
        archive.addfile(link)
    splits, _, lines = seen(path, tmp_path / "scratch")
    train = splits["train"]
    assert lines == ([f"skipped: set/set/dog/3.png ({reason})"] if reason else [])
    assert train.keys() == {"cat/1.png", "dog/2.png"} | (set() if reason else {"dog/3.png"})
    assert reason or train["dog/3.png"] == ("dog", train["cat/1.png"][1])


def test_links_that_multiply_end_at_the_limit(tmp_path):
    """Each of six folders links ten times to the next: a million paths."""
    root = make(tmp_path / "set", Tree("cat/1.png dog/2.png", ""))
    for k in range(6):
        (root / f"f{k}").mkdir()
        for each in range(10):
            (root / f"f{k}/{each}").symlink_to(f"../f{k + 1}")
    (root / "f6").mkdir()
    for path in (root, as_tar(root)):
        with pytest.raises(DataError, match="more than 1,000 images and folders; if these"):
            index([path], tmp_path / "scratch", print, most=1000)


def test_a_chain_of_hard_links_is_followed(tmp_path):
    path, count = tmp_path / "set.tar", 1000
    with open(path, "wb") as file:
        for folder in ("cat", "dog"):
            member = tarfile.TarInfo(f"{folder}/1.png")
            member.size = 1
            file.write(member.tobuf() + folder[:1].encode().ljust(512, b"\0"))
        for k in range(2, count):
            link = tarfile.TarInfo(f"cat/{k}.png")
            link.type, link.linkname = tarfile.LNKTYPE, f"cat/{k - 1}.png"
            file.write(link.tobuf())
        file.write(bytes(1024))
    splits, _, lines = seen(path, tmp_path / "scratch")
    assert lines == [] and len(splits["train"]) == count
    assert {content for name, (_, content) in splits["train"].items() if name.startswith("cat")} == {b"c"}
