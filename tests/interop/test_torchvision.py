"""torchvision's AlexNet is read without PyTorch, and computes the same numbers; nothing in its pickle is run."""

import copyreg
import io
import os
import struct
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.support import torch_nets
from tests.support.imported_nets import computed, error
from tinyalex.errors import CheckpointError
from tinyalex.interop import torch_file
from tinyalex.interop import torchvision as reader

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests: pip install 'tinyalex[parity]'")


def saved(value, older=False):
    """The bytes that torch.save writes."""
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=not older)
    return file.getvalue()


def prefixed(state):
    return {"epoch": 3, "arch": "alexnet", "state_dict": {f"module.{name}": value for name, value in state.items()}}


def trained(state):
    """As the script of PyTorch's examples saves: with an optimizer's tensors and numbers beside the weights."""
    momenta = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]}
    return prefixed(state) | {"best_acc1": torch.tensor(56.5), "optimizer": momenta}


class OldTensor:
    """A tensor as PyTorch pickled it before 0.4."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce__(self):
        tensor = self.tensor
        storage = torch.storage.TypedStorage(wrap_storage=tensor.untyped_storage(), dtype=tensor.dtype, _internal=True)
        return torch._utils._rebuild_tensor, (storage, tensor.storage_offset(), tuple(tensor.shape), tensor.stride())


class OldParameter(OldTensor):
    def __reduce__(self):
        return torch.nn.Parameter, (OldTensor(self.tensor), True)


class OlderParameter(OldTensor):
    def __reduce__(self):
        state = (OldTensor(self.tensor), None, None, True, {})
        return copyreg.__newobj__, (torch.nn.Parameter,), state

    __class__ = torch.nn.Parameter  # or pickle would not say so


FORMS = {
    "archive.pth": saved,
    "older.pth": lambda state: saved(state, older=True),
    "prefixed.pth.tar": lambda state: saved(prefixed(state)),
    "trained older.pth": lambda state: saved(trained(state), older=True),
    "parameters.pth": lambda state: saved({k: torch.nn.Parameter(v) for k, v in state.items()}),
    "parameters of 2017.pth": lambda state: saved({k: OldParameter(v) for k, v in state.items()}, older=True),
    "parameters of 2016.pth": lambda state: saved({k: OlderParameter(v) for k, v in state.items()}, older=True),
    "compiled.pth": lambda state: saved({"model": {f"_orig_mod.module.{k}": v for k, v in state.items()}}),
    "double.pth": lambda state: saved({name: value.double() for name, value in state.items()}),
}


@pytest.fixture(scope="module")
def net():
    return torch_nets.small_alexnet(torch)


@pytest.fixture(scope="module")
def imported(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("torchvision") / "alexnet.pth"
    path.write_bytes(saved(net.state_dict()))
    return reader.read(path)


def test_the_imported_net_computes_the_same(net, imported):
    pixels = torch_nets.noise()
    wanted = torch_nets.logits(torch, net, pixels)
    assert wanted.std(axis=0).max() > 0.1 * np.abs(wanted).max()  # the images differ in what they give
    assert error(computed(imported, pixels), wanted) < 1e-5


@pytest.mark.parametrize("what", ["a channel", "fc6's order", "a pad", "the deviations", "the factor of dropout"])
def test_a_planted_fault_is_noticed(net, imported, what):
    """What the comparison above would show if the import had such a fault."""
    state, recipe = dict(imported.state), imported.recipe
    if what == "a channel":
        state["conv1/W"] = state["conv1/W"][:, :, ::-1]
    elif what == "fc6's order":
        W = state["fc6/W"]
        state["fc6/W"] = W.reshape(8, 6, 6, -1).transpose(1, 2, 0, 3).reshape(W.shape)[::-1]
    elif what == "a pad":
        recipe = replace(recipe, net=replace(recipe.net, pads=(2, 1, 2, 1, 1)))
    elif what == "the deviations":
        recipe = replace(recipe, data=replace(recipe.data, scale=1 / 255 / 0.226))
    else:
        state["fc7/W"] = state["fc7/W"] / 2
    pixels = torch_nets.noise()
    assert error(computed(replace(imported, state=state, recipe=recipe), pixels),
                 torch_nets.logits(torch, net, pixels)) > 1e-3  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_file_gives_the_same_tensors(net, imported, form, tmp_path):
    path = tmp_path / form
    path.write_bytes(FORMS[form](net.state_dict()))
    found = reader.read(path)
    assert found.recipe == imported.recipe
    assert found.state.keys() == imported.state.keys()
    for name, value in imported.state.items():
        np.testing.assert_array_equal(found.state[name], value, err_msg=name)


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("form", ["safetensors", "archive", "older"])
def test_other_types_and_safetensors(net, imported, kind, form, tmp_path):
    path = tmp_path / f"a.{form}"
    state = {name: value.to(getattr(torch, kind)) for name, value in net.state_dict().items()}
    if form == "safetensors":
        from safetensors.torch import save_file as save_tensors

        save_tensors(state, path)
    else:
        path.write_bytes(saved(state, form == "older"))
    found = reader.read(path)
    np.testing.assert_array_equal(found.state["conv3/W"], state["features.6.weight"].float().permute(2, 3, 1, 0))
    np.testing.assert_array_equal(found.state["fc8/b"], state["classifier.6.bias"].float())


def test_a_tensor_that_is_a_view_of_a_larger_one(net, imported, tmp_path):
    state = dict(net.state_dict())
    whole = torch.zeros(2 * 12, 8, 5, 5)
    whole[::2] = state["features.3.weight"]
    state["features.3.weight"] = whole[::2]
    state["classifier.4.weight"] = state["classifier.4.weight"].t().contiguous().t()
    for older in (False, True):
        path = tmp_path / f"{older}.pth"
        path.write_bytes(saved(state, older))
        for name, value in reader.read(path).state.items():
            np.testing.assert_array_equal(value, imported.state[name], err_msg=name)


def test_other_numbers_of_classes_and_maps(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(saved(torch_nets.small_alexnet(torch, classes=3, maps=(4, 6, 10, 8, 2), hidden=7).state_dict()))
    found = reader.read(path).recipe.net
    assert (found.classes, found.maps, found.hidden, found.columns) == (3, (4, 6, 10, 8, 2), 7, 1)
    assert (found.pads, found.conv_rounding, found.norm) == ((2, 2, 1, 1, 1), "floor", "none")


@pytest.mark.slow
def test_torchvisions_own_net_on_photographs(test_data, tmp_path):
    vision = torch_nets.torchvision(torch)
    torch.manual_seed(1)
    net = vision.models.alexnet(weights=None).eval()
    pixels = torch_nets.photographs(test_data / "imagenet-samples-dev.tar")
    for older in (False, True):
        path = tmp_path / "alexnet.pth"
        path.write_bytes(saved(net.state_dict(), older))
        imported = reader.read(path)
        assert imported.recipe.net.maps == (64, 192, 384, 256, 256) and len(imported.classes) == 1000
        assert error(computed(imported, pixels), torch_nets.logits(torch, net, pixels)) < 1e-4


# What is refused.


class Code:
    """Pickles as a call that would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("under", ["state_dict", "features.0.weight"])
