"""The audit trail of privileged acts: written with what it records, read, exported, verified.

Writing comes last in a transaction, since the chain's head is locked after everything else
(db/sql/migrations/0008_audit.sql). The new head goes to the log once the transaction has committed:
that is the caller's part, with `announce`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from db import queries
from rules import log_lines
from rules.audit_chain import GENESIS, Link
from rules.client_address import Address

_SQL = queries.load("audit")
_APPEND = _SQL["append_audit"]
_HEAD = _SQL["find_audit_head"]
_VERIFY = _SQL["verify_audit"]
_HASH = _SQL["find_audit_hash"]
_LIST = _SQL["list_audit"]
_EXPORT = _SQL["export_audit_after"]

logger = logging.getLogger("gatehouse.audit")

# A statement each; small enough to stay far below the statement timeout.
PAGE = 10_000


@dataclass(frozen=True, slots=True)
class Head:
    """The newest row of the chain, or where it begins."""

    id: int
    hash: bytes


NO_HEAD = Head(0, GENESIS)


@dataclass(frozen=True, slots=True)
class AuditRow:
    id: int
    created_at: datetime
    actor: str
    action: str
    request_id: str | None
    ip: str | None
    user_id: int | None
    reason: str | None
    details: dict[str, Any]
    hash: bytes


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What is asked for; None asks for nothing."""

    before_id: int | None = None
    request_id: str | None = None
    actor: str | None = None
    action: str | None = None
    user_id: int | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """`intact` speaks of the `rows` that were read, up to `to_id`, and of the head."""

    intact: bool
    rows: int
    to_id: int
    head: Head
    first_broken_id: int | None


def record(
    connection: Connection,
    *,
    actor: str,
    action: str,
    ip: Address | None,
    user_id: int | None = None,
    reason: str | None = None,
    **details: Any,
) -> Head:
    """Appends a row, as the last thing in the caller's transaction; returns the new head."""
    values = {
        "actor": actor,
        "action": action,
        "request_id": log_lines.request_id.get(),
        "ip": ip,
        "user_id": user_id,
        "reason": reason,
        "details": Jsonb(details),
    }
    with connection.cursor(row_factory=class_row(Head)) as cursor:
        head = cursor.execute(_APPEND, values).fetchone()
    assert head is not None  # noqa: S101 - the function returns one row
    return head


def announce(head: Head) -> None:
    """Puts a committed head where the database's owner cannot change it: into the log."""
    fields = {"audit_id": head.id, "audit_hash": head.hash.hex()}
    logger.info("audit head %d", head.id, extra={"fields": fields})


def find_head(connection: Connection) -> Head:
    """NO_HEAD where somebody has deleted it."""
    with connection.cursor(row_factory=class_row(Head)) as cursor:
        return cursor.execute(_HEAD).fetchone() or NO_HEAD


def list_audit(connection: Connection, wanted: AuditFilter, limit: int) -> list[AuditRow]:
    """Newest first; the next page begins before the last id of this one."""
    with connection.cursor(row_factory=class_row(AuditRow)) as cursor:
        # Planned anew each time, for the conditions that are given.
        cursor.execute(_LIST, {**asdict(wanted), "limit": limit}, prepare=False)
        return cursor.fetchall()


def verify(connection: Connection, *, after_id: int = 0, most_rows: int) -> Verification:
    """Checks the chain after a row that was checked before, `most_rows` of it at the most."""
    head = find_head(connection)
    if head is NO_HEAD:
        return Verification(False, 0, after_id, NO_HEAD, after_id + 1)
    previous = _hash_of(connection, after_id)
    if previous is None:
        return Verification(False, 0, after_id, head, after_id)
    rows, last_id = 0, after_id
    while rows < most_rows and last_id < head.id:
        limit = min(PAGE, most_rows - rows, head.id - last_id)
        values = {"after_id": last_id, "after_hash": previous, "limit": limit}
        found = connection.execute(_VERIFY, values).fetchone()
        assert found is not None  # noqa: S101 - an aggregate returns one row
        count, page_last_id, page_last_hash, broken = found
        rows += count
        if broken is not None:
            return Verification(False, rows, last_id, head, broken)
        if count == 0:  # the tail is missing
            return Verification(False, rows, last_id, head, last_id + 1)
        last_id, previous = page_last_id, page_last_hash
    # A head that was written over, or rows beyond it.
    if last_id == head.id and previous != head.hash:
        return Verification(False, rows, last_id, head, head.id)
    if last_id > head.id or (last_id == head.id and _is_beyond_the_head(connection, head.id + 1)):
        return Verification(False, rows, last_id, head, head.id + 1)
    return Verification(True, rows, last_id, head, None)


def export_audit(connection: Connection, after_id: int = 0) -> Iterator[Link]:
    """The chain in order, as rules/audit_chain.py verifies it without a database."""
    while True:
        values = {"after_id": after_id, "limit": PAGE}
        with connection.cursor(row_factory=class_row(Link)) as cursor:
            page = cursor.execute(_EXPORT, values).fetchall()
        if not page:
            return
        yield from page
        after_id = page[-1].id


def hashes_of(connection: Connection, audit_ids: Iterable[int]) -> dict[int, bytes]:
    """Of those rows that there are."""
    found = {audit_id: _hash_of(connection, audit_id) for audit_id in audit_ids}
    return {audit_id: row_hash for audit_id, row_hash in found.items() if row_hash is not None}


def _is_beyond_the_head(connection: Connection, audit_id: int) -> bool:
    """A row and its head become visible together, so a head that is read after the row tells one
    that was appended meanwhile from one that was put there without it."""
    return _hash_of(connection, audit_id) is not None and find_head(connection).id < audit_id


def _hash_of(connection: Connection, audit_id: int) -> bytes | None:
    if audit_id == 0:
        return GENESIS
    row = connection.execute(_HASH, (audit_id,)).fetchone()
    return None if row is None else bytes(row[0])
