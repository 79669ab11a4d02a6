"""Files of deep compression: written here entry by entry, as the paper says, they are read; and ours are read back."""

import struct

import numpy as np
import pytest

from tests.support import caffe_files, small_runs
from tinyalex.cli import main
from tinyalex.errors import CheckpointError
from tinyalex.interop import deep_compression, formats, layout
from tinyalex.interop.imported import Imported, Options, flat_mean, recipe_of, write
from tinyalex.recipes.settings import Net
from tinyalex.runs import run_folder
from tinyalex.training import loop

NET = Net(input=67, maps=(4, 6, 4, 4, 4), hidden=8, classes=3, norm_window="all", norm_k=1.0, norm_alpha=2e-5)


def run(*words):
    return main([str(word) for word in words])


def encoded(layers):
    """A file, one entry at a time: ``layers`` are (bits, codebook, biases, {place: code})."""
    counts, parts = [], []
    for bits, codebook, biases, codes in layers:
        entries, before = [], -1
        for place in sorted(codes):
            while place - before > 16:
                entries.append((15, 0))
                before += 16
            entries.append((place - before - 1, codes[place]))
            before = place
        counts.append(len(entries))
        part = struct.pack(f"<{len(codebook)}f", *codebook) + struct.pack(f"<{len(biases)}f", *biases)
        part += bytes(code for _, code in entries) if bits == 8 else halves([code for _, code in entries])
        parts.append(part + halves([gap for gap, _ in entries]))
    return struct.pack(f"<{len(counts)}I", *counts) + b"".join(parts)


def halves(numbers):
    numbers = [*numbers, 0] if len(numbers) % 2 else numbers
    return bytes(low | high << 4 for low, high in zip(numbers[::2], numbers[1::2], strict=True))


def random_layers(net, seed=0, share=0.2):
    """Layers for `encoded`, and the weights in Caffe's order that they stand for."""
    generator, layers, weights = np.random.default_rng(seed), [], {}
    for name, shape in layout.shapes(net).items():
        bits = 8 if name.startswith("conv") else 4
        codebook = [0.0, *generator.standard_normal(2**bits - 1).astype("float32").tolist()]
        total = int(np.prod(shape))
        places = np.sort(generator.choice(total, max(1, int(share * total)), replace=False)).tolist()
        codes = dict(zip(places, generator.integers(1, 2**bits, len(places)).tolist(), strict=True))
        b = generator.standard_normal(shape[0]).astype("float32")
        W = np.zeros(total, "float32")
        for place, code in codes.items():
            W[place] = codebook[code]
        layers.append((bits, codebook, b.tolist(), codes))
        weights[name] = W.reshape(shape), b
    return layers, weights


@pytest.fixture
def like(tmp_path):
    """A file of weights of `NET`, for --like."""
    weights = random_layers(NET, 9)[1]
    mean = np.random.default_rng(5).uniform(90, 130, (76, 76, 3)).astype("float32")
    made = Imported(
        recipe_of("small", NET), layout.to_state(NET, weights), mean, ["x", "y", "z"], ["1", "2", "3"], "a test"
    )
    return write(made, tmp_path / "like.safetensors")


@pytest.mark.parametrize("share", [0.5, 0.2, 0.02])
def test_a_file_written_entry_by_entry_is_read(share, like, tmp_path):
    layers, weights = random_layers(NET, share=share)
    path = tmp_path / "small.net"
    path.write_bytes(encoded(layers))
    read = formats.read(path, Options(like=str(like)))
    assert (read.recipe.net, read.classes, read.words) == (NET, ["x", "y", "z"], ["1", "2", "3"])
    rgb = weights | {"conv1": (weights["conv1"][0][:, ::-1], weights["conv1"][1])}
    wanted = layout.to_state(NET, rgb)
    assert read.state.keys() == wanted.keys()
    assert all((read.state[name] == value).all() for name, value in wanted.items())


