"""ILSVRC-2010 and its neighbours: archives, devkits, ground truths, patches; and what does not fit together."""

import gzip
import tarfile

import numpy as np
import pytest

from tests.support import toy_ilsvrc2010, toy_imagenet
from tests.support.toy_ilsvrc2010 import CLASSES, TEST_TRUTH, VAL_TRUTH
from tests.support.toy_imagenet import found, jpeg, tar, tar_gz, tree
from tinyalex import datasets
from tinyalex.datasets import picture
from tinyalex.datasets.index import devkit
from tinyalex.datasets.index.listing import FileSpan
from tinyalex.datasets.index.sources import index
from tinyalex.errors import DataError, TinyalexError, UsageError


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_ilsvrc2010.make(tmp_path_factory.mktemp("ilsvrc2010"))


@pytest.fixture(scope="module")
def later(tmp_path_factory):
    return toy_imagenet.make(tmp_path_factory.mktemp("ilsvrc2012"))


@pytest.fixture
def look(tmp_path):
    def look(*sources, **options):
        lines = []
        return index(sources, tmp_path / "work", lines.append, **options), lines

    return look


@pytest.fixture
def refused(look):
    def refused(*sources, kind=DataError, **options):
        with pytest.raises(TinyalexError) as caught:
            look(*sources, **options)
        assert type(caught.value) is kind and "\n" not in str(caught.value)
        return str(caught.value)

    return refused


def wnids(seen, split):
    return {entry.name: seen.classes[entry.label] for entry in seen.splits[split]}


def unpacked(toy, root, splits=("train", "val", "test")):
    """The images in folders, flat but for training images, with the lists beside them."""
    files = {f"{split}/{name}": toy.content[name] for split in splits for name in toy.labels[split]}
    lists = {TEST_TRUTH: toy_ilsvrc2010.truth(toy, "test"), VAL_TRUTH: toy_ilsvrc2010.truth(toy, "val")}
    kit = {f"devkit-1.0/{name}": each for name, each in toy_ilsvrc2010.devkit(toy).items() if "truth" not in name}
    return tree(root, files | lists | kit)


def extracted(toy, root):
    """Every archive extracted into a folder of its name; the training images stay a tar for each class."""
    for archive in (toy.train, toy.val, toy.test, toy.patches, toy.devkit):
        with tarfile.open(archive) as opened:
            opened.extractall(root / archive.name.removesuffix(".gz").removesuffix(".tar"), filter="data")
    (root / TEST_TRUTH).write_bytes(toy.truth.read_bytes())
    return root


@pytest.mark.parametrize("form", ["archives", "a folder of archives", "folders", "extracted"])
def test_every_layout_gives_the_same_images_and_labels(toy, look, tmp_path, form):
    sources = {
        "archives": lambda: toy.sources,
        "a folder of archives": lambda: [toy.train.parent],
        "folders": lambda: [unpacked(toy, tmp_path / "all")],
        "extracted": lambda: [extracted(toy, tmp_path / "extracted")],
    }[form]()
    seen, lines = look(*sources)
    assert seen.kind == "ILSVRC-2010" and seen.classes == sorted(CLASSES) and not seen.unlabelled
    assert wnids(seen, "train") == toy.labels["train"]
    assert wnids(seen, "test") == toy.labels["test"], "the errors of the paper's Table 1 are on the test images"
    assert seen.ids == toy.ids
    assert seen.words == [f"class {toy.ids[wnid]}, number {toy.ids[wnid]}" for wnid in CLASSES]
    (line,) = (line for line in lines if "the test images" in line)
    assert "left out: `tinyalex prepare --test-set val` takes them instead" in line


