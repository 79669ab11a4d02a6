"""Run all checks that need a GPU: `python -m tests.programs.on_gpu FOLDER [--only STEP ...] [--data PREPARED]`.

The steps run one after the other, each with a log in the folder: the tests on cuda:0; layers and whole steps compared
with NumPy; compute-sanitizer over the layers' kernels; `tinyalex bench` beside PyTorch; the rehearsal of the full run;
and with a prepared set, some epochs of the full-size net on it in two columns. At the end a line is printed for each
step; the exit code is 1 if one failed.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

PYTHON = [sys.executable, "-X", "faulthandler"]
# Allocate every array separately, so that the sanitizer sees where it ends.
WITHOUT_A_POOL = "import sys, cupy, pytest; cupy.cuda.set_allocator(None); sys.exit(pytest.main(sys.argv[1:]))"


def steps(folder, data, epochs):
    """Return ``{name: command}``; for a step that cannot run here, a text that says why instead of a command."""
    parallel = ["-n", "8"] if importlib.util.find_spec("xdist") else []
    quiet = ["-q", "-p", "no:cacheprovider", "-p", "no:benchmark"]
    sanitizer = shutil.which("compute-sanitizer")
    small = ["tests/layers/test_layers.py", "tests/kernels/test_kernels.py"]
    small += ["-k", "cuda and (reference_implementation and kernels or steps or bits)"]
    train = ["train", "modern", "--data", str(data), "--devices", "cuda:0", "cuda:0", "--set", "net.classes=0"]
    return {
        "machine": [*PYTHON, "-m", "tinyalex", "doctor"],
        "tests": [*PYTHON, "-m", "pytest", *quiet, *parallel, "-k", "cuda:0", "tests"],
        "parity": [*PYTHON, "-m", "tests.programs.gpu_parity"],
        "sanitizer": [sanitizer, "--error-exitcode", "9", *PYTHON, "-c", WITHOUT_A_POOL, *quiet, *small]
        if sanitizer
        else "no compute-sanitizer on the path",
        "bench": [*PYTHON, "-m", "tinyalex", "bench", "--device", "cuda:0", "--out", f"{folder}/bench"],
        "rehearsal": [
            *PYTHON, "-m", "tests.programs.rehearsal", "--devices", "cuda:0", "cuda:0", "--size", "full",
            "--out", f"{folder}/rehearsal",
        ],
        "training": [*PYTHON, "-m", "tinyalex", *train, "--epochs", str(epochs), "--out", f"{folder}/training"]
        if data
        else "no --data",
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", metavar="STEP")
    parser.add_argument("--data", type=Path, help="a prepared set of squares of 256 x 256")
    parser.add_argument("--epochs", type=int, default=20, help="of training (default: 20)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    chosen = steps(options.folder, options.data, options.epochs)
    unknown = set(options.only or ()) - set(chosen)
    if unknown:
        parser.error(f"no such step: {', '.join(sorted(unknown))}; there are {', '.join(chosen)}")
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    lines, failed = [], 0
    for name, command in chosen.items():
        if options.only and name not in options.only:
            continue
        if isinstance(command, str):
            lines.append(f"{name:10} left out: {command}")
            continue
        started, log = time.monotonic(), options.folder / f"{name}.txt"
        with log.open("w", encoding="utf-8") as file:
            code = subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False
            ).returncode
        failed += code != 0
        lines.append(
            f"{name:10} {'passed' if not code else f'FAILED, {code}':10} {time.monotonic() - started:5.0f} s  {log}"
        )
        print(lines[-1], flush=True)
    print("\n" + "\n".join(lines))
    (options.folder / "summary.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
