"""Mutated images, label tables, tars, checkpoints, weights, recipes, manifests and other libraries' files of weights.

    python -m tests.programs.fuzz 10000

Each is given to the commands that read it. For every input they must end with a documented exit code and one line for
each error: no crash, no hang, no code executed, nothing written elsewhere, less than 1 GB of memory. Input number n is
a function of ``--seed`` and n: ``--first n 1`` repeats it alone. The exit code is 1 if they failed on one input.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import pickle
import selectors
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import traceback
from pathlib import Path

import numpy as np
from PIL import Image

from tinyalex.bench.memory import peak_memory

TIMEOUT = 120  # seconds for one input, on a machine that may be busy
MEMORY = 1_000_000_000  # bytes
CHUNK = 500  # inputs a process
CODES = {0, 2, 3, 4, 5, 7, 8}
RECIPE = """
name = "fuzz"
[net]
input = 20
columns = 2
maps = [4, 4, 4, 4, 4]
kernels = [5, 3, 3, 3, 3]
stride = 1
hidden = 8
classes = 3
[init]
weights = { default = "he", conv1 = 0.01 }
[data]
scale = 0.017
[learning]
batch = 8
epochs = 1
rate = 0.01
phases = [{ epoch = 0.0, rate = 0.01, lr_mult = { conv1 = 0.5 } }]
"""
HOSTILE = [None, True, -1, 0, 1, 2**31, 2**63, 10**30, 1e308, -0.5, "", "x" * 5000, "\x00", "../../evil", [], [[]], {}]
HOSTILE += ["__import__('os').system('touch EXECUTED')", [1] * 1000, {"a": {"b": None}}, "1e999", [-1, 0], 3.5]


class Payload:
    """Writes a file if a pickle of it is ever loaded."""

    def __reduce__(self):
        return (exec, ("open('EXECUTED', 'w')",))


FORMATS = {"bmp": {}, "gif": {}, "webp": {}, "ppm": {}, "tif": {}, "tiff": {"compression": "tiff_lzw"}}


def samples(root):
    """Write a run and one valid input of each kind to a folder."""
    from tinyalex.cli import main

    rng = np.random.default_rng(5)
    for split, count in (("train", 24), ("test", 9)):
        for number in range(count):
            class_folder = root / "data" / split / "abc"[number % 3]
            class_folder.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
            image.save(class_folder / f"{number}.{('png', 'jpg')[number % 2]}")
    (root / "good.toml").write_text(RECIPE)
    with tarfile.open(root / "good.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        tar.add(root / "data", ".")
    with tarfile.open(root / "good.tar.gz", "w:gz") as tar:
        tar.add(root / "data", ".")
    for name, options in (("good.png", {}), ("good.jpg", {"quality": 90})):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(root / name, **options)
    for ending, options in FORMATS.items():
        Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(root / f"good.{ending}", **options)
    (root / "photos").mkdir()
    for number in range(6):
        shutil.copy(root / "good.bmp", root / "photos" / f"{number}.bmp")
    lines = [f'"{number}.bmp";{"abc"[number % 3]};{number}' for number in range(6)]
    (root / "good.csv").write_text("\n".join(["file;label;more", *lines]), encoding="utf-8-sig")
    for command in (
        ["train", root / "good.toml", "--data", root / "data", "--out", root / "run", "--threads", "1"],
        ["export", root / "run", root / "weights.safetensors"],
        ["prepare", root / "data", root / "set", "--size", "24", "--workers", "1"],
    ):
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(list(map(str, command))) == 0
    elsewhere(root / "elsewhere")
    (root / "good.safetensors").write_bytes(max((root / "run").glob("checkpoint-*")).read_bytes())


def elsewhere(folder):
    """Write files that `tinyalex import` reads, as far as the libraries that write them are installed."""
    from tests.support import caffe_files, torch_nets
    from tinyalex.cli import main

    folder.mkdir()
    described = caffe_files.layers(**caffe_files.SMALL)
    (folder / "net.caffemodel").write_bytes(caffe_files.caffemodel(described, caffe_files.weights(described, 99)))
    small = {"maps": (2, 2, 2, 2, 2), "hidden": 2, "classes": 2}
    if importlib.util.find_spec("onnx"):
        from tests.support import onnx_nets

        (folder / "net.onnx").write_bytes(onnx_nets.alexnet(producer="pytorch", **small)[0].SerializeToString())
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(["export", str(folder.parent / "run"), str(folder / "ours.onnx")]) == 0
    if importlib.util.find_spec("torch"):
        import torch

        state = torch_nets.small_alexnet(torch, **small).state_dict()
        for name, archive in (("net.pth", True), ("older.pth", False)):
            torch.save(state, folder / name, _use_new_zipfile_serialization=archive)


def scrambled(rng, content, other=b""):
    """Change some bytes: flip bits; remove, repeat or overwrite spans; insert other content or extreme numbers."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at, span = int(rng.integers(0, len(content) + 1)), int(rng.integers(1, 1 << rng.integers(1, 12)))
        head = int(rng.integers(0, min(len(content), 600) + 1))  # half of the changes are in headers
        at = head if rng.random() < 0.5 else at
        kind = rng.integers(0, 8)
        if kind == 0:
            for index in rng.integers(0, max(1, len(content)), rng.integers(1, 9)):
                content[index : index + 1] = bytes([(content[index] if content else 0) ^ 1 << int(rng.integers(8))])
        elif kind == 1:
            del content[at : at + span]
        elif kind == 2:
            content[at:at] = content[at : at + span]
        elif kind == 3:
            content[at : at + span] = rng.integers(0, 256, span, dtype=np.uint8).tobytes()
        elif kind == 4:
            content[at : at + 8] = struct.pack("<q", int(rng.choice([0, -1, 1 << 31, 1 << 62, 255, 65536])))
        elif kind == 5:
            del content[at:]
        elif kind == 6:
            content[at : at + span] = other[: span * 2] if other else pickle.dumps(Payload())
        else:
            content[at:at] = pickle.dumps(Payload())
    return bytes(content)


