"""How fast frames go out: a burst, then a steady rate below what the server allows a socket.

A client that resumes with a hundred subscriptions and as many unsent messages would otherwise be
closed for flooding at the very moment it came back.
"""

from __future__ import annotations


class Pace:
    """`frames_per_second` after a burst of as many. `now` is any clock that only rises."""

    def __init__(self, frames_per_second: float) -> None:
        if frames_per_second <= 0:
            raise ValueError("frames_per_second must be above 0")
        self._interval = 1.0 / frames_per_second
        self._burst_seconds = 1.0
        self._due = float("-inf")  # when the next frame would go out if there were no bursts

    def take(self, now: float) -> float:
        """Counts one frame; returns the seconds to wait before it may go out."""
        self._due = max(self._due, now - self._burst_seconds) + self._interval
        return max(0.0, self._due - now)
