"""How often it is passed on that somebody types: a courtesy that must cost next to nothing."""

from __future__ import annotations

SECONDS = 3.0


class TypingPace:
    """At most once in 3 s for a user, in whatever channel. `now`: any clock that never runs
    backwards."""

    def __init__(self) -> None:
        self._said_at: dict[int, float] = {}  # by user, oldest first

    def __len__(self) -> int:
        """How many are remembered: those of the last 3 s."""
        return len(self._said_at)

    def take(self, user_id: int, now: float) -> bool:
        self._forget(now - SECONDS)
        if user_id in self._said_at:
            return False
        self._said_at[user_id] = now
        return True

    def _forget(self, until: float) -> None:
        while self._said_at:
            user_id = next(iter(self._said_at))
            if self._said_at[user_id] > until:
                return
            del self._said_at[user_id]
