"""Publish drains: begun and cancelled by operators, told and finished by gateways.

All of it happens in functions of the database (db/sql/migrations/0012_drains.sql), so that HTTP and
socket agree about the deadline: it is the database's clock that passes it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row

from db import queries
from db.audit import Head
from db.connections import allow_mass_statement, allow_mass_statement_async
from db.operators import Operator
from rules import log_lines

_SQL = queries.load("drains")
_START = _SQL["start_drain"]
_CANCEL = _SQL["cancel_drain"]
_LIST = _SQL["list_drains"]
_FIND = _SQL["find_drain"]
_LIST_RECEIPTS = _SQL["list_receipts"]
_FIND_ACTIVE = _SQL["find_active_drain"]
_LIST_ENROLLED = _SQL["list_enrolled_sessions"]
_NOTE_RECEIPTS = _SQL["note_drain_receipts"]
_FINISH = _SQL["finish_drain"]


@dataclass(frozen=True, slots=True)
class Drain:
    """`status` is draining, completed or cancelled; the numbers are of sessions."""

    id: int
    status: str
    reason: str
    release_id: int | None
    scope: str
    started_at: datetime
    deadline: datetime
    grace_seconds: int
    enrolled: int
    acked: int
    closed: int
    unreachable: int
    revoked: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one session; `outcome` is acked, closed, unreachable, cancelled, or not known
    yet."""

    session_id: int
    user_id: int
    client_version: str | None
    client_content_version: str | None
    enrolled_at: datetime
    notified_at: datetime | None
    acked_at: datetime | None
    closed_at: datetime | None
    revoked_at: datetime | None
    outcome: str | None


@dataclass(frozen=True, slots=True)
class ActiveDrain:
    """`now` is the database's clock when it was read."""

    id: int
    reason: str
    deadline: datetime
    now: datetime


def start_drain(
    connection: Connection, by: Operator, reason: str, *, scope: str, grace_seconds: int
) -> int | None:
    """The drain's id; None when one is active. The audit row is the caller's, as its last act."""
    values = {
        "reason": reason,
        "scope": scope,
        "grace_seconds": grace_seconds,
        "actor": by.name,
        "request_id": log_lines.request_id.get(),
    }
    allow_mass_statement(connection)
    row = connection.execute(_START, values).fetchone()
    return None if row is None else int(row[0])


def cancel_drain(
    connection: Connection, by: Operator, reason: str | None, drain_id: int
) -> tuple[str, Head | None]:
    """cancelled, with the audit chain's new head; too_late; or unknown."""
    values = {
        "drain_id": drain_id,
        "actor": by.name,
        "reason": reason,
        "request_id": log_lines.request_id.get(),
        "ip": by.ip,
    }
    allow_mass_statement(connection)
    row = connection.execute(_CANCEL, values).fetchone()
    assert row is not None  # noqa: S101 - the function returns one row
    verdict, audit_id, audit_hash = row
    return verdict, None if audit_id is None else Head(audit_id, bytes(audit_hash))


def list_drains(connection: Connection, *, before_id: int | None, limit: int) -> list[Drain]:
    """Newest first."""
    with connection.cursor(row_factory=class_row(Drain)) as cursor:
        return cursor.execute(_LIST, {"before_id": before_id, "limit": limit}).fetchall()


def find_drain(connection: Connection, drain_id: int) -> Drain | None:
    with connection.cursor(row_factory=class_row(Drain)) as cursor:
        return cursor.execute(_FIND, {"drain_id": drain_id}).fetchone()


def list_receipts(
    connection: Connection, drain_id: int, *, after_session_id: int, limit: int
) -> list[Receipt]:
    values = {"drain_id": drain_id, "after_session_id": after_session_id, "limit": limit}
    with connection.cursor(row_factory=class_row(Receipt)) as cursor:
        return cursor.execute(_LIST_RECEIPTS, values).fetchall()


async def find_active_drain(connection: AsyncConnection) -> ActiveDrain | None:
    async with connection.cursor(row_factory=class_row(ActiveDrain)) as cursor:
        await cursor.execute(_FIND_ACTIVE)
        return await cursor.fetchone()


async def list_enrolled_sessions(
    connection: AsyncConnection, drain_id: int, session_ids: Collection[int]
) -> set[int]:
    values = {"drain_id": drain_id, "session_ids": list(session_ids)}
    cursor = await connection.execute(_LIST_ENROLLED, values)
    return {row[0] for row in await cursor.fetchall()}


async def note_drain_receipts(
    connection: AsyncConnection,
    drain_id: int,
    *,
    notified: Collection[int],
    acked: Collection[int],
    closed: Collection[int],
) -> None:
    """What was seen of sessions. The first time counts; a finished drain stays as it is."""
    values = {
        "drain_id": drain_id,
        "notified": list(notified),
        "acked": list(acked),
        "closed": list(closed),
    }
    await connection.execute(_NOTE_RECEIPTS, values)


async def finish_drain(
    connection: AsyncConnection, instance_id: str, linger_seconds: int
) -> tuple[int, Head] | None:
    """Completes a drain that is due: its id and the audit chain's new head. Else None.

    Sockets that are still open are waited for, `linger_seconds` after the deadline at the most.
    """
    values = {"instance_id": instance_id, "linger_seconds": linger_seconds}
    await allow_mass_statement_async(connection)
    cursor = await connection.execute(_FINISH, values)
    row = await cursor.fetchone()
    return None if row is None else (int(row[0]), Head(row[1], bytes(row[2])))
