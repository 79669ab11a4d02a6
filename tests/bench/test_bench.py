"""The side-by-side measurement: who is asked when, which samples count, what the floor is, what is written.

No time is asserted: what else runs on the machine matters too much.
"""

import itertools
import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.support.looking import assert_tidy
from tinyalex import errors
from tinyalex.bench import contenders, measure, net, picture, report, samples, tables
from tinyalex.bench.clock import Reading, foreign, reading, sample
from tinyalex.bench.floor import floors, plain
from tinyalex.bench.layer_clock import Clock, clocked
from tinyalex.bench.ours import Ours
from tinyalex.bench.talk import started, surroundings
from tinyalex.cli import main
from tinyalex.commands import bench
from tinyalex.devices import parallel
from tinyalex.recipes import recipe

SMALL = ["net.input=67", "net.maps=[6, 16, 24, 24, 16]", "net.hidden=32", "net.classes=10"]
MACHINE = {"kind": "machine", "threads": 1, "least": 0.0, "side": 16, "numbers": 1000}


def taken(*pairs, **values):
    """Samples of given seconds and foreign shares."""
    return [{"seconds": s, "issue": s, "repeats": 1, "foreign": share, "values": values} for s, share in pairs]


# Samples.


def test_foreign_use_is_what_others_had_of_all_processors():
    before = Reading(wall=10.0, own=3.0, busy=100.0, processors=4)
    assert foreign(before, Reading(12.0, 6.0, 104.0, 4)) == pytest.approx(1 / 8)  # 1 of 2 x 4 processor-seconds
    assert foreign(before, Reading(12.0, 6.0, 102.9, 4)) == 0.0
    assert foreign(before, Reading(12.0, 6.0, None, 4)) is None


def test_a_sample_repeats_what_is_quick():
    counts = itertools.count()
    one = sample(lambda: {"loss": next(counts)})
    assert one["repeats"] == 1 and one["values"] == {"loss": 0} and one["seconds"] > 0
    many = sample(lambda: {"loss": next(counts), "first": 7.0}, least=0.05)
    assert many["repeats"] > 1 and many["seconds"] < 0.05
    assert many["values"] == {"loss": pytest.approx((many["repeats"] + 1) / 2), "first": 7.0}
    assert sample(lambda: None)["values"] == {}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_the_clocks_of_this_machine():
    first, second = reading(), reading()
    assert second.wall > first.wall and second.own >= first.own and second.busy >= first.busy > 0
    assert first.processors == os.cpu_count()


def test_disturbed_samples_are_left_out_where_three_others_remain():
    calm, wild = [(1.0, 0.0), (2.0, 0.12), (9.0, None)], [(5.0, 0.13), (6.0, 0.5)]
    assert [each["seconds"] for each in samples.kept(taken(*calm, *wild))] == [1.0, 2.0, 9.0]
    assert len(samples.kept(taken(*calm[:2], *wild))) == 4
    assert len(samples.kept(taken(*wild))) == 2


def test_medians_are_those_of_the_samples_that_count():
    mixed = taken((3.0, 0.0), (1.0, 0.0), (2.0, 0.05), loss=4.0) + taken((100.0, 0.9), loss=70.0)
    summed = samples.summary(mixed)
    assert (summed["seconds"], summed["used"], summed["values"]) == (2.0, 3, {"loss": 4.0})
    assert summed["samples"] == mixed
    assert samples.summary(taken((1.0, 0.9), (2.0, 0.9)))["seconds"] == 1.5


def test_notes_tell_what_was_disturbed():
    summed = {
        ("im2col", "step"): samples.summary(taken(*[(1.0, 0.0)] * 4, (2.0, 0.3))),
        ("torch", "step"): samples.summary(taken(*[(1.0, 0.2)] * 3, (2.0, 0.4))),
        ("winograd", "step"): samples.summary(taken((1.0, 0.0))),
        ("machine", "copy"): samples.summary(taken((1.0, 0.9))),
    }
    out, kept, machine = samples.notes(summed)
    assert "im2col 1 of 5 (up to 30%)" in out and "left out" in out and "torch" not in out
    assert "torch 4 of 4 (up to 40%)" in kept and "all count" in kept
    assert machine.startswith("the machine's rates: ") and "copy 1 of 1" in machine


# The floor.


def test_the_floor_against_a_hand_calculation():
    made = recipe.load("paper")
    found = floors(net.describe(made), 128, 200e9, 26e9)
    # 724,406,816 multiply-adds forward; twice more backward, but for the images' gradient of conv1.
    assert found["forward"] == pytest.approx(2 * 724_406_816 / 200e9)
    arithmetic = 2 * (3 * 724_406_816 - 105_415_200) / 200e9
    assert found["step"] == pytest.approx(arithmetic + 4 * 4 * 60_965_224 / 26e9 / 128)
    assert found["layers"]["conv1"] == pytest.approx(2 * 2 * 105_415_200 / 200e9)
    assert found["layers"]["fc8"] == pytest.approx(3 * 2 * 4_096_000 / 200e9)
    assert sum(found["layers"].values()) == pytest.approx(found["step"])
    assert floors(net.describe(made, 2), 128, 200e9, 26e9)["layers"] == pytest.approx(found["layers"])


