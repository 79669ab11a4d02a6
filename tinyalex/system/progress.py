"""Progress and remaining time: a bar on a terminal, now and then a line elsewhere."""

import time
from collections.abc import Callable

from tinyalex.system import bars


class TimeLeft:
    """Estimates how long the rest of some work takes, from what has been done since this object was made.

    Parameters
    ----------
    total, done : int
        Parts of the work, and how many of them are done.
    first, every : float
        Seconds from now to the first estimate, and from one estimate to the next.
    """

    def __init__(self, total: int, done: int, first: float, every: float) -> None:
        self.total, self._done, self._every = total, done, every
        self._begun = time.monotonic()
        self._due = self._begun + first

    def estimate(self, done: int) -> tuple[float, float] | None:
        """Return the parts done a second and the seconds left, if an estimate is due, else None."""
        now = time.monotonic()
        if now < self._due or done <= self._done:
            return None
        self._due = now + self._every
        rate = (done - self._done) / (now - self._begun)
        return rate, (self.total - done) / rate


class Progress:
    """Shows how many images are done.

    Parameters
    ----------
    total, done : int
        Images of the set, and how many of them were done before.
    show : function of str
        Called with the lines where there is no terminal.
    every : float
        Seconds from one line to the next; the first comes after ten seconds.
    """

    def __init__(self, total: int, done: int, show: Callable[[str], object], every: float = 10.0) -> None:
        self._bar = bars.bar(total=total, initial=done, unit="image")
        self._total, self._show, self._left = total, show, TimeLeft(total, done, 10.0, every)

    def update(self, done: int) -> None:
        """Show that ``done`` images are done."""
        if not self._bar.disable:
            self._bar.update(done - self._bar.n)
        elif found := self._left.estimate(done):
            rate, seconds = found
            self._show(f"{done:,} of {self._total:,} images, {pace(rate)}, {duration(seconds)} left")

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()


def pace(rate: float) -> str:
    """Format how many are done a second: "120 a second", "0.4 a second"."""
    return f"{rate:.0f} a second" if rate >= 10 else f"{rate:.1g} a second" if rate < 1 else f"{rate:.1f} a second"


def duration(seconds: float) -> str:
    """Format a time: "40 s", "12 min", "3 h 05 min"."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
