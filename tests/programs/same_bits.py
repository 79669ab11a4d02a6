"""Record what a checkout computes and which files it writes, down to the last bit, and compare two such records.

    python tests/programs/same_bits.py record CHECKOUT OUT.json
    python tests/programs/same_bits.py compare A.json B.json

A change that is meant to move code and to leave its results alone is checked like this: record the commit before it and
the commit after it on one machine, then compare. Each part runs in a process of its own, with the package of CHECKOUT
and a fixed number of threads:

    train      `tinyalex train`: the tensors of the last checkpoint, and the losses and errors of the log
    evaluate   `tinyalex evaluate` of that run, with one view and with ten
    original   two steps of the recipe `original` in float64, batch 16, on one device and on two
    cifar      twenty steps of `cifar10-relu` in float32, with im2col and with Winograd's algorithm
    prepare    the files that `tinyalex prepare` makes of images drawn here

A record is a JSON file with the SHA-256, the shape, the dtype and the largest magnitude of every tensor, and an .npz
file beside it with 4096 entries of each tensor, by which `compare` tells how large a difference is. Other processors,
versions and numbers of threads give other last bits; the record keeps these, and `compare` names the ones that differ.
"""

import argparse
import hashlib
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PARTS = ("train", "evaluate", "original", "cifar", "prepare")
FORMS = {  # forms of a part that computes in Python: each has its own process and its own line in the table
    "original/cpu": ["cpu"],
    "original/cpu-cpu": ["cpu", "cpu"],
    "original/fake-fake": ["fake:0", "fake:1"],
    "cifar/im2col": "im2col",
    "cifar/winograd": "winograd",
}
SAMPLE = 4096  # entries kept of a tensor
NAMED = 8  # differing tensors that are listed below the table

# What has another name in another layout of the package: the first one that the checkout has is used.
MODULES = {
    "recipe": ("tinyalex.recipes.recipe", "tinyalex.recipe"),
    "alexnet": ("tinyalex.network.alexnet", "tinyalex.alexnet"),
    "optimizer": ("tinyalex.training.optimizer", "tinyalex.optimizer"),
    "schedule": ("tinyalex.training.schedule", "tinyalex.schedule"),
    "randomness": ("tinyalex.randomness",),
}
ATTRIBUTES = {
    "loss_and_backward": ("loss_and_backward", "gradient"),
    "weight_decay": ("weight_decay", "decay"),
    "layer_weight_decay": ("layer_weight_decay", "decays"),
    "lr_mult": ("lr_mult", "slow"),
}


def module(name):
    """Import one of `MODULES` from wherever the checkout has it."""
    for path in MODULES[name]:
        try:
            return importlib.import_module(path)
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("tinyalex"):
                raise
    raise SystemExit(f"{name}: no module {' or '.join(MODULES[name])}; add its path to MODULES in {__file__}")


def attribute(thing, name):
    """Return one of `ATTRIBUTES` of an object under whichever name it has."""
    for each in ATTRIBUTES[name]:
        if hasattr(thing, each):
            return getattr(thing, each)
    raise SystemExit(f"{name}: {type(thing).__name__} has none of {', '.join(ATTRIBUTES[name])}; add its name there")


# A record: {"machine": {...}, "parts": {part: {"seconds": s, "tensors": {name: description}}}}, and samples by
# "part|name".


def describe(array):
    """Return the description of a tensor that the JSON file keeps, and its sample."""
    array = np.ascontiguousarray(array)
    flat = array.reshape(-1)
    wide = flat.astype(np.float64, copy=False)
    description = {
        "sha256": hashlib.sha256(flat.view(np.uint8)).hexdigest(),
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "max": float(np.abs(wide).max(initial=0.0, where=np.isfinite(wide))),
    }
    chosen = np.arange(SAMPLE) * flat.size // SAMPLE if flat.size > SAMPLE else slice(None)
    return description, flat[chosen]


def write(path, machine, parts, seconds=None):
    """Write a record.

    Parameters
    ----------
    path : Path
        Of the JSON file; the samples go into an .npz file beside it.
    machine : dict
        What decides the last bits.
    parts : dict of str to (dict of str to ndarray or (dict, ndarray))
        The tensors of every part, or what `describe` says of them.
    seconds : dict of str to float, optional
        How long each part took.
    """
    description, samples = {}, {}
    for part, tensors in parts.items():
        found = {name: each if isinstance(each, tuple) else describe(each) for name, each in tensors.items()}
        description[part] = {
            "seconds": round((seconds or {}).get(part, 0.0), 1),
            "tensors": {name: description for name, (description, _) in found.items()},
        }
        samples |= {f"{part}|{name}": sample for name, (_, sample) in found.items()}
    path.write_text(json.dumps({"machine": machine, "parts": description}, indent=1) + "\n", encoding="utf-8")
    np.savez_compressed(path.with_suffix(".npz"), **samples)


