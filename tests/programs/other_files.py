"""Point every option that names a path into folders full of other people's files; none of these may change.

    python -m tests.programs.other_files

The options are taken from the parsers of the commands, so that a new one is tried without being listed here. The files
have every name that a command writes, found out by running each command once, and names that people have in their
folders. Each option is given the folder, and each of the files in it, and then a folder whose files are symbolic links
to files elsewhere and to nowhere. Afterwards every file has to be there with the contents that it had. This takes
a quarter of an hour; ``tests/system/test_ownership.py`` runs a short form.
"""

import contextlib
import hashlib
import io
import os
import shutil
import tempfile
from pathlib import Path

from PIL import Image

from tests.programs import kill_train
from tests.support import caffe_files
from tinyalex import cli
from tinyalex.commands.options import user_path

NAMES = [  # what any command writes somewhere, and what people have in their folders
    *("recipe.toml", "log.jsonl", ".lock", "checkpoint-00000003.part", "log.jsonl.part", "recipe.toml.part"),
    *("checkpoint-00000003.safetensors", "checkpoint-best.safetensors", ".curves.png.0123456789abcdef.part"),
    *("curves.png", "kernels.png", "panel.png", "architecture.png", "neighbours.png", "codes.png", "race.png"),
    *("report.html", "occlusion.png", "saliency.png", "patches.png", "image-explained.png", "page.html"),
    *("settings.json", "result.json", "result.png", "diverged.txt", "bench.json", "bench.md", "bench.png"),
    *("manifest.json", "mean.f32", "skipped.tsv", "contact_sheet.png", "train-00000.shard", "test-00000.shard"),
    "test_images.json",
    *("film.mkv.part", "Unconfirmed 1.crdownload", "x.tar.part", "shapes.png", "work/thesis.tex", "work/plan.json"),
    *("work/new/notes.txt", "work/train-00000.record", "norm/settings.json", "norm/result.json"),
    *("1-four-fifths/recipe.toml", "1-four-fifths/curves.png", "photo.png", "weights.safetensors"),
]


def prepare(root):
    """Make a folder with a small data set "data", a run "run" of one epoch on it, a set "set" and an image."""
    kill_train.prepare(root)
    Image.new("RGB", (24, 20), "red").save(root / "image.png")
    write_pair(root / "layers-toy.cfg", root / "layer-params-toy.cfg")
    net = caffe_files.layers(**caffe_files.SMALL)
    (root / "net.caffemodel").write_bytes(caffe_files.caffemodel(net, caffe_files.weights(net, 99)))
    for name, place in (("train", "run"), ("prepare", "set")):
        assert run(command(root, root, name, {"--out": str(root / place), "out": str(root / place)}))[0] == 0


def write_pair(layers, rates):
    """Write a small net in two files of cuda-convnet, which `tinyalex convert` can say as a recipe."""
    above, channels = "data", 3
    text = ["[data]\ntype=data\ndataIdx=0", "[labels]\ntype=data\ndataIdx=1"]
    for number, pool in enumerate(("max", "avg", "avg"), 1):
        conv = (
            f"type=conv\ninputs={above}\nchannels={channels}\nfilters=4\npadding=2\nstride=1\nfilterSize=5\nneuron=relu"
        )
        text.append(f"[conv{number}]\n{conv}\ninitW=0.01\nsharedBiases=1")
        text.append(f"[pool{number}]\ntype=pool\npool={pool}\ninputs=conv{number}\nsizeX=3\nstride=2\nchannels=4")
        above, channels = f"pool{number}", 4
    text.append("[fc10]\ntype=fc\noutputs=10\ninputs=pool3\ninitW=0.01")
    text.append("[probs]\ntype=softmax\ninputs=fc10\n\n[logprob]\ntype=cost.logreg\ninputs=labels,probs")
    layers.write_text("\n\n".join(text) + "\n")
    rate = "epsW=0.001\nepsB=0.002\nmomW=0.9\nmomB=0.9\nwc=0.004"
    parts = [f"[{name}]\n{rate}" for name in ("conv1", "conv2", "conv3", "fc10")]
    rates.write_text("\n\n".join([*parts, "[logprob]\ncoeff=1"]) + "\n")