@pytest.mark.parametrize(("name", "without"), [("conv2a conv2b", "conv2"), ("fc8", "fc8"), ("norm2s", "norm2s")])
def test_names_without_columns(name, without):
    assert plain(name) == without


# Who is asked when.


class Fake:
    """A contender that keeps a list of what everybody was asked."""

    def __init__(self, name, asked, loss=1.0):
        self.name, self.asked, self.loss = name, asked, loss

    def ask(self, word):
        self.asked.append((self.name, word))
        return taken((len(self.asked), 0.0), loss=self.loss)[0]


def test_contenders_take_turns_and_the_first_round_does_not_count():
    asked, said = [], []
    a, b = Fake("a", asked), Fake("b", asked)
    found = measure.in_turn([(a, "step"), (b, "step"), (b, "copy")], 2, said.append)
    assert asked == [("a", "step"), ("b", "step"), ("b", "copy")] * 3
    assert [each["seconds"] for each in found["a", "step"]] == [4, 7]
    assert [each["seconds"] for each in found["b", "copy"]] == [6, 9]
    assert said[0].startswith("step, warming up: a 1 s, b 2 s, copy 3 s") and "round 2 of 2" in said[2]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_it(loss):
    with pytest.raises(errors.DivergedError, match="b: the loss is not finite"):
        measure.in_turn([(Fake("a", []), "step"), (Fake("b", [], loss), "step")], 1, str)


def test_other_nets_are_refused():
    measure.same_net({"im2col": 0.5, "winograd": 0.50001, "winograd-columns": 0.7, "torch": 0.50002})
    with pytest.raises(RuntimeError, match="torch and winograd are not the same net"):
        measure.same_net({"winograd-columns": 0.7, "winograd": 0.5, "torch": 0.502})
    with pytest.raises(errors.DivergedError, match="torch"):
        measure.same_net({"winograd": 0.5, "torch": math.nan})


def test_choosing_contenders(monkeypatch):
    monkeypatch.setattr(contenders, "torch_is_there", lambda: True)
    chosen, notes = contenders.choose(["torch", "winograd", "torch"], 2)
    assert [each.name for each in chosen] == ["torch", "winograd"] and notes == []
    with pytest.raises(errors.UsageError, match="im2col-columns: this recipe's net has one column"):
        contenders.choose(["im2col-columns"], 1)
    monkeypatch.setattr(contenders, "torch_is_there", lambda: False)
    chosen, notes = contenders.choose(contenders.DEFAULT, 2)
    assert [each.name for each in chosen] == ["im2col", "winograd"] and "not installed" in notes[0]
    with pytest.raises(errors.UsageError, match="none of them"):
        contenders.choose(["torch", "torch-tuned"], 2)


def test_only_tuned_processes_have_malloc_settings(monkeypatch):
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1")
    monkeypatch.setenv("OTHER", "2")
    assert "MALLOC_TOP_PAD_" not in surroundings({}) and surroundings({})["OTHER"] == "2"
    tuned = surroundings(contenders.ALL["torch-tuned"].environment)
    assert [tuned[key] for key in sorted(contenders.MALLOC)] == ["8589934592", "268435456", "8589934592"]


# Talking to a process.


def test_a_process_answers_one_word_at_a_time():
    with started("machine", MACHINE, {}) as talk:
        assert talk.ready["work"] == {"sgemm_one": 2 * 16**3, "sgemm_all": 2 * 16**3, "copy": 8000}
        assert talk.ready["versions"]["NumPy"] == np.__version__
        for word in measure.RATES:
            assert talk.ask(word)["seconds"] > 0
        assert 10e6 < talk.ask("peak")["bytes"] < 10e9
        process = talk._process
        assert process.poll() is None
    assert process.poll() is not None


def test_a_process_that_cannot_do_it_says_why():
    with started("machine", MACHINE) as talk:
        with pytest.raises(RuntimeError, match="machine: AttributeError: .*dance") as caught:
            talk.ask("dance")
        assert "Traceback" in caught.value.__notes__[0]
        assert talk.ask("copy")["repeats"] == 1  # and goes on
    with started("machine", MACHINE | {"threads": 0}) as talk, pytest.raises(errors.UsageError, match="threads: 0"):
        talk.ask("copy")


