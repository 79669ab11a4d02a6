"""Damaged, wrong and malicious archives and folders: a one-line error, nothing extracted, nothing left over."""

import bz2
import errno
import gzip
import hashlib
import io
import lzma
import os
import tarfile
import tracemalloc
import zipfile

import pytest

from tests.support import folders, toy_imagenet
from tests.support.toy_imagenet import found, tar, tree
from tinyalex.datasets.index import archives, folder, listing, md5, unpack
from tinyalex.datasets.index.sources import MOST, check_output, index
from tinyalex.errors import DataError, StorageError, TinyalexError, UsageError


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_imagenet.make(tmp_path_factory.mktemp("imagenet"))


def refused(tmp_path, *sources, kind=DataError, **options):
    """The message, which has to be one line; nothing may be left in the scratch folder."""
    scratch = tmp_path / "out/work"
    with pytest.raises(TinyalexError) as caught:
        index(sources, scratch, print, **options)
    assert type(caught.value) is kind and "\n" not in str(caught.value)
    assert not scratch.exists() or not folders.names(scratch)
    return str(caught.value)


# Truncated


@pytest.mark.parametrize("share", [0.7, 0.5, 0.2])
def test_a_truncated_tar_of_tars_is_named_with_member_and_offset(toy, tmp_path, share):
    whole = toy.train.read_bytes()
    path = tmp_path / "x.tar"
    path.write_bytes(whole[: int(len(whole) * share)])
    with tarfile.open(toy.train) as archive:
        members = archive.getmembers()
    last = [member for member in members if member.offset < len(whole) * share][-1]
    assert refused(tmp_path, path) == (
        f"{path}: {last.name} should have {last.size:,} bytes from byte {last.offset_data:,} on, but the archive "
        f"ends after {int(len(whole) * share) - last.offset_data:,} of them; fetch it again"
    )


def test_a_flat_tar_truncated_anywhere(toy, tmp_path):
    whole = toy.val.read_bytes()
    with tarfile.open(toy.val) as archive:
        end = archive.getmembers()[-1]
    end = end.offset_data + -(-end.size // 512) * 512 + 1024
    path = tmp_path / "x.tar"
    for cut in [*range(0, end, 517), end - 1, end - 512, end - 513, end - 1024]:
        path.write_bytes(whole[:cut])
        assert refused(tmp_path, path, toy.devkit).startswith(f"{path}: ")
    path.write_bytes(whole[:end])
    assert len(index([path, toy.devkit], tmp_path / "out", print).splits["test"]) == 9


def test_a_truncated_tar_inside_a_good_one(toy, tmp_path):
    with tarfile.open(toy.train) as archive:
        inner = archive.extractfile("n01443537.tar").read()
    for cut, reason in ((0, "empty file"), (700, "should have"), (512, "should have"), (100, "truncated header")):
        tar(tmp_path / "x.tar", {"n01440764.tar": inner, "n01443537.tar": inner[:cut]})
        message = refused(tmp_path, tmp_path / "x.tar")
        assert message.startswith(f"{tmp_path}/x.tar: n01443537.tar: ") and reason in message, cut


@pytest.mark.parametrize("packer", [gzip, bz2, lzma])
@pytest.mark.parametrize("cut", [2, 100, 0.5, 0.99])
def test_a_compressed_tar_that_ends_early(toy, tmp_path, packer, cut):
    whole = packer.compress(toy.val.read_bytes())
    path = tmp_path / "x.tar.xz"  # the first bytes tell how it is packed
    path.write_bytes(whole[: cut if cut > 1 else int(len(whole) * cut)])
    assert refused(tmp_path, path, toy.devkit).startswith(f"{path}: not a tar archive, or a damaged one (")


def test_a_damaged_zip(toy, tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cat/1.png", b"some pixels")
        archive.writestr("dog/1.png", b"other pixels")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"some", b"sOme"))
    assert refused(tmp_path, path).startswith(
        f"{path}: not a tar archive, or a damaged one (Bad CRC-32 for file 'cat/1"
    )
    path.write_bytes(whole[:-30])
    assert refused(tmp_path, path).endswith("(File is not a zip file); fetch it again")


