"""Caffe's files: OpenCV reads them itself and computes the same logits; damaged files and other nets are refused."""

import numpy as np
import pytest

from tests.support import caffe_files
from tests.support.caffe_files import SMALL
from tinyalex.cli import main
from tinyalex.interop import caffe_messages, formats
from tinyalex.interop.imported import Options, write
from tinyalex.network import alexnet

pytest.importorskip("google.protobuf.message", reason="the extra interop is not installed")


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture
def files(tmp_path):
    """Write a .caffemodel and its deploy.prototxt; return their paths, and the weights."""

    def make(order="norm-pool", size=SMALL, old=False, form="legacy", data=None, **options):
        net = caffe_files.layers(order, **size | options)
        arrays = caffe_files.weights(net, size["side"])
        model, deploy = tmp_path / "net.caffemodel", tmp_path / "deploy.prototxt"
        data = {"crop_size": size["side"]} if data is None else data
        model.write_bytes(caffe_files.caffemodel(net, arrays, old=old, form=form, data=data))
        deploy.write_text(caffe_files.prototxt(net, size["side"], old=old))
        return model, deploy, arrays

    return make


def photographs(test_data, count, side):
    """Real photographs, RGB, uint8 (n, side, side, 3)."""
    import io
    import tarfile

    from PIL import Image

    archive, images = test_data / "imagenet-samples-dev.tar", []
    if not archive.exists():
        pytest.skip(f"TINYALEX_TEST_DATA has no {archive.name}")
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and len(images) < count:
                picture = Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB")
                images.append(np.asarray(picture.resize((side, side))))
    return np.array(images)


def noise_images(count, side):
    return np.random.default_rng(1).integers(0, 256, (count, side, side, 3), np.uint8)


def ours(read, images):
    """Logits of images that are as large as the net's input, prepared as the imported recipe says."""
    settings = read.recipe
    network = alexnet.build(settings.net, settings.init, seed=None)
    network.load(read.state)
    top = (len(read.mean) - settings.net.input) // 2
    mean = read.mean[top : top + settings.net.input, top : top + settings.net.input]
    with network.step():
        return network.forward(((images - mean) * np.float32(settings.data.scale)).astype("float32"))


def by_opencv(model, deploy, images, mean=(104, 117, 123), scale=1.0):
    """Logits by OpenCV's importer; `images` are RGB, the mean is BGR or an image (3, h, w)."""
    cv2 = pytest.importorskip("cv2", reason="the extra parity is not installed")
    net = cv2.dnn.readNetFromCaffe(str(deploy), str(model))
    x = images[..., ::-1].transpose(0, 3, 1, 2).astype("float32")
    x = (x - np.asarray(mean, "float32").reshape(3, *([1, 1] if np.ndim(mean) == 1 else np.shape(mean)[1:]))) * scale
    net.setInput(np.ascontiguousarray(x))
    return net.forward()


def close(found, wanted, tolerance=1e-4):
    assert found.shape == wanted.shape and wanted.std() > 0.01 * np.abs(wanted).max()
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


