"""Time the lessons and compare with the times in their headers; run it on a machine that does nothing else.

Run: ``python -m tests.programs.time_lessons``, or for some lessons: ``python -m tests.programs.time_lessons 3 12``.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

LESSONS = Path(__file__).parents[2] / "lessons"


def main():
    """Run the lessons one after the other; exit with 1 if one fails or takes longer than its header says."""
    wanted, late = {f"{int(number):02d}" for number in sys.argv[1:]}, 0
    for path in sorted(LESSONS.glob("[0-9][0-9]_*.py")):
        if wanted and path.name[:2] not in wanted:
            continue
        limit = int(re.search(r"^:Takes: (\d+) s", path.read_text(encoding="utf-8"), re.M)[1])
        begin = time.perf_counter()
        done = subprocess.run([sys.executable, str(path)], stdout=subprocess.DEVNULL)
        took = time.perf_counter() - begin
        verdict = "failed" if done.returncode else "takes longer" if took > limit else ""
        late += bool(verdict)
        print(f"{path.stem:16} {took:5.1f} s, limit {limit} s  {verdict}".rstrip(), flush=True)
    sys.exit(late > 0)


if __name__ == "__main__":
    main()