def reworded(rng, text):
    """Replace words and numbers of a text."""
    words = text.split(" ")
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, len(words)))
        value = HOSTILE[int(rng.integers(len(HOSTILE)))]
        words[at : at + int(rng.integers(0, 3))] = [value if isinstance(value, str) else json.dumps(value)]
    return " ".join(words)


def resealed(rng, content):
    """Change a checkpoint's metadata and tensor entries, with hashes that match the changes."""
    from tinyalex.system import hashes as ours

    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    metadata = json.loads(header["__metadata__"]["tinyalex"])
    hashes = json.loads(header["__metadata__"]["tensors.blake2b"])
    names = [name for name in header if name != "__metadata__"]
    for _ in range(rng.integers(1, 3)):
        value, kind = HOSTILE[int(rng.integers(len(HOSTILE)))], rng.integers(0, 4)
        key = list(metadata)[int(rng.integers(len(metadata)))]
        name = names[int(rng.integers(len(names)))]
        if kind == 0:
            metadata[key] = value
        elif kind == 1 and isinstance(metadata.get("recipe"), str):
            metadata["recipe"] = reworded(rng, metadata["recipe"])
        elif kind == 2:
            header[name] = header[name] | {str(rng.choice(["shape", "dtype", "data_offsets"])): value}
        else:
            hashes[str(value)[:50]] = hashes.pop(name, "")
    text = json.dumps(metadata)
    header["__metadata__"] |= {"tinyalex": text, "tinyalex.blake2b": ours.text(text)}
    header["__metadata__"]["tensors.blake2b"] = json.dumps(hashes)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def mutant(rng, root, kind, folder):
    """Write a mutated input of a kind to a folder; return the command that reads it."""
    run = str(root / "run")
    if kind == "image":
        name = str(rng.choice(["good.png", "good.jpg", *(f"good.{ending}" for ending in FORMATS)]))
        path = folder / name
        path.write_bytes(scrambled(rng, (root / name).read_bytes(), (root / "good.png").read_bytes()))
        return ["predict", str(path), str(root / "good.jpg"), "--run", run, "--json"]
    if kind == "table":
        shutil.copytree(root / "photos", folder / "photos")
        (folder / "photos" / "labels.csv").write_bytes(scrambled(rng, (root / "good.csv").read_bytes(), b'";\t,\n\r\0'))
        return ["prepare", str(folder / "photos"), str(folder / "out"), "--size", "8", "--workers", "1"]
    if kind == "tar":
        name = str(rng.choice(["good.tar", "good.tar.gz"]))
        path = folder / name
        path.write_bytes(scrambled(rng, (root / name).read_bytes(), (root / "good.tar").read_bytes()[:1536]))
        if rng.random() < 0.5:
            return ["evaluate", run, "--data", str(path)]
        return ["prepare", str(path), str(folder / "out"), "--size", "24", "--workers", "1"]
    if kind in ("checkpoint", "weights"):
        content = (root / {"checkpoint": "good", "weights": "weights"}[kind]).with_suffix(".safetensors").read_bytes()
        change = scrambled if rng.random() < 0.5 else resealed
        path = folder / "checkpoint-00000003.safetensors"
        path.write_bytes(change(rng, content))
        command = str(rng.choice(["evaluate", "predict", "train"]))
        if command == "train":
            return ["train", str(root / "good.toml"), "--data", str(root / "data"), "--out", str(folder)]
        given = str(path if rng.random() < 0.5 else folder)
        return ["evaluate", given] if command == "evaluate" else ["predict", str(root / "good.jpg"), "--run", given]
    if kind == "elsewhere":
        files = sorted((root / "elsewhere").iterdir())
        path, other = (files[int(rng.integers(len(files)))] for _ in range(2))
        (folder / path.name).write_bytes(scrambled(rng, path.read_bytes(), other.read_bytes()))
        return ["import", str(folder / path.name), str(folder / "out.safetensors")]
    if kind == "recipe":
        text, path = (root / "good.toml").read_text(), folder / "mutant.toml"
        raw = scrambled(rng, text.encode()) if rng.random() < 0.4 else reworded(rng, text).encode("utf-8", "replace")
        path.write_bytes(raw)
        return ["summary", str(path)]
    path = folder / "set"
    shutil.copytree(root / "set", path)
    file = sorted(path.iterdir())[int(rng.integers(len(list(path.iterdir()))))]
    file = path / "manifest.json" if rng.random() < 0.5 else file
    content = file.read_bytes()
    if file.suffix == ".json" and rng.random() < 0.5:
        file.write_bytes(_resealed_manifest(rng, content))
    else:
        file.write_bytes(scrambled(rng, content))
    return ["evaluate", run, "--data", str(path)] if rng.random() < 0.5 else ["verify", str(path), "--full"]


