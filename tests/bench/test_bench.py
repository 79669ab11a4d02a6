"""The benchmark on a CPU: the order of the actions, the samples that count, the floor, the processes, the report.

No test asserts a time, because other programs on the machine change it.
"""

import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.support import folders
from tests.support.figure_checks import assert_no_overlap
from tinyalex import errors
from tinyalex.bench import contenders, measure, net, overview, picture, report, summarize, tables
from tinyalex.bench.cpu_floor import floors, without_column
from tinyalex.bench.layer_times import LayerTimer, timed_layers
from tinyalex.bench.ours import Ours
from tinyalex.bench.process import child_environment, start_process
from tinyalex.bench.timing import Clocks, foreign_share, read_clocks, sample
from tinyalex.cli import main
from tinyalex.commands import bench
from tinyalex.devices import parallel
from tinyalex.recipes import recipe

SMALL = ["net.input=67", "net.maps=[6, 16, 24, 24, 16]", "net.hidden=32", "net.classes=10"]
MACHINE = {"kind": "cpu-rates", "threads": 1, "least": 0.0, "side": 16, "numbers": 1000}


def taken(*pairs, **values):
    """Return samples with these pairs of seconds and foreign share."""
    return [{"seconds": s, "issue": s, "repeats": 1, "foreign": share, "values": values} for s, share in pairs]


# Samples.


def test_foreign_share_is_what_other_programs_used_of_all_processors():
    before = Clocks(wall=10.0, own=3.0, busy=100.0, processors=4)
    assert foreign_share(before, Clocks(12.0, 6.0, 104.0, 4)) == pytest.approx(1 / 8)  # 1 of 2 x 4 processor-seconds
    assert foreign_share(before, Clocks(12.0, 6.0, 102.9, 4)) == 0.0
    assert foreign_share(before, Clocks(12.0, 6.0, None, 4)) is None


def test_sample_repeats_quick_actions():
    counts = itertools.count()
    one = sample(lambda: {"loss": next(counts)})
    assert one["repeats"] == 1 and one["values"] == {"loss": 0} and one["seconds"] > 0
    many = sample(lambda: {"loss": next(counts), "first": 7.0}, least=0.05)
    assert many["repeats"] > 1 and many["seconds"] < 0.05
    assert many["values"] == {"loss": pytest.approx((many["repeats"] + 1) / 2), "first": 7.0}
    assert sample(lambda: None)["values"] == {}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has /proc")
def test_clocks_of_this_machine():
    first, second = read_clocks(), read_clocks()
    assert second.wall > first.wall and second.own >= first.own and second.busy >= first.busy > 0
    assert first.processors == os.cpu_count()


def test_disturbed_samples_are_left_out_if_three_others_remain():
    calm, wild = [(1.0, 0.0), (2.0, 0.12), (9.0, None)], [(5.0, 0.13), (6.0, 0.5)]
    assert [each["seconds"] for each in summarize.undisturbed(taken(*calm, *wild))] == [1.0, 2.0, 9.0]
    assert len(summarize.undisturbed(taken(*calm[:2], *wild))) == 4
    assert len(summarize.undisturbed(taken(*wild))) == 2


def test_medians_are_those_of_undisturbed_samples():
    mixed = taken((3.0, 0.0), (1.0, 0.0), (2.0, 0.05), loss=4.0) + taken((100.0, 0.9), loss=70.0)
    summed = summarize.summary(mixed)
    assert (summed["seconds"], summed["used"], summed["values"]) == (2.0, 3, {"loss": 4.0})
    assert summed["samples"] == mixed
    assert summarize.summary(taken((1.0, 0.9), (2.0, 0.9)))["seconds"] == 1.5


def test_notes_report_disturbed_samples():
    summed = {
        ("im2col", "step"): summarize.summary(taken(*[(1.0, 0.0)] * 4, (2.0, 0.3))),
        ("torch", "step"): summarize.summary(taken(*[(1.0, 0.2)] * 3, (2.0, 0.4))),
        ("winograd", "step"): summarize.summary(taken((1.0, 0.0))),
        ("machine", "copy"): summarize.summary(taken((1.0, 0.9))),
    }
    left_out, counted, machine = summarize.notes(summed)
    assert "im2col 1 of 5 (up to 30%)" in left_out and "are left out" in left_out and "torch" not in left_out
    assert "torch 4 of 4 (up to 40%)" in counted and "all count" in counted
    assert machine.startswith("the machine's rates: ") and "copy 1 of 1" in machine


