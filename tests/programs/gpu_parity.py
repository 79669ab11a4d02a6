"""Compares a GPU's results with NumPy's: `python -m tests.programs.gpu_parity`, on a machine with a GPU.

Three whole steps of the full-size nets in float64, by kernels and by array operations, in two columns on one GPU and
in the grouped form; the same steps asynchronously and serially, and recorded ones repeated, bit for bit; a step's
allocations and memory. Prints a line for each check; the exit code is 1 if one failed.
"""

import argparse
import functools
import itertools
import sys
import time
from dataclasses import replace

import numpy as np

from tinyalex.devices.device import Device
from tinyalex.devices.upload import DeviceBatch
from tinyalex.network import alexnet, network
from tinyalex.randomness import Step, bits, key, normal
from tinyalex.recipes import recipe
from tinyalex.training.optimizer import Optimizer

GPU = "cuda:0"
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


class Devices:
    """Makes the devices of the networks that are built inside."""

    def __init__(self, kernels=(), serial=False):
        self.kernels, self.serial = kernels, serial

    def __enter__(self):
        self._plain = network.Device
        network.Device = self.make
        return self

    def __exit__(self, *error):
        network.Device = self._plain

    def make(self, name, kernels=True):
        device = self._plain(name, kernels)
        device.kernel_dtypes |= {np.dtype(dtype) for dtype in self.kernels} if device.kind == "cuda" else set()
        if self.serial:
            device.stream = device.copying = device.xp.cuda.Stream.null
        return device


def batch_of(net, count):
    counters = np.arange(count * net.input**2 * 3)
    images = normal(key(0, "images"), counters).reshape(count, net.input, net.input, 3)
    return images, (bits(key(0, "labels"), np.arange(count)) % net.classes).astype(np.int64)


@functools.cache
def first_values(name):
    """Draw sixty million numbers once."""
    built = alexnet.build(recipe.load(name).net, recipe.Init({"default": "he"}), ["cpu"], 1, "float32")
    return {what: np.array(value) for what, value in built.state().items()}


def run(name, devices, dtype="float64", steps=3, batch=8, precision="float32", record=False, **options):
    """Take steps; return every number that comes out, on the host."""
    made = recipe.load(name)
    with Devices(**options):
        built = alexnet.build(replace(made.net, precision=precision), None, devices, None, dtype)
    built.load(first_values(name))
    if record:
        built.record_steps()
    optimizer, (images, labels), seen = Optimizer(built), batch_of(made.net, batch), {}
    for number in range(steps):
        with built.step(), built.devices[0] as device:
            others = np.roll(images, number, axis=0).astype(dtype)
            loss, logits = built.loss_and_backward(others, labels, step=Step(3, number))
            optimizer.update(1e-3, 2e-3, {"conv1": 0.0} if number == 2 else None)
            seen["loss", number], seen["logits", number] = device.get(loss), device.get(logits)
        seen |= {(number, what): device.get(g) for what, device, g in built.tensors("grad")}
    seen |= {("w", what): device.get(w) for what, device, w in built.tensors()}
    seen |= {("v", what): device.get(v) for what, device, v in optimizer.tensors()}
    return seen


def worst(got, expected):
    """Return the largest difference in a tensor, as a share of its largest number, and the tensor."""
    shares = {what: np.abs(got[what] - each).max() / (np.abs(each).max() or 1) for what, each in expected.items()}
    return max((share, str(what)) for what, share in shares.items())


def same_bits(first, second):
    return all(first[what].tobytes() == second[what].tobytes() for what in first)


def holds(got, expected, limit, what):
    share, where = worst(got, expected)
    return share <= limit, f"{what}: off by {share:.1e} of the maximum at most (limit {limit:.0e}), in {where}"


@check
def three_steps_in_float64(options):
    """Kernels and readable layers on the GPU, compared with NumPy; grouped, and in two columns on one GPU."""
    for name in ("paper", "original"):
        expected = {count: run(name, ["cpu"] * count, batch=options.batch) for count in (1, 2)}
        for kernels in ((), ("float64",)):
            way = "kernels" if kernels else "array operations"
            grouped = run(name, [GPU], batch=options.batch, kernels=kernels)
            split = run(name, [GPU] * 2, batch=options.batch, kernels=kernels)
            yield holds(grouped, expected[1], 1e-12, f"{name}, {way}, grouped, beside NumPy")
            yield holds(split, expected[2], 1e-12, f"{name}, {way}, {GPU} {GPU}, beside NumPy")
            yield holds(grouped, split, 1e-12, f"{name}, {way}, grouped beside {GPU} {GPU}")


@check
def asynchronous_is_serial(options):
    """Two columns on two streams give the bits of one stream, and again the same bits."""
    for dtype, precision in (("float32", "float32"), ("float64", "float32"), ("float32", "bf16")):
        runs = [
            run("paper", [GPU] * 2, dtype, batch=32, precision=precision, serial=serial)
            for serial in (False, False, True)
        ]
        what = precision if dtype == "float32" else dtype
        yield same_bits(*runs[:2]), f"{what}: {GPU} {GPU} twice, three steps: the same bits"
        yield same_bits(runs[0], runs[2]), f"{what}: two streams and one, three steps: the same bits"


