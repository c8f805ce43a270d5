"""Bounded password hashing: a flood of logins must leave the rest of the API quick.

scrypt costs about a fifth of a second and 32 MiB each time. As many run as there are cores, a few
more wait; beyond that a login is told to come back, instead of joining a queue without end.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rules import passwords
from rules.errors import Refusal
from rules.passwords import ScryptCost

WAITING = 4
RETRY_SECONDS = 2


class PasswordHasher:
    def __init__(self, cost: ScryptCost) -> None:
        self._cost = cost
        running = max(1, os.cpu_count() or 1)
        self._running = threading.BoundedSemaphore(running)
        self._admitted = threading.BoundedSemaphore(running + WAITING)
        self._nobody = passwords.hash_password(secrets.token_urlsafe(16), cost)

    def hash(self, password: str) -> str:
        with self._place():
            return passwords.hash_password(password, self._cost)

    def verify(self, password: str, stored: str | None) -> bool:
        """With no stored hash (nobody has that address) it takes as long, and is never true."""
        with self._place():
            right = passwords.verify_password(password, stored or self._nobody)
        return right and stored is not None

    def needs_rehash(self, stored: str) -> bool:
        return passwords.needs_rehash(stored, self._cost)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._admitted.acquire(blocking=False):
            raise Refusal(
                "unavailable", retry_after_seconds=RETRY_SECONDS, cause="password hashing is full"
            )
        try:
            with self._running:
                yield
        finally:
            self._admitted.release()
