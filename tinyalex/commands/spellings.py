"""What to type for options and commands that other programs have under other names."""

import re
from pathlib import Path

from tinyalex.recipes.ranges import RULES, SYNONYMS
from tinyalex.words import did_you_mean

COMMANDS = {  # here: as it is called elsewhere
    "train": ("fit", "finetune", "fine-tune", "learn", "init", "start", "run"),
    "evaluate": ("test", "validate", "val", "score"),
    "predict": ("infer", "inference", "classify", "detect", "label", "recognize"),
    "prepare": ("preprocess", "resize", "dataset", "data", "convert-data"),
    "figures": ("plot", "draw", "visualize", "visualise", "show"),
    "bench": ("benchmark", "profile", "time"),
    "doctor": ("info", "env", "devices", "gpu", "status"),
    "summary": ("describe", "layers", "params"),
    "verify": ("check-data",),
    "--help": ("help",),
    "--version": ("version",),
}
EXAMPLES = {
    "prepare": "tinyalex prepare photos data/photos",
    "verify": "tinyalex verify data/photos",
    "evaluate": "tinyalex evaluate runs/shapes",
    "predict": "tinyalex predict photo.jpg --run runs/shapes",
    "explain": "tinyalex explain photo.jpg --run runs/shapes",
    "figures": "tinyalex figures runs/shapes",
    "report": "tinyalex report runs/shapes",
    "experiment": "tinyalex experiment dropout",
    "export": "tinyalex export runs/shapes weights.safetensors",
    "convert": "tinyalex convert layers-145.cfg layer-params-145.cfg net.toml",
}

# Options by what they are for, without their dashes.
_OUT = ["out", "output", "output-dir", "outputs", "out-dir", "outdir", "save-dir", "save-path", "save", "o",
        "log-dir", "logdir", "project", "workdir", "work-dir", "dest", "run-dir"]  # fmt: skip
_DATA = ["dataset", "dataset-dir", "data-dir", "data-path", "data-root", "datadir", "root", "d", "images",
         "image-dir", "input", "i", "train-dir", "folder", "dir", "path", "source"]  # fmt: skip
_DEVICE = ["device", "devices", "gpu", "gpus", "gpu-id", "cuda", "cpu", "ngpus", "num-gpus", "accelerator", "no-cuda"]
_RESUME = ["resume", "continue", "resume-from", "restart", "auto-resume"]
_RUN = ["model", "model-path", "weights", "checkpoint", "ckpt", "load", "run", "m", "w", "net", "snapshot", "params"]
_FROM = ["pretrained", "finetune", "fine-tune", "init", "init-weights", "transfer", "load-weights"]
_RECIPE = ["arch", "a", "architecture", "recipe", "config", "cfg", "c", "network", "model-name", "preset", "yaml"]
_EPOCHS = ["epoch", "e", "num-epochs", "n-epochs", "nepochs", "max-epochs", "epochs"]
_THREADS = ["num-workers", "workers", "j", "jobs", "num-threads", "threads", "nproc", "n-jobs"]
_SIZE = ["img-size", "image-size", "imgsz", "img", "size", "resize", "crop", "crop-size", "input-size", "resolution"]
_SHARE = ["val", "valid", "validation", "val-split", "validation-split", "split", "test-split", "val-dir",
          "test-dir", "val-data", "test-data", "test", "test-size", "val-size", "holdout", "test-share"]  # fmt: skip
_FORCE = ["force", "f", "overwrite", "exist-ok", "y", "yes"]
_TALK = ["verbose", "v", "quiet", "q", "silent", "log-level"]
_HALF = ["amp", "fp16", "half", "mixed-precision", "precision", "bf16"]


def option(command, word, following, known):
    """Say what to type for an option that a command does not have.

    Parameters
    ----------
    command : str
        "train".
    word : str
        The option, such as ``--lr`` or ``--lr=0.1``.
    following : str or None
        The word after it, if that may be its value.
    known : collection of str
        The command's options.

    Returns
    -------
    str
        A line without its end.
    """
    flag, _, value = word.partition("=")
    if short := re.fullmatch(r"-([a-z])(\d[\d.]*)", flag):  # -b64
        flag, value = f"-{short[1]}", short[2]
    name, value = flag.lstrip("-").lower().replace("_", "-"), value or following
    if remedy := _remedy(command, name, value, known):
        return f"{flag}: no such option; {remedy}"
    similar = did_you_mean(name, [other[2:] for other in known if other.startswith("--")])
    if '"' not in similar:
        return f"unrecognized arguments: {flag}"
    return f"{flag}: no such option" + similar.replace('"', '"--', 1)