def command(root, scratch, name, values, extra=()):
    """Return the words of a command in which some options or arguments have other values than usual.

    Parameters
    ----------
    root : Path
        See `prepare`.
    scratch : Path
        Where the command writes by default.
    name : str
    values : dict of str to str
        By option ("--out") or name of an argument ("out"); those that the command does not have are left out.
    extra : list of str
    """
    run, data = str(root / "run"), str(root / "data")
    usual = {
        "prepare": {"sources": data, "out": f"{scratch}/set", "--size": "8", "--workers": "1"},
        "verify": {"data": str(root / "set")},
        "import": {"source": str(root / "net.caffemodel"), "out": f"{scratch}/net.safetensors"},
        "convert": {
            "layers": str(root / "layers-toy.cfg"),
            "rates": str(root / "layer-params-toy.cfg"),
            "file": f"{scratch}/toy.toml",
        },
        "train": {"recipe": str(root / "killed.toml"), "--data": data, "--epochs": "1", "--out": f"{scratch}/run"},
        "evaluate": {"runs": run, "--data": data},
        "predict": {"images": str(root / "image.png"), "--run": run, "--picture": f"{scratch}/photo.png"},
        "report": {"runs": run, "--data": data, "--out": f"{scratch}/page.html"},
        "explain": {"image": str(root / "image.png"), "--run": run, "--out": f"{scratch}/photo.png"},
        "summary": {"recipe": "shapes"},
        "gradcheck": {"what": "relu"},
        "figures": {"runs": run, "--only": "curves", "--out": f"{scratch}/figures"},
        "experiment": {
            "name": "norm",
            "--data": "shapes",
            "--train-images": "24",
            "--test-images": "12",
            "--seeds": "1",
            "--epochs": "1",
            "--out": f"{scratch}/trials",
        },
        "export": {"run": run, "file": f"{scratch}/weights.safetensors"},
        "bench": {"recipe": "cifar10-relu", "--batch": "2", "--rounds": "1", "--least": "0", "--contenders": "im2col"},
        "doctor": {},
        "claims": {},
        "advise": {"data": data},
    }[name]
    known = {label(action) for action in cli._parsers()[1][name]._actions}
    chosen = usual | {key: value for key, value in values.items() if key in known}
    fixed = {"train": ["--weak-signal"], "experiment": ["--set", "net.maps=[4,4,4,4,4]", "net.hidden=8"]}
    extra = [*fixed.get(name, []), *extra]
    words = [word for key, value in chosen.items() for word in ([f"{key}={value}"] if key[0] == "-" else [value])]
    return [name, *words, *extra]


def label(action):
    """Return the name of an option or argument: "--out", "sources"."""
    return action.option_strings[0] if action.option_strings else action.dest


def path_options():
    """Return all options and arguments that name paths, as (command, label)."""
    commands = cli._parsers()[1]
    return [(name, label(a)) for name, parser in commands.items() for a in parser._actions if a.type is user_path]


def fill(folder, names=NAMES, elsewhere=None):
    """Write files of somebody else; return what `state` finds then.

    With ``elsewhere``, a folder, each is a symbolic link to a file there, and every second one a link to nowhere.
    """
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if elsewhere is None:
            path.write_bytes(f"mine: {name}".encode())
        else:
            path.symlink_to(elsewhere / name if number % 2 else folder.parent / "nowhere" / str(number))
    return state(folder)


def state(folder):
    """Return {path: hash, or where a link points to} of everything below a folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file()]
    return {str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else digest(path) for path in paths}


def digest(path):
    """Return a hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(words):
    """Run a command in this process; return its exit code and what it printed to stderr."""
    error = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(error):
        code = cli.main([str(word) for word in words])
    return code, error.getvalue()


def faults(root, scratch, name, option, below="", names=NAMES, links=False, extra=()):
    """Point one option of a command into a folder full of files; return what went wrong, a list of lines.

    Parameters
    ----------
    root : Path
        See `prepare`.
    scratch : Path
        An empty folder.
    name, option : str
        Of `path_options`.
    below : str
        The option names this file in the folder; "": the folder itself.
    names : list of str
        Of the files in the folder.
    links : bool
        See `fill`.
    extra : list of str
        More words for the command.
    """
    folder, elsewhere = scratch / "folder", scratch / "elsewhere"
    folder.mkdir()
    linked = fill(elsewhere, names) if links else {}
    before, usual = fill(folder, names, elsewhere if links else None), state(root)
    words = command(root, scratch, name, {option: str(folder / below)}, extra)
    code, error = run(words)
    after, found = state(folder), []
    found += [
        f"{path} is {'changed' if path in after else 'gone'}" for path in before if after.get(path) != before[path]
    ]
    if links and state(elsewhere) != linked or (scratch / "nowhere").exists():
        found.append("written through a link")
    if not usual.items() <= state(root).items():
        found.append("an input was changed")
    if code == 1 or any(
        not line.startswith(("tinyalex: error: ", "tinyalex: warning: ")) for line in error.splitlines()
    ):
        found.append(f"exit code {code}: {error}")
    return [f"{' '.join(words)}: {line}" for line in found]


def written_names(root, scratch):
    """Run every command once; return the names of all files that appear, each below the folder that was named."""
    for name in cli._parsers()[1]:
        extra = {"figures": {}, "bench": {"--out": f"{scratch}/bench"}}.get(name, {})
        code, error = run(command(root, scratch, name, extra))
        assert code == 0, (name, error)
    run(command(root, scratch, "train", {"--out": f"{scratch}/stages"}, ["--footnote-3"]))
    found = {path.relative_to(scratch).parts for path in scratch.rglob("*") if path.is_file()}
    return sorted({"/".join(parts[1:] or parts) for parts in found})


def main():
    """Try every option with the folder, with each file in it, and with links."""
    with tempfile.TemporaryDirectory() as text:
        root, found, count = Path(text) / "root", [], 0
        root.mkdir()
        prepare(root)
        (Path(text) / "written").mkdir()
        names = sorted({*NAMES, *written_names(root, Path(text) / "written")})
        print(f"{len(names)} names: {' '.join(names)}", flush=True)
        for name, option in path_options():
            for below, links in (("", True), *((below, False) for below in ("", *names))):
                scratch = Path(text) / "scratch"
                scratch.mkdir()
                lines = faults(root, scratch, name, option, below, names, links)
                print("\n".join(lines), end="\n" * bool(lines), flush=True)
                found, count = found + lines, count + 1
                shutil.rmtree(scratch)
            print(f"{name} {option}: done", flush=True)
        print(f"{count} commands, {len(found)} faults")
        return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