# The floor.


def test_floor_equals_a_hand_calculation():
    made = recipe.load("paper")
    found = floors(net.describe(made), 128, 200e9, 26e9)
    # 724,406,816 multiply-adds forward; twice as many backward, without the images' gradient in conv1.
    assert found["forward"] == pytest.approx(2 * 724_406_816 / 200e9)
    arithmetic = 2 * (3 * 724_406_816 - 105_415_200) / 200e9
    assert found["step"] == pytest.approx(arithmetic + 4 * 4 * 60_965_224 / 26e9 / 128)
    assert found["layers"]["conv1"] == pytest.approx(2 * 2 * 105_415_200 / 200e9)
    assert found["layers"]["fc8"] == pytest.approx(3 * 2 * 4_096_000 / 200e9)
    assert sum(found["layers"].values()) == pytest.approx(found["step"])
    assert floors(net.describe(made, 2), 128, 200e9, 26e9)["layers"] == pytest.approx(found["layers"])


@pytest.mark.parametrize(("name", "without"), [("conv2a conv2b", "conv2"), ("fc8", "fc8"), ("norm2s", "norm2s")])
def test_names_without_columns(name, without):
    assert without_column(name) == without


# The order of the actions.


class Fake:
    """A contender that adds each request to a common list."""

    def __init__(self, name, requests, loss=1.0):
        self.name, self.requests, self.loss = name, requests, loss

    def request(self, action):
        self.requests.append((self.name, action))
        return taken((len(self.requests), 0.0), loss=self.loss)[0]


def test_contenders_take_turns_and_the_first_round_is_not_kept():
    requests, lines = [], []
    a, b = Fake("a", requests), Fake("b", requests)
    found = measure.interleave([(a, "step"), (b, "step"), (b, "copy")], 2, lines.append)
    assert requests == [("a", "step"), ("b", "step"), ("b", "copy")] * 3
    assert [each["seconds"] for each in found["a", "step"]] == [4, 7]
    assert [each["seconds"] for each in found["b", "copy"]] == [6, 9]
    assert lines[0].startswith("step, warming up: a 1 s, b 2 s, copy 3 s") and "round 2 of 2" in lines[2]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_measurement_ends_if_a_loss_is_not_finite(loss):
    with pytest.raises(errors.DivergedError, match="b: the loss is not finite"):
        measure.interleave([(Fake("a", []), "step"), (Fake("b", [], loss), "step")], 1, str)


def test_contenders_with_different_nets_are_refused():
    measure.check_same_net({"im2col": 0.5, "winograd": 0.50001, "winograd-columns": 0.7, "torch": 0.50002})
    with pytest.raises(RuntimeError, match="torch and winograd are not the same net"):
        measure.check_same_net({"winograd-columns": 0.7, "winograd": 0.5, "torch": 0.502})
    with pytest.raises(errors.DivergedError, match="torch"):
        measure.check_same_net({"winograd": 0.5, "torch": math.nan})


def test_choosing_contenders(monkeypatch):
    monkeypatch.setattr(contenders, "torch_installed", lambda: True)
    chosen, notes = contenders.choose(["torch", "winograd", "torch"], 2)
    assert [each.name for each in chosen] == ["torch", "winograd"] and notes == []
    with pytest.raises(errors.UsageError, match="im2col-columns: this recipe's net has one column"):
        contenders.choose(["im2col-columns"], 1)
    monkeypatch.setattr(contenders, "torch_installed", lambda: False)
    chosen, notes = contenders.choose(contenders.DEFAULT, 2)
    assert [each.name for each in chosen] == ["im2col", "winograd"] and "not installed" in notes[0]
    with pytest.raises(errors.UsageError, match="none of them can run here"):
        contenders.choose(["torch", "torch-tuned"], 2)


def test_default_contenders_have_pytorch_at_its_best(monkeypatch):
    monkeypatch.setattr(contenders, "torch_installed", lambda: True)
    monkeypatch.setattr(contenders, "compiler_installed", lambda: True)
    chosen, notes = contenders.choose(None, 2)
    titles = [each.title for each in chosen if each.kind == "torch"]
    assert titles[2:] == ["PyTorch, channels_last", "PyTorch, compiled", "PyTorch, compiled, channels_last"]
    assert all(each.environment == contenders.MALLOC for each in chosen if "," in each.title and each.kind == "torch")
    assert not notes
    monkeypatch.setattr(contenders, "compiler_installed", lambda: False)
    chosen, notes = contenders.choose(None, 2)
    assert not any(each.compiled for each in chosen) and "install g++" in notes[0]