def read(path):
    """Return a record's JSON and its samples; a file that is missing ends the program with a line that names it."""
    try:
        with np.load(path.with_suffix(".npz")) as file:
            return json.loads(path.read_text(encoding="utf-8")), dict(file)
    except OSError as error:
        raise SystemExit(
            f"{error.filename}: {error.strerror}; make it with: same_bits.py record CHECKOUT {path}"
        ) from None


# Comparing.


def compare(one, other, only=(), show=print):
    """Compare two records.

    Parameters
    ----------
    one, other : Path
        Their JSON files.
    only : sequence of str
        Parts to compare; all if empty.
    show : callable
        Gets the lines of a table: part, tensors, how many are identical, and the largest max |a - b| / max |b| of a
        tensor. It is taken over the samples, so that of a large tensor it is a lower bound.

    Returns
    -------
    bool
        Whether all tensors are there in both records, and identical.
    """
    (a, samples_a), (b, samples_b) = read(one), read(other)
    for key in sorted(a["machine"].keys() | b["machine"].keys()):
        then, now = (record["machine"].get(key) for record in (a, b))
        if then != now and key not in ("checkout", "commit"):
            show(f"{key} differs, and the last bits may for that reason: {then} and {now}")
    parts = [part for part in (a["parts"] | b["parts"]) if not only or part.split("/")[0] in only]
    lines, compared, same = [], 0, True
    show(f"{'part':<20}{'tensors':>9}{'identical':>11}  largest relative difference")
    for part in parts:
        mine, theirs = (record["parts"].get(part, {"tensors": {}})["tensors"] for record in (a, b))
        names, identical, largest = list(mine | theirs), 0, 0.0
        for name in names:
            key = f"{part}|{name}"
            if name not in mine or name not in theirs:
                lines.append(f"{part} {name}: only in {one if name in mine else other}")
            elif _look(mine[name]) != _look(theirs[name]):
                lines.append(f"{part} {name}: {_look(mine[name])} and {_look(theirs[name])}")
            elif mine[name]["sha256"] == theirs[name]["sha256"]:
                identical += 1
            else:
                difference = relative(samples_a[key], samples_b[key], theirs[name]["max"])
                largest = max(largest, difference)
                lines.append(f"{part} {name}: " + (f"{difference:.1e}" if difference else "differs outside the sample"))
        description = f"{largest:.1e}" if largest else "0" if identical == len(names) else "see below"
        show(f"{part:<20}{len(names):>9}{identical:>11}  {description}")
        compared, same = compared + len(names), same and identical == len(names)
    for line in lines[:NAMED]:
        show(line)
    if len(lines) > NAMED:
        show(f"and {len(lines) - NAMED} more")
    absent = [part for part in only or PARTS if not any(each.split("/")[0] == part for each in parts)]
    if absent if only else not compared:
        show(f"not recorded: {', '.join(absent)}; record both again, or choose other parts with --only")
        same = False
    return same


