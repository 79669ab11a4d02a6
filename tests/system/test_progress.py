"""Progress lines, and estimates of the time left."""

from types import SimpleNamespace

from tests.support.small_runs import quiet, small, stripes
from tinyalex.cli import main
from tinyalex.commands import evaluate
from tinyalex.runs import runlog
from tinyalex.runs.train import train
from tinyalex.system import progress


def test_progress_lines_without_a_terminal(monkeypatch, capfd):
    lines, clock = [], iter([0.0, 5.0, 10.0, 15.0, 25.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    watched = progress.Progress(100_000, 2000, lines.append)
    for done in (2500, 3000, 3500, 4500):
        watched.update(done)
    watched.close()
    assert lines == [
        "3,000 of 100,000 images, 100 a second, 16 min left",
        "4,500 of 100,000 images, 100 a second, 16 min left",
    ]
    assert capfd.readouterr() == ("", "")


def test_durations():
    assert [progress.duration(seconds) for seconds in (0.4, 99, 100, 3000, 3600, 40_000)] == [
        "0 s",
        "99 s",
        "2 min",
        "50 min",
        "1 h 00 min",
        "11 h 07 min",
    ]


def steps(folder, monkeypatch, seconds, of=1000):
    """The lines that a log without a terminal shows while steps end at these times."""
    lines, clock = [], iter(seconds)
    log = runlog.Log(folder, of, show=lines.append)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    for _ in seconds:
        log.step(loss=1)
    log.close()
    return lines


def test_a_training_log_says_after_a_few_steps_and_minutes_how_long_the_rest_takes(tmp_path, monkeypatch):
    lines = steps(tmp_path, monkeypatch, [100 + 4 * number for number in range(200)])
    assert lines[0] == "step 4 of 1,000, about 66 min left".replace("66 min", "1 h 06 min")
    assert [line.split(" of ")[0] for line in lines] == ["step 4", "step 79", "step 154"]  # every five minutes


def test_a_short_training_says_nothing_about_the_time_left(tmp_path, monkeypatch):
    assert steps(tmp_path, monkeypatch, [0.01 * number for number in range(300)], of=300) == []
    assert steps(tmp_path, monkeypatch, [4 * number for number in range(5)], of=5) == []  # at its end


def test_evaluate_with_ten_views_says_how_long_it_takes(tmp_path, monkeypatch, capsys):
    train(small(epochs=1), stripes(), tmp_path / "run", show=quiet)
    monkeypatch.setattr(evaluate.own_images, "load_to_test", lambda *_: stripes())
    clock = iter(range(0, 10_000, 5))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert main(["evaluate", str(tmp_path / "run"), "--views", "10"]) == 0
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert lines[0] == "2 of 40 images, 0.2 a second, 3 min left"  # one image with ten views at a time
    assert len(lines) < 5 and "test error" in printed.out and "left" not in printed.out