def test_the_set_to_test_on_can_be_chosen(toy, look, refused, tmp_path):
    seen, lines = look(*toy.sources, test_set="val")
    assert wnids(seen, "test") == toy.labels["val"]
    assert not any("the test images" in line for line in lines)
    assert wnids(look(*toy.sources, test_set="test")[0], "test") == toy.labels["test"]
    message = "--test-set test: there are no test images; leave the option out, or add them"
    assert refused(toy.train, toy.val, toy.devkit, kind=UsageError, test_set="test") == message
    message = "--test-set val: there are no validation images; leave the option out, or add them"
    assert refused(toy.train, toy.test, toy.truth, toy.devkit, kind=UsageError, test_set="val") == message
    folders = tree(
        tmp_path / "folders",
        {
            f"{split}/{wnid}/{name.split('/')[-1]}": toy.content[name]
            for split in toy.labels
            for name, wnid in toy.labels[split].items()
        },
    )
    seen, lines = look(folders)
    assert {name.split("/")[1] for name in wnids(seen, "test")} == toy.labels["val"].keys(), "as in every other set"
    assert (
        f"{folders}/val: the test images; the other images are left out: `tinyalex prepare --test-set test` takes "
        in (lines[0])
    )
    seen, _ = look(folders, test_set="test")
    assert {name.split("/")[1] for name in wnids(seen, "test")} == toy.labels["test"].keys()


def test_patches_take_the_place_of_images_of_their_names(toy, look, tmp_path):
    patches = {name.split("/")[1]: content for name, content in toy_ilsvrc2010.patched(toy).items()}
    for sources in (toy.sources, [extracted(toy, tmp_path / "extracted")]):
        seen, lines = look(*sources)
        images = found(seen.splits["train"] + seen.splits["test"])
        changed = {name for name, (_, content) in images.items() if content != stored(toy, name)}
        assert {name.split("/")[-1] for name in changed} == {name for name in patches if "_val_" not in name}
        assert all(images[name][1] == patches[name.split("/")[-1]] for name in changed)
        assert any("took the place of 3 images of the same name" in line for line in lines)
    seen, lines = look(toy.train, toy.patches)
    assert "patch_images/patch_images/test/ILSVRC2010_test_00000001.JPEG" in dict(seen.skipped)
    seen, _ = look(toy.train, toy.val, toy.devkit)
    assert all(content == stored(toy, name) for name, (_, content) in found(seen.splits["train"]).items())


def stored(toy, name):
    packed = name in list(toy.labels["train"])[::4]
    return gzip.compress(toy.content[name], mtime=0) if packed else toy.content[name]


def test_images_packed_by_gzip_are_read(toy):
    content = next(iter(toy.content.values()))
    plain, odd = picture.decode(content)
    image, packed = picture.decode(gzip.compress(content))
    assert np.array_equal(np.asarray(image), np.asarray(plain)) and packed == ["gzip", *odd]
    broken = gzip.compress(content)
    for spoilt in (broken[:-20], broken[:40], broken[:30] + b"\xff" * 20 + broken[50:]):
        with pytest.raises(DataError, match="packed by gzip, and broken"):
            picture.decode(spoilt)
    with pytest.raises(DataError, match="packed by gzip, and more than 64 MB when unpacked"):
        picture.decode(gzip.compress(bytes(65 << 20)))
    with pytest.raises(DataError, match="it begins with b'text"):
        picture.decode(gzip.compress(b"text"))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "uint16", "int32"])
@pytest.mark.parametrize(
    ("field", "leaves_only", "year"),
    [
        ("ILSVRC2010_ID", False, 2010),
        ("ILSVRC2011_ID", False, 2011),
        ("ILSVRC2012_ID", False, 2012),
        ("ILSVRC2014_ID", False, 2012),
        ("ILSVRC2015_CLSLOC_ID", True, 2012),
    ],
)
def test_the_tables_of_all_devkits(tmp_path, compressed, dtype, field, leaves_only, year):
    """Those of 2010 to 2014 have inner nodes, which are no classes; since 2015 the fields have other names."""
    content = toy_ilsvrc2010.meta(toy_ilsvrc2010.IDS, field, compressed, dtype, leaves_only)
    path = tmp_path / "meta.mat"
    path.write_bytes(content)
    seen = devkit.read_synsets(FileSpan("meta.mat", str(path), 0, len(content)))
    assert seen.year == year and seen.ids == {number: wnid for wnid, number in toy_ilsvrc2010.IDS.items()}
    assert seen.words["n01440764"] == "class 5, number 5"


