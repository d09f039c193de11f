"""Time limit for a worker process that holds even while Python code cannot run.

A decoder can hang in C and never return to Python (decord's issues #373 and #375). Then no signal handler and no task
timeout of Prefect runs, and no other thread if the interpreter lock is held. The kernel's interval timer still runs,
and SIGALRM's default action ends the process.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

# Exit code of a process that was ended by the limit, as multiprocessing and subprocess report it.
EXIT_CODE = -int(signal.SIGALRM)


@contextmanager
def end_process_after(seconds: float) -> Iterator[None]:
    """End this whole process unless the block ends within this many seconds of wall time.

    For worker processes only: nothing is cleaned up, and the exit code of the process is EXIT_CODE. Must run in the
    process's main thread.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
