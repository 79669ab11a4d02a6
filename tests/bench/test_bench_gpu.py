"""`bench --device`: a GPU's measurement, run on a pretend device, the floor of im2col, and the report."""

import json
import time

import numpy as np
import pytest

from tests.bench.test_bench import SMALL, taken
from tests.support import folders
from tests.support.figure_checks import assert_no_overlap
from tests.support.shim import ShimDevice
from tinyalex import errors
from tinyalex.bench import contenders, gpu_floor, gpu_tables, measure, net, picture, report, timestamps
from tinyalex.bench.gpu_rates import GpuRates
from tinyalex.bench.hardware import gpu_versions
from tinyalex.bench.kernel_rates import REPEATS, kernel_rates
from tinyalex.bench.ours import Ours
from tinyalex.bench.timing import sample
from tinyalex.cli import main
from tinyalex.devices import parallel
from tinyalex.devices.device import Device
from tinyalex.devices.upload import DeviceBatch
from tinyalex.recipes import recipe

MB = 1e6


# The bytes and operations of each layer.


def test_bytes_and_operations_of_the_papers_net():
    found = gpu_floor.passes(net.describe(recipe.load("paper")), 128)
    x, P1 = 128 * 224 * 224 * 3, 128 * 55 * 55 * 363
    y1, P2 = 128 * 55 * 55 * 96, 128 * 27 * 27 * 2400
    assert (round(4 * P1 / MB), round(4 * P2 / MB)) == (562, 896)
    assert found["conv1/forward"] == [
        gpu_floor.Pass(4 * (x + P1), 0, 4 * P1),
        gpu_floor.Pass(4 * (P1 + 34_848 + y1), 2 * 128 * 105_415_200, 4 * P1),
    ]
    assert len(found["conv1/backward"]) == 3 and len(found["conv2/backward"]) == 5  # no gradient of the images
    assert sum(each.operations for each in found["conv2/backward"]) == 4 * 128 * 223_948_800
    assert found["conv2/backward"][0].patches == 4 * P2
    assert found["fc6/backward"][2].bytes == 4 * 128 * 4096
    assert found["relu1/backward"] == [gpu_floor.Pass(12 * y1)]
    assert found["pool1/forward"] == [gpu_floor.Pass(4 * (y1 + 128 * 27 * 27 * 96) + 128 * 27 * 27 * 96)]
    assert found["drop6/backward"] == [gpu_floor.Pass(9 * 128 * 4096)]
    assert found["update"] == [gpu_floor.Pass(20 * 60_965_224)]
    half = gpu_floor.passes(net.describe(recipe.load("paper")), 128, item=2)
    assert half["conv1/forward"][1].bytes == 2 * (P1 + y1) + 4 * 34_848 and half["update"] == found["update"]
    assert half["relu1/backward"] == [gpu_floor.Pass(6 * y1)] and half["loss/backward"] == found["loss/backward"]
    whole = sum(each.operations for row in found.values() for each in row)
    assert whole == 128 * 2 * (3 * 724_406_816 - 105_415_200)


def test_floor_is_the_longer_of_bytes_and_operations():
    row = [gpu_floor.Pass(100, 1000, 60), gpu_floor.Pass(10)]
    assert gpu_floor.least(row, products=100, copies=50) == 10 + 0.2
    assert gpu_floor.least(row, products=1000, copies=50) == 2 + 0.2
    assert gpu_floor.least(row, products=10_000, copies=50, patches=False) == pytest.approx(0.8 + 0.2)


def test_floors_of_a_step():
    described = net.describe(recipe.load("paper"))
    slow, quick = (gpu_floor.floors(described, 128, products, 4e12) for products in (45e12, 250e12))
    assert slow["step"] == pytest.approx(sum(slow["layers"].values()))
    assert 1.5 < slow["step"] / quick["step"] < 3
    assert 0 < quick["forward"] < quick["step"] / 2
    without = gpu_floor.floors(described, 128, 250e12, 4e12, patches=False)
    assert without["step"] < quick["step"] and without["layers"]["pool1/forward"] == quick["layers"]["pool1/forward"]


@pytest.mark.parametrize("name", ["original", "modern", "cifar10-relu"])
def test_every_layer_of_every_recipe_has_passes(name):
    described = net.describe(recipe.load(name, ["net.classes=10"]))
    names = {each.rsplit("/", 1)[0] for each in gpu_floor.passes(described, 1)}
    assert len(names) == len(list(described.layers())) + 2


# Samples of asynchronous work.