@pytest.mark.parametrize("year", [2011, 2013, 2014, 2015])
def test_devkits_of_other_years(later, look, tmp_path, year):
    """From 2012 on the images keep their names; the devkits are called by their year."""
    of_2011 = year == 2011
    own = {2011: "ILSVRC2011_ID", 2015: "ILSVRC2015_CLSLOC_ID"}.get(year, f"ILSVRC{year}_ID")
    table = toy_ilsvrc2010.meta(later.ids, own, leaves_only=year == 2015)
    truth = toy_imagenet.devkit(later)["data/ILSVRC2012_validation_ground_truth.txt"]
    part = "" if of_2011 else "_clsloc"
    kit = tar_gz(
        tmp_path / f"ILSVRC{year}_devkit.tgz",
        {
            f"ILSVRC{year}_devkit/data/meta{part}.mat": table,
            f"ILSVRC{year}_devkit/data/ILSVRC{year}{part}_validation_ground_truth.txt": truth,
            f"ILSVRC{year}_devkit/data/ILSVRC{year}{part}_validation_blacklist.txt": b"3\n",
            f"ILSVRC{year}_devkit/data/det_lists/val.txt": b"ILSVRC2012_val_00000001 1\n",
        },
    )
    assert kit
    spell = (lambda name: name.replace("2012", "2011")) if of_2011 else str
    images = {spell(name): later.content[name] for name in later.labels["test"]}
    tar(tmp_path / spell("ILSVRC2012_img_val.tar"), images)
    seen, _ = look(tmp_path / spell("ILSVRC2012_img_val.tar"), tmp_path / f"ILSVRC{year}_devkit.tgz")
    assert {entry.name: entry.label for entry in seen.splits["test"]} == {
        spell(name): label for name, label in later.labels["test"].items()
    }
    assert seen.kind == ("ILSVRC-2011" if of_2011 else "ILSVRC-2012") and seen.ids == later.ids


def test_as_on_kaggle_with_the_devkit(later, look, tmp_path):
    """ILSVRC/Data/CLS-LOC and ImageSets, with the devkit of 2017, whose names are those of 2015."""
    files = {f"ILSVRC/Data/CLS-LOC/train/{name}": later.content[name] for name in later.labels["train"]}
    files |= {f"ILSVRC/Data/CLS-LOC/val/{name}": later.content[name] for name in later.labels["test"]}
    files |= {f"ILSVRC/Data/CLS-LOC/test/ILSVRC2012_test_{k:08d}.JPEG": jpeg(np.random.default_rng(k)) for k in (1, 2)}
    names = sorted(name.removesuffix(".JPEG") for name in later.labels["test"])
    files["ILSVRC/ImageSets/CLS-LOC/val.txt"] = "".join(f"{n} {k + 1}\n" for k, n in enumerate(names)).encode()
    files["ILSVRC/devkit/data/meta_clsloc.mat"] = toy_ilsvrc2010.meta(
        later.ids, "ILSVRC2015_CLSLOC_ID", leaves_only=True
    )
    truth = toy_imagenet.devkit(later)["data/ILSVRC2012_validation_ground_truth.txt"]
    files["ILSVRC/devkit/data/ILSVRC2015_clsloc_validation_ground_truth.txt"] = truth
    files["LOC_sample_submission.csv"] = b"ImageId,PredictionString\nILSVRC2012_test_00000001,0 1 2 3 4\n"
    seen, _ = look(tree(tmp_path / "kaggle", files))
    assert {entry.name: entry.label for entry in seen.splits["test"]} == later.labels["test"]
    assert seen.kind == "ILSVRC as on Kaggle" and seen.ids == later.ids
    assert dict(seen.skipped)["kaggle/LOC_sample_submission.csv"] == "a sample of results, which are no labels"
    seen, lines = look(tmp_path / "kaggle", test_set="test")
    assert seen.unlabelled and [entry.name for entry in seen.splits["test"]] == [
        "ILSVRC2012_test_00000001.JPEG",
        "ILSVRC2012_test_00000002.JPEG",
    ]


def test_test_images_without_a_ground_truth(toy, look, refused):
    seen, _ = look(toy.train, toy.val, toy.test, toy.devkit)
    assert wnids(seen, "test") == toy.labels["val"]
    assert dict(seen.skipped)["test"] == f"16 images: without labels; {TEST_TRUTH} has them"
    seen, lines = look(toy.test, toy.devkit)
    assert seen.unlabelled and seen.classes == sorted(CLASSES) and {e.label for e in seen.splits["test"]} == {0}
    assert f"{toy.test}: test images without labels, which `tinyalex evaluate --write` classifies" in lines
    assert refused(toy.test) == (
        f"{toy.test}: 16 images without labels, and no list of classes; give the devkit "
        "(ILSVRC2010_devkit-1.0.tar.gz) too, or to classify pictures one by one: tinyalex predict"
    )


