"""Indexing sources: every layout gives the same images with the same labels."""

import itertools
import lzma
import os
import pickle
import zipfile

import numpy as np
import pytest

from tests.support import folders, toy_imagenet
from tests.support.toy_imagenet import CLASSES, WORDS, found, tar, tree
from tinyalex.datasets import cifar
from tinyalex.datasets.index import unpack
from tinyalex.datasets.index.sources import index
from tinyalex.errors import DataError, UsageError


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_imagenet.make(tmp_path_factory.mktemp("imagenet"))


@pytest.fixture
def look(tmp_path):
    def look(*sources, **options):
        return index(sources, tmp_path / "out/work", print, **options)

    return look


def names(toy, split):
    return {name: (label, toy.content[name]) for name, label in toy.labels[split].items()}


def in_folders(toy, split):
    """The expected entries where the folder is the class."""
    labelled = names(toy, split).items()
    return {f"{CLASSES[label]}/{name.split('/')[-1]}": (label, content) for name, (label, content) in labelled}


def caffe(toy):
    """Labels from 0, and the names of the classes, as Caffe has them."""
    return {
        "val.txt": "".join(f"{name} {label}\n" for name, label in toy.labels["test"].items()).encode(),
        "synset_words.txt": "".join(f"{wnid} {word}\n" for wnid, word in zip(CLASSES, WORDS, strict=True)).encode(),
    }


def validation(toy):
    return {name: toy.content[name] for name in toy.labels["test"]}


def test_ilsvrc_tars(toy, look):
    for sources in itertools.permutations([toy.train, toy.val, toy.devkit]):
        seen = look(*sources)
        assert seen.kind == "ILSVRC-2012" and seen.classes == CLASSES and seen.words == WORDS
        assert found(seen.splits["train"]) == names(toy, "train")
        assert found(seen.splits["test"]) == names(toy, "test")
        for entries in seen.splits.values():
            assert [entry.name for entry in entries] == sorted(entry.name for entry in entries)
            assert {entry.form for entry in entries} == {"image"}
    assert {entry.file for entry in seen.splits["train"]} == {str(toy.train)}, "a plain tar is not copied"
    assert ("ILSVRC2012_devkit_t12/ILSVRC2012_devkit_t12/readme.txt", "not an image by its name") in seen.skipped


def test_a_folder_with_the_tars_in_it(toy, look, tmp_path):
    for each in (toy.train, toy.val, toy.devkit):
        (tmp_path / "ilsvrc").mkdir(exist_ok=True)
        (tmp_path / "ilsvrc" / each.name).symlink_to(each)
    seen = look(tmp_path / "ilsvrc")
    assert found(seen.splits["train"]) == names(toy, "train") and found(seen.splits["test"]) == names(toy, "test")


def test_a_folder_with_the_tars_extracted(toy, look, tmp_path):
    root = tmp_path / "ilsvrc"
    tree(root / "ILSVRC2012_img_train", {name: toy.content[name] for name in toy.labels["train"]})
    tree(root / "ILSVRC2012_img_val", validation(toy))
    tree(root / "ILSVRC2012_devkit_t12", toy_imagenet.devkit(toy))
    seen = look(root)
    assert found(seen.splits["train"]) == names(toy, "train") and found(seen.splits["test"]) == names(toy, "test")


def test_tars_of_single_classes(toy, look, tmp_path):
    wnids = {}
    for name, (label, content) in names(toy, "train").items():
        wnids.setdefault(CLASSES[label], {})[name.split("/")[1]] = content
    (tmp_path / "classes").mkdir()
    for wnid, images in wnids.items():
        tar(tmp_path / "classes" / f"{wnid}.tar", images)
    for sources in ([tmp_path / "classes"], sorted((tmp_path / "classes").iterdir())):
        assert found(look(*sources).splits["train"]) == names(toy, "train")


def test_training_images_alone_and_validation_images_alone(toy, look):
    seen = look(toy.train)
    assert found(seen.splits["train"]) == names(toy, "train") and seen.splits["test"] == []
    assert seen.words == CLASSES, "nobody says what they are called"
    seen = look(toy.val, toy.devkit)
    assert found(seen.splits["test"]) == names(toy, "test") and seen.splits["train"] == []
    assert seen.classes == CLASSES and seen.words == WORDS