def test_sample_begins_and_ends_when_the_device_is_idle():
    calls = []
    found = sample(
        lambda: calls.append("do"), synchronize=lambda: (calls.append("wait"), time.sleep(0.02)), warmup=2, count=3
    )
    assert calls == ["do"] * 2 + ["wait"] + ["do"] * 3 + ["wait"]
    assert found["repeats"] == 3 and found["issue"] < 0.02 / 3 <= found["seconds"]


class StubGpu:
    """A GPU whose stream records its events; each event is reached 4 ms after the one before."""

    kind = "cuda"

    def __init__(self):
        self.events, self.xp, self.cuda, self.stream = [], self, self, self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def Event(self):
        return StubEvent()

    def record(self, event):
        event.number = len(self.events)
        self.events.append(event)

    @staticmethod
    def get_elapsed_time(start, end):
        assert end.waited
        return 4.0 * (end.number - start.number)


class StubEvent:
    waited = False

    def synchronize(self):
        self.waited = True


def test_stamps_are_events_on_a_gpu_and_the_clock_elsewhere():
    gpu = StubGpu()
    start, middle, end = (timestamps.stamp(gpu) for _ in range(3))
    timestamps.stamp(gpu)
    assert not any(event.waited for event in gpu.events)
    assert timestamps.seconds(gpu, start, middle) == timestamps.seconds(gpu, middle, end) == 0.004
    assert timestamps.seconds(gpu, start, end) == 0.008
    assert timestamps.seconds(Device("cpu"), 1.0, 3.5) == 2.5


def test_kernel_rates_relative_to_a_copy():
    calls = []
    rows = kernel_rates(Device("fake:0"), [("im2col", 8000, lambda: calls.append(time.sleep(0.001)))], numbers=1000)
    assert [row["name"] for row in rows] == ["copy", "im2col"] and len(calls) > REPEATS
    assert rows[0]["bytes"] == 8000 and rows[0]["share"] == 1
    assert 0 < rows[1]["rate"] < 8e6 and rows[1]["share"] == pytest.approx(rows[1]["rate"] / rows[0]["rate"])


# The contenders.


def test_contenders_on_a_gpu(monkeypatch):
    monkeypatch.setattr(contenders, "torch_installed", lambda: True)
    chosen, notes = contenders.choose(None, 2, "cuda:1")
    assert [each.name for each in chosen] == list(contenders.ON_GPU) and notes == []
    assert {device for each in chosen for device in each.devices} == {"cuda:1"}
    for each in chosen:
        assert each.tf32 == (each.arithmetic != "float32") == ("float32" not in each.name) and each.environment == {
            "CUPY_TF32": "01"[each.tf32]
        }
    assert [len(each.devices) for each in chosen if "columns" in each.name] == [2]
    assert "tf32-columns" not in [each.name for each in contenders.choose(None, 1, "cuda:0")[0]]
    for names, device in ((["winograd"], "cuda:0"), (["tf32"], "cpu")):
        with pytest.raises(errors.UsageError, match=f"--contenders {names[0]}: does not run on {device}"):
            contenders.choose(names, 2, device)
    monkeypatch.setattr(contenders, "triton_installed", lambda: False)
    rest, notes = contenders.choose(None, 2, "cuda:0")
    assert [each.name for each in chosen if each not in rest and each.compiled] == [
        "torch-best-tf32",
        "torch-best-bf16",
    ]
    assert notes == ["Triton is not installed, so PyTorch's best, a compiled net, is not measured: pip install triton"]
    monkeypatch.setattr(contenders, "torch_installed", lambda: False)
    assert len(contenders.choose(None, 2, "cuda:0")[1]) == 1


def test_fingerprints_in_tf32_may_differ_more():
    measure.check_same_net({"tf32": 0.505, "float32": 0.5, "torch-float32": 0.50001, "tf32-columns": 0.8})
    with pytest.raises(RuntimeError, match="torch-float32 and float32 are not the same net"):
        measure.check_same_net({"tf32": 0.5, "float32": 0.5, "torch-float32": 0.505})
    with pytest.raises(RuntimeError, match="torch-tf32 and tf32 are not the same net"):
        measure.check_same_net({"tf32": 0.5, "torch-tf32": 0.52})
    measure.check_same_net({"tf32": 0.5, "torch-best-tf32": 0.505, "torch-best-bf16": 0.52})
    for name, wrong in (("torch-best-tf32", 0.52), ("torch-best-bf16", 0.6)):
        with pytest.raises(RuntimeError, match=f"{name} and float32 are not the same net"):
            measure.check_same_net({"float32": 0.5, name: wrong})


