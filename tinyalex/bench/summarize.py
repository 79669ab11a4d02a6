"""Choose which samples count, and compute their medians."""

from statistics import median

LIMIT = 0.12  # of the processors: a sample in which other programs used more is disturbed
LEAST = 3  # if fewer samples are undisturbed, all of them count


def disturbed(sample):
    """Whether other programs used more than `LIMIT` of the processors during a sample."""
    return sample["foreign"] is not None and sample["foreign"] > LIMIT


def undisturbed(samples):
    """Return the undisturbed samples, or all of them if fewer than `LEAST` are undisturbed."""
    calm = [sample for sample in samples if not disturbed(sample)]
    return calm if len(calm) >= LEAST else list(samples)


def summary(samples):
    """Summarize the samples of one action.

    Returns
    -------
    dict
        "seconds", "issue" and "values": the medians of what `timing.sample` returned; "used": how many samples count;
        "samples": all of them.
    """
    used = undisturbed(samples)
    return {
        "seconds": median(sample["seconds"] for sample in used),
        "issue": median(sample["issue"] for sample in used),
        "values": {key: median(sample["values"][key] for sample in used) for key in used[0]["values"]},
        "used": len(used),
        "samples": samples,
    }


def notes(summaries):
    """Report which samples were disturbed and whether they count.

    Parameters
    ----------
    summaries : dict
        From `summary`, by (contender, action).

    Returns
    -------
    list of str
    """
    counts = {}
    for (name, action), found in summaries.items():
        shares = [sample["foreign"] for sample in found["samples"] if disturbed(sample)]
        if shares:
            left_out = found["used"] < len(found["samples"])
            name, action = (action, "the machine's rates") if name.startswith("machine") else (name, action)
            count = f"{name} {len(shares)} of {len(found['samples'])} (up to {max(shares):.0%})"
            counts.setdefault((action, left_out), []).append(count)
    return [
        f"{action}: other programs used more than {LIMIT:.0%} of the processors in samples of {', '.join(count)}; "
        + ("these samples are left out" if left_out else "fewer than three samples are undisturbed, so all count")
        for (action, left_out), count in counts.items()
    ]
