"""What is simply counted: registrations of an address, tickets of a session, lookups, channels."""

from __future__ import annotations

from collections.abc import Callable

from psycopg import Connection

from api.context import Request
from db import limits, security_events
from db.connections import SyncPool, in_transaction
from db.security_events import Event
from rules.client_address import Address
from rules.errors import Refusal

HOUR = 3600
MINUTE = 60


def take(
    connection: Connection,
    key: str,
    *,
    maximum: int,
    window_seconds: int,
    address: Address | None,
    user_id: int | None = None,
    session_id: int | None = None,
) -> Refusal | None:
    """Counts one, or returns the refusal; the caller commits before it raises it.

    Address, user and session are whose refusal it is, as far as they are known: for the event.
    """
    reservation = limits.reserve(connection, {key: maximum}, window_seconds, settled=False)
    if reservation.allowed:
        return None
    if reservation.note:
        what = key.partition(":")[0]
        security_events.record(
            connection,
            Event.RATE_LIMITED,
            ip=address,
            user_id=user_id,
            session_id=session_id,
            what=what,
        )
    return Refusal("rate_limited", retry_after_seconds=reservation.retry_after_seconds)


def take_of_caller(
    connection: Connection, req: Request, key: str, *, maximum: int, window_seconds: int
) -> Refusal | None:
    """take() for a request that comes with a session."""
    return take(
        connection,
        key,
        maximum=maximum,
        window_seconds=window_seconds,
        address=req.context.address,
        user_id=req.session.user_id,
        session_id=req.session.session_id,
    )


def spend(pool: SyncPool, count: Callable[[Connection], Refusal | None]) -> None:
    """Lets `count`, which is a take(), have a transaction of its own; raises its refusal."""
    refusal = in_transaction(pool, count)
    if refusal is not None:
        raise refusal