def test_without_options_it_is_bvlc_alexnet_with_as_many_classes_as_there_are_biases():
    """A tenth of a thousandth of the weights, so that the file is small."""
    net = deep_compression.BVLC_ALEXNET
    for classes in (1000, 20):
        shapes = layout.shapes(net) | {"fc8": (classes, 4096)}
        layers = [(8 if name.startswith("conv") else 4, [0.0] * (256 if name.startswith("conv") else 16),
                   [0.5] * shape[0], {3: 1, 40: 1}) for name, shape in shapes.items()]  # fmt: skip
        content = encoded(layers)
        assert deep_compression.recognizes(content[:4096], len(content))
        assert deep_compression._biases(content[:32], len(content)) == sum(shape[0] for shape in shapes.values())


@pytest.mark.slow
def test_a_file_of_full_size_is_read_as_bvlc_alexnet(tmp_path, capsys):
    layers = [(bits, book, b, dict(list(codes.items())[:2000])) for bits, book, b, codes in
              random_layers(deep_compression.BVLC_ALEXNET, share=0.001)[0]]  # fmt: skip
    (tmp_path / "AlexNet_compressed.net").write_bytes(encoded(layers))
    assert run("import", tmp_path / "AlexNet_compressed.net", tmp_path / "out.safetensors") == 0
    assert "1,000 classes" in capsys.readouterr().out
    read = formats.read(tmp_path / "AlexNet_compressed.net")
    assert read.recipe.net == deep_compression.BVLC_ALEXNET
    assert sum(array.size for array in read.state.values()) == 60_965_224


def test_a_deploy_prototxt_says_the_net(tmp_path):
    net = caffe_files.layers(**caffe_files.SMALL)
    (tmp_path / "deploy.prototxt").write_text(caffe_files.prototxt(net, 99))
    arrays = caffe_files.weights(net, 99)
    content, _ = deep_compression.encode(arrays, arrays)
    (tmp_path / "small.net").write_bytes(content)
    read = formats.read(tmp_path / "small.net", Options(deploy=str(tmp_path / "deploy.prototxt")))
    assert read.recipe.net.maps == caffe_files.SMALL["maps"] and read.recipe.net.input == 99
    assert read.mean.shape == (112, 112, 3) and (read.mean == flat_mean(112)).all()


# The way back.


def compressed(weights, kept=1.0, codebook="kmeans"):
    pruned = {name: (deep_compression.prune(W, kept), b) for name, (W, b) in weights.items()}
    return deep_compression.encode(weights, pruned, codebook)


@pytest.mark.parametrize("share", [1.0, 0.3, 0.03, 0.001, 0.0])
@pytest.mark.parametrize("codebook", ["kmeans", "linear"])
def test_what_is_written_is_read_as_the_reports_say(share, codebook):
    weights = {name: (np.random.default_rng(7).standard_normal(W.shape).astype("float32"), b)
               for name, (W, b) in random_layers(NET)[1].items()}  # fmt: skip
    content, reports = compressed(weights, share, codebook)
    back = deep_compression.decode(content, layout.shapes(NET))
    counts = np.frombuffer(content[:32], "<u4")
    assert all(counts % 2 == 0) and counts.min() >= 2  # decode.py of the authors reads no others
    for report, (name, (W, b)) in zip(reports, weights.items(), strict=True):
        found = back[name][0]
        assert (back[name][1] == b).all() and report.kept == round(share * W.size) == np.count_nonzero(found)
        error = np.linalg.norm(found - W) / np.linalg.norm(W)
        assert abs(report.quantized - error) < 1e-6
        assert abs(report.largest - np.abs(found - W).max() / np.abs(W).max()) < 1e-6
        assert len(np.unique(found)) <= 2 ** (8 if name.startswith("conv") else 4)
    assert len(content) == 32 + sum(report.stored for report in reports)


def test_weights_that_fit_a_codebook_come_back_to_the_bit():
    layers, weights = random_layers(NET)
    weights = {name: (W[:] if bits == 4 else np.round(W * 4) / 4, b)
               for (bits, *_), (name, (W, b)) in zip(layers, weights.items(), strict=True)}  # fmt: skip
    content, reports = compressed(weights)
    for name, (W, _) in deep_compression.decode(content, layout.shapes(NET)).items():
        np.testing.assert_allclose(W, weights[name][0], atol=1e-6)
    assert max(report.quantized for report in reports) < 1e-6


