"""Progress and remaining time: a bar on a terminal, a line every ten seconds elsewhere."""

import time

from tinyalex.system import bars

_EVERY = 10.0  # seconds between two lines


class Progress:
    """Shows how many images are done.

    Parameters
    ----------
    total, done : int
        Images of the set, and how many of them were done before.
    show : function of str
        Called with the lines where there is no terminal.
    """

    def __init__(self, total, done, show):
        self._bar = bars.bar(total=total, initial=done, unit="image")
        self._total, self._first, self._show = total, done, show
        self._begun = self._shown = time.monotonic()

    def update(self, done):
        """Show that ``done`` images are done."""
        now = time.monotonic()
        if not self._bar.disable:
            self._bar.update(done - self._bar.n)
        elif now - self._shown >= _EVERY and done > self._first:
            self._shown = now
            rate = (done - self._first) / (now - self._begun)
            left = (self._total - done) / rate
            self._show(f"{done:,} of {self._total:,} images, {rate:.0f} a second, {duration(left)} left")

    def close(self):
        """Remove the bar."""
        self._bar.close()


def duration(seconds):
    """Format a time: "40 s", "12 min", "3 h 05 min"."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