def relative(a, b, scale):
    """Return max |a - b| / scale, infinite where one of the two is no finite number and the other is another one."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(a.astype(np.float64) - b.astype(np.float64))
    difference[(a == b) | (np.isnan(a) & np.isnan(b))] = 0
    largest = float(np.where(np.isfinite(difference), difference, np.inf).max(initial=0.0))
    return largest / scale if scale else largest


def _look(description):
    return f"{description['dtype']} {tuple(description['shape'])}"


# Recording: what is computed in this process, with the package that PYTHONPATH names.


def original(devices, steps=2, batch=16):
    """Return all tensors and losses of float64 steps of the recipe `original` on images of noise."""
    recipe = module("recipe").load("original")
    rng = np.random.default_rng(145)
    images = rng.integers(-128, 128, (steps, batch, recipe.net.input, recipe.net.input, 3)).astype(np.float64)
    labels = rng.integers(0, recipe.net.classes, (steps, batch))
    return learn(recipe, devices, "float64", images, labels)


def cifar(convolution, steps=20):
    """Return all tensors and losses of float32 steps of the recipe `cifar10-relu` on images of noise.

    On noise the images' gradients nearly cancel, and a ReLU or a pool that decides otherwise about one of its inputs
    changes their sum: a difference of 1e-7 in the first steps may be one of 0.1 after twenty. The gradients of step 1
    tell how large a difference was at first.
    """
    recipe = module("recipe").load("cifar10-relu", [f"net.convolution={convolution}"])
    rng = np.random.default_rng(10)
    shape = (steps, recipe.learning.batch, recipe.net.input, recipe.net.input, 3)
    images = rng.integers(-128, 128, shape).astype(np.float32)
    labels = rng.integers(0, recipe.net.classes, shape[:2])
    return learn(recipe, ["cpu"], "float32", images, labels)


def learn(recipe, devices, dtype, images, labels):
    """Take a step for each batch and return descriptions of values, momenta, gradients of each step, and the losses.

    Gradients are kept of the first and the last step.
    """
    network = module("alexnet").build(recipe.net, recipe.init, devices, seed=0, dtype=dtype)
    learning, found, losses = recipe.learning, {}, []
    decay, decays = attribute(learning, "weight_decay"), attribute(learning, "layer_weight_decay")
    optimizer = module("optimizer").Optimizer(network, learning.momentum, decay, decays)
    step = module("randomness").Step
    for number in range(len(images)):
        with network.step(), network.devices[0] as device:
            loss, _ = attribute(network, "loss_and_backward")(images[number], labels[number], step=step(0, number))
            losses.append(float(device.get(loss)))
        if number in (0, len(images) - 1):
            for name, device, view in network.tensors("grad"):
                found[f"gradient of step {number + 1}/{name}"] = describe(device.get(view))
        rates = module("schedule").rates(learning, 0.0)
        optimizer.update(rates.rate, rates.bias_rate, attribute(rates, "lr_mult"))
    found |= {f"value/{name}": describe(device.get(view)) for name, device, view in network.tensors()}
    found |= {f"momentum/{name}": describe(device.get(view)) for name, device, view in optimizer.tensors()}
    return found | {"losses": describe(np.array(losses))}


def compute(form, path):
    """Compute one of `FORMS` and write its record; this runs in a process of its own."""
    function = {"original": original, "cifar": cifar}[form.split("/")[0]]
    write(Path(path), {}, {form: function(FORMS[form])})


# Recording: what commands leave.


class Recorder:
    """Runs the package of a checkout, in processes of their own, in a folder of its own."""

    def __init__(self, checkout, folder, threads):
        self.checkout, self.folder = Path(checkout).resolve(), Path(folder)
        self.environment = os.environ | {
            "PYTHONPATH": str(self.checkout),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TINYALEX_THREADS": str(threads),
        }
        where = self.python("-c", "import tinyalex; print(tinyalex.__file__)").strip()
        if not Path(where).is_relative_to(self.checkout):
            raise SystemExit(f"{self.checkout}: its package is not the one that was imported, which is {where}")

    def python(self, *arguments):
        """Run Python and return what it prints on stdout."""
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}")
        return done.stdout

    def tinyalex(self, *arguments):
        """Run a command of the package."""
        return self.python("-m", "tinyalex", *arguments)

    def trained(self):
        """Return the folder of README's first run, which is trained when it is needed first."""
        run = self.folder / "runs" / "shapes"
        if not run.exists():
            self.tinyalex("train")
        return run

    def train(self):
        """Record README's first command: the last checkpoint's tensors, and the losses and errors in the log.

        Not recorded: "saved" lines, for a run is saved by the clock as well; of the others what the clock decides.
        """
        from safetensors.numpy import load_file

        run = self.trained()
        found, events = load_file(max(run.glob("checkpoint-*.safetensors"))), {}
        for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            numbers = [record[key] for key in ("step", "loss", "top1_error", "top5_error") if key in record]
            if record["event"] != "saved":
                events.setdefault(record["event"], []).append(numbers)
        return found | {f"log/{event}": np.array(rows, np.float64) for event, rows in events.items()}

    def evaluate(self):
        """Record the errors of that run, with one view and with ten."""
        run, found = self.trained().relative_to(self.folder), {}
        for views in (1, 10):
            description = json.loads(
                self.tinyalex("evaluate", run, "--json", *(["--views", "10"] if views > 1 else []))
            )
            keys = ("count", "loss", "top1_error", "top5_error")
            found[f"{views} views"] = np.array([description[key] for key in keys], np.float64)
        return found

    def prepare(self):
        """Record the files of a set that is prepared from drawn images, and those images.

        Not recorded: of manifest.json the versions of the decoders, which belong to the machine, and the hash over it
        all; contact_sheet.png, in which Matplotlib notes its version; .lock, which names the process that held it;
        .tinyalex.jsonl, which lists the files.
        """
        source, out = self.folder / "pictures", self.folder / "prepared"
        draw(source)
        self.tinyalex("prepare", source, out, "--size", 48, "--workers", 2)
        found = {}
        for path in sorted(path for folder in (source, out) for path in folder.rglob("*") if path.is_file()):
            content, name = path.read_bytes(), path.relative_to(self.folder).as_posix()
            if path.name == "manifest.json":
                fields = json.loads(content)
                content = json.dumps({k: v for k, v in fields.items() if k not in ("decoder", "check")}).encode()
            if path.name not in (".lock", ".tinyalex.jsonl", "contact_sheet.png"):
                found[name] = np.frombuffer(content, np.uint8)
        return found

    def form(self, form):
        """Record one of `FORMS`."""
        path = self.folder / "form.json"
        self.python(Path(__file__).resolve(), "compute", form, path)
        description, samples = read(path)
        return {name: (each, samples[f"{form}|{name}"]) for name, each in description["parts"][form]["tensors"].items()}