@pytest.mark.parametrize("place", ["ILSVRC2012_img_test_v10102019.tar", "ILSVRC2012_img_test.tar", "pictures.tar"])
@pytest.mark.parametrize("inside", ["", "test/", "some/"])
def test_test_images_are_known_by_their_names(later, look, tmp_path, place, inside):
    """The archive of 2012's test images was published again in 2019, under a name that ends otherwise."""
    images = {f"ILSVRC2012_test_{k:08d}.JPEG": later.content[name] for k, name in enumerate(later.labels["test"], 1)}
    tar(tmp_path / place, {inside + name: content for name, content in images.items()})
    seen, _ = look(tmp_path / place, later.devkit)
    assert seen.unlabelled and [entry.name for entry in seen.splits["test"]] == sorted(images)
    seen, _ = look(later.train, later.val, later.devkit, tmp_path / place)
    assert {entry.name for entry in seen.splits["test"]} == later.labels["test"].keys()


def test_class_tars_beside_extracted_images(toy, later, look, tmp_path):
    """ILSVRC's training archive extracted once has a tar for each class; those in folders as well are left out."""
    for own in (toy, later):
        root = tmp_path / own.train.name
        with tarfile.open(own.train) as train, tarfile.open(own.val) as val, tarfile.open(own.devkit) as kit:
            train.extractall(root / "train", filter="data")
            val.extractall(root / "val", filter="data")
            kit.extractall(root, filter="data")
        seen, _ = look(root)
        assert {entry.name for entry in seen.splits["train"]} == own.labels["train"].keys()
        first = root / "train" / CLASSES[0]
        with tarfile.open(first.with_suffix(".tar")) as inner:
            inner.extractall(first, filter="data")
        seen, _ = look(root)
        assert {entry.name for entry in seen.splits["train"]} == own.labels["train"].keys()
        assert dict(seen.skipped)[f"{root.name}/train/{CLASSES[0]}.tar"] == "an archive beside images"


def test_a_ground_truth_without_test_images(toy, look):
    seen, lines = look(toy.train, toy.val, toy.devkit, toy.truth)
    assert wnids(seen, "test") == toy.labels["val"]
    assert (
        f"{toy.truth}: not used, as there are no images of that test set; give ILSVRC2010_images_test.tar too, to test "
        "on them"
    ) in lines


def test_a_ground_truth_under_another_name(toy, look, tmp_path):
    path = tmp_path / "labels-of-test.txt"
    path.write_bytes(toy.truth.read_bytes())
    seen, lines = look(toy.train, toy.test, toy.devkit, path)
    assert wnids(seen, "test") == toy.labels["test"]
    assert f"{path}: taken as the labels of the test images in {toy.test}, as it has as many" in lines


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "15 labels for 16 images in {test}; every image needs one label"),
        (lambda rows: [*rows, b"1"], "17 labels for 16 images in {test}; every image needs one label"),
        (lambda rows: [b"9", *rows[1:]], "labels from 1 to 9, but the devkit's ids are 1 to 8; fetch it again"),
        (lambda rows: [b"0", *rows[1:]], "label 0, but the devkit's ids begin at 1; are all labels too small by one?"),
        (lambda rows: [b"cat", *rows[1:]], "'cat' is not a label; expected numbers, wnids, or image names with either"),
    ],
)
def test_a_damaged_ground_truth(toy, refused, tmp_path, change, message):
    path = tmp_path / TEST_TRUTH
    path.write_bytes(b"\n".join(change(toy.truth.read_bytes().split())))
    assert refused(toy.train, toy.test, toy.devkit, path) == f"{path}: {message.format(test=toy.test)}"