@pytest.mark.parametrize("form", ["folder", "tar", "gz", "bz2", "xz", "zip", "stored zip"])
@pytest.mark.parametrize("inside", [".", "imagenet", "a/b/c"])
def test_class_folders_in_every_wrapping(toy, look, tmp_path, form, inside):
    contents = {f"train/{name}": content for name, (_, content) in in_folders(toy, "train").items()}
    contents |= {f"val/{name}": content for name, (_, content) in in_folders(toy, "test").items()}
    contents |= {"readme.png": b"x", "train/stray.JPEG": b"x", "train/.DS_Store": b"x", "val/n01443537/notes.txt": b"x"}
    seen = look(wrapped(contents, form, tmp_path, inside))
    assert seen.kind == "class folders" and seen.classes == CLASSES
    assert found(seen.splits["train"]) == in_folders(toy, "train")
    assert found(seen.splits["test"]) == in_folders(toy, "test")
    reasons = {name.split("/")[-1]: reason for name, reason in seen.skipped}
    assert "beside the class folders" in reasons["stray.JPEG"] and "not an image" in reasons["notes.txt"]
    assert ".DS_Store" not in reasons


def wrapped(contents, form, root, inside):
    contents = {f"{inside}/{name}".removeprefix("./"): content for name, content in contents.items()}
    if form == "folder":
        return tree(root / "source", contents)
    path = root / f"source.{form.split()[-1]}"
    if form.endswith("zip"):
        method = zipfile.ZIP_STORED if form == "stored zip" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
    else:
        tar(path, contents, "w" if form == "tar" else f"w:{form}")
    return path


def test_splits_as_two_sources(toy, look):
    seen = look(toy.folder / "train", toy.folder / "val")
    assert found(seen.splits["train"]) == in_folders(toy, "train")
    assert found(seen.splits["test"]) == in_folders(toy, "test")
    mixed = look(toy.train, toy.folder / "val")
    assert found(mixed.splits["train"]) == names(toy, "train")
    assert found(mixed.splits["test"]) == in_folders(toy, "test")


@pytest.mark.parametrize("names_of", [("Train", "TEST"), ("training", "validation"), ("train", "valid")])
def test_other_names_of_the_splits(toy, look, tmp_path, names_of):
    for name, ours in zip(names_of, ("train", "test"), strict=True):
        tree(tmp_path / "set" / name, {each: content for each, (_, content) in in_folders(toy, ours).items()})
    seen = look(tmp_path / "set")
    assert found(seen.splits["train"]) == in_folders(toy, "train")
    assert found(seen.splits["test"]) == in_folders(toy, "test")


@pytest.mark.parametrize("form", ["folder", "tar", "xz"])
def test_flat_validation_images_with_caffes_lists(toy, look, tmp_path, form):
    contents = {f"val/{name}": content for name, content in validation(toy).items()} | caffe(toy)
    seen = look(wrapped(contents, form, tmp_path, "set"))
    assert found(seen.splits["test"]) == names(toy, "test") and seen.splits["train"] == []
    assert seen.classes == CLASSES and seen.words == WORDS
    flat = look(wrapped(validation(toy) | caffe(toy), form, tmp_path / "flat" if form == "folder" else tmp_path, "set"))
    assert found(flat.splits["test"]) == names(toy, "test")


def test_lists_as_sources_of_their_own(toy, look, tmp_path):
    tree(tmp_path, {"labels of mine": caffe(toy)["val.txt"], "names of mine": caffe(toy)["synset_words.txt"]})
    seen = look(toy.val, tmp_path / "labels of mine", tmp_path / "names of mine")
    assert found(seen.splits["test"]) == names(toy, "test") and seen.words == WORDS
    assert found(look(toy.train, toy.val, tmp_path / "labels of mine").splits["test"]) == names(toy, "test")
    wnids = "".join(f"{CLASSES[label]}\n" for _, label in sorted(toy.labels["test"].items()))
    tree(tmp_path, {"one wnid a line": wnids.encode()})
    assert found(look(toy.train, toy.val, tmp_path / "one wnid a line").splits["test"]) == names(toy, "test")