# Wrong


def test_archives_under_each_others_names(toy, tmp_path):
    for name, other in ((toy.train.name, toy.val), (toy.val.name, toy.train)):
        (tmp_path / name).write_bytes(other.read_bytes())
    train, val = tmp_path / toy.train.name, tmp_path / toy.val.name
    for sources in ([train, val, toy.devkit], [train, toy.devkit], [train]):
        assert refused_at_once(tmp_path, *sources) == (
            f"{train}: contains 9 images at its top level, expected class folders or nXXXXXXXX.tar; "
            "is it the validation archive?"
        )
    assert refused_at_once(tmp_path, val) == (
        f"{val}: contains n01440764.tar, but by its name validation images are expected; is it the training archive?"
    )


def refused_at_once(tmp_path, *sources):
    with pytest.raises(DataError) as caught:
        index(sources, tmp_path / "work", print)
    return str(caught.value)


def test_validation_images_without_labels(toy, tmp_path):
    assert refused(tmp_path, toy.train, toy.val) == (
        f"{toy.val}: contains 9 images at its top level, expected class folders or nXXXXXXXX.tar, "
        "or a list of their labels as well: the devkit (ILSVRC2012_devkit_t12.tar.gz), or val.txt and synset_words.txt"
    )


def test_the_training_images_of_another_task(toy, tmp_path):
    """Task 3's archive has dogs only: one tar for each breed."""
    with tarfile.open(toy.train) as archive:
        some = {name: archive.extractfile(name).read() for name in ("n01440764.tar", "n15075141.tar")}
    path = tmp_path / "ILSVRC2012_img_train_t3.tar"
    tar(path, some)
    message = refused_at_once(tmp_path, path, toy.val, toy.devkit)
    assert message == f"{path}: not the same classes as the devkit, n01443537 missing; both need the same"


def test_sums_of_published_archives(toy, tmp_path, monkeypatch):
    lines = []
    with pytest.raises(DataError) as caught:
        index([toy.train], tmp_path, lines.append, verify_md5=True)
    assert "MD5 is " in str(
        caught.value
    ) and ", of no known archive; download it again, or leave --verify-md5 out; known: " in str(caught.value)
    assert "1d675b47d978889d74fa0da5fadfb00e ILSVRC2012_img_train.tar" in str(caught.value)
    sums = {each.name: hashlib.md5(each.read_bytes()).hexdigest() for each in (toy.train, toy.val)}
    monkeypatch.setattr(md5, "KNOWN", sums)
    index([toy.train], tmp_path, lines.append, verify_md5=True)
    assert lines == [f"{toy.train}: MD5 is that of ILSVRC2012_img_train.tar"]
    monkeypatch.setattr(md5, "KNOWN", dict(zip(sums, reversed(sums.values()), strict=True)))
    with pytest.raises(
        DataError, match="that of ILSVRC2012_img_val.tar; download it again, or leave --verify-md5 out; known"
    ):
        index([toy.train], tmp_path, lines.append, verify_md5=True)


# Malicious


def test_members_that_are_not_regular_files(toy, tmp_path):
    path, secret = tmp_path / "set.tar", tmp_path / "secret.JPEG"
    secret.write_bytes(b"secret")
    unsafe_names = ("../../evil/1.JPEG", "/tmp/evil/1.JPEG", "n01440764/../../../1.JPEG", "n01440764\\evil\\1.JPEG")
    with tarfile.open(path, "w") as archive:
        for name in unsafe_names:
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"evil"))
        kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
        for k, kind in enumerate(kinds):
            member = tarfile.TarInfo(f"n01440764/{k}.JPEG")
            member.type, member.linkname = kind, str(secret)
            archive.addfile(member)
        for name in toy.labels["train"]:
            member = tarfile.TarInfo(name)
            member.size = len(toy.content[name])
            archive.addfile(member, io.BytesIO(toy.content[name]))
    before = sorted(tmp_path.rglob("*"))
    seen = index([path], tmp_path / "work", print)
    assert sorted(tmp_path.rglob("*")) == before, "nothing was written"
    assert {name: content for name, (_, content) in found(seen.splits["train"]).items()} == {
        name: toy.content[name] for name in toy.labels["train"]
    }
    links, others = (f"set/n01440764/{k}.JPEG" for k in range(2)), (f"n01440764/{k}.JPEG" for k in range(2, 5))
    assert {name for name, _ in seen.skipped} == {*unsafe_names, *links, *others}


