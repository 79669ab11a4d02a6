"""Fill the disk at every point where `tinyalex train` writes; what was saved before must stay intact.

    unshare -rm python -m tests.programs.full_disk

A run with one checkpoint is resumed on a small disk (a tmpfs, which is why `unshare` is needed). When it opens, renames
or truncates a file for the nth time, all free space of the disk is taken. The command must then end with exit code 7
and one line, or with 0 if only its log or its pictures were left to write. The older checkpoint must verify, and after
the space is freed, the same command must end with the bits of an undisturbed run. ``--every K`` takes each Kth point.
"""

import argparse
import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.programs.kill_train import prepare, result
from tinyalex import cli
from tinyalex.runs import checkpoint

SIZE = 4 << 20  # bytes of the disk
EVENTS = {"open", "os.rename", "os.truncate"}


class Filler:
    """Takes all free space of a disk at the nth writing event below a folder."""

    def __init__(self, folder):
        self._folder, self._file, self.count, self.at = str(folder), Path(folder).parent / "filler", 0, None
        sys.addaudithook(self._on_event)

    def begin(self, at=None):
        """Start counting; fill the disk at event number ``at``."""
        self.count, self.at = 0, at

    def end(self):
        """Free the space again."""
        self.at = None
        self._file.unlink(missing_ok=True)

    def _on_event(self, event, arguments):
        if event not in EVENTS or not str(arguments[0]).startswith(self._folder):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        self.count += 1
        if self.count == self.at:
            self.at = None
            with contextlib.suppress(OSError), open(self._file, "wb", buffering=0) as file:
                for piece in (4096, 1):
                    with contextlib.suppress(OSError):
                        while True:
                            file.write(bytes(piece))


def answer(command):
    """Run the command in this process; return its exit code, error lines and warnings."""
    errors, lines = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(lines):
        code = cli.main([str(word) for word in command])
    warnings = [line for line in lines.getvalue().splitlines() if line.startswith("warning: ")]
    return code, errors.getvalue().splitlines(), warnings


def sweep(root, every=1, say=print):
    """Fill the disk at each point; return the number of points, {exit code: count}, and what was wrong."""
    # Three steps an epoch, and a checkpoint after each.
    command = [*prepare(root), "--set", "learning.batch=80", "--save-every", "1e-9"]
    disk = root / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", disk], check=True)
    try:
        out = disk / "run"
        half, whole = [*command, "--epochs", "1"], [*command, "--epochs", "2", "--change"]
        assert answer([*half, "--out", out])[0] == 0
        shutil.copytree(out, root / "half")
        assert answer([*whole, "--out", out])[0] == 0
        wanted = result(out)[0]
        filler, codes, wrong = Filler(out), {}, []
        shutil.rmtree(out)
        shutil.copytree(root / "half", out)
        filler.begin()
        answer([*whole, "--out", out])
        points = filler.count
        for at in range(1, points + 1, every):
            shutil.rmtree(out)
            shutil.copytree(root / "half", out)
            older = {path.name: path.read_bytes() for path in out.glob("checkpoint-*")}
            filler.begin(at)
            code, errors, warnings = answer([*whole, "--out", out])
            codes[code] = codes.get(code, 0) + 1
            found = {path.name: path.read_bytes() for path in out.glob("checkpoint-*")}
            if code == 7 and not (len(errors) == 1 and errors[0].startswith("tinyalex: error: ")):
                wrong.append(f"point {at}: {errors}")
            if code not in (0, 7) or (code == 0 and result(out)[0] != wanted):  # 0: only the log was left to write
                wrong.append(f"point {at}: exit code {code}, {errors}, {warnings}")
            if not older.items() <= found.items() and len(found) < 2:
                wrong.append(f"point {at}: the older checkpoint is gone")
            try:
                checkpoint.newest(out)
            except Exception as error:
                wrong.append(f"point {at}: {error}")
            filler.end()
            if code and (answer([*whole, "--out", out])[0] or result(out)[0] != wanted):
                wrong.append(f"point {at}: resumed, it does not end with the same bits")
            say(f"point {at} of {points}: exit code {code}, {(errors or warnings or ['no message'])[0][:150]}")
        return points, codes, wrong
    finally:
        subprocess.run(["umount", disk], check=False)


def main():
    """Fill the disk at all points and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, metavar="K")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        points, codes, wrong = sweep(Path(folder), options.every)
    print(*wrong, sep="\n")
    print(f"{sum(codes.values())} of {points} points, exit codes {codes}: {len(wrong)} wrong")
    return len(wrong) > 0


if __name__ == "__main__":
    sys.exit(main())
