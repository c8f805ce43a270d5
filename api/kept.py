"""A figure that may be expensive to read, and is kept for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

# It is kept for so many times as long as reading it took: however many ask for it, and however
# long it takes, an instance spends no more than a twentieth of one connection's time on it. What
# takes a millisecond is as good as fresh; what takes half a second is ten seconds old at most.
TIMES_AS_LONG = 20


class Kept(Generic[T]):
    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._value: T | None = None
        self._stale_at = 0.0

    def get(self) -> T:
        """Those who come while somebody reads it wait for that one reading."""
        with self._lock:
            started = time.monotonic()
            if self._value is None or started >= self._stale_at:
                self._value = self._read()
                ended = time.monotonic()
                self._stale_at = ended + TIMES_AS_LONG * (ended - started)
            return self._value