def test_a_pickle_with_code_is_refused_and_not_run(under, older, tmp_path):
    path, made = tmp_path / "evil.pth", tmp_path / "made"
    path.write_bytes(saved({under: Code(made)}, older))
    with pytest.raises(CheckpointError, match="evil.pth: the pickle uses 'posix system', not allowed"):
        reader.read(path)
    assert not made.exists()
    torch.load(path, weights_only=False)  # here it would have been run
    assert made.exists()


def test_a_whole_pickled_model_is_refused_with_the_remedy(net, tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(saved(torch.nn.Sequential(torch.nn.Linear(2, 2))))
    with pytest.raises(CheckpointError, match=r"torch.nn.modules.*, not allowed.*torch.save\(model.state_dict\(\), F"):
        reader.read(path)


def changed(state, **changes):
    return {name: value for name, value in (state | changes).items() if value is not None}


OTHERS = {
    "another tensor": (lambda s: changed(s, fc=torch.zeros(2)), "it has a tensor fc"),
    "missing": (lambda s: changed(s, **{"features.8.bias": None}), "it lacks features.8.bias"),
    "no image": (lambda s: changed(s, **{"features.0.weight": torch.zeros(8, 1, 11, 11)}),
                 "features.0.weight has the shape (8, 1, 11, 11), not (8, 3, 11, 11)"),
    "kernel": (lambda s: changed(s, **{"features.3.weight": torch.zeros(12, 8, 3, 3)}),
               "features.3.weight has the shape (12, 8, 3, 3), not (12, 8, 5, 5)"),
    "hidden": (lambda s: changed(s, **{"classifier.4.weight": torch.zeros(9, 16)}), "classifier.4.weight has the"),
    "whole numbers": (lambda s: changed(s, **{"classifier.4.weight": torch.zeros(16, 16, dtype=torch.int64)}),
                      "classifier.4.weight has no floating numbers"),
    "scalar": (lambda s: changed(s, **{"classifier.6.weight": torch.tensor(1.0)}), "classifier.6.weight has the shape"),
    "no dictionary": (lambda s: s["features.0.weight"], "holds one tensor, not a dictionary of tensors"),
    "a list": (lambda s: list(s.values()), "holds a list, not a dictionary of tensors"),
    "two nets": (lambda s: s | {f"module.{k}": v for k, v in s.items()}, "with and without `module.` before"),
    "numbers": (lambda s: {"features.0.weight": 1.0}, "'features.0.weight' is not a tensor"),
    "numbered": (lambda s: {1: torch.zeros(2)}, "1 is not a tensor"),
    "empty": (lambda s: {}, "it lacks features.0.weight"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_alexnet_is_refused_by_name(net, name, tmp_path):
    change, message = OTHERS[name]
    path = tmp_path / "other.pth"
    path.write_bytes(saved(change(dict(net.state_dict()))))
    with pytest.raises(CheckpointError) as refused:
        reader.read(path)
    assert message in str(refused.value) and str(refused.value).startswith(f"{path}: ")


@pytest.mark.slow
@pytest.mark.parametrize("model, tensor", [
    ("resnet18", "conv1.weight"),
    ("vgg11", "features.11.weight"),
    ("squeezenet1_0", "features.3.squeeze.weight"),
])  # fmt: skip
def test_other_nets_of_torchvision_are_refused_by_the_tensor(model, tensor, tmp_path):
    path = tmp_path / "other.pth"
    net = getattr(torch_nets.torchvision(torch).models, model)(weights=None)
    path.write_bytes(saved(net.state_dict()))
    with pytest.raises(CheckpointError, match=f"not the state_dict of torchvision's AlexNet: it has a tensor {tensor}"):
        reader.read(path)


def read_or_refused(content, path):
    """Whether damaged content is read; if not, a CheckpointError of one line."""
    path.write_bytes(content)
    try:
        reader.read(path)
    except CheckpointError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        return False
    return True


TINY = {"features.0.weight": torch.ones(1, 3, 2, 2), "b": torch.ones(2)}


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_every_truncation_is_refused(older, step, tmp_path):
    whole = saved(TINY, older)
    for length in {*range(0, len(whole), step), *range(len(whole) - 30, len(whole))}:
        assert not read_or_refused(whole[:length], tmp_path / "cut.pth"), length


def test_a_truncated_net_is_refused(net, tmp_path):
    whole = saved(net.state_dict(), older=True)
    assert read_or_refused(whole, tmp_path / "cut.pth")
    assert not read_or_refused(whole[:-1], tmp_path / "cut.pth")
    assert not read_or_refused(whole + b"\0", tmp_path / "cut.pth")


@pytest.mark.parametrize("older", [False, True])
def test_damaged_bytes_give_a_net_or_a_refusal(older, tmp_path):
    whole, rng = saved(TINY, older), np.random.default_rng(0)
    for _ in range(120):
        spoilt = bytearray(whole)
        for at in rng.integers(0, len(spoilt), rng.integers(1, 4)):
            spoilt[at] = rng.integers(256)
        read_or_refused(bytes(spoilt), tmp_path / "spoilt.pth")


def archive(**entries):
    """A zip archive like that of torch.save, with other entries."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", entries.pop("kind", zipfile.ZIP_STORED)) as made:
        for name, content in entries.items():
            made.writestr(f"a/{name.replace('_', '/', 1) if name.startswith('data_') else 'data.pkl'}", content)
    return file.getvalue()


def tensor_pickle(count, offset, shape, strides, key="0"):
    """The pickle of {"b": a tensor}, as torch.save writes it, with any numbers."""

    def numbers(values):
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", value) for value in values) + b"t"

    storage = f"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX{chr(len(key))}\x00\x00\x00{key}X\x03\x00\x00\x00cpu"
    storage = storage.encode() + numbers([count])[1:-1]
    call = b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage + b"tQ" + numbers([offset])[1:-1]
    return b"\x80\x02}X\x01\x00\x00\x00b" + call + numbers(shape) + numbers(strides) + b"\x89}tRs."


LIES = {
    "more numbers than there are": (1 << 40, 0, [1 << 30], [1]),
    "a shape beyond the storage": (4, 0, [5], [1]),
    "an offset beyond the storage": (4, 4, [1], [1]),
    "a huge offset": (4, 1 << 62, [1], [1]),
    "a negative offset": (4, -4, [1], [1]),
    "strides beyond the storage": (4, 0, [2], [1 << 61]),
    "negative strides": (4, 3, [4], [-1]),
    "repeated numbers": (4, 0, [1 << 40], [0]),
    "axes without strides": (4, 0, [2, 2], [1]),
}


@pytest.mark.parametrize("name", LIES)
def test_lying_shapes_are_refused(name, tmp_path):
    path = tmp_path / "lie.pth"
    path.write_bytes(archive(pickle=tensor_pickle(*LIES[name]), data_0=bytes(16)))
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        for tensor in torch_file.read(path).values():
            tensor.array()


def test_the_pickle_of_these_lies_is_well_formed(tmp_path):
    path = tmp_path / "honest.pth"
    path.write_bytes(archive(pickle=tensor_pickle(4, 1, [3], [1]), data_0=np.arange(4, dtype="<f4").tobytes()))
    np.testing.assert_array_equal(torch_file.read(path)["b"].array(), [1, 2, 3])


@pytest.mark.parametrize("use", [b"Ns.", b"(NtR.", b"]a."])
def test_deeply_nested_keys_are_refused(use, tmp_path):
    """Python's hash of so deep a tuple would end the process."""
    path = tmp_path / "deep.pth"
    begin = {b"Ns.": b"}", b"(NtR.": b"ccollections\nOrderedDict\n", b"]a.": b"]"}[use]
    path.write_bytes(archive(pickle=b"\x80\x02" + begin + b")" + b"\x85" * 200_000 + use))
    with pytest.raises(CheckpointError, match="deep.pth: "):
        torch_file.read(path)


def test_fewer_numbers_than_a_storage_says(tmp_path):
    path = tmp_path / "short.pth"
    path.write_bytes(archive(pickle=tensor_pickle(1 << 30, 0, [1 << 30], [1]), data_0=bytes(16)))
    with pytest.raises(CheckpointError, match="short.pth: truncated or damaged"):
        torch_file.read(path)["b"].array()


def test_a_compressed_archive_is_refused(tmp_path):
    """Compressed entries might be far larger than the file; torch.save writes none."""
    path = tmp_path / "bomb.pth"
    path.write_bytes(archive(pickle=tensor_pickle(4, 0, [4], [1]), data_0=bytes(1 << 20), kind=zipfile.ZIP_DEFLATED))
    with pytest.raises(CheckpointError, match="bomb.pth: truncated or damaged"):
        torch_file.read(path)


@pytest.mark.parametrize("content, message", [
    (b"", "truncated, or not a safetensors file"),
    (b"PK\x03\x04", "truncated or damaged"),
    (b"#!/bin/sh\nexit 0\n", "truncated, or not a safetensors file"),
    (archive(kind=zipfile.ZIP_STORED, data_0=b""), "a zip archive, but not one of torch.save"),
    (None, "cannot be read (No such file or directory)"),
])  # fmt: skip
def test_other_files_are_refused(content, message, tmp_path):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError) as refused:
        reader.read(path)
    assert message in str(refused.value)


def test_safetensors_of_another_net(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"layer1.weight": np.zeros((2, 2), np.float32)}, path)
    with pytest.raises(CheckpointError, match="it has a tensor layer1.weight"):
        reader.read(path)
