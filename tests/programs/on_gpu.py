"""Run all checks that need a GPU: `python -m tests.programs.on_gpu FOLDER [--only STEP ...] [--data PREPARED]`.

The steps run one after the other, each with a log in the folder and a limit of its time: the tests on cuda:0; layers
and whole steps compared with NumPy; compute-sanitizer over the layers' kernels; `tinyalex bench` beside PyTorch, in
TF32, float32 and bfloat16; how small nets learn in each of them; the rehearsal of the full run; and with a prepared
set, some epochs of the full-size net on it in two columns. After each step a line is printed, and summary.txt and the
archive FOLDER.tar.gz have all that was done; the exit code is 1 if a step failed.
"""

import argparse
import importlib.util
import shutil
import sys
from pathlib import Path

from tests.support import script

PYTHON = [sys.executable, "-X", "faulthandler"]
# Allocate every array separately, so that the sanitizer sees where it ends.
WITHOUT_A_POOL = "import sys, cupy, pytest; cupy.cuda.set_allocator(None); sys.exit(pytest.main(sys.argv[1:]))"


LIMITS = {
    "machine": 60,
    "tests": 240,
    "parity": 120,
    "sanitizer": 180,
    "bench": 400,
    "precision": 90,
    "rehearsal": 300,
    "training": 400,
}


def steps(folder, data, epochs):
    """Return ``{name: command}``; for a step that cannot run here, a text that says why instead of a command."""
    parallel = ["-n", "8"] if importlib.util.find_spec("xdist") else []
    quiet = ["-q", "-p", "no:cacheprovider", "-p", "no:benchmark"]
    sanitizer = shutil.which("compute-sanitizer")
    small = ["tests/layers/test_layers.py", "tests/kernels/test_kernels.py", "tests/kernels/test_bfloat16.py"]
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
        "precision": [
            *PYTHON, "-m", "tests.programs.precision", "--out", f"{folder}/precision.json",
            "--runs", "float32@cuda:0", "tf32@cuda:0", "bf16@cuda:0",
        ],
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
    kept = {name: step for name, step in chosen.items() if not options.only or name in options.only}
    timed = {name: step if isinstance(step, str) else (step, LIMITS[name]) for name, step in kept.items()}
    return min(script.run(timed, options.folder), 1)


if __name__ == "__main__":
    sys.exit(main())