def test_as_on_kaggle(toy, look, tmp_path):
    root = tmp_path / "imagenet-object-localization-challenge"
    inside = root / "ILSVRC/Data/CLS-LOC"
    tree(inside / "train", {name: toy.content[name] for name in toy.labels["train"]})
    tree(inside / "val", validation(toy))
    tree(inside / "test", {f"ILSVRC2012_test_{k:08d}.JPEG": b"not known" for k in range(1, 4)})
    rows = [f"{name[:-5]},{CLASSES[label]} 111 108 441 193 " for name, label in toy.labels["test"].items()]
    tree(
        root,
        {
            "LOC_val_solution.csv": "\r\n".join(["ImageId,PredictionString", *rows, ""]).encode(),
            "LOC_synset_mapping.txt": caffe(toy)["synset_words.txt"],
            "LOC_train_solution.csv": b"ImageId,PredictionString\nn02017213_7894,n02017213 115 49 448 294\n",
            "ILSVRC/ImageSets/CLS-LOC/val.txt": b"ILSVRC2012_val_00000001 1\nILSVRC2012_val_00000002 2\n",
            "ILSVRC/Annotations/CLS-LOC/train/n01440764/n01440764_1.xml": b"<annotation/>",
        },
    )
    seen = look(root)
    assert seen.kind == "ILSVRC as on Kaggle" and seen.words == WORDS
    assert found(seen.splits["train"]) == names(toy, "train") and found(seen.splits["test"]) == names(toy, "test")
    assert ("3 images: without labels" in [reason for _, reason in seen.skipped]) and len(seen.skipped) == 3


def tiny(toy, wnids):
    """The toy, or some classes of it, in Tiny ImageNet's layout, where validation images have other names."""
    contents = {"wnids.txt": "\n".join(wnids).encode(), "words.txt": b"n01443537\tgoldfish\nn00001740\tentity\n"}
    annotations = []
    for name, (_, content) in names(toy, "train").items():
        wnid, image = name.split("/")
        if wnid in wnids:
            contents[f"train/{wnid}/images/{image}"] = content
            contents[f"train/{wnid}/{wnid}_boxes.txt"] = b"x.JPEG\t0\t0\t62\t63\n"
    for name, (label, content) in names(toy, "test").items():
        if CLASSES[label] in wnids:
            contents[f"val/images/{name}"] = content
            annotations.append(f"{name}\t{CLASSES[label]}\t0\t32\t44\t62\n")
    contents["val/val_annotations.txt"] = "".join(annotations).encode()
    contents["test/images/test_0.JPEG"] = b"nobody knows"
    return contents


@pytest.mark.parametrize("form", ["folder", "xz", "zip"])
def test_tiny_imagenet(toy, look, tmp_path, form):
    seen = look(wrapped(tiny(toy, CLASSES), form, tmp_path, "tiny-imagenet-200"))
    assert seen.kind == "Tiny ImageNet" and seen.classes == CLASSES
    assert seen.words == [CLASSES[0], "goldfish", CLASSES[2]]
    assert found(seen.splits["train"]) == names(toy, "train") and found(seen.splits["test"]) == names(toy, "test")
    assert "1 image: without labels" in [reason for _, reason in seen.skipped]


def test_several_tars_are_one_set(toy, look, tmp_path):
    tar(tmp_path / "a.tar.xz", {f"tiny-a/{name}": each for name, each in tiny(toy, CLASSES[1:2]).items()}, "w:xz")
    tar(tmp_path / "b.tar.xz", {f"tiny-b/{name}": each for name, each in tiny(toy, CLASSES[::2]).items()}, "w:xz")
    for sources in (["a.tar.xz", "b.tar.xz"], ["b.tar.xz", "a.tar.xz"]):
        seen = look(*(tmp_path / source for source in sources))
        assert seen.classes == CLASSES
        assert found(seen.splits["train"]) == names(toy, "train") and found(seen.splits["test"]) == names(toy, "test")


