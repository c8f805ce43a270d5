"""Which of the machine's CPUs the API's threads may run on.

Only one thread at a time runs Python (it holds the interpreter's lock), and while it answers one
request it hands the lock over some twenty times. Between two CPUs such a handover means waking the
other one, which in a virtual machine takes longer than the work itself. So all threads that run
Python stay on one CPU (docs/decisions/0012). Hashing runs outside the interpreter and may have them
all.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Set
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger("gatehouse.api")

_PROCESSOR = 39  # of proc_pid_stat(5): the CPU it last ran on
_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2: microseconds of CPU a period, and the period


def all_cpus() -> Set[int]:
    """Those that this thread may run on; none where the system does not say."""
    return os.sched_getaffinity(0) if sys.platform == "linux" else frozenset()


def at_once(cpus: Set[int]) -> int:
    """How many of them a container's quota lets run at the same time; at least one."""
    count = len(cpus) or os.cpu_count() or 1
    with suppress(OSError):  # no such file outside of containers
        count = int(min(count, quota_of(_QUOTA.read_text())))
    return count


def quota_of(cpu_max: str) -> float:
    """What the kernel says in cpu.max, in whole CPUs: "150000 100000" are two, "max" is no end."""
    quota, _, period = cpu_max.partition(" ")
    return math.inf if quota == "max" else math.ceil(int(quota) / int(period))


def stay_on_one_cpu() -> None:
    """This thread, and those that it starts, on the CPU that the scheduler has put it on."""
    if sys.platform != "linux":
        return
    try:
        after_name = Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()
        os.sched_setaffinity(0, {int(after_name[_PROCESSOR - 3])})
    except OSError as error:  # slower, and no reason not to serve
        logger.warning("Python runs on all CPUs: %s", error)


def spread_over(cpus: Set[int]) -> None:
    """This thread, whatever the one that started it may do."""
    if sys.platform == "linux" and cpus:
        try:
            os.sched_setaffinity(0, cpus)
        except OSError as error:  # they may have been taken away meanwhile
            logger.warning("a thread that hashes shares Python's CPU: %s", error)
