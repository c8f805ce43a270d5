"""What operators do to sessions, users and messages, and what they look at.

Every act goes through a function in the database that also appends its audit row
(db/sql/migrations/0009_operators.sql); `head` is the chain's new head, None where nothing was done.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row

from db import queries
from db.audit import Head
from db.connections import allow_mass_statement
from rules import log_lines
from rules.client_address import Address, Network
from rules.limit_subjects import LOGIN_FROM_IP, chat_of_account, login_to_account

_SQL = queries.load("operators")
_REVOKE = _SQL["revoke_sessions"]
_ACT_ON_USER = _SQL["act_on_user"]
_ERASE = _SQL["erase_message_as"]
_LIST_ACCOUNTS = _SQL["list_accounts"]
_LIST_SESSIONS = _SQL["list_sessions_for_operators"]
_LIST_LOCKOUTS = _SQL["list_lockouts"]
_LIST_LOCKOUTS_OF_ADDRESSES = _SQL["list_lockouts_of_addresses"]


@dataclass(frozen=True, slots=True)
class Operator:
    """Who acts, from where."""

    name: str
    ip: Address | None


@dataclass(frozen=True, slots=True)
class Selector:
    """Which sessions: exactly one of these is set."""

    user_id: int | None = None
    session_id: int | None = None
    network: Network | None = None
    version_below: str | None = None
    created_before: datetime | None = None
    all: bool | None = None


@dataclass(frozen=True, slots=True)
class Revocation:
    matched: int
    revoked: int
    head: Head | None  # none after a dry run


def revoke_sessions(
    connection: Connection, by: Operator, reason: str, selector: Selector, *, dry_run: bool
) -> Revocation:
    """Ends the selected live sessions and their sockets on all instances."""
    # asdict would take the network apart.
    chosen = {name: getattr(selector, name) for name in Selector.__slots__}
    values = {**_by(by), "reason": reason, "dry_run": dry_run, **chosen}
    allow_mass_statement(connection)
    row = connection.execute(_REVOKE, values).fetchone()
    assert row is not None  # noqa: S101 - the function returns one row
    matched, revoked, audit_id, audit_hash = row
    return Revocation(matched, revoked, _head(audit_id, audit_hash))


class UserAct(StrEnum):
    DISABLE = "disable"
    ENABLE = "enable"
    UNLOCK = "unlock"
    MUTE = "mute"
    RESET = "reset"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Acted:
    until: datetime | None
    head: Head


def act_on_user(
    connection: Connection,
    by: Operator,
    act: UserAct,
    user_id: int,
    reason: str,
    *,
    email_key: str | None = None,
    seconds: int | None = None,
    password_hash: str | None = None,
    token_hash: bytes | None = None,
    is_admin: bool | None = None,
) -> Acted | None:
    """None where there is no such user. `email_key` is for UNLOCK, the hashes are for RESET."""
    values = {
        **_by(by),
        "action": act,
        "user_id": user_id,
        "reason": reason,
        "seconds": seconds,
        "limit_key": None if email_key is None else login_to_account(email_key),
        "password_hash": password_hash,
        "token_hash": token_hash,
        "flag": is_admin,
    }
    row = connection.execute(_ACT_ON_USER, values).fetchone()
    if row is None:
        return None
    until, audit_id, audit_hash = row
    return Acted(until, Head(audit_id, bytes(audit_hash)))


def erase_message(
    connection: Connection, by: Operator, reason: str | None, channel_id: int, seq: int
) -> tuple[str, Head | None]:
    """erased, already or not_found."""
    values = {**_by(by), "reason": reason, "channel_id": channel_id, "seq": seq}
    row = connection.execute(_ERASE, values).fetchone()
    assert row is not None  # noqa: S101 - the function returns one row
    verdict, audit_id, audit_hash = row
    return verdict, _head(audit_id, audit_hash)


@dataclass(frozen=True, slots=True)
class Account:
    id: int
    email: str
    display_name: str
    is_admin: bool
    created_at: datetime
    disabled_at: datetime | None
    muted_until: datetime | None


@dataclass(frozen=True, slots=True)
class SessionSeen:
    session_id: int
    user_id: int
    email: str
    display_name: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    ip: str | None
    user_agent: str | None
    client_version: str | None
    client_content_version: str | None
    drain_event_id: int | None


@dataclass(frozen=True, slots=True)
class LockoutSeen:
    key: str
    locked_until: datetime
    lockouts: int


def list_accounts(
    connection: Connection, *, email_key: str | None, network: Network | None, limit: int
) -> list[Account]:
    values = {"email_key": email_key, "network": network, "limit": limit}
    with connection.cursor(row_factory=class_row(Account)) as cursor:
        return cursor.execute(_LIST_ACCOUNTS, values, prepare=False).fetchall()


def list_sessions(
    connection: Connection,
    *,
    user_id: int | None,
    network: Network | None,
    before_id: int | None,
    limit: int,
) -> list[SessionSeen]:
    """The live ones, newest first."""
    values = {"user_id": user_id, "network": network, "before_id": before_id, "limit": limit}
    with connection.cursor(row_factory=class_row(SessionSeen)) as cursor:
        return cursor.execute(_LIST_SESSIONS, values, prepare=False).fetchall()


def list_lockouts(connection: Connection, user_id: int, email_key: str) -> list[LockoutSeen]:
    """Of an account: from single networks, from everywhere, and of its writing."""
    login = login_to_account(email_key)
    values = {"keys": [login, chat_of_account(user_id)], "prefix": f"{login}@"}
    with connection.cursor(row_factory=class_row(LockoutSeen)) as cursor:
        return cursor.execute(_LIST_LOCKOUTS, values).fetchall()


def list_lockouts_of_addresses(
    connection: Connection, network: Network, limit: int
) -> list[LockoutSeen]:
    """Of all that lies in the network, whoever the accounts were."""
    values = {"prefix": LOGIN_FROM_IP, "network": network, "limit": limit}
    with connection.cursor(row_factory=class_row(LockoutSeen)) as cursor:
        return cursor.execute(_LIST_LOCKOUTS_OF_ADDRESSES, values).fetchall()


def _by(operator: Operator) -> dict[str, Any]:
    return {
        "actor": operator.name,
        "ip": operator.ip,
        "request_id": log_lines.request_id.get(),
    }


def _head(audit_id: int | None, audit_hash: bytes | None) -> Head | None:
    if audit_id is None or audit_hash is None:
        return None
    return Head(audit_id, bytes(audit_hash))