def test_only_tuned_processes_have_malloc_settings(monkeypatch):
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1")
    monkeypatch.setenv("OTHER", "2")
    assert "MALLOC_TOP_PAD_" not in child_environment({}) and child_environment({})["OTHER"] == "2"
    tuned = child_environment(contenders.ALL["torch-tuned"].environment)
    assert [tuned[key] for key in sorted(contenders.MALLOC)] == ["8589934592", "268435456", "8589934592"]


# Contenders' processes.


def test_process_answers_one_request_at_a_time():
    with start_process("machine", MACHINE, {}) as running:
        assert running.ready["work"] == {"sgemm_one": 2 * 16**3, "sgemm_all": 2 * 16**3, "copy": 8000}
        assert running.ready["versions"]["NumPy"] == np.__version__
        for action in measure.CPU_RATES:
            assert running.request(action)["seconds"] > 0
        assert 10e6 < running.request("peak")["bytes"] < 10e9
        process = running._process
        assert process.poll() is None
    assert process.poll() is not None


def test_process_reports_errors_and_continues():
    with start_process("machine", MACHINE) as running:
        with pytest.raises(RuntimeError, match="machine: AttributeError: .*dance") as caught:
            running.request("dance")
        assert "Traceback" in caught.value.__notes__[0]
        assert running.request("copy")["repeats"] == 1  # the process continues
    with (
        start_process("machine", MACHINE | {"threads": 0}) as running,
        pytest.raises(errors.UsageError, match="threads: 0"),
    ):
        running.request("copy")


def test_process_that_is_killed_is_reported():
    with start_process("winograd", MACHINE) as running:
        running.request("copy")
        os.kill(running._process.pid, signal.SIGKILL)
        with pytest.raises(errors.DeviceError, match="winograd: its process was ended by signal 9"):
            running.request("copy")


def test_output_of_libraries_does_not_mix_with_the_answers():
    code = (
        "from tinyalex.bench import cpu_rates, worker\n"
        "cpu_rates.CpuRates.copy = lambda self: print('printed by a library', flush=True)\n"
        "worker.main()"
    )
    words = f"{json.dumps(MACHINE)}\ncopy\npeak\n"
    done = subprocess.run([sys.executable, "-c", code], input=words, capture_output=True, text=True, check=True)
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 3
    assert "printed by a library" in done.stderr


# The contender tinyalex.


def task(made, **changes):
    common = {"recipe": recipe.to_toml(made), "batch": 5, "threads": parallel.workers().count, "least": 0.0}
    return common | {"kind": "ours", "devices": ["cpu"], "convolution": "im2col"} | changes


@pytest.mark.parametrize("convolution", ["im2col", "winograd"])
@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"]], ids=" ".join)
def test_contender_tinyalex(convolution, devices):
    made = recipe.load("paper", SMALL)
    side = Ours(task(made, convolution=convolution, devices=devices))
    kinds = {type(layer) for _, layer in side.network.layers()}
    before = {(kind, way): vars(kind).get(way) for kind in kinds for way in ("prepare", "forward", "backward")}
    assert side.ready()["fingerprint"] > 0
    side.step()
    assert math.isfinite(side.last_loss()["loss"])
    side.forward()
    side.predict()
    seconds = side.layers()
    names = {without_column(layer.name) for _, layer in side.network.layers()} | {"loss"}
    wanted = {f"{name}/{direction}" for name in names for direction in ("forward", "backward")} | {"update"}
    assert seconds.keys() == wanted and min(seconds.values()) > 0
    assert all(vars(kind).get(way) is method for (kind, way), method in before.items())  # the methods are restored


@pytest.mark.parametrize("other", ["net.norm=none", "net.talk=[]", "net.dropout=0.4", "net.pool=2"])
def test_fingerprints_of_equal_nets_agree_and_of_other_nets_differ(other):
    small = [*SMALL, "net.input=99"]
    made = recipe.load("paper", small)
    found = {name: Ours(task(made, convolution=name)).ready()["fingerprint"] for name in ("im2col", "winograd")}
    measure.check_same_net(found)
    with pytest.raises(RuntimeError):
        measure.check_same_net(
            found | {"winograd": Ours(task(recipe.load("paper", [*small, other]))).ready()["fingerprint"]}
        )


