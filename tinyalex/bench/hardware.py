"""Describe the hardware and the versions of a measurement."""


def gpu_versions(device):
    """Return what a GPU is and its versions: ``{"GPU": "NVIDIA H200 (140 GiB)", ...}``."""
    if device.kind != "cuda":
        return {"GPU": f"none ({device.name} stands for one)"}
    runtime = device.xp.cuda.runtime
    found = runtime.getDeviceProperties(device.index)
    return {
        "GPU": f"{_text(found['name'])} ({found['totalGlobalMem'] / 2**30:.0f} GiB)",
        "CuPy": device.xp.__version__,
        "CUDA": _version(runtime.runtimeGetVersion()),
        "driver's CUDA": _version(runtime.driverGetVersion()),
    }


def describe(result):
    """Return one line on the hardware, versions and date of a result."""
    versions = dict(result["versions"])
    gpu = f"{versions.pop('GPU')}, " if "GPU" in versions else ""
    first = f"{gpu}{versions.pop('CPU')}, {versions.pop('processors')} processors, {versions.pop('threads')} threads"
    others = ", ".join(f"{name} {version}" for name, version in versions.items() if name not in ("date", "system"))
    return f"{first}, {versions['system']}, {others}; {versions['date']}"


def _text(name):
    return name.decode() if isinstance(name, bytes) else name


def _version(number):
    return f"{number // 1000}.{number % 1000 // 10}"
