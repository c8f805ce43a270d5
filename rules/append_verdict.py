"""What the verdicts of append_messages mean for whoever sent the message."""

from __future__ import annotations

from rules.errors import Refusal

STORED = "stored"
REPEAT = "repeat"

_CODES = {
    "session_ended": "session_revoked",
    "not_found": "not_found",
    "conflict": "conflict",
    "muted": "muted",
    "rate_limited": "rate_limited",
}


def refusal_of(verdict: str, retry_after_seconds: int | None) -> Refusal | None:
    """None for a message that is in the log: just stored, or stored before."""
    if verdict in (STORED, REPEAT):
        return None
    if verdict == "conflict":
        return Refusal("conflict", "This client_msg_id was used for another content.")
    return Refusal(_CODES[verdict], retry_after_seconds=retry_after_seconds)
