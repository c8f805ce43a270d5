"""What happened lately: counted, or measured. Any clock in seconds that never runs backwards."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class RecentCount:
    """How often something happened in the last `seconds`, kept by the second."""

    seconds: int
    _by_second: deque[tuple[int, int]] = field(init=False, default_factory=deque)

    def add(self, count: int, now: float) -> None:
        second = int(now)
        if self._by_second and self._by_second[-1][0] == second:
            count += self._by_second.pop()[1]
        self._by_second.append((second, count))
        self._forget(now)

    def total(self, now: float) -> int:
        self._forget(now)
        return sum(count for _, count in self._by_second)

    def _forget(self, now: float) -> None:
        while self._by_second and self._by_second[0][0] <= now - self.seconds:
            self._by_second.popleft()


@dataclass(slots=True)
class RecentValues:
    """The newest values of the last `seconds`, at most `room` of them."""

    seconds: float
    room: int
    _values: deque[tuple[float, float]] = field(init=False)

    def __post_init__(self) -> None:
        self._values = deque(maxlen=self.room)

    def add(self, value: float, now: float) -> None:
        self._values.append((now, value))

    def percentiles(self, wanted: tuple[int, ...], now: float) -> list[float | None]:
        """By nearest rank: each is a value that there was. None where there is none."""
        while self._values and self._values[0][0] <= now - self.seconds:
            self._values.popleft()
        if not self._values:
            return [None for _ in wanted]
        ordered = sorted(value for _, value in self._values)
        return [ordered[math.ceil(percent / 100 * len(ordered)) - 1] for percent in wanted]