def test_contender_with_another_arithmetic_is_reported():
    chosen, _ = contenders.choose(["tf32", "float32"], 2, "cuda:0")
    ready = {name: {"tf32": "tf32" in name} for name in ("tf32", "float32", "machine", "machine-tf32", "machine-bf16")}
    ready["machine-bf16"] = {"tf32": True}
    assert measure.arithmetic_notes(chosen, ready, "cuda:0") == []
    ready["float32"] = {"tf32": True}
    assert measure.arithmetic_notes(chosen, ready, "cuda:0") == [
        "float32: matrix products were computed in TF32, but float32 was requested"
    ]
    assert measure.arithmetic_notes(chosen, ready, "fake:0") == []


@pytest.mark.parametrize(("cut", "found"), [(np.float32, False), (np.float16, True)])
def test_rounding_to_tf32_is_detected(cut, found):  # float16 keeps 11 bits, as TF32 does
    def matmul(a, b, out):
        out[...] = a.astype(cut).astype(np.float32) @ b

    assert net.rounds_to_tf32(Device("cpu"), matmul) is found


# Contenders on a pretend device.


@pytest.mark.parametrize("devices", [["fake:0"], ["fake:0", "fake:0"]], ids=" ".join)
def test_contender_tinyalex_has_its_images_on_the_device(devices):
    made = recipe.load("paper", SMALL)
    task = {"recipe": recipe.to_toml(made), "batch": 5, "threads": parallel.workers().count, "least": 0.0}
    side = Ours(task | {"devices": devices, "convolution": "im2col", "tf32": True})
    assert isinstance(side.batch, DeviceBatch) and len(side.batch.arrays) == len(devices)
    host = Ours(task | {"devices": ["cpu"] * len(devices), "convolution": "im2col"})
    assert side.ready()["fingerprint"] == pytest.approx(host.ready()["fingerprint"], rel=1e-5)
    assert not side.ready()["tf32"]
    for each in (side, host):
        each.step()
        each.synchronize()
    assert side.last_loss()["loss"] == pytest.approx(host.last_loss()["loss"], rel=1e-5)
    side.forward()
    assert side.layers().keys() == host.layers().keys()
    assert side.peak_memory() > 0
    kernels = side.kernels()
    backward = {name for name in kernels if name.startswith("conv2/backward product")}
    assert backward == {f"conv2/backward product|{what}" for what in ("seconds", "bytes", "operations")}
    assert sum(size for name, size in kernels.items() if "operations" in name) == sum(
        each.operations for row in gpu_floor.passes(net.describe(made), 5).values() for each in row
    )
    assert "matmul" not in vars(side.network.devices[0])  # the device is restored


def test_pretend_gpu_is_named_as_such():
    rates = GpuRates({"devices": ["fake:0"], "tf32": True, "threads": 1})
    ready = rates.ready()
    assert ready["work"]["copy"] == 8 << 20 and ready["work"]["product_tf32"] == 2 * 256**3
    assert ready["versions"]["GPU"] == "none (fake:0 stands for one)" and not ready["tf32"]
    half = GpuRates({"devices": ["fake:0"], "tf32": True, "bf16": True, "threads": 1})
    assert half.ready()["tf32"] and half.ready()["work"] == ready["work"]
    half.product_bf16()
    for action in (rates.product_tf32, rates.product_float32, rates.copy, rates.synchronize):
        action()


def test_gpu_versions():
    class Runtime:
        runtimeGetVersion, driverGetVersion = (lambda: 13000), (lambda: 12080)

        @staticmethod
        def getDeviceProperties(index):
            return {"name": b"NVIDIA H200", "totalGlobalMem": 140 << 30}

    class Stub:
        kind, index = "cuda", 0

        class xp:
            __version__ = "14.2.0"

            class cuda:
                runtime = Runtime

    assert gpu_versions(Stub) == {
        "GPU": "NVIDIA H200 (140 GiB)", "CuPy": "14.2.0", "CUDA": "13.0", "driver's CUDA": "12.8",
    }  # fmt: skip


