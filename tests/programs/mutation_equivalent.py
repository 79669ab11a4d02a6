"""Mutants that do not change behaviour, by file and name, each with the reason."""

_SPREAD = "zeros of any shape that broadcasts to x give the same: only speed changes"
_STRICT = "both have the same length by construction"
_MINUS = "NumPy treats any negative size as the unknown one"
_ROOM = "how much free space beyond the tensors is required: kilobytes"
_UNUSED = "every caller passes it"
_MORE = "zeros that are never read"
_NO_CEIL = "every value but ceil means floor"
_SPEED = "the same numbers: only speed changes"
_FIRST_LETTER = "NumPy reads the first letter"
_DECLARED = "every subclass has its own"
_SCALE = "backward divides by it again"
_TWICE = "it is applied along two axes, and the signs cancel"

EQUIVALENT = {
    "labels.py": {
        "for i in np.flatnonzero(outside)[:1]:  [1 -> 2]": "the first one raises",
    },
    "layers/convolution.py": {
        "self.b.grad[...] = dy.reshape(-1, self.maps).sum(axis=0)  [1 -> 2]": _MINUS,
        "W = self.W.value.reshape(-1, self.maps)  # (k k c/g, o)  [1 -> 2]": _MINUS,
        "W, dW = W.reshape(-1, self.maps), dW.reshape(-1, self.maps)  [1 -> 2]": _MINUS,
        "W, dW = W.reshape(-1, self.maps), dW.reshape(-1, self.maps)  [1 -> 2] #2": _MINUS,
        "dy = dy.reshape(-1, self.maps)  # (n ho wo, o)  [1 -> 2]": _MINUS,
        "rounding: str = \"floor\",  ['floor' -> 'floorx']": _NO_CEIL,
    },
    "layers/dropout.py": {
        "self.saved = randomness.bits(key, images, units, xp=xp) >= int(self.p * 2**32)  # (n, m)"
        "  [randomness.bits(key, images, units, xp=xp) >= int(self.p * 2 ** 32) -> "
        "randomness.bits(key, images, units, xp=xp) > int(self.p * 2 ** 32)]": "one unit in four thousand million",
        "def __init__(self, p: float = 0.5, stream: str = \"\", first_unit: int = 0) -> None:  ['' -> 'x']": _UNUSED,
    },
    "layers/layer.py": {
        "return {f\"{name}/{self.kind}\": array[..., cut] for name, cut in zip(self.names, cuts, strict=True)}"
        "  [True -> False]": _STRICT,
        "return list(zip(ranges(inputs, groups), ranges(outputs, groups), strict=True))  [True -> False]": _STRICT,
    },
    "layers/normalization.py": {
        "SCALE = 2.0**40  # in float32 x d^(-beta - 1) would be less than the smallest number if x is 1e11 or more"
        "  [2.0 -> 3.5]": _SCALE,
        "SCALE = 2.0**40  # in float32 x d^(-beta - 1) would be less than the smallest number if x is 1e11 or more"
        "  [40 -> 41]": _SCALE,
        "raise NotImplementedError  [raise NotImplementedError -> pass]": _DECLARED,
        "padded = self.device.zeros((*a.shape[:-1], maps + self.size - 1), a.dtype)"
        "  [maps + self.size - 1 -> maps + self.size + 1]": _MORE,
        "padded = self.device.zeros((n, h + self.size - 1, w + self.size - 1, c), a.dtype)"
        "  [h + self.size - 1 -> h + self.size + 1]": _MORE,
        "padded = self.device.zeros((n, h + self.size - 1, w + self.size - 1, c), a.dtype)"
        "  [w + self.size - 1 -> w + self.size + 1]": _MORE,
    },
    "layers/patches.py": {
        "def im2col(device: Device, x: Array, kernel: int, stride: int = 1, pad: int = 0, rounding: str = \"floor\")"
        " -> Array:  ['floor' -> 'floorx']": _NO_CEIL,
        "rounding: str = \"floor\",  ['floor' -> 'floorx']": _NO_CEIL,
        "height, width = (ho - 1) * stride + kernel, (wo - 1) * stride + kernel  [ho - 1 -> ho + 1]": _MORE,
        "height, width = (ho - 1) * stride + kernel, (wo - 1) * stride + kernel  [wo - 1 -> wo + 1]": _MORE,
        "if pad == 0 and height <= h and width <= w:  [height <= h -> height < h]": "a copy where a view would do",
        "if pad == 0 and height <= h and width <= w:  [width <= w -> width < w]": "a copy where a view would do",
    },
    "training/optimizer.py": {
        "self._rows += zip([device] * len(vs), parameters, vs, strict=True)  [True -> False]": _STRICT,
        "spread(sgd_update, tensors, *numbers) if device.on_host else sgd_update(*tensors, *numbers)"
        "  [spread(sgd_update, tensors, *numbers) if device.on_host else sgd_update(*tensors, -> "
        "spread(sgd_update, tensors, *numbers) if not device.on_host else sgd_update(*tens]": _SPEED,
    },
    "randomness.py": {
        "return np.argsort(bits(key, np.arange(size)), kind=\"stable\")  ['stable' -> 'stablex']": _FIRST_LETTER,
    },
    "runs/checkpoint.py": {
        "_HEADER = 1 << 20  # largest allowance for the header when checking for free space, bytes  [1 -> 2]": _ROOM,
        **{
            "storage.need_room(path, sum(array.nbytes for array in tensors.values())"
            f" + min(_HEADER, 4 * len(text) + 65536))  [{change}]": _ROOM
            for change in (
                "4 * len(text) -> 4 / len(text)",
                "4 * len(text) + 65536 -> 4 * len(text) - 65536",
                "sum((array.nbytes for array in tensors.values())) + min(_HEADER, 4 * l -> "
                "sum((array.nbytes for array in tensors.values())) - min(_HEADER, 4 * l",
                "4 -> 5",
                "65536 -> 65537",
            )
        },
        "_HEADER = 1 << 20  # largest allowance for the header when checking for free space, bytes"
        "  [1 << 20 -> 1 >> 20]": _ROOM,
        "_HEADER = 1 << 20  # largest allowance for the header when checking for free space, bytes  [20 -> 21]": _ROOM,
        "name: np.asarray(array, np.asarray(array).dtype.newbyteorder(\"=\"), order=\"C\")"
        " for name, array in tensors.items()  ['=' -> '=x']": _FIRST_LETTER,
        "_compare(path, dict(zip(entries, found, strict=True)), wanted)  [True -> False]": _STRICT,
        "_compare(path, dict(zip(tensors, equal, strict=True)), dict.fromkeys(tensors, True))  [True -> False]":
        _STRICT,
        "continue  [continue -> pass]": "nothing follows in the loop",
        "digests = dict(zip(tensors, workers().run(hashes.array, list(tensors.values())), strict=True))"
        "  [True -> False]":
        _STRICT,
        "found = dict(zip(tensors, workers().run(hashes.array, list(tensors.values())), strict=True))"
        "  [True -> False]": _STRICT,
        "_verified[path] = _stamp(path)  [_verified[path] = _stamp(path) -> pass]":
        "it is verified once more: only speed changes",
    },
}  # fmt: skip
