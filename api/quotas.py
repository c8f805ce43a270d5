"""What is simply counted: registrations of an address, tickets of a session, lookups, channels."""

from __future__ import annotations

from psycopg import Connection

from db import limits, security_events
from db.connections import SyncPool, in_transaction
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


def spend(
    pool: SyncPool, key: str, *, maximum: int, window_seconds: int, address: Address | None
) -> None:
    """Counts one in a transaction of its own, or raises the refusal."""
    refusal = in_transaction(
        pool,
        lambda connection: take(
            connection, key, maximum=maximum, window_seconds=window_seconds, address=address
        ),
    )
    if refusal is not None:
        raise refusal