def test_normalization_in_the_grouped_form_runs_over_all_maps():
    groups = {
        columns: [
            layer.groups for _, layer in net.describe(recipe.load("paper"), columns).layers() if "norm" in layer.name
        ]
        for columns in (1, 2)
    }
    assert groups == {1: [1, 1], 2: [1, 1, 1, 1]}


def test_batch():
    images, labels = net.batch(recipe.load("paper", SMALL), 3)
    assert images.shape == (3, 67, 67, 3) and images.dtype == np.float32
    assert abs(images.mean()) < 0.02 and images.std() == pytest.approx(1, abs=0.02)
    assert (images[0] != images[1]).any() and ((labels >= 0) & (labels < 10)).all()


def test_layer_inside_a_layer_is_timed_once():
    timer = LayerTimer()
    with timer.measure("outer"), timer.measure("inner"):
        pass
    with timer.measure("outer"):
        pass
    assert timer.seconds().keys() == {"outer"}


def test_times_of_workers_are_divided_by_their_number():
    count = parallel.workers().count
    timer = LayerTimer()

    def hold(_):
        with timer.measure("shared"):
            pass

    parallel.workers().run(hold, range(max(2, count)))
    assert len(timer._records) == max(2, count)
    made = net.describe(recipe.load("paper", SMALL)).build()
    with timed_layers(made) as timer, pytest.raises(errors.ShapeError):
        made.forward(np.zeros((1, 66, 67, 3), np.float32))
    assert timer.seconds() == {}


# Tables, picture and files.


def made_up(names=("im2col", "winograd", "torch", "torch-tuned"), name="paper"):
    """Return a result with round numbers: the contenders' steps take 1, 2, 3 ... seconds, other actions a tenth."""
    made, found = recipe.load(name), {}
    chosen = [contenders.ALL[each] for each in names]
    described = net.describe(made)
    keys = [f"{without_column(layer.name)}/{way}" for _, layer in described.layers() for way in ("forward", "backward")]
    values = dict.fromkeys([*keys, "loss/forward", "loss/backward", "update"], 0.01)
    for seconds, each in enumerate(chosen, 1):
        found[each.name, "step"] = taken((seconds, 0.0), loss=1.0)
        found[each.name, "forward"] = found[each.name, "predict"] = taken((seconds / 10, 0.0))
        if not each.compiled:
            found[each.name, "layers"] = taken((seconds, 0.0), **values)
    found |= {("machine", rate): taken((1.0, 0.0)) for rate in measure.CPU_RATES}
    work = {"sgemm_one": 1e11, "sgemm_all": 2e11, "copy": 26e9}
    versions = {"date": "2026-11-22", "CPU": "CPU of 2 words, and 3", "processors": 2, "threads": 2}
    versions |= {"system": "Linux x86_64", "tinyalex": "0.1.0", "Python": "3.11", "NumPy": "2.4", "BLAS": "b 0.3"}
    peaks = {each.name: 2**31 for each in chosen}
    ready = {"machine": {"work": work, "versions": versions}}
    return measure.collect(made, chosen, 128, 1, ready, found, peaks) | {"command": "tinyalex bench"}


def test_table_of_steps():
    step, forward, predict, layers = tables.tables(made_up())
    assert step.heads == ["", "ms", "images/s", "x best", "x shipped", "time/floor", "peak GiB"]
    floor = 128 * (2 * (3 * 724_406_816 - 105_415_200) / 2e11 + 16 * 60_965_224 / 26e9 / 128)
    assert step.rows[1] == ["tinyalex, Winograd", "2,000.0", "64.0", "1.50", "1.50", f"{2 / floor:.2f}", "2.00"]
    assert forward.rows[0][:5] == ["tinyalex, im2col", "100.0", "1,280.0", "3.00", "3.00"]
    assert predict.rows[3] == ["PyTorch, malloc tuned", "400.0", "2.5", "0.75", "0.75"]
    assert step.notes[0] == "x best: times as fast as the fastest PyTorch here, PyTorch as shipped."
    assert layers.rows[0][1] == "0.078 / 0.078"  # 10 ms of 128 images
    assert [row[0] for row in layers.rows][-4:] == ["loss", "update", "rest", "all"]
    assert [row[0] for row in layers.rows][:4] == ["conv1", "relu1", "norm1", "pool1"]
    rest = 1 - 0.01 * (2 * len(layers.rows[:-4]) + 3)
    assert layers.rows[-2][1] == f"{1000 * rest / 128:.3f}"
    text = tables.text(step).splitlines()
    assert len({len(line) for line in text[1:6]}) == 1


