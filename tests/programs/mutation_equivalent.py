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
    "kernels/cpu/activation.py": {
        "zeros = device.zeros(x.shape[-2:], x.dtype)  # with an array of zeros maximum is twice as fast as with the"
        " number 0"
        "  [-2 -> 2]": _SPREAD,
        "zeros = device.zeros(x.shape[-2:], x.dtype)  # with an array of zeros maximum is twice as fast as with the"
        " number 0"
        "  [2 -> 3]": _SPREAD,
    },
    "kernels/cpu/patches.py": {
        "apart = -(-kernel // stride)  [-kernel // stride -> -kernel * stride]":
        "so far apart they share no pixel either: only speed changes",
        "height, width, span = (ho - 1) * stride + kernel, (wo - 1 + apart) * stride, apart * stride"
        "  [ho - 1 -> ho + 1]": _MORE,
        "height, width, span = (ho - 1) * stride + kernel, (wo - 1 + apart) * stride, apart * stride"
        "  [wo - 1 -> wo + 1]": _MORE,
    },
    "kernels/cpu/pooling.py": {
        "dx[pixels] += share[outputs]  [dx[pixels] += share[outputs] -> dx[pixels] -= share[outputs]]": _TWICE,
        "y[outputs] += x[pixels]  [y[outputs] += x[pixels] -> y[outputs] -= x[pixels]]": _TWICE,
    },
    "kernels/cpu/response.py": {
        "SCALE = 2.0**40  # as in `tinyalex.layers.normalization`  [2.0 -> 3.5]": _SCALE,
        "SCALE = 2.0**40  # as in `tinyalex.layers.normalization`  [40 -> 41]": _SCALE,
        "PIECE = 3 << 15  # numbers that are normalized at a time  [3 -> 4]": _SPEED,
        "PIECE = 3 << 15  # numbers that are normalized at a time  [15 -> 16]": _SPEED,
        "if beta != 0.75:  [0.75 -> 1.625]": "the power is that of the two square roots: only speed changes",
        "return x if groups is None else x.reshape(-1, x.shape[-1] // groups)  [1 -> 2]": _MINUS,
        "padded, flat = padded.reshape(-1), total.reshape(-1)  [1 -> 2]": _MINUS,
        "padded, flat = padded.reshape(-1), total.reshape(-1)  [1 -> 2] #2": _MINUS,
        "padded = device.zeros((rows + 1, maps + size - 1), a.dtype)  [1 -> 2]": _MORE,
        "padded = device.zeros((rows + 1, maps + size - 1), a.dtype)  [maps + size - 1 -> maps + size + 1]": _MORE,
        "padded = device.zeros((rows + 1, maps + size - 1), a.dtype)  [1 -> 2] #2":
        "a window's last map is then the next row's first number, which is zero too",
        "padded = device.zeros((n, h + size - 1, w + size - 1, c), a.dtype)  [h + size - 1 -> h + size + 1]": _MORE,
        "padded = device.zeros((n, h + size - 1, w + size - 1, c), a.dtype)  [w + size - 1 -> w + size + 1]": _MORE,
    },
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
