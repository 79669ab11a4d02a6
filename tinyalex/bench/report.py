"""Write a measurement as lines for a terminal, as a section in Markdown, and as files in a folder."""

import contextlib
import json
from pathlib import Path

from tinyalex.bench import gpu_tables, tables
from tinyalex.bench.hardware import describe
from tinyalex.system import ownership, storage
from tinyalex.words import counted

FILES = ("bench.json", "bench.md", "bench.png")


def text(result):
    """Write a result for a terminal."""
    parts = [*_headline(result), *(tables.text(table) for table in _tables(result))]
    return "\n\n".join([*parts, "\n".join([rates(result), describe(result), *result["notes"]])])


def markdown(result):
    """Write a result as a section for `BENCHMARKS.md`."""
    versions = result["versions"]
    head = f"## `{result['recipe']}`, batch {result['batch']}, {versions['date']}"
    sentences = [
        f"{describe(result)}.",
        f"Medians of {counted(result['rounds'], 'round')}; in a round every contender runs one action, one after the "
        "other.",
        setup(result),
    ]
    sentences = [*(f"**{line}.**" for line in _headline(result)), *sentences]
    notes = [f"- {note}." for note in result["notes"]]
    command = f"Command: `{result['command']}`."
    parts = [head, " ".join([*sentences, f"{rates(result)}."]), *map(tables.markdown, _tables(result))]
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else []), command]) + "\n"


def _headline(result):
    line = "" if result["device"] == "cpu" else gpu_tables.headline(result)
    return [line] if line else []


def _tables(result):
    return (tables if result["device"] == "cpu" else gpu_tables).tables(result)


def setup(result):
    """Return a sentence on what all contenders compute."""
    same = "all contenders have the same net, shapes and threads"
    exception = "except where it says cpu cpu"
    if result["device"] != "cpu":
        same = "all contenders have the same net and shapes, and the images are on the device before the time begins"
        exception = "except with two columns"
    return (
        "float32, the recipe's net, dropout, momentum and weight decay, He initialization; both columns on one device, "
        f"normalization over all maps, {exception}; {same}."
    )


def rates(result):
    """Return a sentence on the rates of the hardware that were measured in the same run."""
    found = {name: rate / 1e9 for name, rate in result["rates"].items() if name != "samples"}
    if result["device"] != "cpu":
        return (
            f"Rates of the GPU in the same run: large matrix products at {found['TF32'] / 1000:,.1f} TF/s in TF32, "
            f"{found['float32'] / 1000:,.1f} in float32 and {found['bf16'] / 1000:,.1f} in bf16, "
            f"copies at {found['copy']:,.0f} GB/s read and written"
        )
    return (
        f"Rates of the machine in the same run: float32 matrix products at {found['sgemm_one']:.0f} GF/s on one thread "
        f"and {found['sgemm_all']:.0f} on {result['versions']['threads']}, "
        f"copies at {found['copy']:.1f} GB/s read and written"
    )


def check_files(out):
    """Check before a measurement that no file that `write` replaces is somebody else's; StorageError if one is.

    A folder that an earlier version wrote to is recognised by the result in it.
    """
    out, old = Path(out), {}
    out.mkdir(parents=True, exist_ok=True)  # raises an OSError now, not after the measurement
    if (out / FILES[0]).is_file() and not ownership.is_marked(out):
        with contextlib.suppress(ValueError):
            old = json.loads((out / FILES[0]).read_text(encoding="utf-8"))
        if isinstance(old, dict) and {"recipe", "rounds", "rates", "versions"} <= old.keys():
            text = (out / FILES[1]).read_text(encoding="utf-8", errors="replace") if (out / FILES[1]).is_file() else ""
            texts = [FILES[1]] if "Made by `tinyalex bench" in text else []
            pictures = [FILES[2]] if ownership.is_picture(out / FILES[2]) else []
            ownership.adopt(out, [], [FILES[0], *texts, *pictures])
    for name in FILES:
        ownership.check(out / name)


def write_texts(result, out):
    """Write ``bench.json`` and ``bench.md``, also of a measurement that has not ended."""
    storage.write_text(Path(out) / "bench.json", json.dumps(result, indent=1) + "\n")
    storage.write_text(Path(out) / "bench.md", markdown(result))


def write(result, out):
    """Write ``bench.json``, ``bench.md`` and ``bench.png`` into a folder.

    Returns
    -------
    paths : list of Path
        Of the files.
    reason : str or None
        Why there is no picture.
    """
    from tinyalex import figures
    from tinyalex.bench.picture import bars

    out = Path(out)
    write_texts(result, out)
    reason = figures.attempt(lambda: bars(result), out / "bench.png")
    return [out / name for name in FILES[: 2 if reason else 3]], reason
