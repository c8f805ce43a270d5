"""Limits shared by all instances: attempts are reserved first and settled afterwards.

Reserving is one statement that locks the subjects' rows, so a burst of parallel attempts never gets
more than the limit. What is reserved and never settled, because a process died, falls out with the
window.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row

from db import queries
from rules.client_address import Network

_SQL = queries.load("limits")
_RESERVE = _SQL["reserve_attempt"]
_SETTLE = _SQL["settle_attempt"]
_COUNT_FAILURE = _SQL["count_failure"]
_LIST_LOCKED_ADDRESSES = _SQL["list_locked_addresses"]
_KNOWN_NETWORK = _SQL["has_logged_in_from_network"]


class Outcome(StrEnum):
    SUCCESS = "success"
    FAILURE = "failure"
    RELEASE = "release"  # nothing was tried after all


@dataclass(frozen=True, slots=True)
class Lockout:
    """What happens to a subject whose failures reach its maximum."""

    seconds: int
    max_seconds: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """`allowed`, then `slice` is to be settled; otherwise `retry_after_seconds` is set.

    `note`: the refusal is worth a security event (at most one a minute and subject).
    """

    allowed: bool
    retry_after_seconds: int | None
    slice: int | None
    note: bool


@dataclass(frozen=True, slots=True)
class LockedSubject:
    key: str
    seconds: float


def reserve(
    connection: Connection, maxima: Mapping[str, int], window_seconds: int, *, settled: bool
) -> Reservation:
    """Counts one for each subject (key -> maximum in the window) if all have room, else for none.

    `settled`: the caller will settle() it; otherwise it counts until the window has passed.
    """
    values = {
        "keys": list(maxima.keys()),
        "maxima": list(maxima.values()),
        "window_seconds": window_seconds,
        "settled": settled,
    }
    with connection.cursor(row_factory=class_row(Reservation)) as cursor:
        reservation = cursor.execute(_RESERVE, values).fetchone()
    assert reservation is not None  # noqa: S101 - the function returns one row
    return reservation


def settle(
    connection: Connection,
    maxima: Mapping[str, int],
    window_seconds: int,
    *,
    reservation: Reservation,
    outcome: Outcome,
    clear: Collection[str],
    lockout: Lockout,
) -> list[LockedSubject]:
    """Says what the attempt came to; the subjects that are locked out by it are returned."""
    values = {
        **_counted(maxima, window_seconds, lockout),
        "slice": reservation.slice,
        "outcome": outcome,
        "clear_keys": list(clear),
    }
    with connection.cursor(row_factory=class_row(LockedSubject)) as cursor:
        return cursor.execute(_SETTLE, values).fetchall()


async def count_failure(
    connection: AsyncConnection, maxima: Mapping[str, int], window_seconds: int, lockout: Lockout
) -> list[LockedSubject]:
    """A failure that nothing was reserved for; the subjects that it locks out are returned."""
    async with connection.cursor(row_factory=class_row(LockedSubject)) as cursor:
        await cursor.execute(_COUNT_FAILURE, _counted(maxima, window_seconds, lockout))
        return await cursor.fetchall()


async def list_locked_addresses(connection: AsyncConnection) -> list[LockedSubject]:
    """The addresses that are locked out now, with the seconds that are left."""
    async with connection.cursor(row_factory=class_row(LockedSubject)) as cursor:
        await cursor.execute(_LIST_LOCKED_ADDRESSES)
        return await cursor.fetchall()


def _counted(maxima: Mapping[str, int], window_seconds: int, lockout: Lockout) -> dict[str, Any]:
    return {
        "keys": list(maxima.keys()),
        "maxima": list(maxima.values()),
        "window_seconds": window_seconds,
        "lockout_seconds": lockout.seconds,
        "lockout_max_seconds": lockout.max_seconds,
    }


def has_logged_in_from(connection: Connection, email_key: str, network: Network) -> bool:
    """Whether the account has opened a session from this network in the last 30 days."""
    values = {"email_key": email_key, "network": str(network)}
    row = connection.execute(_KNOWN_NETWORK, values).fetchone()
    return row is not None and bool(row[0])
