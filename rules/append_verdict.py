"""What the verdicts of append_messages mean for whoever sent the message."""

from __future__ import annotations

from rules.errors import Refusal

STORED = "stored"
REPEAT = "repeat"
# An account's first message beyond its limit, and every one while its lockout lasts. An address
# that is full is refused in the same words, but has neighbours who did nothing.
LOCKED_OUT_NOW = "locked_out_now"
LOCKED_OUT = "locked_out"

_CODES = {
    "session_ended": "session_revoked",
    "not_found": "not_found",
    "conflict": "conflict",
    "muted": "muted",
    LOCKED_OUT_NOW: "rate_limited",
    LOCKED_OUT: "rate_limited",
    "address_full": "rate_limited",
}


def refusal_of(verdict: str, retry_after_seconds: int | None) -> Refusal | None:
    """None for a message that is in the log: just stored, or stored before."""
    if verdict in (STORED, REPEAT):
        return None
    if verdict == "conflict":
        return Refusal("conflict", "This client_msg_id was used for another content.")
    return Refusal(_CODES[verdict], retry_after_seconds=retry_after_seconds)