def _resealed_manifest(rng, content):
    from tinyalex.datasets.shards import manifest

    fields = json.loads(content)
    fields.pop("check")
    for _ in range(rng.integers(1, 3)):
        inside = fields
        while isinstance(inside, dict | list) and len(inside):
            keys = list(inside) if isinstance(inside, dict) else range(len(inside))
            key = keys[int(rng.integers(len(keys)))]
            if rng.random() < 0.4 or not isinstance(inside[key], dict | list) or not inside[key]:
                inside[key] = HOSTILE[int(rng.integers(len(HOSTILE)))]
                break
            inside = inside[key]
    fields["check"] = manifest._digest(manifest._text(fields))
    return manifest._text(fields).encode()


KINDS = ("image", "tar", "checkpoint", "weights", "recipe", "manifest", "table", "elsewhere")


def child(root, first, count, seed):
    """Run inputs in this process; print a line for each: its number, its kind, the exit code, and what was wrong."""
    from tinyalex import cli
    from tinyalex.prepare import workers

    class Reporter:
        def __getattr__(self, name):
            return lambda *_: None

    def at_once(job, tasks, count, stop, on_done, on_tick, describe):
        for task in tasks:  # in this process: starting one for each input would take too long
            on_done(task, job(task, Reporter()))

    workers.run = at_once
    for number in range(first, first + count):
        rng, kind = np.random.default_rng([seed, number]), KINDS[number % len(KINDS)]
        with tempfile.TemporaryDirectory(dir=root) as folder:
            command = mutant(rng, root, kind, Path(folder))
            errors, wrong = io.StringIO(), ""
            print(number, kind, end=" ", flush=True)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
                try:
                    code = cli.main(command)
                except BaseException:
                    code, wrong = -1, traceback.format_exc().strip().replace("\n", " | ")
        lines = errors.getvalue().splitlines()
        if code not in CODES or any("bug in tinyalex" in line or "Traceback" in line for line in lines):
            wrong = wrong or " | ".join(lines)
        elif code and not all(line.startswith("tinyalex: ") for line in lines):
            wrong = "not one line an error: " + " | ".join(lines)
        if peak_memory() > MEMORY:
            wrong = wrong or "too much memory"
        print(code, f"WRONG {' '.join(command[:1])}: {wrong}" if wrong else "", flush=True)
    print("peak", peak_memory() // 1024, flush=True)


def fuzz(root, first, count, seed, say=print):
    """Run inputs in child processes; return {exit code: count}, the lines of failures, and the peak memory in KiB."""
    codes, wrong, peak, end, before = {}, [], 0, first + count, contents(root)
    while first < end:
        share = min(CHUNK, end - first)
        command = [sys.executable, "-m", "tests.programs.fuzz", "--child", str(root)]
        command += ["--first", str(first), "--seed", str(seed)]
        process = subprocess.Popen([*command, str(share)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        done, last_line = first, ""
        for line in _lines(process):
            if line.startswith("peak "):
                peak = max(peak, int(line.split()[1]))
            elif line[:1].isdigit():
                number, _, code, *rest = line.split(maxsplit=3)
                codes[int(code)] = codes.get(int(code), 0) + 1
                wrong += [line.strip()] if rest and rest[0].strip() else []
                done = int(number) + 1
            else:
                last_line = line
        if process.returncode:
            how = (
                "hang" if process.returncode == -signal.SIGALRM else f"crash ({process.returncode}) {last_line.strip()}"
            )
            wrong.append(f"{done} {KINDS[done % len(KINDS)]} {how}")
            done += 1
        first = done if process.returncode else first + share
        say(f"{first} of {end}: {len(wrong)} wrong")
    if contents(root) != before:
        wrong.append(f"something was written: {contents(root) ^ before}")
    return codes, wrong, peak


def contents(root):
    """Return the paths of all files below a folder, and the file that an executed payload would write."""
    return {str(path) for path in root.rglob("*")} | {name for name in ("EXECUTED",) if Path(name).exists()}


def _lines(process):
    # Yields the lines that a process prints; kills it when it prints nothing for too long.
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        text = ""
        while True:
            if not selector.select(TIMEOUT):
                process.send_signal(signal.SIGALRM)
                process.stdout.close()
                process.wait()
                return
            part = process.stdout.buffer.read1().decode("utf-8", "replace")
            if not part:
                break
            *whole, text = (text + part).split("\n")
            yield from whole
    process.stdout.close()
    process.wait()


def main():
    """Write the samples and run the mutated inputs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options.child, options.first, options.count, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        samples(Path(folder))
        codes, wrong, peak = fuzz(Path(folder), options.first, options.count, options.seed)
    print(*wrong, sep="\n")
    counts = ", ".join(f"{code}: {count}" for code, count in sorted(codes.items()))
    print(f"{sum(codes.values())} inputs, exit codes {counts}; peak {peak / 1024:.0f} MiB; {len(wrong)} wrong")
    return len(wrong) > 0


if __name__ == "__main__":
    sys.exit(main())
