"""Turns signals into requests to stop or to save, which a loop serves after its current step."""

import contextlib
import signal
import threading
import time

_SAME_REQUEST = 1.0  # seconds within which a second signal counts as the same request


@contextlib.contextmanager
def interrupting():
    """Inside the block, let SIGTERM raise KeyboardInterrupt, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # Python sets signal handlers only there
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class StopRequests:
    """Records signals as requests, inside a ``with`` block.

    The first Ctrl-C or SIGTERM requests a stop. Another one more than a second later acts at once, as it would outside
    the block. One within a second counts as the same request, because ``timeout`` sends its signal to a process and
    then to the process's group.

    Parameters
    ----------
    saves : bool
        Also take SIGHUP (sent when the terminal is closed) and SIGUSR1, as requests to save and continue.

    Attributes
    ----------
    stop_requested : bool
    save_requested : bool
        The caller sets it to False after saving.
    """

    _STOP = (signal.SIGINT, signal.SIGTERM)
    _SAVE = (signal.SIGHUP, signal.SIGUSR1)

    def __init__(self, saves=False):
        self.stop_requested, self.save_requested, self._since = False, False, 0.0
        self._handlers = dict.fromkeys(self._STOP, self._request_stop) | dict.fromkeys(
            self._SAVE if saves else (), self._request_save
        )

    def __enter__(self):
        main = threading.current_thread() is threading.main_thread()
        self._before = {s: signal.signal(s, handler) for s, handler in self._handlers.items()} if main else {}
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request_stop(self, number, frame):
        if not self.stop_requested:
            self.stop_requested, self._since = True, time.monotonic()
        elif time.monotonic() - self._since > _SAME_REQUEST:
            for stop_signal in self._STOP:
                signal.signal(stop_signal, self._before[stop_signal])
            signal.raise_signal(number)

    def _request_save(self, number, frame):
        self.save_requested = True