def _remedy(command, name, value, known):
    last = name.replace("-", "_")  # of the name of a key
    key = SYNONYMS.get(last) or next((key for key in RULES if key.endswith(f".{last}")), None)
    for names, meant in (
        (_EPOCHS, lambda: _same("--epochs", value or "N", known)),
        (_DEVICE, lambda: _device(name, value, known)),
        (_THREADS, lambda: _same("--workers", value or "N", known) or _same("--threads", value or "N", known)),
        (_SHARE, lambda: _same("--test-share", "0.1", known)),
        (_RESUME, lambda: _resume(command, value)),
        (_RUN, lambda: _run(command, value, known)),
        (_FROM if command == "train" else [], lambda: _same("--init-from", value or "RUN", known)),
        (_SIZE, lambda: _size(command, value, known)),
        (_OUT, lambda: _out(command, value, known)),
        (("name", "exp", "run-name", "experiment"), lambda: _same("--out", f"runs/{value or 'NAME'}", known)),
        (_DATA, lambda: _data(command, value, known)),
        (_RECIPE, lambda: _recipe(command, value)),
        (("optimizer", "optim", "opt", "solver"), _optimizer),
        (("topk", "top-k", "k", "top"), lambda: "leave it out; the five most probable classes are shown"),
        (_FORCE, lambda: "no file that tinyalex did not make is replaced; give another --out"),
        (_TALK, lambda: "leave it out; --debug prints the traceback of an error"),
        (
            _HALF,
            lambda: "arithmetic is in float32; on a GPU --set net.precision=bf16 is faster" if "--set" in known else "",
        ),
    ):
        if name in names and (text := meant()):
            return text
    if key and name == "batch-size" or key == "learning.batch":
        if "--batch" in known:
            return f"write --batch {value or 'N'}"
        if "--set" not in known:
            return "leave it out; the batch is that of the run's recipe"
    if key and "--set" in known:
        return f"write --set {key}={value or _EXAMPLE.get(key, 'VALUE')}"
    return ""


_EXAMPLE = {"learning.rate": "0.01", "learning.batch": "64", "net.dropout": "0.5"}


def _same(flag, value, known):
    return f"write {flag} {value}" if flag in known else ""


def _device(name, value, known):
    word = {None: "cuda:0", "cuda": "cuda:0", "gpu": "cuda:0"}.get(value, value)
    if name in ("cpu", "no-cuda"):
        return "leave it out; the CPU computes unless --devices names something else"
    if word.isdecimal():  # the number of a GPU, or how many
        word = "cuda:0 cuda:1" if name in ("gpus", "ngpus", "num-gpus") and word != "1" else f"cuda:{word}"
        word = "cuda:0" if name in ("gpus", "ngpus", "num-gpus") and value == "1" else word
    return _same("--devices", word, known) or _same("--device", word, known)


def _resume(command, value):
    return f"leave it out: the same tinyalex {command} command resumes what was stopped" + (
        f", here with --out {value}" if value and command == "train" else ""
    )


def _run(command, value, known):
    if command in ("evaluate", "figures", "report", "export"):
        return f"give the run without an option: tinyalex {command} {value or 'RUN'}"
    if command == "train" and value and not re.search(r"[/.]", value):
        return _recipe(command, value)
    if command == "train":
        return f"to start from another run's weights write --init-from {value or 'RUN'}"
    return _same("--run", value or "RUN", known)


def _size(command, value, known):
    if "--size" in known:
        return f"write --size {value or 64}"
    if command == "train":
        return f"prepare the images in that size: tinyalex prepare SOURCE OUT --size {value or 64}"
    return f"write --set net.input={value or 64}" if "--set" in known else ""


def _out(command, value, known):
    if command in ("prepare", "export", "convert"):
        return f"give it last, without an option: {EXAMPLES[command]}"
    if command == "predict":
        return f"to save a table or a picture: --csv > {value or 'table.csv'}, or --picture FILE.png"
    return _same("--out", value or "DIR", known)


def _data(command, value, known):
    if command == "predict":
        return f"give images and folders without an option: {EXAMPLES['predict']}"
    return _same("--data", value or "DIR", known)


def _recipe(command, value):
    if command in ("train", "summary", "bench", "gradcheck"):
        named = value if value and value != "alexnet" else "modern"
        return f"give a recipe without an option, by its name or file: tinyalex {command} {named}"
    return ""


def _optimizer():
    return "there is one: gradient descent with momentum (paper, section 5); write --set learning.momentum=0.9"


def command(word, known, following=()):
    """Say what to type for a command that does not exist, before some words: the end of a line."""
    lower = word.lower()
    if lower == "help" and following and following[0] in known:
        return f'; did you mean "tinyalex {following[0]} --help"?'
    here = next((here for here, others in COMMANDS.items() if lower in others), None)
    return f'; did you mean "tinyalex {here}"?' if here else did_you_mean(word, known)


def required(command, message, words=()):
    """Return the end of a line about arguments that are missing.

    Parameters
    ----------
    command : str
    message : str
        The beginning of the line.
    words : sequence of str
        What was typed after the command. If --run is missing and a word is a run, the line says to write it so.
        Otherwise it has an example of the command, with a run that is there.
    """
    if "--run" in message and (run := next((word for word in words if _holds_run(Path(word))), None)):
        return f"; write --run {run}"
    here = sorted(str(folder) for folder in Path("runs").glob("*") if _holds_run(folder))
    example = EXAMPLES.get(command, "").replace("runs/shapes", "runs/shapes" if not here else here[0])
    return f"; for example {example}" if example else ""


def _holds_run(folder):
    return folder.is_dir() and any(folder.glob("checkpoint-*.safetensors"))
