"""How often it is passed on that somebody types: a courtesy that must cost next to nothing."""

from __future__ import annotations

from collections import Counter

SECONDS = 3.0
# Nobody types in more channels than this at a time; a client that says so makes others wait.
CHANNELS_PER_USER = 5


class TypingPace:
    """At most once in 3 s for a user and channel. `now`: any clock that never runs backwards."""

    def __init__(self) -> None:
        self._said_at: dict[tuple[int, int], float] = {}  # oldest first
        self._channels: Counter[int] = Counter()

    def __len__(self) -> int:
        """How many are remembered: those of the last 3 s."""
        return len(self._said_at)

    def take(self, user_id: int, channel_id: int, now: float) -> bool:
        self._forget(now - SECONDS)
        key = user_id, channel_id
        if key in self._said_at or self._channels[user_id] >= CHANNELS_PER_USER:
            return False
        self._said_at[key] = now
        self._channels[user_id] += 1
        return True

    def _forget(self, until: float) -> None:
        while self._said_at:
            key = next(iter(self._said_at))
            if self._said_at[key] > until:
                return
            del self._said_at[key]
            self._channels[key[0]] -= 1
            if not self._channels[key[0]]:
                del self._channels[key[0]]