def test_images_without_a_split_are_for_training(toy, look, tmp_path):
    contents = {name: toy.content[name] for name in toy.labels["train"]}
    for source in (wrapped(contents, "tar", tmp_path, "photographs"), tree(tmp_path / "set", contents)):
        seen = look(source)
        assert found(seen.splits["train"]) == names(toy, "train") and seen.splits["test"] == []


def test_a_class_called_train(look, tmp_path):
    tree(tmp_path / "set", {f"{name}/1.png": name.encode() for name in ("car", "plane", "train")})
    seen = look(tmp_path / "set")
    assert found(seen.splits["train"]) == {
        f"{n}/1.png": (k, n.encode()) for k, n in enumerate(["car", "plane", "train"])
    }


def test_a_stray_folder_of_images_is_no_tiny_imagenet(look, tmp_path, capsys):
    """And the files that are skipped are reported."""
    tree(tmp_path / "set", {f"{split}/{wnid}/{split}.JPEG": b"" for split in ("train", "val") for wnid in CLASSES})
    tree(tmp_path / "set", dict.fromkeys(["images/1.JPEG", "docs/images/1.JPEG", "train/x.psd", "train/y.mp4"], b""))
    seen = look(tmp_path / "set")
    assert seen.kind == "class folders" and seen.classes == CLASSES
    assert capsys.readouterr().out == (
        "skipped: set/train/x.psd and 1 more (not an image by its name), set/docs/1.JPEG and 1 more (outside of the "
        "folders of the splits)\n"
    )


def test_without_images_the_skipped_files_are_reported(look, tmp_path):
    tree(tmp_path / "set", {"cat/1.psd": b"", "dog/1.psd": b""})
    with pytest.raises(DataError) as caught:
        look(tmp_path / "set")
    skipped = "skipped: set/cat/1.psd and 1 more (not an image by its name)"
    assert str(caught.value).startswith(f"{tmp_path}/set: no images found ({skipped}); expected class folders, ")


def test_a_third_split_is_left_out(toy, look, tmp_path):
    for split in ("train", "val", "test"):
        tree(tmp_path / "set" / split, {f"{wnid}/{split}.JPEG": split.encode() for wnid in CLASSES})
    seen = look(tmp_path / "set")
    assert {content for _, content in found(seen.splits["test"]).values()} == {b"val"}
    assert ("set/test", "3 images: a third split") in seen.skipped


