"""Which checkpoints of a run are kept: the newest two that verify, the best one, and one for each drop of the rate."""

NEWEST = 2  # how many verified ones are kept, in case the newest can no longer be read


def pinned(found):
    """Return the checkpoints that are kept even when they are no longer among the newest.

    Parameters
    ----------
    found : list of (Path, dict)
        Checkpoints with their metadata: ``"errors"``, those after each epoch; ``"judged_by"``, which error that is
        (`Recipe.judged_by`); ``"tested"``, whether the last of them is that of these weights; ``"drops"``, how often
        the learning rate has been lowered.

    Returns
    -------
    dict of Path to str
        The reason for each: it has the lowest test error (the earliest one among equals), or it is the first after a
        drop of the rate, from which another rate can be tried.
    """
    reasons = {}
    for path, metadata in by_error(found)[:1]:
        reasons[path] = f"lowest {error(metadata)}"
    first = {}
    for path, metadata in sorted(found, key=lambda pair: pair[1]["step"]):
        first.setdefault(metadata.get("drops", 0), path)
    first.pop(0, None)
    for drops, path in first.items():
        reason = f"learning rate lowered for the {_ordinal(drops)} time"
        reasons[path] = f"{reasons[path]}; {reason}" if path in reasons else reason
    return reasons


def by_error(found):
    """Return the tested ones among checkpoints with their metadata, the best first.

    Parameters
    ----------
    found : list of (Path, dict)
        As for `pinned`.

    Returns
    -------
    list of (Path, dict)
        Those whose weights were tested, by that error; among equal ones the one with fewer steps is first.
    """
    tested = [(path, metadata) for path, metadata in found if metadata.get("tested") and metadata.get("errors")]
    return sorted(tested, key=lambda pair: (pair[1]["errors"][-1], pair[1]["step"]))


def error(metadata):
    """Return the error that a tested checkpoint is judged by: "test error, 3.20%"."""
    return f"{metadata.get('judged_by', 'test error')}, {metadata['errors'][-1]:.2%}"


def _ordinal(number):
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")
