"""Some of many: what a stranger can cause as often as he likes is written down so often, no more.

It is how both services write down the security events of refused requests.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable
from dataclasses import dataclass, field

SECONDS = 60.0
# So many of each address and kind: all that a person, or a program with a mistake, causes while
# somebody looks into it can be found by its request id; a scanner causes thousands.
BURST = 20
# Of all together: what strangers can add to the table stays below a million rows a day and process,
# however many addresses they have.
ROOM = 600


@dataclass(slots=True)
class Sampler:
    """Takes each subject `burst` times in any `seconds`, and at most `room` in all in that time."""

    seconds: float = SECONDS
    burst: int = BURST
    room: int = ROOM
    _taken: deque[tuple[float, Hashable]] = field(init=False, default_factory=deque)
    _counts: Counter[Hashable] = field(init=False, default_factory=Counter)

    def take(self, subject: Hashable, now: float) -> bool:
        """`now` is any clock in seconds that never runs backwards."""
        while self._taken and now - self._taken[0][0] >= self.seconds:
            _, gone = self._taken.popleft()
            self._counts[gone] -= 1
            if not self._counts[gone]:
                del self._counts[gone]
        count = self._counts[subject]
        # Half of the room is for those who come first: a few who repeat themselves hide nobody.
        room = self.room // 2 if count else self.room
        if count >= self.burst or len(self._taken) >= room:
            return False
        self._taken.append((now, subject))
        self._counts[subject] += 1
        return True