ORDERS = ["norm-pool", "pool-norm"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("with_deploy", [True, False])
def test_opencv_computes_the_same_logits(order, with_deploy, files):
    model, deploy, _ = files(order, alpha=0.01)  # on weights of this size 1e-4 would hide a wrong norm
    read = formats.read(model, Options(deploy=deploy if with_deploy else None))
    assert read.recipe.net.norm_order == order and read.recipe.net.input == 99
    images = noise_images(3, 99)
    close(ours(read, images), by_opencv(model, deploy, images))


@pytest.mark.parametrize("order", ORDERS)
def test_opencv_computes_the_same_logits_of_photographs(order, files, test_data):
    model, deploy, _ = files(order, old=True)
    images = photographs(test_data, 4, 99)
    close(ours(formats.read(model, Options(deploy=deploy)), images), by_opencv(model, deploy, images))


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_opencv_computes_the_same_logits_at_full_size(order, files, test_data):
    model, deploy, _ = files(order, caffe_files.FULL)
    images = photographs(test_data, 4, 227)
    read = formats.read(model, Options(deploy=deploy))
    assert sum(array.size for array in read.state.values()) == 60_965_224
    close(ours(read, images), by_opencv(model, deploy, images))


@pytest.mark.parametrize("bug", ["order", "constants", "colours", "window", "dropout"])
def test_a_net_read_wrongly_would_be_noticed(bug, files):
    from dataclasses import replace

    model, deploy, _ = files(alpha=0.01)
    read, images = formats.read(model, Options(deploy=deploy)), noise_images(2, 99)
    changes = {"order": {"norm_order": "pool-norm"}, "constants": {"norm_k": 2.0}, "window": {"norm_window": "column"},
               "dropout": {"dropout": 0.0}}.get(bug, {})  # fmt: skip
    wrong = replace(read, recipe=replace(read.recipe, net=replace(read.recipe.net, **changes)))
    wanted = by_opencv(model, deploy, images[..., ::-1] if bug == "colours" else images)
    with pytest.raises(AssertionError):
        close(ours(wrong, images), wanted)


@pytest.mark.parametrize("old, form, input_as", [
    (True, "legacy", "input_dim"), (False, "legacy", "shape"), (False, "shape", "layer"), (False, "loose", "layer"),
    (False, "double", "layer"), (True, "loose", "input_dim"),
])  # fmt: skip
def test_every_form_of_the_files_gives_the_same_net(old, form, input_as, files, tmp_path):
    wanted = formats.read(files()[0])
    model, deploy, arrays = files(old=old, form=form)
    net = caffe_files.layers(**SMALL)
    (tmp_path / "deploy.prototxt").write_text(caffe_files.prototxt(net, 99, old=old, input_as=input_as))
    for options in (Options(), Options(deploy=deploy)):
        read = formats.read(model, options)
        assert read.recipe == wanted.recipe
        assert all((read.state[name] == value).all() for name, value in wanted.state.items())
    assert (read.state["fc8/b"] == arrays["fc8"][1]).all()


def test_a_fine_tuned_net_has_its_own_last_layer(files):
    model, deploy, _ = files("pool-norm", classes=20, last="fc8_flickr")
    read = formats.read(model, Options(deploy=deploy))
    assert read.recipe.net.classes == 20 and read.state["fc8/W"].shape == (16, 20)
    images = noise_images(2, 99)
    close(ours(read, images), by_opencv(model, deploy, images))


def test_the_mean_image_is_subtracted_as_caffe_does(files, tmp_path):
    model, deploy, _ = files()
    mean = np.random.default_rng(2).uniform(60, 180, (3, 112, 112)).astype("float32")
    (tmp_path / "mean.binaryproto").write_bytes(caffe_files.blob(mean))
    read = formats.read(model, Options(deploy=deploy, mean=tmp_path / "mean.binaryproto"))
    assert read.mean.shape == (112, 112, 3) and not any("mean" in note for note in read.notes)
    images, middle = noise_images(2, 99), mean[:, 6:105, 6:105]
    close(ours(read, images), by_opencv(model, deploy, images, middle))


def test_mean_colour_and_scale_of_the_data_layer_are_used(files):
    model, deploy, _ = files(data={"scale": 0.017, "crop_size": 99, "mean_value": [100.0, 110.0, 120.0]})
    read = formats.read(model, Options(deploy=deploy))
    assert abs(read.recipe.data.scale - 0.017) < 1e-8 and list(read.mean[0, 0]) == [120, 110, 100]
    images = noise_images(2, 99)
    close(ours(read, images), by_opencv(model, deploy, images, (100, 110, 120), 0.017))


def test_the_whole_way_on_the_command_line(files, tmp_path, capsys):
    from PIL import Image

    model, deploy, _ = files()
    words, out, recipe = tmp_path / "synset_words.txt", tmp_path / "net.safetensors", tmp_path / "net.toml"
    words.write_text("".join(f"n0000000{number} thing {number}, object\n" for number in range(7)))
    command = ["import", model, out, "--deploy", deploy, "--words", words, "--recipe", recipe]
    assert run(*command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{out}: Caffe's net AlexNet of net.caffemodel, 7 classes",
        "  no mean image: the usual mean colour of ImageNet instead, red, green, blue 123, 117, 104",
        f"{recipe}: its recipe",
    ]
    picture = tmp_path / "picture.png"
    Image.fromarray(noise_images(1, 130)[0]).save(picture)
    assert run("predict", str(picture), "--run", out) == 0
    assert "thing" in capsys.readouterr().out
    assert run("summary", recipe) == 0
    assert "k 1, alpha 2e-05" in capsys.readouterr().out
    assert run("export", out, tmp_path / "again.safetensors") == 0
    assert run(*command[:3]) == 0  # an unchanged file of its own is replaced


# Other nets, and files that do not fit.


def lenet():
    return [("Convolution", "conv1", {"num_output": 20, "kernel_size": 5, "stride": 1}),
            ("Pooling", "pool1", {"pool": 0, "kernel_size": 2, "stride": 2}),
            ("InnerProduct", "ip1", {"num_output": 10})]  # fmt: skip


def vgg():
    conv = {"num_output": 64, "kernel_size": 3, "pad": 1}
    return [("Convolution", "conv1_1", conv), ("ReLU", "relu1_1", {}), ("Convolution", "conv1_2", conv)]


def googlenet():
    return [("Convolution", "conv1/7x7_s2", {"num_output": 64, "kernel_size": 7, "stride": 2, "pad": 3}),
            ("ReLU", "conv1/relu_7x7", {}), ("Pooling", "pool1", {"pool": 0, "kernel_size": 3, "stride": 2}),
            ("LRN", "norm1", {"local_size": 5, "alpha": 1e-4, "beta": 0.75}),
            ("Convolution", "conv2/3x3_reduce", {"num_output": 64, "kernel_size": 1}), ("ReLU", "relu", {}),
            ("Convolution", "conv2/3x3", {"num_output": 192, "kernel_size": 3})]  # fmt: skip


def changed(name, **settings):
    return [(kind, layer, old | settings if layer == name else old) for kind, layer, old in caffe_files.layers()]


def without(name):
    return [each for each in caffe_files.layers() if each[1] != name]


OTHER_NETS = {
    "LeNet": (lenet(), "layer pool1 is a pool, where an AlexNet has a ReLU"),
    "VGG": (vgg(), "layer conv1_2 is a convolution, where an AlexNet has a pool, or normalization and a pool"),
    "GoogLeNet": (googlenet(), "layer conv2/3x3 is a convolution, where an AlexNet has a pool, or norm"),
    "average": (changed("pool2", pool=1), "layer pool2 does not take the maximum of unpadded windows"),
    "padded pool": (changed("pool5", pad=1), "layer pool5 does not take the maximum of unpadded windows"),
    "within a map": (changed("norm1", norm_region=1), "layer norm1 normalizes within a map"),
    "two constants": (
        changed("norm2", alpha=0.5),
        "layer norm2 has other settings, where an AlexNet has those of norm1",
    ),
    "stride": (changed("conv3", stride=2), "layer conv3 has stride 2, where an AlexNet has stride 1"),
    "groups": (changed("conv4", group=3), "layer conv4 has 3 groups, where an AlexNet has one or two"),
    "dilated": (changed("conv5", dilation=2), "layer conv5 is dilated"),
    "leaky": (changed("relu3", negative_slope=0.1), "layer relu3 is a leaky ReLU"),
    "no norm2": (without("norm2"), "layer pool2 follows conv2, where an AlexNet has one pool, with at most one norm"),
    "no pool5": (without("pool5"), "layer fc6 is a fully connected layer, where an AlexNet has a pool"),
    "no fc7": (without("fc7"), "layer relu7 is a ReLU, where an AlexNet has a fully connected layer"),
    "ends early": (caffe_files.layers()[:-1], "ends with drop7, where an AlexNet goes on with a fully connected layer"),
    "more": ([*caffe_files.layers(), ("ReLU", "relu8", {})], "layer relu8 follows the last fully connected layer"),
    "uneven": (changed("conv2", pad_h=2, pad_w=1), "layer conv2: its pad is 2 x 1, where an AlexNet's is as high as"),
}


@pytest.mark.parametrize("name", OTHER_NETS)
def test_another_net_is_named_by_the_layer_that_does_not_fit(name, tmp_path, files, capsys):
    net, line = OTHER_NETS[name]
    model, deploy = files()[0], tmp_path / "other.prototxt"
    deploy.write_text(caffe_files.prototxt(net, 99))
    assert run("import", model, tmp_path / "out.safetensors", "--deploy", deploy) == 4
    error = capsys.readouterr().err
    assert error.startswith(f"tinyalex: error: {deploy}: {line}") and error.count("\n") == 1


def test_a_net_that_branches_is_refused(tmp_path, files, capsys):
    model, deploy, _ = files()
    text = deploy.read_text().replace('bottom: "conv3"', 'bottom: "pool1"', 1)
    deploy.write_text(text)
    assert run("import", model, tmp_path / "out.safetensors", "--deploy", deploy) == 4
    assert "layer relu3 reads pool1, where an AlexNet has one layer after the other" in capsys.readouterr().err


@pytest.mark.parametrize("change, line", [
    ({"last": "fc8_other"}, "no weights for layer fc8; give the .caffemodel of"),
    ({"classes": 9}, "layer fc8 has 144 numbers of 1 x 1 x 9 x 16, but the net needs 7 x 16; give the files"),
    ({"maps": (8, 16, 12, 16, 8)}, "layer conv4 has 864 numbers of 16 x 6 x 3 x 3, but the net needs 12 x 6 x 3 x 3"),
])  # fmt: skip
def test_weights_of_another_net_are_named(change, line, files, tmp_path, capsys):
    deploy = files()[1]
    text = deploy.read_text()
    model = files(**change)[0]
    deploy.write_text(text)
    assert run("import", model, tmp_path / "out.safetensors", "--deploy", deploy) == 4
    assert line in capsys.readouterr().err


@pytest.mark.parametrize("mean, line", [
    (np.ones((3, 112, 100)), "33,600 numbers of 1 x 3 x 112 x 100, not a square mean image of three colours"),
    (np.ones((1, 112, 112)), "12,544 numbers of 1 x 1 x 112 x 112, not a square mean image of three colours"),
    (np.ones((3, 64, 64)), "64 x 64, smaller than the net's images of 99 x 99; give its own mean"),
])  # fmt: skip
def test_a_mean_image_that_does_not_fit_is_refused(mean, line, files, tmp_path, capsys):
    (tmp_path / "mean.binaryproto").write_bytes(caffe_files.blob(mean))
    command = ["import", files()[0], tmp_path / "out.safetensors", "--mean", tmp_path / "mean.binaryproto"]
    assert run(*command) == 3
    assert f"mean.binaryproto: {line}" in capsys.readouterr().err


@pytest.mark.parametrize("text, line", [
    ("a\nb\n", "2 lines for 7 classes; give one for each class"),
    ("\n".join("aabcdef"), "'a' stands in two lines; give each class a name of its own"),
    (b"\xff\xfe", "is not text in UTF-8"),
])  # fmt: skip
def test_words_that_do_not_fit_are_refused(text, line, files, tmp_path, capsys):
    words = tmp_path / "words.txt"
    words.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert run("import", files()[0], tmp_path / "out.safetensors", "--words", words) == 3
    assert f"{words}: {line}" in capsys.readouterr().err


# Damaged and hostile files.

TINY = {"maps": (2, 2, 2, 2, 2), "hidden": 2, "classes": 2, "side": 67}


def refused_or_read(path, tmp_path, capsys, *more):
    code = run("import", path, tmp_path / "out.safetensors", *more)
    out, err = capsys.readouterr()
    assert code in (0, 2, 3, 4), err
    assert (err.count("\n") == 1 and err.startswith("tinyalex: error: ")) if code else not err
    return code


@pytest.mark.parametrize("old", [False, True])
def test_every_truncation_is_refused_or_another_net(old, files, tmp_path, capsys):
    content = files(size=TINY, old=old)[0].read_bytes()
    path = tmp_path / "cut.caffemodel"
    for size in range(0, len(content), 37):
        path.write_bytes(content[:size])
        assert refused_or_read(path, tmp_path, capsys) == 4 or size > len(content) - 60  # but for the layer that scores


def test_random_damage_is_one_line(files, tmp_path, capsys):
    content, generator = files(size=TINY)[0].read_bytes(), np.random.default_rng(3)
    small = [at for at in range(len(content)) if at < 400 or at % 97 == 0]
    for number in range(60):
        damaged = bytearray(content)
        for at in generator.choice(small, 1 + number % 3):
            damaged[at] = generator.integers(256)
        (tmp_path / "damaged.caffemodel").write_bytes(damaged)
        refused_or_read(tmp_path / "damaged.caffemodel", tmp_path, capsys)


def test_random_damage_of_a_prototxt_is_one_line(files, tmp_path, capsys):
    model, deploy, _ = files(size=TINY)
    text, generator = deploy.read_text(), np.random.default_rng(4)
    for number in range(50):
        at = int(generator.integers(len(text)))
        damaged = text[:at] if number % 2 else text[:at] + chr(generator.integers(32, 127)) + text[at + 1 :]
        deploy.write_text(damaged)
        refused_or_read(model, tmp_path, capsys, "--deploy", deploy)


def huge(net, arrays):
    """Files that declare far more than they hold."""
    first = caffe_files.field(1, "AlexNet")
    shape = caffe_files.field(7, caffe_files.field(1, caffe_files.varint(1 << 40) * 4))
    convolution = caffe_files.field(106, caffe_files.field(1, 1 << 31) + caffe_files.field(4, 11))
    blob_ = caffe_files.field(7, shape + caffe_files.field(5, b"\0" * 16))
    layer = caffe_files.field(1, "conv1") + caffe_files.field(2, "Convolution") + convolution + blob_
    yield first + caffe_files.field(100, layer)
    yield first + b"\xa2\x06\xff\xff\xff\xff\x07" + b"\0" * 100  # a layer of 2 GiB
    yield first + b"\xa2\x06\x00" * 500_000  # half a million layers
    yield first + caffe_files.field(100, b"\x3a\x00" * 500_000)  # half a million blobs
    yield first + caffe_files.field(100, b"\x3a\x06" + b"\x2a\xff\xff\xff\xff\x0f")
    wide = [(kind, name, settings | ({"num_output": 1 << 30} if name == "fc6" else {})) for kind, name, settings in net]
    yield caffe_files.caffemodel(wide, arrays, data={"crop_size": 67})
    yield caffe_files.caffemodel(net, arrays, data={"crop_size": 1 << 31})
    broad = [(k, name, s | ({"local_size": 1 << 31} if k == "LRN" else {})) for k, name, s in net]
    yield caffe_files.caffemodel(broad, arrays, data={"crop_size": 67})


def test_enormous_sizes_are_refused_before_memory_is_taken(tmp_path, capsys):
    import tracemalloc

    net = caffe_files.layers(**TINY)
    for content in huge(net, caffe_files.weights(net, 67)):
        path = tmp_path / "huge.caffemodel"
        path.write_bytes(content)
        tracemalloc.start()
        code = refused_or_read(path, tmp_path, capsys)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 << 20
        assert code in (0, 4)


def test_numbers_that_are_not_finite_are_refused(files, tmp_path, capsys):
    model, _, arrays = files()
    arrays["fc7"][0][3, 4] = np.nan
    model.write_bytes(caffe_files.caffemodel(caffe_files.layers(**SMALL), arrays, data={"crop_size": 99}))
    assert run("import", model, tmp_path / "out.safetensors") == 4
    assert "fc7a/W[4, 3] is not a finite number; give another file" in capsys.readouterr().err


def test_other_files_are_refused(tmp_path, capsys):
    for content in (b"", b"\x0a", b"hello", b"PK\x03\x04", bytes(1000), b"\x80\x02}q\x00.", b'name: "AlexNet"\n'):
        (tmp_path / "file").write_bytes(content)
        assert run("import", tmp_path / "file", tmp_path / "out.safetensors") == 4
        assert capsys.readouterr().err.count("\n") == 1


def test_a_net_of_2013_says_how_to_convert_it(tmp_path, capsys):
    """Its layers have their settings in a message of their own, which only Caffe's programs still read."""
    layer = caffe_files.field(1, caffe_files.field(1, "conv1") + caffe_files.field(2, "conv"))
    content = caffe_files.field(1, "CaffeNet") + caffe_files.field(2, layer + caffe_files.field(2, "data")) * 8
    (tmp_path / "old.caffemodel").write_bytes(content)
    assert run("import", tmp_path / "old.caffemodel", tmp_path / "out.safetensors") == 4
    assert "is of a Caffe of 2013; convert it with Caffe's upgrade_net_proto_binary" in capsys.readouterr().err


def test_a_prototxt_is_no_file_of_weights(files, tmp_path, capsys):
    deploy = files()[1]
    assert run("import", deploy, tmp_path / "out.safetensors") == 4
    line = f"{deploy}: is text; give a file of weights, and a prototxt of Caffe with --deploy"
    assert capsys.readouterr().err == f"tinyalex: error: {line}\n"


def test_without_protobuf_a_line_says_what_to_install(files, tmp_path, capsys, monkeypatch):
    model = files()[0]
    monkeypatch.setitem(__import__("sys").modules, "google.protobuf", None)
    caffe_messages._classes.cache_clear()
    assert run("import", model, tmp_path / "out.safetensors") == 2
    assert capsys.readouterr().err.endswith("the package protobuf is missing; pip install '.[interop]'\n")


def test_files_of_others_are_not_replaced(files, tmp_path, capsys):
    (tmp_path / "mine.safetensors").write_text("mine")
    (tmp_path / "mine.toml").write_text("mine")
    model = files()[0]
    assert run("import", model, tmp_path / "mine.safetensors") == 7
    assert run("import", model, tmp_path / "out.safetensors", "--recipe", tmp_path / "mine.toml") == 7
    assert run("import", model, tmp_path / "out.npz") == 2
    assert (tmp_path / "mine.safetensors").read_text() == (tmp_path / "mine.toml").read_text() == "mine"
    assert not (tmp_path / "out.safetensors").exists()


def test_an_imported_net_is_trained_on(files, tmp_path):
    from tinyalex.runs import finetune, run_folder

    read = formats.read(files()[0])
    write(read, tmp_path / "net.safetensors")
    network = alexnet.build(read.recipe.net, read.recipe.init, seed=1)
    origin = finetune.start_from(network, tmp_path / "net.safetensors", [f"class {number}" for number in range(7)])
    assert list(origin["anew"]) == ["fc8"]
    assert (network.state()["conv2b/W"] == read.state["conv2b/W"]).all()
    run = run_folder.load(tmp_path / "net.safetensors")
    assert run.recipe == read.recipe and run.classes == read.classes