def test_parts_of_two_contests(toy, later, look, refused):
    message = refused(toy.train, toy.val, later.devkit)
    assert message.endswith(
        f"ILSVRC2012_validation_ground_truth.txt: of ILSVRC-2012, but the images in {toy.val} are of ILSVRC-2010; give "
        "ILSVRC2010_devkit-1.0.tar.gz instead"
    )
    message = refused(later.train, later.val, toy.devkit)
    assert message.endswith(
        f"{VAL_TRUTH}: of ILSVRC-2010, but the images in {later.val} are of ILSVRC-2012; give "
        "ILSVRC2012_devkit_t12.tar.gz instead"
    )
    assert refused(toy.train, toy.test, toy.truth, later.devkit).endswith(
        "meta.mat: the devkit of ILSVRC-2012, but the images are of ILSVRC-2010; give ILSVRC2010_devkit-1.0.tar.gz "
        "instead"
    )
    assert refused(toy.train, later.val, later.devkit) == (
        f"{later.val} (ILSVRC2012_val_00000001.JPEG): images of ILSVRC-2012, but those of {toy.train} are of "
        "ILSVRC-2010; give the archives and the devkit of one of them"
    )
    assert refused(toy.train, toy.test, toy.truth) == (
        f"{toy.truth}: its labels are ids from 1, which are not in the order of the class names; give the devkit too "
        "(ILSVRC2010_devkit-1.0.tar.gz), or its data/meta.mat"
    )
    for own, other in ((toy, later), (later, toy)):  # both devkits, as beside each other on a disk
        seen, _ = look(own.train, own.val, other.devkit, own.devkit)
        assert seen.ids == own.ids
        reasons = set(dict(seen.skipped).values())
        assert any(reason.endswith(", not of the images") for reason in reasons)
    seen, _ = look(later.train, later.val, later.devkit, toy.truth)
    assert dict(seen.skipped)[TEST_TRUTH] == "of ILSVRC-2010, not of the images"


def test_class_folders_may_mix_contests(toy, later, look, tmp_path):
    both = toy.labels["val"] | {name: later.classes[label] for name, label in later.labels["test"].items()}
    content = toy.content | later.content
    shared = {name: wnid for name, wnid in both.items() if wnid in set(CLASSES) & set(later.classes)}
    seen, _ = look(tree(tmp_path / "own", {f"{wnid}/{name}": content[name] for name, wnid in shared.items()}))
    assert len(seen.splits["train"]) == len(shared) and {name[:10] for name in shared} == {"ILSVRC2010", "ILSVRC2012"}


@pytest.mark.parametrize("name", ["devkit-1.0.tar.gz", "ILSVRC2010_devkit-1.0.tgz", "kit.tar"])
@pytest.mark.parametrize("below", ["", "devkit-1.0/", "./devkit-1.0/"])
def test_every_name_and_form_of_the_devkit(toy, look, tmp_path, name, below):
    mode = "w" if name.endswith(".tar") else "w:gz"
    files = {f"{below}{each}": content for each, content in toy_ilsvrc2010.devkit(toy, compressed=True).items()}
    tar(tmp_path / name, files, mode)
    tar(tmp_path / "ILSVRC2010_images_val.tar", {each: toy.content[each] for each in toy.labels["val"]})  # no folder
    seen, _ = look(tmp_path / "ILSVRC2010_images_val.tar", tmp_path / name)
    assert wnids(seen, "test") == toy.labels["val"] and seen.kind == "ILSVRC-2010"


def test_training_reads_the_folder_as_prepare_does(toy, tmp_path):
    """Square images of one size are trained on without preparation."""
    rng = np.random.default_rng(1)
    square = toy._replace(content={name: jpeg(rng, 40, 40) for name in toy.content})
    dataset = datasets.load(unpacked(square, tmp_path / "all"), show=lambda line: None)
    assert dataset.test_list() == (sorted(toy.labels["test"], key=lambda n: (toy.labels["test"][n], n)), toy.ids)
    assert [dataset.classes[k] for k in dataset.test.labels] == [
        toy.labels["test"][n] for n in dataset.test_list().names
    ]
    alone = unpacked(square, tmp_path / "alone", ["test"])
    (alone / TEST_TRUTH).unlink()
    dataset = datasets.load(alone, show=lambda line: None)
    assert len(dataset.test) == 0 and dataset.test_list().names == sorted(toy.labels["test"])
    assert len(dataset.unlabelled) == 16
