"""A contender's process: reads its task, then one word a line, and answers each with a line of JSON.

    {"kind": "ours", "recipe": "...", "devices": ["cpu"], ...}
    -> {"fingerprint": 0.0123}
    step
    -> {"seconds": 2.03, "repeats": 1, "foreign": 0.01, "values": {"loss": 6.9}}
    peak
    -> {"bytes": 2473901260}

It ends with its input. Nothing else is written to the pipe: what libraries print goes to the other stream.
"""

import json
import os
import sys
import traceback

from tinyalex.bench.clock import sample
from tinyalex.bench.machine import Machine, peak


def main():
    """Answer until the input ends; return the exit code."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    subject, task = None, None
    for line in sys.stdin:
        try:
            if subject is None:
                task = json.loads(line)
                subject = _subject(task)
                answer = subject.ready()
            elif line.strip() == "peak":
                answer = {"bytes": getattr(subject, "peak", peak)()}
            else:
                answer = _sample(subject, line.strip(), task)
        except Exception as error:
            answer = {"error": type(error).__name__, "message": str(error), "trace": traceback.format_exc()}
        print(json.dumps(answer), file=answers)
    return 0


def _sample(subject, word, task):
    pace = {key: task[key] for key in ("lead", "count") if key in task}
    if hasattr(subject, "settle"):
        pace["settle"] = subject.settle
    answer = sample(getattr(subject, word), task["least"], **pace)
    if word == "step":
        answer["values"] = subject.last()
    return answer


def _subject(task):
    if task["kind"] == "torch":
        from tinyalex.bench.pytorch.torch_side import TorchSide as Subject
    elif task["kind"] == "card":
        from tinyalex.bench.gpu_rates import Card as Subject
    elif task["kind"] == "machine":
        Subject = Machine
    else:
        from tinyalex.bench.ours import Ours as Subject
    return Subject(task)


if __name__ == "__main__":
    sys.exit(main())
