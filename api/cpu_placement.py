"""Which of the machine's CPUs the API's threads may run on.

Only one thread at a time runs Python (it holds the interpreter's lock), and while it answers one
request it hands the lock over some twenty times. Between two CPUs such a handover means waking the
other one, which in a virtual machine takes longer than the work itself. So all threads that run
Python stay on one CPU (docs/decisions/0012). Hashing runs outside the interpreter and may have them
all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Set
from pathlib import Path

_PROCESSOR = 39  # of proc_pid_stat(5): the CPU it last ran on


def all_cpus() -> Set[int]:
    """Those that this thread may run on; none where the system does not say."""
    return os.sched_getaffinity(0) if sys.platform == "linux" else frozenset()


def stay_on_one_cpu() -> None:
    """This thread, and those that it starts, on the CPU that the scheduler has put it on."""
    if sys.platform == "linux":
        after_name = Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()
        os.sched_setaffinity(0, {int(after_name[_PROCESSOR - 3])})


def spread_over(cpus: Set[int]) -> None:
    """This thread, whatever the one that started it may do."""
    if sys.platform == "linux" and cpus:
        os.sched_setaffinity(0, cpus)