def test_a_tar_in_a_tar_in_a_tar(toy, tmp_path):
    with tarfile.open(toy.train) as archive:
        inner = {name: archive.extractfile(name).read() for name in archive.getnames()}
    with tarfile.open(fileobj=io.BytesIO(inner["n01440764.tar"])) as archive:
        images = {name: archive.extractfile(name).read() for name in archive.getnames()}
    inner["n01440764.tar"] = tar(None, images | {"n01443537.tar": inner["n01443537.tar"]})
    inner["more.tar.gz"] = gzip.compress(inner["n01443537.tar"])
    tar(tmp_path / "x.tar", inner)
    seen = index([tmp_path / "x.tar"], tmp_path / "work", print)
    assert {name: content for name, (_, content) in found(seen.splits["train"]).items()} == {
        name: toy.content[name] for name in toy.labels["train"]
    }
    assert seen.skipped == [
        ("x/n01440764/n01443537.tar", "an archive inside an archive"),
        ("x/more.tar.gz", "an archive inside an archive"),
    ]


def header(name, size, kind=tarfile.REGTYPE):
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def test_a_member_that_claims_a_terabyte(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(header("n01440764/1.JPEG", 1 << 40) + bytes(1024))
    assert refused(tmp_path, path) == (
        f"{path}: n01440764/1.JPEG should have 1,099,511,627,776 bytes from byte 512 on, but the archive ends after "
        "1,024 of them; fetch it again"
    )
    with open(path, "wb") as file:  # and a sparse file that really has them
        file.write(header("n01440764/1.JPEG", 1 << 40))
        file.seek(512 + (1 << 40))
        file.write(header("n01440764/2.JPEG", 3) + b"two".ljust(512, b"\0"))
        file.write(header("n01443537/3.JPEG", 0) + bytes(1024))
    seen = index([path], tmp_path / "work", print)
    assert [entry.name for entry in seen.splits["train"]] == ["n01440764/2.JPEG", "n01443537/3.JPEG"]
    assert seen.skipped == [("x/n01440764/1.JPEG", "larger than 64 MB")]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE])
@pytest.mark.parametrize("size", [1 << 40, -512])
def test_headers_with_a_huge_or_a_negative_size(tmp_path, kind, size):
    path = tmp_path / "x.tar"
    path.write_bytes(header("x", size, kind) + header("n01440764/1.JPEG", 0) + bytes(2048))
    assert refused(tmp_path, path).startswith(f"{path}: not a tar archive, or a damaged one (")


def test_a_negative_size_does_not_make_an_endless_loop(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(header("n01440764/1.JPEG", -512) + bytes(2048))
    assert refused(tmp_path, path).startswith(f"{path}: not a tar archive, or a damaged one (")


def test_a_chain_of_headers_without_end(tmp_path):
    path = tmp_path / "x.tar"
    record = b"30 comment=aaaaaaaaaaaaaaaaaa\n".ljust(512, b"\0")
    path.write_bytes((header("x", 30, tarfile.XHDTYPE) + record) * 5000 + bytes(1024))
    assert refused(tmp_path, path).startswith(f"{path}: not a tar archive, or a damaged one (")


def test_very_many_tiny_members(tmp_path):
    """Their number is limited, and at the limit they take well below 500 MB of memory."""
    path, count = tmp_path / "x.tar", 3_000
    with path.open("wb") as file:
        for k in range(count):
            file.write(header(f"n01440764/n01440764_{k}.JPEG", 0))
        file.write(bytes(1024))
    refused(tmp_path, path, most=1)  # first, so that one-time allocations are not measured
    tracemalloc.start()
    message = refused(tmp_path, path, most=count)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert message == f"{path}: more than 3,000 images and folders; if these are right, raise --most-files"
    assert peak / count * MOST < 450e6
    tiny = tmp_path / "y.tar"  # files that are not images are not kept
    tiny.write_bytes(b"".join(header(f"{k}.xml", 0) for k in range(5000)) + bytes(1024))
    assert refused(tmp_path, tiny, most=10).startswith(f"{tiny}: no images found")


def test_a_decompression_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "_HARMLESS", 1 << 18)
    path = tmp_path / "x.tar.xz"
    with tarfile.open(path, "w:xz") as archive:
        member = tarfile.TarInfo("n01440764/1.JPEG")
        member.size = 8 << 20
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    assert " and more); fetch it again" in refused(tmp_path, path)
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("n01440764/1.JPEG", bytes(8 << 20))
    assert " and more); fetch it again" in refused(tmp_path, path)


