"""What a step of training told: its loss and how many of its first guesses were wrong."""

import numpy as np

from tinyalex.errors import DivergedError


class Outcome:
    """A step's loss and error, which stay on their device until somebody reads them.

    On a card, reading at once would have the processor wait for each step before it can ask for the next one. So the
    copying to the host begins when the step does its work, and the loop reads when the next step is on its way.

    Parameters
    ----------
    device : Device
        That of column a.
    loss : array of no dimensions
    wrong : array of bool, shape (n,)
        Where the first guess was wrong.

    Attributes
    ----------
    images : int
    step, epoch, rate, number
        See `place`.
    """

    def __init__(self, device, loss, wrong):
        self._loss, self._wrong, self._known = device.later(loss), device.later(wrong), None
        self.images = len(wrong)

    def place(self, step, epoch, rate, number):
        """Say where the run stands after it, and which step of its epoch it was, from 1."""
        self.step, self.epoch, self.rate, self.number = step, epoch, rate, number

    @classmethod
    def known(cls, loss, error):
        """Make one of figures that a checkpoint kept."""
        made = cls.__new__(cls)
        made._known = (float(loss), float(error))
        return made

    def figures(self):
        """Return the loss and the fraction of wrong first guesses; waits for the device if it has not come so far.

        Raises
        ------
        DivergedError
            If the loss is not finite.
        """
        if self._known is None:
            self._known = float(self._loss()), float(self._wrong().mean())
            self._loss = self._wrong = None  # their memory goes round
        if not np.isfinite(self._known[0]):
            raise DivergedError("loss: no longer finite")
        return self._known


class Means:
    """Mean losses and errors of the latest steps of a `Training`'s epoch; no outcome is read again for each of them.

    Every image counts the same, in a shorter last batch too.

    Attributes
    ----------
    every : int
        Steps of a twentieth of an epoch.
    """

    def __init__(self, run):
        steps, batch = run.steps_per_epoch, run.recipe.learning.batch
        self.every, self._figures, self._images = max(1, steps // 20), np.zeros((steps, 2)), np.full(steps, batch)
        self._images[-1] = len(run.dataset.train) - (steps - 1) * batch
        for place, outcome in enumerate(run.seen):
            self._figures[place] = outcome.figures()

    def latest(self, outcome, count=None):
        """Take note of a step's outcome; return the mean loss and error of ``count`` steps, or ``every``, up to it."""
        self._figures[outcome.number - 1] = outcome.figures()
        part = slice(max(0, outcome.number - (count or self.every)), outcome.number)
        return np.average(self._figures[part], axis=0, weights=self._images[part])


def outcomes(run, batches, settle):
    """Have a `Training` learn batch by batch; yield each `Outcome`, of a late run when the next step is on its way.

    ``settle()`` tells that the run is about to be saved: then the step is looked at before the next one begins.
    """
    before = None
    for batch in batches:
        before, outcome = run.learn(batch), before
        if outcome:
            yield outcome
        if not run.late or settle():
            yield before
            before = None
    if before:
        yield before
