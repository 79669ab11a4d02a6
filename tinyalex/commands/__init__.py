"""The commands, one module each.

The module's name is the command's name and the first line of its docstring is the command's help. ``options`` adds the
command's options to its parser; ``run`` takes the parsed options, does the work, prints lines of text and may return an
exit code. Errors are raised here and printed by `tinyalex.cli`.
"""

from tinyalex.commands import (  # fmt: skip
    advise,
    bench,
    convert,
    doctor,
    evaluate,
    experiment,
    export,
    figures,
    gradcheck,
    predict,
    prepare,
    summary,
    train,
    verify,
)

ALL = (
    advise, prepare, verify, train, evaluate, predict, summary, gradcheck, figures, experiment, export, convert, bench,
    doctor,
)  # fmt: skip