def draw(folder):
    """Draw a folder of images, {train,test}/CLASS/NAME: several sizes, colour and grey, PNG and JPEG."""
    from PIL import Image

    rng = np.random.default_rng(2012)
    sizes = ((48, 48), (64, 48), (50, 71), (120, 90), (33, 40))
    for split, count in (("train", 30), ("test", 10)):
        for number in range(count):
            name = ("ant", "bee", "cat")[number % 3]
            height, width = sizes[number % len(sizes)]
            rows, columns = np.mgrid[:height, :width]
            wave = (rows * (1 + number % 3) + columns * (number % 4)) % 64 * 2
            pixels = wave[:, :, None] + rng.integers(0, 64, (height, width, 3)) + rng.integers(0, 64, 3)
            image = Image.fromarray(pixels.astype(np.uint8))
            image = image.convert("L") if number % 7 == 3 else image
            path = folder / split / name / f"{number:03d}.{'png' if number % 2 else 'jpg'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, **({} if number % 2 else {"quality": 90}))


def machine(recorder, threads):
    """Return what decides the last bits, and which checkout was recorded."""
    blas = recorder.python(
        "-c",
        "import json, numpy, threadpoolctl\n"
        "print(json.dumps([[pool.get(key) for key in ('internal_api', 'version', 'architecture')]"
        " for pool in threadpoolctl.threadpool_info()]))",
    )
    git = ["git", "--no-optional-locks", "-C", str(recorder.checkout)]
    commit = subprocess.run([*git, "describe", "--always", "--dirty", "--abbrev=40"], capture_output=True, text=True)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "checkout": str(recorder.checkout),
        "commit": commit.stdout.strip() or "unknown",
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "BLAS": json.loads(blas),
        "processor": models[0] if models else platform.processor(),
        "processors": os.cpu_count(),
        "threads": threads,
    }


def record(checkout, path, only=(), threads=2):
    """Record a checkout: run all parts, one after the other, and write what they gave."""
    parts, seconds = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(checkout, folder, threads)
        commands = {"train": recorder.train, "evaluate": recorder.evaluate, "prepare": recorder.prepare}
        for part in only or PARTS:
            forms = [form for form in FORMS if form.split("/")[0] == part]
            for each in forms or [part]:
                started = time.monotonic()
                found = recorder.form(each) if forms else commands[each]()
                parts[each] = found
                seconds[each] = time.monotonic() - started
                print(f"{each:<20}{len(found):>5} tensors in {seconds[each]:.0f} s", flush=True)
        write(Path(path), machine(recorder, threads), parts, seconds)


def main(argv=None):
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("record", help="run a checkout's package and record what it gives")
    one.add_argument("checkout", metavar="CHECKOUT", help="the folder that holds the package tinyalex")
    one.add_argument("out", metavar="OUT.json")
    one.add_argument("--threads", type=int, default=2, metavar="N", help="threads on the CPU (default: 2)")
    two = commands.add_parser("compare", help="compare two records; the exit code is 1 if they differ")
    two.add_argument("one", metavar="A.json", type=Path)
    two.add_argument("other", metavar="B.json", type=Path)
    for command in (one, two):
        command.add_argument("--only", nargs="+", choices=PARTS, default=[], metavar="PART", help=", ".join(PARTS))
    three = commands.add_parser("compute")  # called by `record`
    three.add_argument("form", choices=FORMS)
    three.add_argument("out")
    options = parser.parse_args(argv)
    if options.command == "compute":
        compute(options.form, options.out)
    elif options.command == "record":
        record(options.checkout, options.out, options.only, options.threads)
    else:
        return 0 if compare(options.one, options.other, options.only) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
