"""The commands, one module each.

The module's name is the command's name (but for a last underscore, of a name that Python uses) and the first line of
its docstring is the command's help. ``options`` adds the command's options to its parser; ``run`` takes the parsed
options, does the work, prints lines of text and may return an exit code. Errors are raised here and printed by
`tinyalex.cli`.
"""

from tinyalex.commands import (  # fmt: skip
    advise,
    bench,
    claims,
    convert,
    doctor,
    evaluate,
    experiment,
    explain,
    export,
    figures,
    gradcheck,
    import_,
    predict,
    prepare,
    report,
    summary,
    train,
    verify,
)

ALL = (
    advise, prepare, verify, train, evaluate, report, predict, explain, summary, gradcheck, figures, experiment, claims,
    export, import_, convert, bench, doctor,
)  # fmt: skip
