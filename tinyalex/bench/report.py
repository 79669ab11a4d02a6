"""What was measured, for people: lines for a terminal, a section in Markdown, files in a folder."""

import json
from pathlib import Path

from tinyalex.bench import gpu_tables, tables
from tinyalex.bench.machine import described
from tinyalex.system import storage


def text(result):
    """Write a result for a terminal."""
    parts = [tables.text(table) for table in _tables(result)]
    return "\n\n".join([*parts, "\n".join([rates(result), described(result), *result["notes"]])])


def markdown(result):
    """Write a result as a section for `BENCHMARKS.md`."""
    versions = result["versions"]
    head = f"## `{result['recipe']}`, batch {result['batch']}, {versions['date']}"
    words = [
        f"{described(result)}.",
        f"Medians of {result['rounds']} rounds, every contender one action in turn.",
        setup(result),
    ]
    notes = [f"- {note}." for note in result["notes"]]
    made = f"Made by `{result['command']}`."
    parts = [head, " ".join([*words, f"{rates(result)}."]), *map(tables.markdown, _tables(result))]
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else []), made]) + "\n"


def _tables(result):
    return (tables if result["device"] == "cpu" else gpu_tables).tables(result)


def setup(result):
    """Say what everybody computes."""
    same = "the same net, shapes and threads on both sides"
    within = "but where it says cpu cpu"
    if result["device"] != "cpu":
        same = "the same net and shapes on all sides, images on the device before the time begins"
        within = "but in the form of two columns"
    return (
        "float32, the recipe's net, dropout, momentum and decay, He's first values; both columns on one device and "
        f"normalization over all maps, {within}; {same}."
    )


def rates(result):
    """Say what the machine could do at best meanwhile."""
    found = {name: rate / 1e9 for name, rate in result["rates"].items() if name != "samples"}
    if result["device"] != "cpu":
        return (
            f"The card meanwhile: large products at {found['TF32'] / 1000:,.1f} TF/s in TF32 and "
            f"{found['float32'] / 1000:,.1f} in float32, copies at {found['copy']:,.0f} GB/s read and written"
        )
    return (
        f"The machine meanwhile: float32 products at {found['sgemm_one']:.0f} GF/s on one thread and "
        f"{found['sgemm_all']:.0f} on {result['versions']['threads']}, "
        f"copies at {found['copy']:.1f} GB/s read and written"
    )


def write(result, out):
    """Write ``bench.json``, ``bench.md`` and ``bench.png`` into a folder; return the paths."""
    from tinyalex import figures
    from tinyalex.bench.picture import bars

    out = Path(out)
    storage.write_text(out / "bench.json", json.dumps(result, indent=1) + "\n")
    storage.write_text(out / "bench.md", markdown(result))
    figures.save(bars(result), out / "bench.png")
    return [out / name for name in ("bench.json", "bench.md", "bench.png")]
