"""One of many: what a stranger can cause as often as he likes is written down now and then."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Sampler:
    """Takes each subject once in `seconds`, and at most `room` subjects in that time."""

    seconds: float
    room: int
    _taken_at: dict[Hashable, float] = field(init=False, default_factory=dict)

    def take(self, subject: Hashable, now: float) -> bool:
        """`now` is any clock in seconds that never runs backwards."""
        # A dictionary keeps the order of insertion: the oldest stand in front.
        while self._taken_at:
            oldest = next(iter(self._taken_at))
            if now - self._taken_at[oldest] < self.seconds:
                break
            del self._taken_at[oldest]
        if subject in self._taken_at or len(self._taken_at) >= self.room:
            return False
        self._taken_at[subject] = now
        return True
