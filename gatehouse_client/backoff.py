"""How long to wait before coming back: exponential with full jitter.

A random time between 0 and a bound that doubles, so that a thousand clients that lost the same
server do not all return in the same moment.
"""

from __future__ import annotations

import random

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 30.0

# A connection that held this long was a good one: the next wait begins at FIRST_SECONDS again. One
# that is accepted and lost at once must not make its client hammer the server.
STEADY_SECONDS = 10.0


def bound(attempt: int) -> float:
    """The longest wait before attempt 0, 1, 2 ..."""
    return min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(attempt, 16))


def delay(attempt: int) -> float:
    return random.uniform(0, bound(attempt))  # noqa: S311 - spreads load, guards nothing


def attempt_after(attempt: int, online_seconds: float) -> int:
    """The attempt that counts after a connection that was online so long (0: it never was)."""
    return 0 if online_seconds >= STEADY_SECONDS else attempt
