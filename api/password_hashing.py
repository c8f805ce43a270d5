"""Bounded password hashing: a flood of logins must leave the rest of the API quick.

scrypt costs about a fifth of a second and 32 MiB each time. As many run as there are CPUs to
use, in threads of their own that the scheduler lets wait behind everybody else's; some more wait;
beyond that a login is told to come back, instead of joining a queue without end.
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
from collections.abc import Callable, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from api.cpu_placement import at_once, spread_over
from rules import passwords
from rules.errors import Refusal
from rules.passwords import ScryptCost

T = TypeVar("T")

# One runs, the others wait: who comes last for about three seconds, where a CPU is free. Whoever
# guesses in parallel spends that time waiting, too, instead of asking again at once.
ROOM_OF_A_CPU = 1 + 9
RETRY_SECONDS = 2
# The lowest there is: hashing gets a few per cent of a core while anybody else has work for it.
NICENESS = 19


def _nothing() -> None:
    """What has nothing to be done first."""


class PasswordHasher:
    """`cpus` are those to hash on; `room` is how many callers there may be in it at once."""

    def __init__(self, cost: ScryptCost, cpus: Set[int]) -> None:
        self._cost = cost
        self._cpus = cpus
        running = at_once(cpus)
        self.room = running * ROOM_OF_A_CPU
        self._threads = ThreadPoolExecutor(running, "hashing", self._step_back)
        self._admitted = threading.BoundedSemaphore(self.room)
        self._nobody = passwords.hash_password(secrets.token_urlsafe(16), cost)

    def hash(self, password: str, *, once_admitted: Callable[[], None] = _nothing) -> str:
        """`once_admitted` is called before: not where the caller is told to come back."""
        return self._bounded(lambda: passwords.hash_password(password, self._cost), once_admitted)

    def verify(self, password: str, stored: str | None) -> bool:
        """With no stored hash (nobody has that address) it takes as long, and is never true."""
        right = self._bounded(
            lambda: passwords.verify_password(password, stored or self._nobody, self._cost)
        )
        return right and stored is not None

    def needs_rehash(self, stored: str) -> bool:
        return passwords.needs_rehash(stored, self._cost)

    def _bounded(self, work: Callable[[], T], once_admitted: Callable[[], None] = _nothing) -> T:
        if not self._admitted.acquire(blocking=False):
            raise Refusal(
                "unavailable", retry_after_seconds=RETRY_SECONDS, cause="password hashing is full"
            )
        try:
            once_admitted()
            return self._threads.submit(work).result()
        finally:
            self._admitted.release()

    def close(self) -> None:
        """Forgets those who wait: the process ends, and would otherwise hash for them first."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _step_back(self) -> None:
        spread_over(self._cpus)
        # On Linux a thread has a priority of its own; elsewhere it would be the whole process's.
        if sys.platform == "linux":
            # A sandbox may forbid it; a thread that failed here would be missed for good.
            with suppress(PermissionError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
