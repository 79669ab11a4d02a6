"""One command a module: its options, and what it does with them, from parsed options to lines of text.

A module's name is the command's, its docstring's first line the help; `options` adds to the parser, and `run` does the
work and may return an exit code. Errors are raised, and printed by `tinyalex.cli`.
"""

from tinyalex.commands import (  # fmt: skip
    bench,
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
)

ALL = (prepare, train, evaluate, predict, summary, gradcheck, figures, experiment, export, bench, doctor)
