"""Host arrays on their way to devices, copied beside the work that is under way there."""


class Upload:
    """Copies of host arrays on a device; the copying begins when this is made.

    ``with upload as copies:`` hands the copies over: what is asked of the device inside waits for them, and a later
    upload waits for that work before it writes to their memory. From memory of `Device.pinned` a card copies by itself,
    while it computes. On `cpu` everything is done at once.

    Parameters
    ----------
    device : Device
    arrays : list of ndarray
        Contiguous. Nobody may write to them before `wait` has returned; they are kept for as long as this is.
    """

    def __init__(self, device, arrays):
        self.device, self._sources = device, arrays
        if device.kind == "cpu":
            self._copies = [device.put(array) for array in arrays]
            return
        # Memory for the copies belongs to the stream that copies: there, whatever is written to it next comes after.
        with device.card, device.copying:
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
        """Return when the host arrays have been read and may be written to again."""
        if self.device.kind != "cpu":
            self._arrived.synchronize()


class DeviceBatch:
    """A batch that its devices hold already: stands for the host's array where a network takes images.

    Parameters
    ----------
    arrays : dict of Device to array
        The whole batch, once on every device that reads it.
    """

    def __init__(self, arrays):
        self.arrays = arrays
        self.shape = next(iter(arrays.values())).shape

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, part):
        """Return some of the images, where they are."""
        return DeviceBatch({device: array[part] for device, array in self.arrays.items()})
