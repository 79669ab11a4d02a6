"""The scripts for machines with GPUs: steps with limits, and one archive of what was done at any moment."""

import sys
import tarfile

from tests.programs import on_gpu
from tests.support import script


def test_a_step_that_does_not_end_is_killed_and_the_next_one_runs(tmp_path):
    sleeper = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    shown = []
    steps = {
        "one": ([sys.executable, "-c", "print('done')"], 60),
        "two": ([sys.executable, "-c", sleeper], 1),
        "three": ([sys.executable, "-c", "raise SystemExit(3)"], 60),
        "four": "no GPU",
    }
    assert script.run(steps, tmp_path / "out", shown.append) == 2
    assert [line.split()[:2] for line in shown[:3]] == [["one", "passed"], ["two", "FAILED,"], ["three", "FAILED,"]]
    assert "no end within 1 s" in shown[1] and "FAILED, 3" in shown[2] and shown[3].endswith("left out: no GPU")


def test_what_was_done_is_in_one_archive_after_each_step(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "checkpoint").write_bytes(bytes(script.LARGEST + 1))
    names = []

    def look(line):
        names.append(sorted(archived(tmp_path / "out.tar.gz")) if names or (tmp_path / "out.tar.gz").exists() else [])

    steps = {name: ([sys.executable, "-c", f"print('{name}')"], 60) for name in ("one", "two")}
    script.run(steps, tmp_path / "out", look)
    assert names == [[], ["out/one.txt", "out/summary.txt"]]  # each line is shown before its step is packed
    assert sorted(archived(tmp_path / "out.tar.gz")) == ["out/one.txt", "out/summary.txt", "out/two.txt"]


def archived(path):
    with tarfile.open(path) as archive:
        return archive.getnames()


def test_every_step_has_a_limit(tmp_path):
    assert on_gpu.steps(tmp_path, tmp_path, 1).keys() == on_gpu.LIMITS.keys()
    assert sum(on_gpu.LIMITS.values()) < 30 * 60