def test_k_means_is_that_of_scipy():
    vq = pytest.importorskip("scipy.cluster.vq")
    values = np.random.default_rng(1).standard_normal(3000).astype("float32")
    book, codes = deep_compression.quantize(values, 15, "kmeans", rounds=10)
    start = np.linspace(values.min(), values.max(), 15, dtype=float)
    centres, labels = vq.kmeans2(values.astype(float), start, iter=10, minit="matrix")
    np.testing.assert_allclose(book[1:], centres, rtol=1e-6)
    assert book[0] == 0 and (codes > 0).all()
    linear, _ = deep_compression.quantize(values, 15, "linear")
    np.testing.assert_allclose(linear[1:], start, rtol=1e-5)
    after = [np.square(values - each[0][each[1]]).sum() for each in (
        (book, codes), deep_compression.quantize(values, 15, "linear"))]  # fmt: skip
    assert after[0] < after[1]


def test_the_largest_weights_are_kept_and_of_equal_ones_the_first():
    W = np.array([[1.0, -2.0, 2.0], [0.5, 2.0, -3.0]])
    np.testing.assert_array_equal(deep_compression.prune(W, 0.5), [[0, -2, 2], [0, 0, -3]])
    np.testing.assert_array_equal(deep_compression.prune(W, 0.0), np.zeros((2, 3)))
    assert deep_compression.prune(W, 1.0) is W
    assert deep_compression.share_above(W, 0.0) == 1.0 and deep_compression.share_above(np.ones(4), 0.0) == 1.0


@pytest.mark.parametrize("bug", ["halves", "gaps", "fillers", "colours"])
def test_another_reading_would_be_noticed(bug, like, tmp_path, monkeypatch):
    cumsum, relative = np.cumsum, deep_compression._relative
    if bug == "halves":
        monkeypatch.setattr(deep_compression, "_halves", lambda p, n: np.stack([p >> 4, p & 15], 1).ravel()[:n])
    elif bug == "gaps":
        monkeypatch.setattr(deep_compression.np, "cumsum", lambda x: cumsum(x - 1) + 1)
    elif bug == "colours":
        monkeypatch.setattr(layout, "swap_colours", lambda W: W)
    else:
        monkeypatch.setattr(deep_compression, "_relative", lambda *given: [part[::-1] for part in relative(*given)])
        weights = random_layers(NET, share=0.02)[1]
        found = deep_compression.decode(compressed(weights)[0], layout.shapes(NET))
        assert (found["fc6"][0] != weights["fc6"][0]).any()
        return
    with pytest.raises((AssertionError, CheckpointError)):
        test_a_file_written_entry_by_entry_is_read(0.05, like, tmp_path)


# On the command line.


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of two small columns, before its first step."""
    folder = tmp_path_factory.mktemp("trained")
    run_folder.save(loop.Training(small_runs.small(), small_runs.stripes()), folder)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The run's images as files."""
    from PIL import Image

    folder, data = tmp_path_factory.mktemp("pictures"), small_runs.stripes(4, 10)
    for split, images in (("train", data.train), ("test", data.test)):
        for number, label in enumerate(images.labels):
            path = folder / split / data.classes[label] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images.images[number]).save(path)
    return folder


def table(out):
    return {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith(("conv", "fc"))}


def test_export_and_import_of_a_run(trained, pictures, tmp_path, capsys):
    path, out = tmp_path / "run.net", tmp_path / "back.safetensors"
    assert run("export", trained, path, "--keep", "0.5", "fc6=0.25", "--codebook", "linear") == 0
    text = capsys.readouterr().out
    rows = table(text)
    assert list(rows) == list(deep_compression.KEPT) and rows["fc6"][1] == "25.0%" and rows["conv2"][1] == "50.0%"
    assert "bytes in float32 are" in text
    assert run("import", path, out, "--like", trained) == 0
    assert run("evaluate", out, "--data", pictures) == 0
    capsys.readouterr()
    assert run("export", trained, tmp_path / "more.net", "--threshold", "1") == 0
    assert run("export", trained, tmp_path / "paper.net", "--keep", "paper", "--format", "deep-compression") == 0
    assert table(capsys.readouterr().out)["fc7"][1] == "9.0%"


