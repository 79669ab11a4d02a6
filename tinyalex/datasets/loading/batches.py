"""Training and test batches, delivered to the devices that read them, with the time spent waiting for them.

For the CPU the loader's threads crop the images. Other devices get whole images as bytes, which is a quarter of the
traffic, and crop them themselves; the next batch is copied to them while they compute.
"""

import contextlib
import itertools
import time

from tinyalex.datasets.loading import loader
from tinyalex.devices import parallel
from tinyalex.devices.upload import DeviceBatch, Upload

_threads = None  # of all passes, as `set_threads` has set it


def set_threads(count):
    """Set how many threads read, decode and crop images in all passes from now on; None: the usual number."""
    global _threads
    _threads = count


class Batches:
    """An iterator over batches that counts the seconds spent waiting for them.

    Attributes
    ----------
    waited : float
        Seconds.
    """

    def __init__(self, batches):
        self._batches, self.waited = batches, 0.0

    def __iter__(self):
        return self

    def __next__(self):
        started = time.monotonic()
        try:
            return next(self._batches)
        finally:
            self.waited += time.monotonic() - started

    def close(self):
        """Stop making batches and end the threads."""
        self._batches.close()


def training_batches(
    dataset, recipe, seed, epoch, first_batch=0, colour_noise=None, devices=(), threads=None, share=None, few=False
):
    """Go through the training set once; the bits do not depend on the devices or the number of threads.

    Parameters
    ----------
    dataset, recipe, seed, epoch, colour_noise
        See `loader.Epoch`.
    first_batch : int
        Number of the batch to begin with.
    devices : sequence of Device
        The devices that read the images.
    threads : int, optional
        Threads that read images, and for the CPU also crop them. Default: the number given to `set_threads`; without
        it 1 if all devices are the CPU, else 4, or one for each processor if there are JPEG files to decode.
    share, few
        See `loader.Epoch`.

    Returns
    -------
    Batches
        Of `loader.Batch`. Unless all devices are the CPU, ``images`` is a `DeviceBatch` on the devices.
    """
    source = loader.Epoch(dataset, recipe, seed, epoch, colour_noise, share, few)
    return _deliver(source, first_batch, devices, threads)


def test_batches(images, mean, recipe, batch, views=1, devices=(), threads=None, share=None):
    """Go through a set in its own order, with the same views of every image.

    Parameters
    ----------
    images, mean, recipe, batch, views, share
        See `loader.Views`.
    devices, threads
        See `training_batches`.

    Returns
    -------
    Batches
        As `training_batches` returns them, with the ``views`` crops of an image in consecutive rows.
    """
    source = loader.Views(images, mean, recipe, batch, views, share)
    return _deliver(source, source.first, devices, threads)


def _deliver(source, first_batch, devices, threads):
    on_cpu = all(device.kind == "cpu" for device in devices)
    if threads is None:
        decodes = getattr(source.images, "is_jpeg", False)
        usual = 1 if on_cpu else max(4, parallel.processors()) if decodes else 4
        threads = usual if _threads is None else _threads
    if on_cpu:
        return Batches(loader.host_batches(source, first_batch, threads))
    raw_batches = loader.raw_batches(source, first_batch, threads, devices[0].pinned)
    return Batches(_uploaded(raw_batches, source.cropper, devices))


def _uploaded(raw_batches, cropper, devices):
    # The copying of the next batch begins before the current one is handed over. One thread talks to all devices.
    crop, current, following = {device: cropper.on(device) for device in devices}, None, None
    with contextlib.closing(raw_batches):
        try:
            for raw in itertools.chain(raw_batches, [None]):
                following = raw and (raw, _upload(raw, devices))
                if current:
                    yield _cropped(*current, crop)
                    _wait(current)
                current = following
        finally:  # on early exit wait for copies in flight: only then may the host memory that they read be reused
            _wait(current)
            _wait(following)


def _upload(raw, devices):
    # Start copying to all devices; if that fails for one, the others' copies have to end before the memory is reused.
    uploads = []
    try:
        for device in devices:
            uploads.append(Upload(device, [raw.images, *_present(raw.params)]))
    except BaseException:
        for upload in uploads:
            upload.wait()
        raise
    return uploads


def _wait(batch):
    for upload in batch[1] if batch else ():
        upload.wait()


def _present(params):
    return [array for array in params if array is not None]


def _cropped(raw, uploads, crop):
    images = {}
    for upload in uploads:
        with upload.device as device, upload as copies:
            images[device] = crop[device](*copies)
    return loader.Batch(DeviceBatch(images), raw.labels, raw.indices)