def test_a_process_that_is_killed():
    with started("winograd", MACHINE) as talk:
        talk.ask("copy")
        os.kill(talk._process.pid, signal.SIGKILL)
        with pytest.raises(errors.DeviceError, match="winograd: its process was ended by signal 9"):
            talk.ask("copy")


def test_what_libraries_print_does_not_get_between_the_answers():
    code = (
        "from tinyalex.bench import machine, worker\n"
        "machine.Machine.copy = lambda self: print('a library says hello', flush=True)\n"
        "worker.main()"
    )
    words = f"{json.dumps(MACHINE)}\ncopy\npeak\n"
    done = subprocess.run([sys.executable, "-c", code], input=words, capture_output=True, text=True, check=True)
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 3
    assert "a library says hello" in done.stderr


# Our side.


def task(made, **changes):
    common = {"recipe": recipe.to_toml(made), "batch": 5, "threads": parallel.workers().count, "least": 0.0}
    return common | {"kind": "ours", "devices": ["cpu"], "convolution": "im2col"} | changes


@pytest.mark.parametrize("convolution", ["im2col", "winograd"])
@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"]], ids=" ".join)
def test_our_side(convolution, devices):
    made = recipe.load("paper", SMALL)
    side = Ours(task(made, convolution=convolution, devices=devices))
    kinds = {type(layer) for _, layer in side.network.layers()}
    before = {(kind, way): vars(kind).get(way) for kind in kinds for way in ("prepare", "forward", "backward")}
    assert side.ready()["fingerprint"] > 0
    side.step()
    assert math.isfinite(side.last()["loss"])
    side.forward()
    side.predict()
    seconds = side.layers()
    names = {plain(layer.name) for _, layer in side.network.layers()} | {"loss"}
    wanted = {f"{name}/{direction}" for name in names for direction in ("forward", "backward")} | {"update"}
    assert seconds.keys() == wanted and min(seconds.values()) > 0
    assert all(vars(kind).get(way) is method for (kind, way), method in before.items())  # themselves again


@pytest.mark.parametrize("other", ["net.norm=none", "net.talk=[]", "net.dropout=0.4", "net.pool=2"])
def test_grouped_nets_answer_alike_and_other_nets_otherwise(other):
    small = [*SMALL, "net.input=99"]
    made = recipe.load("paper", small)
    found = {name: Ours(task(made, convolution=name)).ready()["fingerprint"] for name in ("im2col", "winograd")}
    measure.same_net(found)
    with pytest.raises(RuntimeError):
        measure.same_net(found | {"winograd": Ours(task(recipe.load("paper", [*small, other]))).ready()["fingerprint"]})


def test_normalization_runs_over_all_maps_in_the_grouped_form():
    groups = {
        columns: [
            layer.groups for _, layer in net.describe(recipe.load("paper"), columns).layers() if "norm" in layer.name
        ]
        for columns in (1, 2)
    }
    assert groups == {1: [1, 1], 2: [1, 1, 1, 1]}


def test_the_batch():
    images, labels = net.batch(recipe.load("paper", SMALL), 3)
    assert images.shape == (3, 67, 67, 3) and images.dtype == np.float32
    assert abs(images.mean()) < 0.02 and images.std() == pytest.approx(1, abs=0.02)
    assert (images[0] != images[1]).any() and ((labels >= 0) & (labels < 10)).all()


def test_a_layer_within_a_layer_is_timed_once():
    clock = Clock()
    with clock.measure("outer"), clock.measure("inner"):
        pass
    with clock.measure("outer"):
        pass
    assert clock.seconds().keys() == {"outer"}


def test_the_clock_divides_what_workers_share():
    count = parallel.workers().count
    clock = Clock()

    def hold(_):
        with clock.measure("shared"):
            pass

    parallel.workers().run(hold, range(max(2, count)))
    assert len(clock._records) == max(2, count)
    made = net.describe(recipe.load("paper", SMALL)).build()
    with clocked(made) as clock, pytest.raises(errors.ShapeError):
        made.forward(np.zeros((1, 66, 67, 3), np.float32))
    assert clock.seconds() == {}


# What is written.


