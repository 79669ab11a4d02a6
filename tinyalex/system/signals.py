"""Signals, made into wishes that the training loop grants when its step is done."""

import contextlib
import signal
import threading
import time

_ONE_WISH = 1.0  # seconds


@contextlib.contextmanager
def interrupting():
    """Let SIGTERM be as Ctrl-C: a KeyboardInterrupt in what runs inside."""
    if threading.current_thread() is not threading.main_thread():  # only there can handlers be set
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Stop:
    """Turn signals into wishes.

    The first Ctrl-C or SIGTERM is a wish to stop; the second one leaves at once. What comes within a second of the
    first is the same wish: ``timeout`` signals a process and then its group.

    Parameters
    ----------
    saves : bool
        Take SIGHUP (a terminal that closes) and SIGUSR1 too, as wishes that the run be saved and go on.

    Attributes
    ----------
    asked : bool
        Whether somebody wants the run to stop.
    save : bool
        Whether somebody wants it to be saved; who has done so sets it back.
    """

    _STOP = (signal.SIGINT, signal.SIGTERM)
    _SAVE = (signal.SIGHUP, signal.SIGUSR1)

    def __init__(self, saves=False):
        self.asked, self.save, self._since = False, False, 0.0
        self._handlers = dict.fromkeys(self._STOP, self._ask) | dict.fromkeys(self._SAVE if saves else (), self._keep)

    def __enter__(self):
        main = threading.current_thread() is threading.main_thread()
        self._before = {s: signal.signal(s, handler) for s, handler in self._handlers.items()} if main else {}
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number, frame):
        if not self.asked:
            self.asked, self._since = True, time.monotonic()
        elif time.monotonic() - self._since > _ONE_WISH:
            for each in self._STOP:
                signal.signal(each, self._before[each])
            signal.raise_signal(number)

    def _keep(self, number, frame):
        self.save = True
