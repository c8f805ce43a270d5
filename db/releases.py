"""Releases: the policy that is in force, and what operators do about it.

Putting a policy in force and taking it back are functions in the database
(db/sql/migrations/0011_release.sql), each one transaction with its record, its audit row and the
notification that wakes the gateways. Whoever creates a session begins with `hold_policy`: until the
transaction ends the policy stays what it answers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row, dict_row

from db import queries
from db.audit import Head
from db.connections import allow_mass_statement
from db.operators import Operator
from rules import log_lines
from rules.versions import ReleasePolicy

_SQL = queries.load("releases")
_HOLD = _SQL["hold_release_policy"]
_FIND_POLICY = _SQL["find_release_policy"]
_FIND_RELEASE = _SQL["find_release"]
_FIND_NOTES = _SQL["find_release_notes"]
_ACTIVATE = _SQL["activate_release"]
_ROLL_BACK = _SQL["roll_back_release"]
_LIST = _SQL["list_releases"]


@dataclass(frozen=True, slots=True)
class PolicyNow:
    """The policy, and the database's clock when it was read."""

    policy: ReleasePolicy
    now: datetime


class DrainScope(StrEnum):
    """Whom a release sends out."""

    OUTDATED = "outdated"  # who is below its minima
    ALL = "all"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class NewRelease:
    """What an operator activates; None leaves as it is, `notes` excepted."""

    latest_version: str
    min_supported_version: str | None = None
    latest_content_version: str | None = None
    min_supported_content_version: str | None = None
    update_url: str | None = None
    notes: str | None = None
    grace_seconds: int = 0
    allow_regression: bool = False
    drain: DrainScope = DrainScope.NONE


@dataclass(frozen=True, slots=True)
class Release:
    """What is in force; `release_id` is None before the first release."""

    release_id: int | None
    latest_version: str | None
    min_supported_version: str | None
    latest_content_version: str | None
    min_supported_content_version: str | None
    enforce_after: datetime | None
    update_url: str | None
    notes: str | None
    activated_at: datetime | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """`verdict` says what came of it: nothing has changed unless `audit_id` is there, the row of
    this act. `head` is the newest row, the drain's where one began with it.

    `outdated` is {"sessions": how many live ones lie below the minima, "by_version": [{
    "client_version", "client_content_version", "sessions"}]}, None after a refusal. `enrolled` of
    them, or of everybody, are in the drain, or would be.
    """

    verdict: str
    release: Release
    outdated: dict[str, Any] | None
    drain_id: int | None
    enrolled: int
    audit_id: int | None
    head: Head | None


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """A line of the history."""

    id: int
    created_at: datetime
    action: str
    actor: str
    reason: str | None
    request_id: str | None
    previous_id: int | None
    restored_id: int | None
    drain_id: int | None
    latest_version: str | None
    min_supported_version: str | None
    latest_content_version: str | None
    min_supported_content_version: str | None
    enforce_after: datetime | None
    notes: str | None


def hold_policy(connection: Connection) -> PolicyNow:
    """Comes first in a transaction that creates a session, before every row lock."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return _policy_now(cursor.execute(_HOLD).fetchone())


def find_policy(connection: Connection) -> PolicyNow:
    with connection.cursor(row_factory=dict_row) as cursor:
        return _policy_now(cursor.execute(_FIND_POLICY).fetchone())


async def find_policy_async(connection: AsyncConnection) -> PolicyNow:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_FIND_POLICY)
        return _policy_now(await cursor.fetchone())


def find_notes(connection: Connection) -> str | None:
    row = connection.execute(_FIND_NOTES).fetchone()
    return None if row is None else row[0]


def find_release(connection: Connection) -> tuple[Release, dict[str, Any]]:
    """What is in force, and which sessions lie below its minima, as in Outcome."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_FIND_RELEASE).fetchone()
    assert row is not None  # noqa: S101 - one row, whatever became of the table's
    outdated: dict[str, Any] = row.pop("outdated")
    return Release(**row), outdated


def activate_release(
    connection: Connection, by: Operator, new: NewRelease, *, dry_run: bool
) -> Outcome:
    """activated, regression, minimum_above_latest, or drain_in_progress."""
    allow_mass_statement(connection)
    return _done(connection, _ACTIVATE, by, {**asdict(new), "dry_run": dry_run})


def roll_back_release(
    connection: Connection, by: Operator, reason: str | None, *, dry_run: bool
) -> Outcome:
    """restored, or nothing_before."""
    return _done(connection, _ROLL_BACK, by, {"reason": reason, "dry_run": dry_run})


def list_releases(connection: Connection, limit: int) -> list[ReleaseRecord]:
    """Newest first."""
    with connection.cursor(row_factory=class_row(ReleaseRecord)) as cursor:
        return cursor.execute(_LIST, {"limit": limit}).fetchall()


def _done(connection: Connection, statement: str, by: Operator, values: dict[str, Any]) -> Outcome:
    said = {
        "actor": by.name,
        "ip": by.ip,
        "request_id": log_lines.request_id.get(),
        **values,
    }
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(statement, said).fetchone()
    assert row is not None  # noqa: S101 - the function returns one row
    verdict, outdated = row.pop("verdict"), row.pop("outdated")
    drain_id, enrolled = row.pop("drain_id"), row.pop("enrolled")
    audit_id, head_id, head_hash = (row.pop(name) for name in ("audit_id", "head_id", "head_hash"))
    head = None if head_id is None else Head(head_id, bytes(head_hash))
    return Outcome(verdict, Release(**row), outdated, drain_id, enrolled, audit_id, head)


def _policy_now(row: dict[str, Any] | None) -> PolicyNow:
    assert row is not None  # noqa: S101 - one row, whatever became of the table's
    now = row.pop("now")
    return PolicyNow(ReleasePolicy(**row), now)
