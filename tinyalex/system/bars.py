"""Progress bars on a terminal."""

import threading


def bar(**options):
    """Return a `tqdm` bar that needs no thread, process or lock of its own; elsewhere than on a terminal it is silent.

    Parameters
    ----------
    **options
        Of tqdm: ``total``, ``initial``, ``unit``, ``desc``.
    """
    from tqdm import tqdm

    class Bar(tqdm):
        monitor_interval = 0  # seconds between the looks of a thread that watches for slow steps: none

    Bar.set_lock(threading.RLock())  # a forked process may draw bars whatever another thread was drawing
    return Bar(disable=None, leave=False, dynamic_ncols=True, **options)
