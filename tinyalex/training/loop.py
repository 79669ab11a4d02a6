"""The training loop: for each batch forward, loss, backward, update (paper §5).

The loop uses a network, batches of a data set, a schedule and an optimizer. It writes no files and handles no signals:
`tinyalex.runs`, which calls it, adds the run folder, the log, the checkpoints and stopping.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tinyalex.datasets.dataset import Dataset
from tinyalex.datasets.loading.batches import Batches, training_batches
from tinyalex.datasets.loading.loader import Batch
from tinyalex.devices import parallel
from tinyalex.errors import DivergedError
from tinyalex.network import alexnet
from tinyalex.network.network import Network
from tinyalex.randomness import Step
from tinyalex.ranks.parts import Parts
from tinyalex.ranks.world import ALONE, World
from tinyalex.recipes.recipe import Recipe, with_classes, with_steps
from tinyalex.training import health, schedule
from tinyalex.training.class_weights import class_weights
from tinyalex.training.data_parallel import DataParallel
from tinyalex.training.optimizer import Optimizer
from tinyalex.training.step_metrics import StepMetrics


class Training:
    """A network with its optimizer and data, and how many updates it has had.

    Parameters
    ----------
    recipe : Recipe
    dataset : Dataset
    devices : sequence of str
        One device for all columns (the grouped form), or one for each column.
    seed : int
    kernels : bool
        As in `Network.build`.
    world : World
        The ranks that train together.
    how : {"ordered", "fast"}
        How they sum their gradients: see `tinyalex.ranks.sums`.

    Attributes
    ----------
    network : Network
    optimizer : Optimizer
    steps_per_epoch : int
    step : int
        Updates made so far.
    errors : list of float
        Test error after each epoch, or the one that `Recipe.judged_by` names. The caller tests and appends it; the
        plateau schedule reads it.
    epoch_metrics : list of StepMetrics
        Those of the current epoch so far.
    async_metrics : bool
        True on a GPU: a step's metrics are read only after the next step has been launched, so that the GPU does not
        wait for the host. Not where batches are divided into parts.
    agree : callable, optional
        Where batches are divided into parts, called once in each step with this rank's results; returns those of all
        ranks. The caller may put a function here that lets the ranks agree on more.
    """

    network: Network
    optimizer: Optimizer
    step: int
    epoch_metrics: list[StepMetrics]

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        devices: Sequence[str] = ("cpu",),
        seed: int = 0,
        kernels: bool = True,
        world: World = ALONE,
        how: str = "ordered",
    ) -> None:
        images = len(dataset.need("train"))
        self.recipe = with_steps(with_classes(recipe, len(dataset.classes)), images)
        self.dataset, self.seed = dataset, seed
        self.world, self.how = world, how
        self.parts = Parts(recipe.learning.parts or world.size, world.size)
        parallel.divide(self.parts.shares_of_work(recipe.learning.batch) if self.parts.count > 1 else None)
        self.steps_per_epoch = -(-images // recipe.learning.batch)
        self.errors: list[float] = []
        self.agree: Callable[[list], list] | None = None
        self.kernels = kernels
        self.reset(devices)
        self.async_metrics = not self.network.devices[0].on_host and not self.data_parallel

    def reset(self, devices: Sequence[str]) -> None:
        """Build the network and the optimizer anew, as they are before the first step."""
        learning = self.recipe.learning
        self.network = alexnet.build(self.recipe.net, self.recipe.init, devices, self.seed, kernels=self.kernels)
        labels, classes = np.asarray(self.dataset.train.labels), self.dataset.classes
        self.network.weigh_classes(class_weights(learning.class_weights, classes, labels))
        tables = (learning.layer_weight_decay, learning.layer_momentum, learning.lr_mult)
        decays, momenta, mult = map(self.recipe.net.by_tensor, tables)
        self.optimizer = Optimizer(
            self.network, learning.momentum, learning.weight_decay, decays, momenta, mult, learning.lars
        )
        self.data_parallel = (
            DataParallel(self.network, self.world, self.parts, self.how) if self.parts.count > 1 else None
        )
        if not self.data_parallel:
            self.network.record_steps()
        self.step, self.epoch_metrics = 0, []

    @property
    def epoch(self) -> float:
        """Epochs trained so far, a float: 1.5 is halfway through the second epoch."""
        return self.step / self.steps_per_epoch

    @property
    def rates(self) -> schedule.Rates:
        """The `schedule.Rates` of the next update."""
        return schedule.rates(self.recipe.learning, self.epoch, self.errors[: self.step // self.steps_per_epoch])

    @property
    def finished(self) -> bool:
        """Whether the last epoch has been trained and tested, or the schedule has ended training earlier."""
        return len(self.errors) == self.recipe.learning.epochs or self.rates.finished

    def batches(self, whole: bool = False) -> Batches:
        """Return the batches from the current step to the end of the epoch.

        Parameters
        ----------
        whole : bool
            Of several ranks each gets its own images of every batch, unless this is True. It is meant for a look at a
            batch or two: images are read one by one, also where the recipe has the order of shards.
        """
        epoch, first_batch = divmod(self.step, self.steps_per_epoch)
        # The strength of the colour noise is the same for the whole epoch.
        colour_noise = schedule.rates(self.recipe.learning, epoch, self.errors[:epoch]).colour_noise
        share = self.data_parallel.images if self.data_parallel and not whole else None
        devices = self.network.devices
        return training_batches(
            self.dataset, self.recipe, self.seed, epoch, first_batch, colour_noise, devices, share=share, few=whole
        )

    def train_step(self, batch: Batch, check_gradients: bool = False) -> StepMetrics:
        """Take one step of gradient descent: forward, loss, backward, update.

        Parameters
        ----------
        batch : Batch
        check_gradients : bool
            Also check the gradients for NaN and infinity, before the update.

        Returns
        -------
        StepMetrics

        Raises
        ------
        DivergedError
            If the loss (or, with `check_gradients`, a gradient) is not finite; nothing has been updated then. With
            `async_metrics` and without `check_gradients` the loss is checked later, when the `StepMetrics` are read.
        """
        rates, step = self.rates, Step(self.seed, self.step)
        if self.data_parallel:
            metrics = self._in_parts(self.data_parallel, batch, step)
        else:
            with self.network.step(), self.network.devices[0] as device:
                loss, logits = self.network.loss_and_backward(batch.images, batch.labels, step=step)
                metrics = StepMetrics(device, loss, logits.argmax(axis=1) != device.put(batch.labels))
        if check_gradients or not self.async_metrics:
            health.check_finite(self.network, batch, step, rates.rate, metrics, check_gradients)
        self.optimizer.update(rates.rate, rates.bias_rate, self.recipe.net.by_tensor(rates.lr_mult))
        if self.step % self.steps_per_epoch == 0:  # the first step of an epoch
            self.epoch_metrics = []
        self.epoch_metrics.append(metrics)
        self.step += 1
        metrics.set_position(self.step, self.epoch, self.rates.rate, len(self.epoch_metrics))
        return metrics

    def _in_parts(self, data_parallel: DataParallel, batch: Batch, step: Step) -> StepMetrics:
        done = self.step % self.steps_per_epoch * self.recipe.learning.batch
        images = min(self.recipe.learning.batch, len(self.dataset.need("train")) - done)
        with self.network.step():
            loss, wrong = data_parallel.loss_and_backward(batch, images, step, self.agree or self.world.join_lists)
        if not np.isfinite(loss) and self.world.size > 1:
            found = None
            if len(batch.labels):
                found = health.first_not_finite(self.network, batch.images, training=True, step=step)
            places = self.world.agree(found, "looking for what is not finite")
            rank = next((rank for rank, place in enumerate(places) if place), 0)
            raise DivergedError(
                f"{places[rank] or 'loss'}: numbers are no longer finite at step {step.number}, first on rank {rank}; "
                "no checkpoint holds them; use a smaller learning.rate"
            )
        return StepMetrics.known(loss, wrong / images, images)

    def train_steps(
        self, batches: Iterable[Batch], synchronize: Callable[[], bool] = lambda: False
    ) -> Iterator[StepMetrics]:
        """Take a step for each batch and yield its `StepMetrics`.

        With `async_metrics` the metrics of a step are yielded after the next step has been launched.

        Parameters
        ----------
        batches : iterable of Batch
        synchronize : callable, optional
            Called after each step if `async_metrics`. When it returns True, the metrics of this step are yielded before
            the next step is launched. A caller that wants to save a checkpoint needs that: it must first check that
            the loss of the last step is finite.
        """
        pending = None  # metrics of the previous step, if not yielded yet
        for batch in batches:
            metrics = self.train_step(batch)
            if pending:
                yield pending
                pending = None
            if self.async_metrics and not synchronize():
                pending = metrics
            else:
                yield metrics
        if pending:
            yield pending

    def state_dict(self) -> dict[str, Any]:
        """Copy everything that training changes to the host.

        Returns
        -------
        dict
            "values" and "momenta": dicts of ndarray, by the names of `Network.state`. "step": int. "errors": list of
            float. "epoch_metrics": float64 (steps of the current epoch, 2), the loss and the top-1 error of each step.
        """
        done = self.epoch_metrics if self.step % self.steps_per_epoch else []
        return {
            "values": {name: device.get(view) for name, device, view in self.network.tensors()},
            "momenta": {name: device.get(view) for name, device, view in self.optimizer.tensors()},
            "step": self.step,
            "errors": list(self.errors),
            "epoch_metrics": np.array([metrics.read() for metrics in done], np.float64).reshape(-1, 2),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.network.load(state["values"])
        self.optimizer.load(state["momenta"])
        self.step, self.errors = state["step"], list(state["errors"])
        self.epoch_metrics = [StepMetrics.known(*pair) for pair in state["epoch_metrics"]]
