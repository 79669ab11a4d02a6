"""Copies of host arrays to devices, made while the devices compute."""


class Upload:
    """Copies of host arrays on a device; the constructor starts the copying.

    ``with upload as copies:`` returns the copies: work launched inside waits for them, and a later upload waits for
    that work before it overwrites their memory. A GPU copies from memory of `Device.pinned` while it computes. On `cpu`
    the constructor copies at once.

    Parameters
    ----------
    device : Device
    arrays : list of ndarray
        Contiguous. They must not be written to before `wait` has returned; this object keeps them alive.
    """

    def __init__(self, device, arrays):
        self.device, self._sources = device, arrays
        if device.kind == "cpu":
            self._copies = [device.put(array) for array in arrays]
            return
        # The copying stream owns the copies' memory, so that its next use is ordered after these copies.
        with device.cupy_device, device.copying:
            self._copies = [device.xp.empty(array.shape, array.dtype) for array in arrays]
            for copy, array in zip(self._copies, arrays, strict=True):
                copy.set(array, stream=device.copying)
            self._arrived = device.event(device.copying)

    def __enter__(self):
        if self.device.kind != "cpu":
            self.device.stream.wait_event(self._arrived)
        copies, self._copies = self._copies, None
        return copies

    def __exit__(self, *error):
        if self.device.kind != "cpu":
            self.device.copying.wait_event(self.device.event(self.device.stream))

    def wait(self):
        """Wait until the host arrays have been read; they may be overwritten then."""
        if self.device.kind != "cpu":
            self._arrived.synchronize()


class DeviceBatch:
    """A batch of images that is already on its devices; a network takes it in place of a host array.

    Parameters
    ----------
    arrays : dict of Device to array
        The whole batch, on every device that reads it.
    """

    def __init__(self, arrays):
        self.arrays = arrays
        self.shape = next(iter(arrays.values())).shape

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, part):
        """Return a slice of the images, without copying."""
        return DeviceBatch({device: array[part] for device, array in self.arrays.items()})