def test_ratio_is_to_the_fastest_pytorch():
    step, *_, layers = tables.tables(made_up(["torch-compiled", "torch-channels-last", "winograd"]))
    assert [row[3] for row in step.rows] == ["1.00", "0.50", "0.33"] and step.heads[3] == "x best"
    assert step.notes[0].endswith("PyTorch, compiled.") and "x shipped" not in step.heads
    assert layers.heads == ["", "PyTorch, channels_last", "tinyalex, Winograd", "floor"]  # compiled layers are one


def test_tables_without_pytorch_and_with_a_known_epoch():
    step, *_ = tables.tables(made_up(["im2col"], "cifar10-relu"))
    assert step.heads == ["", "ms", "images/s", "time/floor", "peak GiB", "s/epoch"]
    assert step.rows[0][-1] == f"{50_000 / 128:.1f}"  # at a second a step
    assert not any("PyTorch" in note for note in step.notes)


def test_overview_has_one_line_a_recipe_with_the_fastest_pytorch_of_each_action():
    quick, slow = made_up(["winograd", "torch-tuned", "torch-compiled"]), made_up(["winograd"], "cifar10-relu")
    quick["contenders"][1]["predict"]["seconds"] = 0.05
    quick["contenders"][2]["step"]["seconds"] = 1.5
    quick["recipe"], slow["recipe"] = "quick", "alone"
    found = overview.table([quick, slow])
    assert found.rows[0][:5] == ["quick", "128", "1,000.0", "1,500.0", "1.50"]
    assert found.rows[0][5:] == ["100.0", "200.0", "2.00", "100.0", "50.0", "0.50", "compiled"]
    assert found.rows[1] == ["alone", "128", "1,000.0", "", "", "100.0", "", "", "100.0", "", "", ""]
    assert {len(row) for row in found.rows} == {len(found.heads)}


def test_overview_measures_the_recipes_made_for_a_cpu():
    names = [made.name for made in overview.recipes()]
    assert {"paper", "shapes", "cifar10-relu", "tiny-imagenet"} < set(names)
    assert not {"original", "modern", "finetune"} & set(names)


def test_nets_that_pytorch_lacks_are_measured_alone(monkeypatch):
    monkeypatch.setattr(contenders, "torch_installed", lambda: True)
    monkeypatch.setattr(contenders, "compiler_installed", lambda: True)
    chosen, notes = overview.contenders(recipe.load("cifar10-11pct"))
    assert [each.name for each in chosen] == ["winograd"] and "PyTorch lacks a layer" in notes[-1]
    chosen, notes = overview.contenders(recipe.load("cifar10-relu"))
    assert [each.name for each in chosen][:2] == ["winograd", "torch-tuned"] and len(chosen) == 5 and not notes


def test_command_measures_all_recipes(monkeypatch, capsys):
    def measured(made, chosen, batch, rounds, *_, actions):
        if made.name == "broken":
            raise errors.DivergedError("the loss is not finite")
        assert (rounds, actions[0]) == (1, "step")
        asked.append((made.name, [each.name for each in chosen], batch))
        return made_up(["winograd"]) | {"recipe": made.name}

    asked = []
    monkeypatch.setattr(contenders, "torch_installed", lambda: False)
    monkeypatch.setattr(measure, "measure", measured)
    assert main(["bench", "--all", "--rounds", "1", "--set", "learning.batch=32"]) == 0
    assert [each[0] for each in asked] == [made.name for made in overview.recipes()]
    assert all(each[1:] == (["winograd"], 32) for each in asked)
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines() if re.match(r"  [\w-]+ +128 ", line)]
    assert rows == [each[0] for each in asked]
    broken = replace(recipe.load("paper"), name="broken")
    monkeypatch.setattr(overview, "recipes", lambda changes: [recipe.load("paper"), broken])
    assert main(["bench", "--all", "--rounds", "1", "--batch", "2"]) == 5
    assert "\n  paper " in capsys.readouterr().out  # what was measured before the error