def test_times_of_kernels_and_of_layers_that_run_together(monkeypatch):
    monkeypatch.setattr("tinyalex.network.network.Device", lambda name, kernels: ShimDevice("float32"))
    made = recipe.load("paper", SMALL)
    task = {"recipe": recipe.to_toml(made), "batch": 2, "threads": 1, "convolution": "im2col", "tf32": True}
    side = Ours(task | {"devices": ["cpu"]})
    layers, kernels = side.layers(), side.kernels()
    assert "conv1/forward" in layers and "relu1/forward" not in layers and "drop6/backward" not in layers
    names = {name.split("|")[0] for name in kernels}
    assert {"conv1/forward im2col", "conv2/backward col2im", "conv1/forward rectify", "norm1/forward across"} <= names
    assert {"pool1/backward max_pool_backward", "conv3/backward product", "update update"} <= names
    positions, maps = 2 * 15 * 15, 6
    assert kernels["conv1/forward rectify|bytes"] == 4 * (2 * positions * maps + maps)
    patches = 4 * (2 * 67 * 67 * 3 + positions * 364)
    assert kernels["conv1/forward im2col|bytes"] == patches
    assert side.network.devices[0].precision == "tf32"


# Tables, picture and files.


def made_up(names=tuple(contenders.ON_GPU)):
    """Return a result with round numbers: the contenders' steps take 10, 20, 30 ... ms."""
    made, found = recipe.load("paper"), {}
    chosen = contenders.choose(names, 2, "cuda:0")[0]
    described = net.describe(made)
    values = dict.fromkeys(gpu_floor.passes(described, 1), 0.001)
    for number, each in enumerate(chosen, 1):
        found[each.name, "step"] = taken((number / 100, 0.0), loss=1.0)
        found[each.name, "forward"] = taken((number / 1000, 0.0))
        found[each.name, "layers"] = taken((number / 100 + 0.1, 0.0), **values)
        kernels = {"conv1/forward im2col|seconds": 0.001, "conv1/forward im2col|bytes": 2e9}
        kernels |= {"conv1/forward product|seconds": 0.002, "conv1/forward product|bytes": 1e9}
        kernels |= {"conv1/forward im2col|operations": 0, "conv1/forward product|operations": 90e9}
        kernels |= {"loss/forward loss|seconds": 1e-6, "loss/forward loss|bytes": 1, "loss/forward loss|operations": 0}
        if each.compiled:  # its layers cannot be timed one by one
            del found[each.name, "layers"]
        if each.kind == "ours":
            found[each.name, "kernels"] = taken((0.01, 0.0), **kernels)
    found |= {key: taken((1.0, 0.0)) for key in measure.GPU_RATES.values()}
    work = {"product_tf32": 250e12, "product_float32": 45e12, "product_bf16": 500e12, "copy": 4e12}
    versions = {"date": "2026-11-26", "CPU": "CPU of 2 words, and 3", "processors": 16, "threads": 16}
    versions |= {"system": "Linux x86_64", "tinyalex": "0.1.0", "Python": "3.12", "NumPy": "2.5", "BLAS": "b 0.3"}
    machines = {"machine": {"work": work, "tf32": False, "versions": versions | {"GPU": "NVIDIA H200 (140 GiB)"}}}
    machines["machine-tf32"] = machines["machine-bf16"] = machines["machine"] | {"tf32": True}
    ready = machines | {each.name: {"tf32": each.tf32} for each in chosen}
    result = measure.collect(made, chosen, 128, 1, ready, found, {each.name: 2**31 for each in chosen}, "cuda:0")
    return result | {"command": "tinyalex bench --device cuda:0"}


@pytest.fixture(autouse=True)
def with_torch(monkeypatch):
    for what in ("torch", "compiler", "triton"):
        monkeypatch.setattr(contenders, f"{what}_installed", lambda: True)


