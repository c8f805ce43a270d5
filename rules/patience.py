"""When a client that keeps sending through its lockout is sent away.

Messages that were under way when the refusal came are nobody's fault; what is sent more than a
second after a client was told of its lockout is. The third such message ends the socket.
"""

from __future__ import annotations

from dataclasses import dataclass

GRACE_SECONDS = 1.0
STRIKES = 3


@dataclass(slots=True)
class Patience:
    """Times are seconds of any clock that never runs backwards."""

    _told_at: float | None = None
    _strikes: int = 0

    def lost(self, submitted_at: float, *, told_at: float) -> bool:
        """A message submitted at `submitted_at` is refused at `told_at`; was it one too many?"""
        if self._told_at is None:
            self._told_at = told_at
        elif submitted_at - self._told_at > GRACE_SECONDS:
            self._strikes += 1
        return self._strikes >= STRIKES

    def restore(self) -> None:
        """A message was accepted: the lockout is over."""
        self._told_at = None
        self._strikes = 0
