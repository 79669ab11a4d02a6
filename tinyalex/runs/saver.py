"""Who saves a run while it trains, and ends it when somebody wants that."""

import time
from typing import NamedTuple

from tinyalex.errors import Interrupted, StalledError
from tinyalex.training.health import Watch

SAVE_EVERY = 600.0  # seconds


class Terms(NamedTuple):
    """On which terms a run begins or goes on, as the options of `tinyalex train` say.

    Attributes
    ----------
    fresh : bool
        Refuse to go on with a run that is there.
    change : bool
        Go on although settings of learning have changed.
    exact : bool
        Refuse to go on where the last bits may differ from those of the uninterrupted run.
    weak_signal : bool
        Begin although what the last layer says hardly depends on the image.
    save_every : float
        Seconds between checkpoints.
    command : str, optional
        That goes on with the run.
    init_from : str or Path, optional
        A run, or one of its checkpoints, that a new run begins with; see `tinyalex.runs.finetune`.
    """

    fresh: bool = False
    change: bool = False
    exact: bool = False
    weak_signal: bool = False
    save_every: float = SAVE_EVERY
    command: str | None = None
    init_from: str | None = None


class Keeper:
    """Saves a `Training` when it is time, when the rate falls, and when somebody asks.

    Parameters
    ----------
    run : Training
    folder : Path
    log : Log
    stop : Stop
    terms : Terms

    Attributes
    ----------
    watch : Watch
    """

    def __init__(self, run, folder, log, stop, terms):
        self._run, self._folder, self._log, self._stop, self._terms = run, folder, log, stop, terms
        self._saved, self._drops = time.monotonic(), run.rates.drops
        batch, (epochs, steps) = run.recipe.learning.batch, divmod(run.step, run.steps_per_epoch)
        images = epochs * len(run.dataset.train) + steps * batch  # an epoch's last batch may be shorter
        losses = [outcome.figures()[0] for outcome in run.seen]
        self.watch = Watch(run.network.classes, batch, log.say, images, losses)

    def due(self):
        """Tell whether the run is to be saved after this step."""
        late = time.monotonic() - self._saved > self._terms.save_every
        return late or self._stop.asked or self._stop.save or self._run.rates.drops != self._drops

    def save(self, tested=False):
        """Save the run as it is; ``tested``: just after its test."""
        run = self._run
        path = run.save(self._folder, tested)
        if not tested:
            self._log.write("saved", time=time.time(), epoch=run.epoch, step=run.step, path=path.name)
        self._saved, self._stop.save, self._drops = time.monotonic(), False, run.rates.drops
        return path

    def note(self, outcome):
        """Look at a step's loss, and `tend` to the run if it stands there.

        A run that does not learn is saved before its StalledError goes on.
        """
        try:
            self.watch.loss(outcome.figures()[0], outcome.images)
        except StalledError:
            self.save()
            raise
        if outcome.step == self._run.step:
            self.tend()

    def tend(self):
        """Save the run if that is due; end it, saved, if somebody has asked for that.

        Raises
        ------
        Interrupted
            With the command that goes on.
        """
        asked = self._stop.asked  # read before `due` looks: who asks in between is heard next time
        if self.due():
            path = self.save()
        if asked:
            self._leave(f"saved in {path}")

    def leave(self):
        """End a run that has nothing to save if somebody has asked for that; raises Interrupted as `tend` does."""
        if self._stop.asked:
            self._leave("the last, which is saved")

    def _leave(self, where):
        on = f"go on with: {self._terms.command}" if self._terms.command else "the same command goes on from there"
        raise Interrupted(f"stopped at step {self._run.step}, {where}; {on}")
