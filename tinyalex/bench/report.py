"""What was measured, for people: lines for a terminal, a section in Markdown, files in a folder."""

import json
from pathlib import Path

from tinyalex import storage
from tinyalex.bench import tables


def text(result):
    """Write a result for a terminal."""
    parts = [tables.text(table) for table in tables.tables(result)]
    return "\n\n".join([*parts, "\n".join([rates(result), machine(result), *result["notes"]])])


def markdown(result):
    """Write a result as a section for `BENCHMARKS.md`."""
    versions = result["versions"]
    head = f"## `{result['recipe']}`, batch {result['batch']}, {versions['date']}"
    words = [f"{machine(result)}.", f"Medians of {result['rounds']} rounds, every contender one action in turn.", SETUP]
    notes = [f"- {note}." for note in result["notes"]]
    made = f"Made by `{result['command']}`."
    parts = [head, " ".join([*words, f"{rates(result)}."]), *map(tables.markdown, tables.tables(result))]
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else []), made]) + "\n"


SETUP = (
    "float32, the recipe's net, dropout, momentum and decay, He's first values; both columns on one device and "
    "normalization over all maps, but where it says cpu cpu; the same net, shapes and threads on both sides."
)


def rates(result):
    """Say what the machine could do at best meanwhile."""
    one, every, copy = (result["rates"][name] / 1e9 for name in ("sgemm_one", "sgemm_all", "copy"))
    threads = result["versions"]["threads"]
    return (
        f"The machine meanwhile: float32 products at {one:.0f} GF/s on one thread and {every:.0f} on {threads}, "
        f"copies at {copy:.1f} GB/s read and written"
    )


def machine(result):
    """Say on what it was measured."""
    versions = dict(result["versions"])
    first = f"{versions.pop('CPU')}, {versions.pop('processors')} processors, {versions.pop('threads')} threads"
    others = ", ".join(f"{name} {version}" for name, version in versions.items() if name not in ("date", "system"))
    return f"{first}, {versions['system']}, {others}; {versions['date']}"


def write(result, out):
    """Write ``bench.json``, ``bench.md`` and ``bench.png`` into a folder; return the paths."""
    from tinyalex import figures
    from tinyalex.bench.picture import bars

    out = Path(out)
    storage.write_text(out / "bench.json", json.dumps(result, indent=1) + "\n")
    storage.write_text(out / "bench.md", markdown(result))
    figures.save(bars(result), out / "bench.png")
    return [out / name for name in ("bench.json", "bench.md", "bench.png")]
