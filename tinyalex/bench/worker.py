"""A contender's process: reads its task, then one action a line, and answers each line with a line of JSON.

    {"kind": "ours", "recipe": "...", "devices": ["cpu"], ...}
    -> {"fingerprint": 0.0123}
    step
    -> {"seconds": 2.03, "repeats": 1, "foreign": 0.01, "values": {"loss": 6.9}}
    peak
    -> {"bytes": 2473901260}

It ends when its input ends. Only answers go to the pipe: what libraries print goes to stderr.
"""

import json
import os
import sys
import traceback

from tinyalex.bench.memory import peak_memory
from tinyalex.bench.timing import sample


def main():
    """Answer until the input ends; return the exit code."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    contender, task = None, None
    for line in sys.stdin:
        try:
            if contender is None:
                task = json.loads(line)
                contender = _contender(task)
                answer = contender.ready()
            elif line.strip() == "peak":
                answer = {"bytes": getattr(contender, "peak_memory", peak_memory)()}
            else:
                answer = _sample(contender, line.strip(), task)
        except Exception as error:
            answer = {"error": type(error).__name__, "message": str(error), "trace": traceback.format_exc()}
        print(json.dumps(answer), file=answers)
    return 0


def _sample(contender, action, task):
    options = {key: task[key] for key in ("warmup", "count") if key in task}
    if hasattr(contender, "synchronize"):
        options["synchronize"] = contender.synchronize
    answer = sample(getattr(contender, action), task["least"], **options)
    if action == "step":
        answer["values"] = contender.last_loss()
    return answer


def _contender(task):
    if task["kind"] == "torch":
        from tinyalex.bench.pytorch.torch_side import TorchSide as Contender
    elif task["kind"] == "gpu-rates":
        from tinyalex.bench.gpu_rates import GpuRates as Contender
    elif task["kind"] == "cpu-rates":
        from tinyalex.bench.cpu_rates import CpuRates as Contender
    else:
        from tinyalex.bench.ours import Ours as Contender
    return Contender(task)


if __name__ == "__main__":
    sys.exit(main())
