"""A rehearsal of a full run: recipe `original`, its 91 epochs compressed into three, interrupted twice and resumed.

    python -m tests.programs.rehearsal --devices cuda:0 cuda:0 --out FOLDER

Writes shards of synthetic images, trains once without interruption, and once interrupted by SIGKILL after the first
epoch and by SIGTERM while layer 1 is frozen. The two runs must end with the same bits, the learning rates must be those
of the schedule, and `tinyalex evaluate` must give what the log says. The table is of the uninterrupted run. Both train
at the same time, unless ``--apart``. ``--size small`` is a small net with the same phases, for any device. The exit
code is 0 only if all is right.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.support import prepared_sets
from tinyalex.recipes import recipe
from tinyalex.runs import checkpoint, run_folder
from tinyalex.training import schedule

EPOCHS = 3
# The real command, without the figures drawn at the end, which take longer than training the small net.
WITHOUT_FIGURES = """
import sys
from tinyalex.cli import main
from tinyalex.commands import train
train.draw = lambda *_: []
sys.exit(main(sys.argv[1:]))
"""
SMALL_NET = ["net.input=20", "net.maps=[4, 8, 8, 8, 8]", "net.kernels=[5, 3, 3, 3, 3]", "net.stride=1", "net.hidden=16",
             "net.classes=5", "learning.batch=8", 'init.weights={ default = "he" }', "data.scale=0.02"]  # fmt: skip


class Size(NamedTuple):
    """Size of a rehearsal: overrides of the recipe, pixels a side, classes, training and test images, how to run it."""

    settings: list
    side: int
    classes: int
    train: int
    test: int
    command: list


SIZES = {
    "full": Size([], 256, 1000, 4096, 512, ["-m", "tinyalex"]),
    "small": Size(SMALL_NET, 24, 5, 96, 16, ["-c", WITHOUT_FIGURES]),
}


class TooLate(Exception):
    """A run was already past the step at which it should be interrupted."""


def compressed(size):
    """Return the recipe with fewer epochs; its phases move in proportion.

    Phases with another colour noise are rounded to the start of an epoch, since the noise is constant within one.
    """
    made = recipe.load("original", [*size.settings, f"learning.epochs={EPOCHS}"])
    phases, noise = [], made.data.colour_noise
    for phase in made.learning.phases:
        now = noise if phase.colour_noise is None else phase.colour_noise
        phases.append(phase if now == noise else replace(phase, epoch=float(round(phase.epoch))))
        noise = now
    return replace(made, learning=replace(made.learning, phases=tuple(phases)))


class Rehearsal:
    """A folder with a data set, a recipe and two runs; on exit it kills the processes that it started.

    Parameters
    ----------
    out : Path
        The rehearsal writes everything in it anew.
    devices : list of str
    size : Size
    """

    def __init__(self, out, devices, size):
        self.out, self.devices, self.size, self.recipe = Path(out), devices, size, compressed(size)
        self.whole, self.broken = self.out / "uninterrupted", self.out / "interrupted"
        self.stopped = self.out / "stopped.safetensors"
        self.steps = -(-size.train // self.recipe.learning.batch)  # in an epoch
        self.report, self.wrong, self._started = [], [], []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self._started:
            process.kill()
            process.wait()

    def prepare(self):
        """Write the data set and the recipe."""
        for name in ("data", "uninterrupted", "interrupted"):
            shutil.rmtree(self.out / name, ignore_errors=True)
        draw = {"draw": prepared_sets.cheap_pictures} if self.size.side > 100 else {}
        counts = {"train": self.size.train, "test": self.size.test, "per_shard": max(8, self.size.train // 4)}
        prepared_sets.make(self.out / "data", size=self.size.side, classes=self.size.classes, **counts, **draw)
        (self.out / "rehearsal.toml").write_text(recipe.to_toml(self.recipe), encoding="utf-8")

    def tinyalex(self, *arguments, log=subprocess.PIPE):
        """Start a command of tinyalex, with cuBLAS set to give the same bits every time."""
        env = os.environ | {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "MPLBACKEND": "Agg"}
        command = [sys.executable, *self.size.command, *map(str, arguments), "--devices", *self.devices]
        self._started.append(subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT, text=True))
        return self._started[-1]

    def train(self, run):
        """Start or resume training."""
        with (self.out / f"{run.name}.txt").open("a", encoding="utf-8") as log:
            return self.tinyalex(
                "train", self.out / "rehearsal.toml", "--data", self.out / "data", "--out", run, log=log
            )

    def finish(self, process, run):
        """Wait for training to end; SystemExit if it fails."""
        if process.wait():
            raise SystemExit(f"train ended with {process.returncode}: {_last(self.out / f'{run.name}.txt')}")

    def interrupt(self, number, step, code):
        """Start or resume training and send a signal after so many steps; return the step of the newest checkpoint."""
        process = self.train(self.broken)
        while not any(record["step"] >= step for record in run_folder.read_log(self.broken)):
            if process.poll() is not None:
                raise SystemExit(f"train ended with {process.returncode}: {_last(self.out / 'interrupted.txt')}")
            time.sleep(0.002)
        process.send_signal(number)
        if process.wait() == 0:
            raise TooLate
        self.expect(process.returncode == code, f"{number.name}: exit code {process.returncode}, not {code}")
        reached = max(record["step"] for record in run_folder.read_log(self.broken))
        saved = int(_newest(self.broken).stem.partition("-")[2])
        self.report.append(
            f"{number.name} at step {reached}, exit code {process.returncode}: resumes from step {saved}"
        )
        return saved

    def broken_twice(self):
        """Train, interrupted by SIGKILL and by SIGTERM, and keep the checkpoint that SIGTERM caused."""
        frozen = next(phase.epoch for phase in self.recipe.learning.phases if phase.lr_mult.get("conv1") == 0.0)
        first = self.interrupt(signal.SIGKILL, round(1.3 * self.steps), -signal.SIGKILL)
        if first > self.steps:
            raise TooLate
        self.expect(first == self.steps, f"killed in epoch 2, it resumes from step {first}, not from {self.steps}")
        stopped = self.interrupt(signal.SIGTERM, int(frozen * self.steps) + 1, 75)
        self.expect(stopped > frozen * self.steps, f"stopped at step {stopped}, before conv1 was frozen")
        self.stopped.unlink(missing_ok=True)
        os.link(_newest(self.broken), self.stopped)  # the run folder removes it later
        self.finish(self.train(self.broken), self.broken)

    def expect(self, true, what):
        """Record a failure unless a condition is true."""
        if not true:
            self.wrong.append(what)

    def run(self, apart=False):
        """Train once without and once with interruptions, then compare."""
        process = self.train(self.whole)
        if apart:
            self.finish(process, self.whole)
        for _ in range(5):
            try:
                self.broken_twice()
                break
            except TooLate:  # a signal that arrives late on a busy machine tests nothing: try again
                shutil.rmtree(self.broken)
                self.report.clear()
        else:
            raise SystemExit("every signal came too late: give more --images")
        self.finish(process, self.whole)
        self.compare()
        self.evaluate()

    def compare(self):
        """Compare the runs with each other, with the checkpoint that SIGTERM caused, and with the schedule."""
        (tensors, metadata), (resumed, resumed_metadata) = (
            checkpoint.read(_newest(run)) for run in (self.whole, self.broken)
        )
        self.expect(metadata["step"] == EPOCHS * self.steps, f"the last checkpoint is of step {metadata['step']}")
        self.expect(metadata == resumed_metadata, "the metadata of the last checkpoints differ")
        other = [name for name in tensors.keys() | resumed.keys() if not _same(tensors.get(name), resumed.get(name))]
        self.expect(not other, f"interrupted, {len(other)} tensors differ at the end: {sorted(other)[:4]}")
        size = sum(tensor.nbytes for tensor in tensors.values()) / 1e6
        self.report.append(f"{len(tensors)} tensors of {size:.3g} MB: {len(tensors) - len(other)} equal to the bit")
        before, stopped = checkpoint.read(self.stopped)
        self.check_frozen(before, resumed, stopped["step"])
        tests = [[_plain(record) for record in _events(run, "test")] for run in (self.whole, self.broken)]
        self.expect(len(tests[0]) == EPOCHS and tests[0] == tests[1], f"the logs' tests differ: {tests}")
        for run in (self.whole, self.broken):
            for record in _events(run, "train"):
                rate = schedule.rates(self.recipe.learning, record["step"] / self.steps).rate
                self.expect(
                    np.isclose(record["rate"], rate), f"step {record['step']}: rate {record['rate']}, not {rate}"
                )

    def check_frozen(self, before, after, step):
        """Check that layer 1, weights and momenta, has not changed since a step, and that the others have.

        A bias of 1 need not change, if an update is smaller than its last bit; its momentum must.
        """
        changed = {name for name in after if not _same(before[name], after[name])}
        frozen = {name for name in after if "conv1" in name}
        free = {name for name in after.keys() - frozen if name.endswith("/W") or name.startswith("momentum/")}
        self.expect(not changed & frozen, f"from step {step} on {sorted(changed & frozen)} changed, which was frozen")
        self.expect(free <= changed, f"from step {step} on {sorted(free - changed)} did not change")
        self.report.append(f"from step {step} on conv1 did not change and {len(changed)} other tensors did")

    def evaluate(self):
        """Check that `tinyalex evaluate` gives what the log says of the last test."""
        process = self.tinyalex("evaluate", self.broken, "--data", self.out / "data", "--json")
        text = process.communicate()[0]
        if process.returncode:
            raise SystemExit(f"evaluate ended with {process.returncode}: {text.strip()}")
        score, test = json.loads(text), _events(self.whole, "test")[-1]
        for key in ("count", "loss", "top1_error", "top5_error"):
            if key not in test:  # the top-5 error of few classes, which is always 0
                continue
            self.expect(np.isclose(score[key], test[key], rtol=1e-6), f"evaluate: {key} {score[key]}, not {test[key]}")
        self.report.append(f"evaluated: top-1 error {score['top1_error']:.2%}, as logged")

    def table(self):
        """Yield the lines of a table with the phases of the uninterrupted run."""
        yield "        epochs     rate bias rate  noise  conv1       s  images/s  waited"
        starts = [phase.epoch for phase in self.recipe.learning.phases]
        waited = {record["epoch"]: record["waited"] for record in _events(self.whole, "epoch")}
        for start, end in pairwise([*starts, EPOCHS]):
            now = schedule.rates(self.recipe.learning, start)
            noise = self.recipe.data.colour_noise if now.colour_noise is None else now.colour_noise
            conv1 = {0.0: "frozen", 1.0: "-"}.get(now.lr_mult.get("conv1", 1.0), f"x {now.lr_mult.get('conv1', 1.0):g}")
            steps, seconds = self.pace(start, end)
            speed = f"{steps * self.recipe.learning.batch / seconds:,.0f}" if seconds else "-"
            most = max(share for epoch, share in waited.items() if start < epoch and epoch - 1 < end)
            yield (f"{start:6.2f} to {end:4.2f} {now.rate:8g} {now.bias_rate:9g} {noise:6g} {conv1:>6} {seconds:7.2f} "
                   f"{speed:>9} {most:7.1%}")  # fmt: skip

    def pace(self, start, end):
        """Return the number of steps in a part of the run that the log has times for, and their seconds."""
        steps, seconds = 0, 0.0
        for before, after in pairwise(_events(self.whole, "train")):
            inside = start * self.steps < after["step"] <= end * self.steps
            if inside and before["step"] % self.steps:  # between epochs there is a test
                steps, seconds = steps + after["step"] - before["step"], seconds + after["time"] - before["time"]
        return steps, seconds


def _events(run, event):
    return [record for record in run_folder.read_log(run) if record["event"] == event]


def _plain(record):
    return {key: value for key, value in record.items() if key != "time"}


def _newest(run):
    return max(run.glob("checkpoint-*.safetensors"))


def _same(one, other):
    return one is not None and other is not None and one.dtype == other.dtype and one.tobytes() == other.tobytes()


def _last(path):
    return re.sub(r"\s*\n", " / ", path.read_text(encoding="utf-8").strip()[-500:])


def rehearse(out, devices, size, apart=False, say=print):
    """Run the whole rehearsal and print its report; return the list of what is wrong."""
    started = time.monotonic()
    with Rehearsal(out, devices, size) as rehearsal:
        rehearsal.prepare()
        say(f"{size.train} images of {size.side} x {size.side}, {size.classes} classes; {' and '.join(devices)}; "
            f"{EPOCHS} epochs of {rehearsal.steps} steps; prepared in {time.monotonic() - started:.1f} s")  # fmt: skip
        rehearsal.run(apart)
    for line in (*rehearsal.table(), *rehearsal.report, *(f"WRONG: {what}" for what in rehearsal.wrong)):
        say(line)
    say(f"{'WRONG' if rehearsal.wrong else 'all is right'}, {time.monotonic() - started:.1f} s in all")
    return rehearsal.wrong


def main():
    """Run the rehearsal with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", nargs="+", default=["cpu"], help="as for tinyalex train (default: cpu)")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="for data, runs and outputs")
    parser.add_argument("--size", choices=SIZES, default="full", help="default: %(default)s")
    parser.add_argument("--images", type=int, help="to train on (default: 4096, small 160)")
    parser.add_argument("--apart", action="store_true", help="train one run after the other, for undisturbed speeds")
    parser.add_argument(
        "--keep", action="store_true", help="keep data and checkpoints after a successful rehearsal: 3 GB"
    )
    options = parser.parse_args()
    size = SIZES[options.size]
    wrong = rehearse(options.out, options.devices, size._replace(train=options.images or size.train), options.apart)
    if not wrong and not options.keep:
        shutil.rmtree(options.out / "data")
        for path in options.out.rglob("*.safetensors"):
            path.unlink()
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
