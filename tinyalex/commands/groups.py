"""The groups of options in the help of commands that have many; what is in no group is shown by ``--help-all`` only."""

GROUPS = {
    "train": {
        "what to train": ("recipe", "--data", "--test-share", "--init-from"),
        "how": ("--epochs", "--set"),
        "where": ("--out", "--devices", "--ranks", "--threads"),
    },
    "prepare": {
        "what": ("sources", "out", "--test-share", "--subset"),
        "how": ("--size", "--jpeg", "--workers"),
    },
    "evaluate": {
        "what": ("runs", "--best", "--last", "--data", "--test-share"),
        "how": ("--views", "--classes", "--write"),
        "where": ("--devices", "--ranks", "--threads"),
    },
    "experiment": {
        "what to compare": ("name", "--data", "--recipe", "--train-images", "--seeds", "--epochs"),
        "where": ("--out", "--devices", "--threads"),
    },
    "bench": {
        "what to measure": ("recipe", "--batch", "--contenders"),
        "where": ("--device", "--threads", "--out"),
    },
}


def grouped(command, actions):
    """Divide a command's options into groups.

    Parameters
    ----------
    command : str
    actions : list of argparse.Action

    Returns
    -------
    groups : dict of str to list
        By heading, in the order of the help.
    others : list
        Options in no group.
    """
    by_name = {action.option_strings[-1] if action.option_strings else action.dest: action for action in actions}
    groups = {
        heading: [by_name.pop(name) for name in names if name in by_name] for heading, names in GROUPS[command].items()
    }
    return groups, list(by_name.values())