def test_test_error_before_and_after(trained, pictures, tmp_path, capsys):
    assert run("export", trained, tmp_path / "run.net", "--keep", "0.5", "--data", pictures) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[-4:-1]] == ["as it is", "pruned", "pruned and quantized"]


@pytest.mark.parametrize("words, line", [
    (["run.net", "--keep", "fc9=0.5"], "--keep fc9=0.5: give paper, a share from 0 to 1, or one of a layer of conv1"),
    (["run.net", "--keep", "2"], "--keep 2: give paper, a share from 0 to 1"),
    (["run.net", "--keep", "0.5", "--threshold", "1"], "--keep and --threshold: both say what is kept; give one"),
    (["run.net", "--threshold", "-1"], "--threshold -1.0: give 0 or more standard deviations"),
    (["run.safetensors", "--keep", "0.5"], "--keep: is for deep compression; give a FILE that ends in .net"),
    (["run.safetensors", "--format", "deep-compression"], "run.safetensors: the name does not end in .net"),
])  # fmt: skip
def test_options_that_do_not_fit(words, line, trained, tmp_path, capsys):
    assert run("export", trained, tmp_path / words[0], *words[1:]) == 2
    assert line in capsys.readouterr().err and not (tmp_path / words[0]).exists()


def test_files_of_others_are_not_replaced(trained, tmp_path):
    (tmp_path / "mine.net").write_text("mine")
    assert run("export", trained, tmp_path / "mine.net") == 7
    assert (tmp_path / "mine.net").read_text() == "mine"


def test_like_is_refused_where_a_file_says_its_net(like, tmp_path, capsys):
    net = caffe_files.layers(**caffe_files.SMALL)
    (tmp_path / "net.caffemodel").write_bytes(caffe_files.caffemodel(net, caffe_files.weights(net, 99)))
    assert run("import", tmp_path / "net.caffemodel", tmp_path / "out.safetensors", "--like", like) == 2
    assert "leave out --like" in capsys.readouterr().err


# Damaged files.


def imported(path, like, tmp_path, capsys):
    code = run("import", path, tmp_path / "out.safetensors", "--like", like)
    out, err = capsys.readouterr()
    assert code in (0, 4), err
    assert (err.count("\n") == 1 and err.startswith("tinyalex: error: ")) if code else not err
    return code


def test_every_truncation_is_refused(like, tmp_path, capsys):
    content = encoded(random_layers(NET, share=0.05)[0])
    path = tmp_path / "cut.net"
    for size in [*range(0, 64), *range(64, len(content), 211), len(content) - 1]:
        path.write_bytes(content[:size])
        assert imported(path, like, tmp_path, capsys) == 4


def test_random_damage_is_one_line(like, tmp_path, capsys):
    content, generator = encoded(random_layers(NET, share=0.05)[0]), np.random.default_rng(3)
    path, codes = tmp_path / "damaged.net", set()
    for number in range(40):
        damaged = bytearray(content)
        for at in generator.integers(0, 32 if number % 3 == 0 else len(content), 1 + number % 4):
            damaged[at] = generator.integers(256)
        path.write_bytes(damaged)
        codes.add(imported(path, like, tmp_path, capsys))
    assert 4 in codes


def test_enormous_counts_take_no_memory(like, tmp_path, capsys):
    import tracemalloc

    path = tmp_path / "huge.net"
    for counts in ([2**32 - 1] * 8, [2**31] * 8, [0] * 8):
        path.write_bytes(struct.pack("<8I", *counts) + bytes(50_000))
        tracemalloc.start()
        assert imported(path, like, tmp_path, capsys) == 4
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
        tracemalloc.stop()