def test_a_compressed_file_without_a_tar(tmp_path):
    path = tmp_path / "picture.ppm.gz"
    path.write_bytes(gzip.compress(b"P6 4 4 255 " + bytes(48)))
    assert refused(tmp_path, path) == f"{path}: not a tar archive, or a damaged one (no tar inside); fetch it again"


def test_any_damaged_byte_of_a_tar_gives_an_index_or_an_error(toy, tmp_path):
    """Whichever byte of a header is changed: an index or a DataError, no other exception."""
    whole = bytearray(toy.train.read_bytes())
    with tarfile.open(toy.train) as archive:
        outer = [(member.offset, member.offset_data) for member in archive.getmembers()[:1]]
    path = tmp_path / "x.tar"
    for start, _ in [*outer, (512, 0)]:
        for at in range(start, start + 512, 3):
            spoilt = bytearray(whole)
            spoilt[at] ^= 0x81
            path.write_bytes(spoilt)
            try:
                index([path], tmp_path / "work", print)
            except DataError as error:
                assert str(error).startswith(str(path))


# Folders and files


def test_names_that_are_not_utf_8_are_escaped(tmp_path):
    """In a folder, in the name of the source, and in a tar; the files are found under their own names."""
    folder = os.fsencode(tmp_path) + b"/s\xe9t"
    for name, content in ((b"cat/1.png", b"1"), (b"caf\xe9/\xe8.png", b"2"), (b"caf\xe9/\xe8.md", b"")):
        os.makedirs(os.path.dirname(folder + b"/" + name), exist_ok=True)
        with open(folder + b"/" + name, "wb") as file:
            file.write(content)
    seen = index([os.fsdecode(folder)], tmp_path / "out/work", print)
    assert seen.classes == ["caf\\xe9", "cat"] and found(seen.splits["train"]) == {
        "caf\\xe9/\\xe8.png": (0, b"2"),
        "cat/1.png": (1, b"1"),
    }
    assert seen.skipped == [("s\\xe9t/caf\\xe9/\\xe8.md", "not an image by its name")]
    with tarfile.open(tmp_path / "x.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as archive:
        for name in ("cat/1.png", "café/è.png"):
            archive.addfile(tarfile.TarInfo(name))
    seen = index([tmp_path / "x.tar"], tmp_path / "out/work", print)
    assert [entry.name for entry in seen.splits["train"]] == ["caf\\xe9/\\xe8.png", "cat/1.png"]


def test_files_and_folders_that_cannot_be_read(tmp_path, monkeypatch):
    root = tree(tmp_path / "set", {"cat/1.png": b"1", "dog/1.png": b"2"})
    monkeypatch.setattr(folder.os, "access", lambda path, mode: not str(path).endswith("dog/1.png"))
    assert refused(tmp_path, root) == f"{root}/dog/1.png: cannot be read (Permission denied); check its permissions"
    monkeypatch.undo()
    scan = os.scandir

    def closed(path):
        if str(path).endswith("dog"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(folder.os, "scandir", closed)
    assert refused(tmp_path, root) == f"{root}/dog: cannot be read (Permission denied); check its permissions"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_without_read_permission(tmp_path):
    root = tree(tmp_path / "set", {"cat/1.png": b"1", "dog/1.png": b"2"})
    (root / "dog/1.png").chmod(0)
    assert refused(tmp_path, root) == f"{root}/dog/1.png: cannot be read (Permission denied); check its permissions"
    (root / "dog").chmod(0)
    try:
        assert refused(tmp_path, root) == f"{root}/dog: cannot be read (Permission denied); check its permissions"
    finally:
        (root / "dog").chmod(0o700)


def test_dangling_links_and_special_files(tmp_path):
    root = tree(tmp_path / "set", {"cat/1.png": b"1", "dog/1.png": b"2", "dog/2.JPEG/inside.txt": b""})
    os.mkfifo(root / "dog/3.png")
    seen = index([root], tmp_path / "out/work", print)
    assert seen.skipped == [
        ("set/dog/2.JPEG/inside.txt", "not an image by its name"), ("set/dog/3.png", "not a regular file"),
    ]  # fmt: skip
    (root / "dog/notes").symlink_to("nowhere")
    (root / "dog/round").symlink_to("round")
    skipped = index([root], tmp_path / "out/work", print).skipped
    assert [name for name, why in skipped if why == "a dangling link"] == ["set/dog/notes", "set/dog/round"]
    (root / "dog/4.png").symlink_to("nowhere")
    assert ("set/dog/4.png", "a dangling link") in index([root], tmp_path / "out/work", print).skipped


def test_sources_without_images(toy, tmp_path):
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path, tmp_path / "nowhere").endswith(
        "no such folder or file; give images in a folder, a tar or a zip"
    )
    assert refused(tmp_path, tmp_path / "empty").startswith(
        f"{tmp_path}/empty: no images found; expected class folders"
    )
    tree(tmp_path, {"1.png": b"x", "page.html": b"<html>404\nNot Found</html>", "none.tar": b""})
    assert refused(tmp_path, tmp_path / "1.png") == f"{tmp_path}/1.png: a single image; give the folder it is in"
    assert refused(tmp_path, toy.folder, tmp_path / "page.html").startswith(f"{tmp_path}/page.html: is a web page; ")
    assert refused(tmp_path, tmp_path / "none.tar").startswith(f"{tmp_path}/none.tar: not a tar archive")


def test_a_failing_disk_is_not_reported_as_a_damaged_archive(toy, tmp_path, monkeypatch):
    def failing(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(archives.os, "pread", failing)
    assert refused(tmp_path, toy.val) == (
        f"{toy.val}: cannot be read (Input/output error); check its permissions and its disk"
    )


def test_output_inside_a_source(toy, tmp_path):
    for out in (toy.folder, toy.folder / "prepared", toy.folder / "train/../work"):
        with pytest.raises(UsageError, match="is (the source itself|inside the source .*); choose another folder$"):
            check_output([toy.train, toy.folder], out)
    with pytest.raises(UsageError, match="is inside the source"):
        index([toy.folder], toy.folder / "out/work", print)
    (tmp_path / "link").symlink_to(toy.folder)
    with pytest.raises(UsageError, match="is inside the source"):
        check_output([toy.folder], tmp_path / "link/out")
    check_output([toy.train, toy.folder], toy.folder.parent / "out")


def test_no_space_to_unpack(toy, tmp_path, monkeypatch):
    path = tmp_path / "set.tar.gz"
    path.write_bytes(gzip.compress(toy.train.read_bytes()))

    def full(read, sinks, *_):
        sinks[0](read(1))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(unpack, "copy_blocks", full)
    message = refused(tmp_path, path, kind=StorageError)
    assert message.startswith(f"{tmp_path}/out/work/set-") and "No space left on device" in message


def test_skipped_files_are_summarised():
    skipped = listing.Skipped()
    for k in range(1000):
        skipped.add(f"{k}.xml", "not an image")
    assert len(skipped.rows()) == 101 and skipped.rows()[-1] == ("and 900 more", "not an image")
    skipped.add("cat", "a folder")
    assert skipped.summary() == "skipped: 0.xml and 999 more (not an image), cat (a folder)"


def test_names_of_archives():
    assert archives.stem("a.b.tar.xz") == "a.b" and archives.stem("x.TGZ") == "x" and archives.stem("x.jpg") == "x.jpg"