@pytest.mark.parametrize(
    "options", [["--device", "fake:0"], ["--no-kernels"], ["--contenders", "torch"], ["--rounds", "0"]]
)
def test_command_for_all_recipes_refuses(options, capsys):
    assert main(["bench", "--all", *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_markdown_has_every_table_complete():
    text = report.markdown(made_up())
    assert text.startswith("## `paper`, batch 128, 2026-11-22\n") and text.count("**") == 8
    rows = [line for line in text.splitlines() if line.startswith("|")]
    widths = {line.count("|") for line in rows}
    assert len(rows) == 3 * 6 + len(made_up()["layers"]) + 6 and widths == {8, 7, 6}
    assert "100 GF/s on one thread and 200 on 2, copies at 26.0 GB/s" in text


@pytest.mark.parametrize("names", [["im2col"], list(contenders.ON_CPU)])
def test_no_texts_overlap_in_the_picture(names):
    assert_no_overlap(picture.bars(made_up(names)))


def test_command_measures_and_writes_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(contenders, "torch_installed", lambda: False)
    options = ["--batch", "4", "--rounds", "2", "--least", "0", "--out", str(tmp_path / "out"), "--threads", "2"]
    chosen = ["--contenders", "im2col", "winograd", "winograd-columns", "torch"]
    command = ["bench", "paper", *options, *chosen, *(word for key in SMALL for word in ("--set", key))]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("PyTorch is not installed")
    for words in ("step, round 2 of 2: im2col", "Training step, 4 images", "Winograd, cpu cpu", "GF/s", "2 threads"):
        assert words in printed
    assert folders.names(tmp_path / "out") == ["bench.json", "bench.md", "bench.png"]
    result = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert [each["name"] for each in result["contenders"]] == ["im2col", "winograd", "winograd-columns"]
    for each in result["contenders"]:
        assert all(len(each[action]["samples"]) == 2 for action in measure.CPU_ACTIONS)
        assert each["peak"] > 0
    assert recipe.parse(result["toml"]).net.hidden == 32
    assert "PyTorch is not installed" in (tmp_path / "out" / "bench.md").read_text()
    with Image.open(tmp_path / "out" / "bench.png") as drawn:
        assert drawn.size[0] > 1000


@pytest.mark.parametrize("option", [["--rounds", "0"], ["--batch", "0"], ["--contenders", "nobody"], ["shapes-2"]])
def test_command_refuses(option, capsys):
    assert main(["bench", *option]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_command_line_repeats_the_measurement():
    class Options:
        recipe, batch, rounds, threads, device, set = "paper", 32, 7, 2, "cpu", ["net.maps=[1, 2]"]
        kernels = True

    line = bench.command_line(Options, ["winograd"])
    assert (
        line == "tinyalex bench paper --batch 32 --rounds 7 --threads 2 --set 'net.maps=[1, 2]' --contenders winograd"
    )
    Options.device, Options.threads = "cuda:1", None
    line = bench.command_line(Options, ["tf32"])
    assert line.endswith("--rounds 7 --device cuda:1 --set 'net.maps=[1, 2]' --contenders tf32")
    Options.kernels = False
    assert " --device cuda:1 --no-kernels --set " in bench.command_line(Options, ["tf32"])


def test_bench_without_kernels_says_so(tmp_path, capsys):
    options = [
        "--batch",
        "2",
        "--rounds",
        "1",
        "--least",
        "0",
        "--threads",
        "1",
        "--no-kernels",
        "--out",
        str(tmp_path),
    ]
    command = [
        "bench",
        "paper",
        *options,
        "--contenders",
        "im2col",
        *(word for key in SMALL for word in ("--set", key)),
    ]
    assert main(command) == 0
    assert "readable layers (--no-kernels)" in capsys.readouterr().out
    result = json.loads((tmp_path / "bench.json").read_text())
    assert " --no-kernels " in result["command"] and any("--no-kernels" in note for note in result["notes"])


def test_a_measurement_that_is_stopped_keeps_what_it_has(tmp_path, monkeypatch):
    asked = measure.interleave

    def stopped(turns, *arguments):
        if turns[0][1] == "predict":
            raise KeyboardInterrupt
        return asked(turns, *arguments)

    monkeypatch.setattr(measure, "interleave", stopped)
    options = ["--batch", "2", "--rounds", "1", "--least", "0", "--out", str(tmp_path), "--contenders", "winograd"]
    assert main(["bench", "paper", *options, *(word for key in SMALL for word in ("--set", key))]) == 130
    text, result = (tmp_path / "bench.md").read_text(), json.loads((tmp_path / "bench.json").read_text())
    assert "- not measured to the end." in text and "Training step" in text and "Forward alone" in text
    assert "One image" not in text and "Layer by layer" not in text
    assert {"step", "forward"} <= result["contenders"][0].keys() and "predict" not in result["contenders"][0]