def test_links_are_followed_and_loops_are_not(toy, look, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/train").symlink_to(toy.folder / "train")
    (tmp_path / "set/again").symlink_to(tmp_path / "set")
    seen = look(tmp_path / "set")
    assert found(seen.splits["train"]) == names(toy, "train")
    assert ("set/again", "a link to a folder above it") in seen.skipped


@pytest.fixture(scope="module")
def records():
    rng = np.random.default_rng(3)
    parts = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    return {part: (rng.integers(0, 10, 4).tolist(), rng.integers(0, 256, (4, 3072), dtype=np.uint8)) for part in parts}


def forms(records):
    """CIFAR-10's files, binary and python, {name: bytes}."""
    binary = {
        f"{part}.bin": b"".join(bytes([label]) + each.tobytes() for label, each in zip(labels, data, strict=True))
        for part, (labels, data) in records.items()
    }
    return binary, {part: pickle.dumps({"data": data, "labels": labels}, 2) for part, (labels, data) in records.items()}


@pytest.mark.parametrize("form", ["folder", "gz"])
def test_cifar_10_in_both_forms(records, look, tmp_path, form):
    for kind, contents in zip(("bin", "py"), forms(records), strict=True):
        (tmp_path / kind).mkdir()
        seen = look(wrapped(contents, form, tmp_path / kind, f"cifar-10-batches-{kind}"))
        assert seen.kind == "CIFAR-10" and seen.classes == seen.words == cifar.CLASSES == sorted(cifar.CLASSES)
        assert {entry.form for entries in seen.splits.values() for entry in entries} == {"planes32"}
        wanted = [
            (label, each.tobytes())
            for labels, data in records.values()
            for label, each in zip(labels, data, strict=True)
        ]
        assert list(found(seen.splits["train"]).values()) == wanted[:20]
        assert list(found(seen.splits["test"]).values()) == wanted[20:]
        assert seen.splits["train"][0].name == "train/00000"


def test_cifar_10_and_something_else(records, toy, look, tmp_path):
    path = tree(tmp_path / "cifar", forms(records)[0])
    with pytest.raises(DataError, match="image files as well as files of CIFAR; give one set at a time$"):
        look(path, toy.folder)
    with pytest.raises(DataError, match=r"cifar: a second data_batch_1.bin; give CIFAR once$"):
        look(path, path)


def test_unpacked_files_are_used_again(toy, tmp_path, monkeypatch):
    scratch, lines = tmp_path / "out/work", []
    path = tmp_path / "set.tar.xz"
    tar(path, {f"set/{name}": toy.content[name] for name in toy.labels["train"]}, "w:xz")
    first = index([path], scratch, lines.append)
    assert len(lines) == 1 and lines[0].startswith(f"{path}: unpacking to {scratch}/set-")
    assert folders.names(scratch) == [os.path.basename(first.splits["train"][0].file)]
    monkeypatch.setattr(unpack, "_OPENERS", {magic: pytest.fail for magic in unpack._OPENERS})
    assert index([path], scratch, lines.append) == first and len(lines) == 1
    monkeypatch.undo()
    os.utime(path, ns=(0, 0))  # another file by the same name
    again = index([path], scratch, lines.append)
    assert len(lines) == 2 and found(again.splits["train"]) == found(first.splits["train"])


def test_an_interrupted_unpacking_leaves_no_file(toy, tmp_path, monkeypatch):
    path = tmp_path / "set.tar.xz"
    tar(path, {f"set/{name}": toy.content[name] for name in toy.labels["train"]}, "w:xz")
    cut = lzma.decompress(path.read_bytes())[: 20 << 10]

    class Stopped(lzma.LZMAFile):
        def read(self, size):
            if self.tell() >= len(cut):
                raise KeyboardInterrupt
            return super().read(len(cut))

    monkeypatch.setitem(unpack._OPENERS, b"\xfd7zXZ\x00", Stopped)
    with pytest.raises(KeyboardInterrupt):
        index([path], tmp_path / "work", print)
    assert folders.names(tmp_path / "work") == []


def test_a_share_of_every_class_to_test_on(toy, look, tmp_path):
    images = {
        f"{name}/{k}.png": f"{name} {k}".encode() for name, n in (("cat", 10), ("dog", 4), ("eel", 1)) for k in range(n)
    }
    path = tree(tmp_path / "set", images)
    seen = look(path, test_share=0.3)
    train, test = (found(seen.splits[split]) for split in ("train", "test"))
    assert {name: content for name, (_, content) in (train | test).items()} == images and not set(train) & set(test)
    assert np.bincount([label for label, _ in train.values()]).tolist() == [7, 3, 1]
    assert np.bincount([label for label, _ in test.values()]).tolist() == [3, 1]
    assert look(path, test_share=0.3) == seen != look(path, test_share=0.3, seed=1)
    for entries in seen.splits.values():
        assert [entry.name for entry in entries] == sorted(entry.name for entry in entries)
    with pytest.raises(UsageError, match="^--test-share 0.3: there are 9 test images already; leave the option out$"):
        look(toy.folder, test_share=0.3)


def test_few_classes_and_few_images(toy, look):
    everything, few = look(toy.folder), look(toy.folder, classes=2, per_class=2)
    assert few.classes == CLASSES[:2] and len(few.words) == 2
    for split, entries in few.splits.items():
        assert set(entries) <= set(everything.splits[split]) and entries == sorted(entries)
        assert np.bincount([entry.label for entry in entries]).tolist() == [2, 2]
    assert look(toy.folder, classes=2, per_class=2) == few
    assert {look(toy.folder, per_class=1, seed=seed).splits["train"][0] for seed in range(9)} > {few.splits["train"][0]}
    assert look(toy.folder, classes=3, per_class=100) == everything


@pytest.mark.parametrize(
    "options", [{"test_share": 1.5}, {"test_share": -0.1}, {"classes": 1}, {"classes": 4}, {"per_class": 0}]
)
def test_options_out_of_range(toy, look, options):
    with pytest.raises(UsageError, match="^--(test-share|subset)"):
        look(toy.folder, **options)


def test_real_photographs(test_data, look):
    seen = look(test_data / "imagenet-samples-dev.tar")
    assert len(seen.classes) == len(seen.splits["train"]) == 100 and seen.splits["test"] == []
    for entry in seen.splits["train"]:
        assert entry.name.split("/")[1].startswith(seen.classes[entry.label])
    assert all(content[:2] == b"\xff\xd8" for _, content in found(seen.splits["train"]).values())


@pytest.mark.slow
def test_real_tiny_imagenet_in_two_tars(test_data, look):
    seen = look(test_data / "tiny-imagenet-50a.tar.xz", test_data / "tiny-imagenet-50b.tar.xz")
    assert seen.kind == "Tiny ImageNet" and len(seen.classes) == 100 and seen.classes == sorted(seen.classes)
    for split, count in (("train", 500), ("test", 50)):
        assert np.bincount([entry.label for entry in seen.splits[split]]).tolist() == [count] * 100
    assert seen.words[0] == "goldfish, Carassius auratus" and seen.skipped == []


@pytest.mark.slow
def test_real_cifar_10_as_jpeg(test_data, look):
    seen = look(test_data / "cifar10-jpeg.tar.xz")
    assert seen.classes == cifar.CLASSES
    for split, count in (("train", 5000), ("test", 1000)):
        assert np.bincount([entry.label for entry in seen.splits[split]]).tolist() == [count] * 10


# As Hugging Face ships ImageNet: the class is the last part of an image's name.


def hugging_face(toy):
    """Files by archive: two of training images, one of validation and one of test images."""
    made = {name: {} for name in ("train_images_0", "train_images_1", "val_images", "test_images")}
    for k, name in enumerate(sorted(toy.labels["train"])):
        wnid, file = name.split("/")
        made[f"train_images_{k % 2}"][f"{file[:-5]}_{wnid}.JPEG"] = toy.content[name]
    for name, label in toy.labels["test"].items():
        made["val_images"][f"{name[:-5]}_{CLASSES[label]}.JPEG"] = toy.content[name]
    made["test_images"] = {f"ILSVRC2012_test_{k:08d}.JPEG": b"x" for k in range(3)}
    return made


@pytest.mark.parametrize(
    "form", ["archives", "folder of archives", "folders", "prefixed archives", "one folder", "train and val"]
)
def test_imagenet_as_hugging_face_ships_it(toy, look, tmp_path, form):
    made, root = hugging_face(toy), tmp_path / "data"
    root.mkdir()
    if "archives" in form:
        for name, contents in made.items():
            inside = f"{name}/" if "prefixed" in form else ""
            toy_imagenet.tar_gz(root / f"{name}.tar.gz", {f"{inside}{file}": each for file, each in contents.items()})
        sources = [root] if "folder" in form else sorted(root.iterdir())
    else:
        for name, contents in made.items():
            within = {"folders": name, "one folder": ".", "train and val": name.split("_")[0]}[form]
            tree(root / within, contents)
        sources = [root]
    seen = look(*sources)
    assert seen.kind == "ILSVRC-2012" and seen.classes == CLASSES
    for split in ("train", "test"):
        wanted = {content: label for label, content in names(toy, split).values()}
        assert {content: label for label, content in found(seen.splits[split]).values()} == wanted
        assert len(seen.splits[split]) == len(toy.labels[split])
    assert any(reason == "3 images: without labels" for _, reason in seen.skipped)


def test_class_folders_stay_class_folders_whatever_their_images_are_called(toy, look, tmp_path):
    files = {
        name: content
        for part in ("train_images_0", "train_images_1")
        for name, content in hugging_face(toy)[part].items()
    }
    tree(tmp_path / "data", {f"{name[-14:-5]}/{name}": content for name, content in files.items()})
    assert {name: label for name, (label, _) in found(look(tmp_path / "data").splits["train"]).items()} == {
        f"{name[-14:-5]}/{name}": CLASSES.index(name[-14:-5]) for name in files
    }
