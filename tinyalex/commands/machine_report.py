"""What this machine can do, in ten lines."""

from importlib import metadata

from tinyalex.devices import cuda
from tinyalex.network import alexnet, memory
from tinyalex.recipes import recipe

CLASSES = 1000  # where a recipe leaves them to the data
GIB = 2**30


def look():
    """Look at the machine.

    Returns
    -------
    dict
        "cpu", "processors", "blas", "numpy", "python", "threads"; "memory", with "total" and "free" bytes; "cuda", from
        `cards.look`; "torch", PyTorch's version or None; "recipes", from `needs`.
    """
    from tinyalex.devices.machine import versions

    here, (total, free) = versions(), memory.host()
    return {
        "cpu": here["CPU"],
        "processors": here["processors"],
        "blas": here["BLAS"],
        "numpy": here["NumPy"],
        "python": here["Python"],
        "threads": here["threads"],
        "memory": {"total": total, "free": free},
        "cuda": cuda.look(),
        "torch": _version("torch"),
        "recipes": [needs(name) for name in recipe.names()],
    }


def needs(name):
    """Say what training a recipe takes: "name", "batch", "bytes" on one device, "columns" the bytes of each on two."""
    made = recipe.load(name)
    if made.net.classes == 0:
        made = recipe.with_classes(made, CLASSES)
    batch = made.learning.batch
    return {
        "name": name,
        "batch": batch,
        "bytes": sum(memory.needed(alexnet.describe(made.net, made.init), batch)),
        "columns": memory.needed(alexnet.describe(made.net, made.init, made.net.columns), batch),
    }


def text(found):
    """Write what `look` found, a line for each thing."""
    cuda, host = found["cuda"], found["memory"]
    built = f"{cuda['cupy']}, for CUDA {cuda['built']}" if cuda["cupy"] else cuda["missing"].removeprefix("CuPy is ")
    driver = f"knows CUDA {cuda['driver']}" if cuda["driver"] else "none" if cuda["cupy"] else "CuPy is who asks it"
    found_cards = "; ".join(map(_card, cuda["cards"], range(len(cuda["cards"]))))
    torch = found["torch"] or "not installed"
    lines = {
        "CPU": f"{found['cpu']}, {found['processors']} processors",
        "BLAS": f"{found['blas']}, by NumPy {found['numpy']}",
        "threads": f"{found['threads']} for a step on the CPU (--threads or TINYALEX_THREADS)",
        "memory": f"{_size(host['free'])} of {_size(host['total'])} GiB free",
        "CuPy": built,
        "driver": driver,
        "cards": found_cards or (cuda["missing"] if cuda["cupy"] else "none without CuPy"),
        "peers": _peers(cuda["cards"]),
        "PyTorch": f"{torch}; only tests and bench look at it",
        "recipes": _fits(found),
    }
    return "\n".join(f"{name:<9}{line}" for name, line in lines.items())


def _card(card, number):
    return f"cuda:{number} {card['name']}, {_size(card['free'])} of {_size(card['total'])} GiB free"


def _peers(found):
    if len(found) < 2:
        one = "one card can take both columns, --devices cuda:0 cuda:0"
        return one if found else "none; --devices fake:0 fake:1 stand for two cards"
    apart = [f"cuda:{a} cuda:{b}" for a, card in enumerate(found) for b in range(len(found)) if _far(card, a, b)]
    if not apart:
        return "every card reads every other's memory"
    return f"not between {', '.join(apart)}: there columns exchange by way of the host"


def _far(card, here, there):
    return here < there and there not in card["reaches"]


def _fits(found):
    # On the card with most room, or else on the processor.
    free = [card["free"] for card in found["cuda"]["cards"]]
    where = f"cuda:{free.index(max(free))}" if free else "cpu"
    room = max(free) if free else found["memory"]["free"] or found["memory"]["total"]
    large = max(found["recipes"], key=lambda each: each["bytes"])
    about = f"{large['name']} takes about {_size(large['bytes'])} GiB"
    if len(large["columns"]) > 1:
        about += f", {_size(max(large['columns']))} a column on two devices"
    over = [each["name"] for each in found["recipes"] if room is not None and each["bytes"] > room]
    if over:
        fit = ", ".join(each["name"] for each in found["recipes"] if each["name"] not in over) or "none"
        return f"on {where}: {fit}; too large: {', '.join(over)} ({about}; use a smaller learning.batch)"
    return f"every one fits on {where}; {about}"


def _size(size):
    return "?" if size is None else f"{size / GIB:.1f}"


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
