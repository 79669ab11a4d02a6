"""Which samples count, and their median."""

from statistics import median

LIMIT = 0.12  # of the processors: a sample that others disturbed more is left out
LEAST = 3  # samples that have to remain; otherwise all count


def disturbed(sample):
    """Whether others used more than `LIMIT` of the processors during a sample."""
    return sample["foreign"] is not None and sample["foreign"] > LIMIT


def kept(samples):
    """Return the undisturbed samples, or all of them if fewer than `LEAST` are."""
    calm = [sample for sample in samples if not disturbed(sample)]
    return calm if len(calm) >= LEAST else list(samples)


def summary(samples):
    """Sum up the samples of one action.

    Returns
    -------
    dict
        "seconds", the median; "issue", that of the time until the last action was asked for, by one; "values", the
        medians of what the action returned; "used", how many samples count; and "samples", as they are.
    """
    used = kept(samples)
    return {
        "seconds": median(sample["seconds"] for sample in used),
        "issue": median(sample["issue"] for sample in used),
        "values": {key: median(sample["values"][key] for sample in used) for key in used[0]["values"]},
        "used": len(used),
        "samples": samples,
    }


def notes(summed):
    """Tell which samples were disturbed and what became of them.

    Parameters
    ----------
    summed : dict
        From `summary`, by (contender, action).

    Returns
    -------
    list of str
    """
    told = {}
    for (name, action), each in summed.items():
        shares = [sample["foreign"] for sample in each["samples"] if disturbed(sample)]
        if shares:
            left_out = each["used"] < len(each["samples"])
            name, action = (action, "the machine's rates") if name.startswith("machine") else (name, action)
            count = f"{name} {len(shares)} of {len(each['samples'])} (up to {max(shares):.0%})"
            told.setdefault((action, left_out), []).append(count)
    return [
        f"{action}: other programs used more than {LIMIT:.0%} of the processors in samples of {', '.join(counts)}; "
        + ("these are left out" if left_out else "too few are undisturbed, so all count")
        for (action, left_out), counts in told.items()
    ]
