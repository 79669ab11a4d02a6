"""Which checkpoints of a run are kept: the newest two that verify, the best one, and one for each drop of the rate."""

NEWEST = 2  # verified ones; the second is there for the day when the first cannot be read any more


def pinned(found):
    """Tell which checkpoints stay however old they are.

    Parameters
    ----------
    found : list of (Path, dict)
        Checkpoints with their metadata. ``"errors"`` are the test errors after each epoch, ``"tested"`` says whether
        the last of them is of these weights, ``"drops"`` how often the learning rate has fallen.

    Returns
    -------
    dict of Path to str
        With the reason: the lowest test error (the first, of equal ones), and the first checkpoint after each drop,
        from which another rate can be tried.
    """
    reasons = {}
    tested = [(its["errors"][-1], its["step"], path) for path, its in found if its.get("tested")]
    if tested:
        error, _, path = min(tested, key=lambda each: each[:2])
        reasons[path] = f"lowest test error, {error:.2%}"
    first = {}
    for path, its in sorted(found, key=lambda pair: pair[1]["step"]):
        first.setdefault(its.get("drops", 0), path)
    first.pop(0, None)
    for drops, path in first.items():
        reason = f"learning rate lowered for the {_ordinal(drops)} time"
        reasons[path] = f"{reasons[path]}; {reason}" if path in reasons else reason
    return reasons


def _ordinal(number):
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")