def test_tables_of_a_gpu():
    result = made_up()
    step, forward, layers, where, kernels, strict, _, half, _ = gpu_tables.tables(result)
    ratios = ["x best TF32", "x best bf16", "x eager TF32", "x eager float32"]
    assert step.heads[1:8] == ["ms", "images/s", *ratios, "time/floor"]
    floors = {name: each["step"] for name, each in result["floors"].items()}
    assert step.rows[0][:7] == ["tinyalex, TF32", "10.00", "12,800", "5.00", "6.00", "7.00", "8.00"]
    assert step.rows[0][7] == f"{0.01 / floors['TF32']:.2f}" and step.rows[1][7] == f"{0.02 / floors['float32']:.2f}"
    assert step.rows[5][0] == "PyTorch's best, bf16" and step.rows[5][7] == f"{0.06 / floors['bf16']:.2f}"
    assert floors["bf16"] < 0.6 * floors["TF32"]
    assert step.rows[4][-1] == "2.00" and forward.rows[1][1] == "2.00"
    assert layers.rows[0][:2] == ["conv1", "1.000 / 1.000"]
    loss = next(row for row in layers.rows if row[0] == "loss")
    assert loss[1] == loss[6] == "1.000 / 1.000"
    assert (where.title, strict.title) == (
        "Where the time goes: tinyalex, TF32", "Where the time goes: tinyalex, float32",
    )  # fmt: skip
    assert half.title == "Where the time goes: tinyalex, bf16"
    assert float(half.rows[0][6]) == pytest.approx(float(where.rows[0][6]) / 2, rel=0.01)
    conv2 = next(row for row in where.rows if row[0] == "conv2")
    over = 0.002 - sum(result["floors"]["TF32"]["layers"][f"conv2/{way}"] for way in ("forward", "backward"))
    assert conv2[5] == f"{1000 * over:.3f}"
    assert float(conv2[6]) == pytest.approx(5.77, rel=0.02) and float(conv2[7]) == pytest.approx(172, rel=0.01)
    assert kernels.rows[0] == ["conv1/forward im2col", "1.000", "2.000", "2,000", "50%", "", ""]
    assert kernels.rows[1] == ["conv1/forward product", "2.000", "1.000", "500", "12%", "45.0", "18%"]
    assert [row[:2] for row in kernels.rows[2:]] == [["1 others", "0.001"], ["all", "3.001"]]
    for table in (step, forward, layers, where, strict, half, kernels):
        assert {len(row) for row in table.rows} == {len(table.heads)}


def test_layers_that_ran_with_the_one_before_are_left_blank():
    result = made_up()
    for way in ("forward", "backward"):
        del result["contenders"][0]["layers"]["values"][f"relu1/{way}"]
    _, _, layers, where, *_ = gpu_tables.tables(result)
    assert layers.rows[1][:2] == ["relu1", ""]
    floor = result["floors"]["TF32"]["layers"]
    assert where.rows[0][:3] == [
        "conv1 relu1",
        "1.000",
        f"{1000 * (floor['conv1/forward'] + floor['relu1/forward']):.3f}",
    ]
    assert where.rows[-2][:5] == ["update", "1.000", f"{1000 * floor['update']:.3f}", "", ""]


def test_report_of_a_gpu():
    text = report.markdown(made_up())
    headline = "tinyalex trains 5.00 times as fast as PyTorch at its best in TF32 and 2.00 times as fast as PyTorch at "
    headline += "its best in bf16"
    assert report.text(made_up()).startswith(f"{headline}\n") and f"**{headline}.**" in text
    assert "at its best" not in report.text(made_up(["tf32", "torch-tf32", "torch-best-bf16"]))
    assert "250.0 TF/s in TF32, 45.0 in float32 and 500.0 in bf16, copies at 4,000 GB/s" in text
    assert "NVIDIA H200 (140 GiB), CPU of 2 words" in text and "the images are on the device before" in text
    assert "Where the time goes: tinyalex, float32" in report.text(made_up())


@pytest.mark.parametrize("names", [["tf32"], list(contenders.ON_GPU)])
def test_no_texts_overlap_in_the_picture_of_a_gpu(names):
    assert_no_overlap(picture.bars(made_up(names)))


@pytest.mark.slow
def test_command_on_a_pretend_device(tmp_path, capsys):
    pytest.importorskip("torch", reason="compares with PyTorch: pip install 'tinyalex[parity]'")
    options = ["--device", "fake:0", "--batch", "4", "--rounds", "1", "--least", "0", "--out", str(tmp_path)]
    names = ["float32", "bf16", "torch-float32", "torch-tf32"]
    assert (
        main(["bench", "paper", *options, *(w for key in SMALL for w in ("--set", key)), "--contenders", *names]) == 0
    )
    printed = capsys.readouterr().out
    for words in (
        "product_tf32",
        "product_bf16",
        "Where the time goes: tinyalex, bf16",
        "Where the time goes: tinyalex, float32",
        "x eager TF32",
        "fake:0 stands for one",
    ):
        assert words in printed
    result = json.loads((tmp_path / "bench.json").read_text())
    assert [each["name"] for each in result["contenders"]] == names
    assert all(each["step"]["values"]["loss"] > 0 for each in result["contenders"])
    assert folders.names(tmp_path) == ["bench.json", "bench.md", "bench.png"]


@pytest.mark.parametrize("option", [["--device", "fake:0", "--contenders", "winograd"], ["--device", "gpu"]])
def test_command_refuses(option, capsys):
    assert main(["bench", *option]) == 2
    assert capsys.readouterr().err.count("\n") == 1