@check
def bfloat16_beside_float32(options):
    """The loss and the logits before the first update; and the grouped form beside two columns on one GPU."""
    exact = run("paper", [GPU], "float32", steps=1, batch=32)
    grouped, split = (run("paper", devices, "float32", 1, 32, "bf16") for devices in ([GPU], [GPU] * 2))
    for what in ("loss", "logits"):
        yield holds(grouped, {(what, 0): exact[what, 0]}, 5e-2, f"bf16, {what} of the first step, beside float32")
        yield holds(split, {(what, 0): grouped[what, 0]}, 5e-2, f"bf16, {what}, {GPU} {GPU} beside grouped")


@check
def repeated_steps_are_as_written(options):
    """Steps that repeat the calls of a recorded step give the bits of steps that run as they are written."""
    for name, precision, count in itertools.product(("paper", "original"), ("float32", "bf16"), (1, 2)):
        runs = [run(name, [GPU] * count, "float32", 4, 32, precision, record) for record in (False, True)]
        what = f"{name}, {' '.join([GPU] * count)}, {precision}"
        yield same_bits(*runs), f"{what}: two repeated steps have the same bits"


@check
def nothing_is_allocated(options):
    """After the first step all memory comes from CuPy's pool and none is allocated by CUDA; report the total."""
    import cupy

    class Hook(cupy.cuda.MemoryHook):
        name = "tinyalex"

        def __init__(self):
            self.taken = self.requested = 0

        def alloc_preprocess(self, **kwargs):
            self.taken += 1

        def malloc_preprocess(self, **kwargs):
            self.requested += 1

    for devices, room in (([GPU], True), ([GPU], False), ([GPU] * 2, True), ([GPU] * 2, False)):
        pool = cupy.get_default_memory_pool()
        pool.free_all_blocks()
        made = recipe.load("paper")
        built = alexnet.build(made.net, None, devices, None)
        built.load(first_values("paper"))
        optimizer, (images, labels) = Optimizer(built), batch_of(made.net, 128)
        batch = DeviceBatch({device: device.put(images.astype(np.float32)) for device in built.devices})
        for device in built.devices if not room else ():
            device.memory = 0
        taken, what = [], f"{' '.join(devices)}, patches {'kept' if room else 'computed again'}"
        for number in range(5):
            with Hook() as hook, built.step(), built.devices[0] as device:
                loss, _ = built.loss_and_backward(batch, labels, step=Step(3, number))
                optimizer.update(1e-3)
                device.get(loss)
            taken.append(hook.taken)
        held = pool.total_bytes() / 2**30
        yield taken[1:] == [0] * 4, f"{what}: CUDA allocated memory {taken} times in five steps"
        yield (
            room or held / len(devices) < 3,
            f"{what}, batch 128: {held:.2f} GiB held ({hook.requested} arrays a step)",
        )
        del built, optimizer, batch, loss, device
        pool.free_all_blocks()


@check
def speed(options):
    """Images per second, and the CPU time to launch a step; nothing is checked."""
    kinds = (([GPU], "tf32"), ([GPU], "float32"), ([GPU] * 2, "tf32"), ([GPU], "bf16"), ([GPU] * 2, "bf16"))
    for (devices, precision), record in itertools.product(kinds, (False, True)):
        made = recipe.load("paper")
        built = alexnet.build(replace(made.net, precision=precision), made.init, devices, 1)
        if record:
            built.record_steps()
        optimizer, (images, labels) = Optimizer(built), batch_of(made.net, 128)
        batch = DeviceBatch({device: device.put(images.astype(np.float32)) for device in built.devices})

        def step(number, built=built, optimizer=optimizer, batch=batch, labels=labels):
            with built.step():
                built.loss_and_backward(batch, labels, step=Step(3, number))
            optimizer.update(1e-3)

        def wait(built=built):
            for device in built.devices:
                device.synchronize()

        for number in range(5):
            step(number)
        wait()
        started = time.perf_counter()
        for number in range(30):
            step(number)
        launched = time.perf_counter() - started
        wait()
        taken = (time.perf_counter() - started) / 30
        yield (
            True,
            (
                f"{' '.join(devices)}, {precision}{', repeated' if record else ''}: {1000 * taken:.2f} ms a step, "
                f"{128 / taken:,.0f} images/s; launched in {1000 * launched / 30:.2f} ms"
            ),
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--only", nargs="+", choices=[each.__name__ for each in CHECKS])
    options = parser.parse_args()
    failed = 0
    for each in CHECKS:
        if not options.only or each.__name__ in options.only:
            started = time.monotonic()
            for right, line in each(options):
                failed += not right
                print("ok    " if right else "WRONG ", line, flush=True)
            print(f"       {each.__name__}: {time.monotonic() - started:.0f} s", flush=True)
    print(f"{failed} failed")
    return min(failed, 1)


if __name__ == "__main__":
    Device(GPU)
    sys.exit(main())
