"""How long to wait before coming back: exponential with full jitter.

A random time between 0 and a bound that doubles, so that a thousand clients that lost the same
server do not all return in the same moment.
"""

from __future__ import annotations

import random

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 30.0


def bound(attempt: int) -> float:
    """The longest wait before attempt 0, 1, 2 ..."""
    return min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(attempt, 16))


def delay(attempt: int) -> float:
    return random.uniform(0, bound(attempt))  # noqa: S311 - spreads load, guards nothing
