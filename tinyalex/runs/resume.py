"""Whether a run may go on: what it was, what it would be now, and what is to be said about that."""

import dataclasses

from tinyalex.errors import CheckpointError, StalledError, UsageError
from tinyalex.recipes import recipe
from tinyalex.runs import checkpoint, finetune, fingerprint, retention, run_folder
from tinyalex.system import hashes, storage
from tinyalex.training import health

# What may change with --change: how fast the net learns, and how its convolutions are computed.
LEARNING = (
    "epochs",
    "rate",
    "bias_rate",
    "momentum",
    "decay",
    "decays",
    "schedule",
    "warmup",
    "patience",
    "drops",
    "phases",
)
CHANGEABLE = {*(f"learning.{key}" for key in LEARNING), "net.convolution"}


def start(run, folder, terms, show):
    """Bring a `Training` to where the run in a folder stopped; look at one that begins before it does.

    Parameters
    ----------
    run : Training
    folder : Path
        Held by this process.
    terms : Terms
    show : callable
        Gets lines of text.

    Raises
    ------
    UsageError
        If there is a run and a fresh one was wanted.
    CheckpointError
        If the run there is another one, or none of its checkpoints can be used.
    StalledError
        If a new net can hardly tell images apart.
    StorageError
        If there is no room for the first checkpoints.
    """
    run_folder.tidy(folder)
    found = list(folder.glob("checkpoint-*.safetensors"))
    if found and terms.fresh:
        raise UsageError(f"{folder}: holds a run already; leave out --fresh to go on with it, or give another --out")
    if found:
        run_folder.restore(run, *_same_run(run, folder, terms, show))
        finetune.same_origin(run.origin, terms.init_from, folder)
        show(f"going on at step {run.step} of {run.recipe.learning.epochs * run.steps_per_epoch}")
    else:
        if terms.init_from:
            run.origin = finetune.begin(run.network, terms.init_from, run.dataset.classes)
            show(finetune.line(run.origin))
        _look(run, terms, show)
    size = 2 * sum(view.nbytes for _, _, view in run.network.tensors()) + run.dataset.mean.nbytes
    storage.need_room(folder / "checkpoints", size * max(1, retention.NEWEST + 1 - len(found)))
    if run.origin and not found:
        run.save(folder)  # from here on it does not need the other run any more


def _same_run(run, folder, terms, show):
    damaged = []
    tensors, metadata = run_folder.read(checkpoint.newest(folder, damaged))
    for line in damaged:
        show(f"warning: {line}")
    then = tensors["data/mean"]
    now = run.dataset.mean if metadata["dataset"] == run.dataset.identity else then  # another set's goes without saying
    changed = [
        (what, old, new)
        for what, old, new in (
            *_settings(recipe.parse(metadata["recipe"]), run.recipe),
            ("classes", metadata["classes"], list(run.dataset.classes)),
            ("seed", metadata["seed"], run.seed),
            ("data set", metadata["dataset"][:8], run.dataset.identity[:8]),
            ("mean image", hashes.array(then)[:8], hashes.array(now)[:8]),
        )
        if old != new
    ]
    told = ", ".join(f"{what} {_short(old)}, now it is {_short(new)}" for what, old, new in changed)
    if any(what not in CHANGEABLE for what, _, _ in changed):
        raise CheckpointError(f"{folder}: its run had {told}; give another --out folder")
    if changed and not terms.change:
        raise CheckpointError(f"{folder}: its run had {told}; add --change to go on with that, or give another --out")
    if metadata["step"] > run.recipe.learning.epochs * run.steps_per_epoch:
        raise CheckpointError(
            f"{folder}: its run is at epoch {metadata['epoch']:.4g}, beyond learning.epochs = "
            f"{run.recipe.learning.epochs}; give more epochs, or another --out folder"
        )
    if changed:
        show(f"changed from step {metadata['step']} on: its run had {told}")
    other = fingerprint.differences(metadata.get("fingerprint") or {}, fingerprint.take(run.network.devices))
    if other and terms.exact:
        raise CheckpointError(f"{folder}: its run was at {other}; go on there, or leave out --exact")
    if other:
        show(f"warning: the run was at {other}: it goes on correctly, but not with the same last bits")
    return tensors, metadata


def _settings(then, now):
    # (key, value then, value now) for every setting of two recipes; where the data lie does not matter.
    for part in ("net", "init", "data", "learning"):
        old, new = dataclasses.asdict(getattr(then, part)), dataclasses.asdict(getattr(now, part))
        yield from ((f"{part}.{key}", old[key], new[key]) for key in old if key != "set")


def _short(value):
    if isinstance(value, tuple) and value and isinstance(value[0], dict):  # phases
        return " and ".join(f"{phase['rate']:g} from epoch {phase['epoch']:g}" for phase in value)
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _look(run, terms, show):
    batch = run_folder.first_batch(run)
    if len(batch.labels) < 8:
        return  # too few to tell
    strength = health.signal(run.network, batch.images)
    if strength >= health.WEAK:
        return
    line = (
        f"signal: {strength:.1%} of what the last layer says depends on the image, {health.WEAK:.0%} or more is usual: "
        "the loss may stay that of guessing"
    )
    if not _shipped(run.recipe) and not terms.weak_signal:
        raise StalledError(f"{line}; choose init.weights, init.biases and data.scale together, or add --weak-signal")
    show(f"warning: {line}")


def _shipped(settings):
    # Whether net, initialisation and scale are bound together as in a recipe of ours.
    if settings.name not in recipe.names():
        return False
    ours = recipe.load(settings.name)
    return (
        dataclasses.replace(ours.net, classes=settings.net.classes, convolution=settings.net.convolution)
        == settings.net
        and ours.init == settings.init
        and (ours.data.scale, ours.data.mean) == (settings.data.scale, settings.data.mean)
    )
