"""Mutants that change nothing that anybody can see, by file and name, each with the reason."""

_SPREAD = "zeros of any shape that spreads over x give the same: speed alone"
_STRICT = "the two are of one length by construction"
_MINUS = "NumPy takes any negative size for the one to be found"
_ROOM = "how much room beyond the tensors is asked for: kilobytes"
_UNUSED = "every caller names it"

EQUIVALENT = {
    "layers/activation.py": {
        "zeros = self.device.zeros(x.shape[-2:], x.dtype)  # NumPy takes an array twice as fast as a number  [-2 -> 2]":
        _SPREAD,
        "zeros = self.device.zeros(x.shape[-2:], x.dtype)  # NumPy takes an array twice as fast as a number  [2 -> 3]":
        _SPREAD,
    },
    "layers/convolution.py": {
        "self.b.grad[...] = dy.reshape(-1, self.maps).sum(axis=0)  [1 -> 2]": _MINUS,
        "W = self.W.value.reshape(-1, self.maps)  # (k k c/g, o)  [1 -> 2]": _MINUS,
        "W, dW = self.W.value.reshape(-1, self.maps), self.W.grad.reshape(-1, self.maps)  [1 -> 2]": _MINUS,
        "W, dW = self.W.value.reshape(-1, self.maps), self.W.grad.reshape(-1, self.maps)  [1 -> 2] #2": _MINUS,
        "dy = dy.reshape(-1, self.maps)  # (n ho wo, o)  [1 -> 2]": _MINUS,
        'def __init__(self, channels, maps, kernel, stride=1, pad=0, groups=1, rounding="floor", std="he", bias=0.0):'
        "  ['floor' -> 'floorx']": "whatever is not ceil is floor",
    },
    "layers/dropout.py": {
        "def __init__(self, p=0.5, stream=\"\", first_unit=0):  ['' -> 'x']": _UNUSED,
    },
    "checkpoint.py": {
        "_HEADER = 1 << 20  # bytes of header, at most, for which there has to be room  [1 -> 2]": _ROOM,
        "storage.need_room(path, sum(array.nbytes for array in tensors.values()) + min(_HEADER, 4 * len(text) + 65536))"
        "  [4 * len(text) -> 4 / len(text)]": _ROOM,
        "each = dict(zip(tensors, workers().run(hashes.array, list(tensors.values())), strict=True))  [True -> False]":
        _STRICT,
        "found = dict(zip(tensors, workers().run(hashes.array, list(tensors.values())), strict=True))"
        "  [True -> False]": _STRICT,
        "_whole[path] = _stamp(path)  [_whole[path] = _stamp(path) -> pass]": "it is verified once more: speed alone",
    },
}  # fmt: skip