def made_up(names=("im2col", "winograd", "torch", "torch-tuned"), name="paper"):
    """A result with round numbers: a step of `batch` images takes 1, 2, 3 ... seconds, everything else a tenth."""
    made, found = recipe.load(name), {}
    chosen = [contenders.ALL[each] for each in names]
    described = net.describe(made)
    keys = [f"{plain(layer.name)}/{way}" for _, layer in described.layers() for way in ("forward", "backward")]
    values = dict.fromkeys([*keys, "loss/forward", "loss/backward", "update"], 0.01)
    for seconds, each in enumerate(chosen, 1):
        found[each.name, "step"] = taken((seconds, 0.0), loss=1.0)
        found[each.name, "forward"] = found[each.name, "predict"] = taken((seconds / 10, 0.0))
        found[each.name, "layers"] = taken((seconds, 0.0), **values)
    found |= {("machine", rate): taken((1.0, 0.0)) for rate in measure.RATES}
    work = {"sgemm_one": 1e11, "sgemm_all": 2e11, "copy": 26e9}
    versions = {"date": "2026-11-22", "CPU": "CPU of 2 words, and 3", "processors": 2, "threads": 2}
    versions |= {"system": "Linux x86_64", "tinyalex": "0.1.0", "Python": "3.11", "NumPy": "2.4", "BLAS": "b 0.3"}
    peaks = {each.name: 2**31 for each in chosen}
    ready = {"machine": {"work": work, "versions": versions}}
    return measure.result(made, chosen, 128, 1, ready, found, peaks) | {"command": "tinyalex bench"}


def test_the_table_of_steps():
    step, forward, predict, layers = tables.tables(made_up())
    assert step.heads == ["", "ms", "images/s", "x tuned", "x shipped", "time/floor", "peak GiB"]
    floor = 128 * (2 * (3 * 724_406_816 - 105_415_200) / 2e11 + 16 * 60_965_224 / 26e9 / 128)
    assert step.rows[1] == ["tinyalex, Winograd", "2,000.0", "64.0", "2.00", "1.50", f"{2 / floor:.2f}", "2.00"]
    assert forward.rows[0][:5] == ["tinyalex, im2col", "100.0", "1,280.0", "4.00", "3.00"]
    assert predict.rows[3] == ["PyTorch, malloc tuned", "400.0", "2.5", "1.00", "0.75"]
    assert layers.rows[0][1] == "0.078 / 0.078"  # 10 ms of 128 images
    assert [row[0] for row in layers.rows][-4:] == ["loss", "update", "rest", "all"]
    assert [row[0] for row in layers.rows][:4] == ["conv1", "relu1", "norm1", "pool1"]
    rest = 1 - 0.01 * (2 * len(layers.rows[:-4]) + 3)
    assert layers.rows[-2][1] == f"{1000 * rest / 128:.3f}"
    text = tables.text(step).splitlines()
    assert len({len(line) for line in text[1:6]}) == 1


def test_tables_without_pytorch_and_of_a_known_epoch():
    step, *_ = tables.tables(made_up(["im2col"], "cifar10-relu"))
    assert step.heads == ["", "ms", "images/s", "time/floor", "peak GiB", "s/epoch"]
    assert step.rows[0][-1] == f"{50_000 / 128:.1f}"  # a second a step
    assert not any("PyTorch" in note for note in step.notes)


def test_markdown_has_every_table_whole():
    text = report.markdown(made_up())
    assert text.startswith("## `paper`, batch 128, 2026-11-22\n") and text.count("**") == 8
    rows = [line for line in text.splitlines() if line.startswith("|")]
    widths = {line.count("|") for line in rows}
    assert len(rows) == 3 * 6 + len(made_up()["layers"]) + 6 and widths == {8, 7, 6}
    assert "100 GF/s on one thread and 200 on 2, copies at 26.0 GB/s" in text


@pytest.mark.parametrize("names", [["im2col"], list(contenders.ON_PROCESSOR)])
def test_the_picture_is_tidy(names):
    assert_tidy(picture.bars(made_up(names)))


def test_the_command_measures_and_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(contenders, "torch_is_there", lambda: False)
    options = ["--batch", "4", "--rounds", "2", "--least", "0", "--out", str(tmp_path / "out"), "--threads", "2"]
    chosen = ["--contenders", "im2col", "winograd", "winograd-columns", "torch"]
    command = ["bench", "paper", *options, *chosen, *(word for key in SMALL for word in ("--set", key))]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert said.startswith("PyTorch is not installed")
    for words in ("step, round 2 of 2: im2col", "Training step, 4 images", "Winograd, cpu cpu", "GF/s", "2 threads"):
        assert words in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["bench.json", "bench.md", "bench.png"]
    result = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert [each["name"] for each in result["contenders"]] == ["im2col", "winograd", "winograd-columns"]
    for each in result["contenders"]:
        assert all(len(each[action]["samples"]) == 2 for action in measure.ACTIONS)
        assert each["peak"] > 0
    assert recipe.parse(result["toml"]).net.hidden == 32
    assert "PyTorch is not installed" in (tmp_path / "out" / "bench.md").read_text()
    with Image.open(tmp_path / "out" / "bench.png") as drawn:
        assert drawn.size[0] > 1000


@pytest.mark.parametrize("option", [["--rounds", "0"], ["--batch", "0"], ["--contenders", "nobody"], ["shapes-2"]])
def test_the_command_refuses(option, capsys):
    assert main(["bench", *option]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_line_measures_the_same_again():
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
