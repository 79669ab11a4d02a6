"""Batches where the devices want them, and how long somebody had to wait for them.

The processor works on crops that the loader cut. To other devices whole images go, as bytes: a quarter of the traffic
and no work for the processor. They cut the crops themselves, and the bytes of the next batch arrive while they compute.
"""

import contextlib
import itertools
import time

from tinyalex.datasets.loading import loader
from tinyalex.devices.upload import DeviceBatch, Upload


class Batches:
    """An iterator over batches that counts the seconds spent waiting for them.

    Attributes
    ----------
    waited : float
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
        """Make no more; end the threads."""
        self._batches.close()


def training_batches(dataset, recipe, seed, epoch, first_batch=0, colour_noise=None, devices=(), threads=None):
    """Go through the training set once; the same bits whatever the devices and the number of threads.

    Parameters
    ----------
    dataset, recipe, seed, epoch, first_batch, colour_noise
        See `loader.training_batches`.
    devices : sequence of Device
        That read the images.
    threads : int, optional
        That read, and on the host cut: 1 when the processor trains, else 4, unless given.

    Returns
    -------
    Batches
        Of `loader.Batch`. Unless all devices are the processor, ``images`` are `DeviceBatch` on them.
    """
    return _fed(loader.Epoch(dataset, recipe, seed, epoch, colour_noise), first_batch, devices, threads)


def test_batches(images, mean, recipe, batch, views=1, devices=(), threads=None):
    """Go through a set in its own order, with the same views of every image.

    Parameters
    ----------
    images, mean, recipe, batch, views
        See `loader.Views`.
    devices, threads
        See `training_batches`.

    Returns
    -------
    Batches
        As `training_batches` gives them, with ``views`` crops of each image side by side.
    """
    return _fed(loader.Views(images, mean, recipe, batch, views), 0, devices, threads)


def _fed(crops, first_batch, devices, threads):
    if all(device.kind == "cpu" for device in devices):
        return Batches(loader.host_batches(crops, first_batch, 1 if threads is None else threads))
    records = loader.raw_batches(crops, first_batch, 4 if threads is None else threads, devices[0].pinned)
    return Batches(_placed(records, crops.cropper, devices))


def _placed(records, cropper, devices):
    # Before a batch is handed over, the copying of the next one begins. All devices are spoken to by one thread.
    cuts, current, following = {device: cropper.on(device) for device in devices}, None, None
    with contextlib.closing(records):
        try:
            for each in itertools.chain(records, [None]):
                following = each and (
                    each,
                    [Upload(device, [each.images, *_present(each.draws)]) for device in devices],
                )
                if current:
                    yield _cut(*current, cuts)
                    _wait(current)
                current = following
        finally:  # who wants no more leaves copies on their way: the memory that they read goes round after them
            _wait(current)
            _wait(following)


def _wait(batch):
    for upload in batch[1] if batch else ():
        upload.wait()


def _present(draws):
    return [draw for draw in draws if draw is not None]


def _cut(records, uploads, cuts):
    images = {}
    for upload in uploads:
        with upload.device as device, upload as copies:
            images[device] = cuts[device](*copies)
    return loader.Batch(DeviceBatch(images), records.labels, records.indices)
