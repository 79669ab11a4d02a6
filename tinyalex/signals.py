"""Ctrl-C and SIGTERM, made into a wish that the training loop grants when its step is done."""

import signal
import threading


class Stop:
    """Turn the first Ctrl-C or SIGTERM into a wish; the second one leaves at once.

    Attributes
    ----------
    asked : bool
        Whether somebody wants the run to stop.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __enter__(self):
        self.asked = False
        main = threading.current_thread() is threading.main_thread()  # only there can handlers be set
        self._before = {s: signal.signal(s, self._ask) for s in self._SIGNALS} if main else {}
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number, frame):
        self.asked = True
        for each, handler in self._before.items():
            signal.signal(each, handler)
