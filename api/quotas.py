"""What is simply counted: registrations of an address, tickets and refreshes of a session."""

from __future__ import annotations

from psycopg import Connection

from db import limits, security_events
from db.security_events import Event
from rules.errors import Refusal
from rules.limit_subjects import Address

HOUR = 3600
MINUTE = 60


def take(
    connection: Connection,
    key: str,
    *,
    maximum: int,
    window_seconds: int,
    address: Address | None,
) -> Refusal | None:
    """Counts one, or returns the refusal; the caller commits before it raises it."""
    reservation = limits.reserve(connection, {key: maximum}, window_seconds, settled=False)
    if reservation.allowed:
        return None
    if reservation.note:
        what = key.partition(":")[0]
        security_events.record(connection, Event.RATE_LIMITED, ip=address, what=what)
    return Refusal("rate_limited", retry_after_seconds=reservation.retry_after_seconds)
