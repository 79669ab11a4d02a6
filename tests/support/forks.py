"""Run a function in a forked process, as multiprocessing does by default on Linux before Python 3.14."""

import os
import pickle
import select
import signal
import traceback
import warnings


def forked(function, seconds=20.0):
    """Call a function in a forked process; return what it returned, which is pickled.

    Raises
    ------
    TimeoutError
        If there is no answer in time; the process is ended.
    RuntimeError
        With the traceback of an exception there.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns if a process with threads forks
        child = os.fork()
    if child == 0:
        try:
            answer = None, function()
        except BaseException:
            answer = traceback.format_exc(), None
        os.write(writing, pickle.dumps(answer))
        os._exit(0)
    os.close(writing)
    try:
        if not select.select([reading], [], [], seconds)[0]:
            os.kill(child, signal.SIGKILL)
            raise TimeoutError(f"no answer from the forked process after {seconds:g} s")
        with open(reading, "rb", closefd=False) as file:
            error, result = pickle.load(file)
        if error:
            raise RuntimeError(error)
        return result
    finally:
        os.close(reading)
        os.waitpid(child, 0)
