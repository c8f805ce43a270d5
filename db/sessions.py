"""Sessions and their refresh tokens: opened, read on every request, refreshed, ended.

A session lives while the view live_sessions shows it. Whoever calls owns the transaction; verdicts
that must be remembered although the client gets an error (theft) are returned, not raised, so that
the transaction commits.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row

from db import queries
from db.releases import hold_policy
from rules import opaque_tokens
from rules.client_address import Address
from rules.versions import ReleasePolicy

_SQL = queries.load("sessions")
_LOCK_USER = _SQL["lock_user_with_password_hash"]
_MAKE_ROOM = _SQL["revoke_sessions_beyond_limit"]
_INSERT = _SQL["insert_session"]
_INSERT_REFRESH_TOKEN = _SQL["insert_refresh_token"]
_FIND_LIVE = _SQL["find_live_session"]
_FIND_LIVE_AND_POLICY = _SQL["find_live_session_and_policy"]
_LOCK_USER_OF_TOKEN = _SQL["lock_user_of_refresh_token"]
_LOCK_ANY_USER = _SQL["lock_user"]
_LOCK_BESIDE_DRAINED = _SQL["lock_sessions_beside_drained_one"]
_FIND_DRAINED = _SQL["find_drained_session"]
_IS_DRAINED = _SQL["is_session_drained"]
_INSERT_RETURNING = _SQL["insert_returning_session"]
_FIND_SESSION_OF_SUCCESSOR = _SQL["find_session_of_successor"]
_LOCK_BY_TOKEN = _SQL["lock_session_of_refresh_token"]
_FIND_REFRESH_TOKEN = _SQL["find_refresh_token"]
_SPEND = _SQL["spend_refresh_token"]
_UPDATE_CLIENT_VERSION = _SQL["update_client_version"]
_REVOKE = _SQL["revoke_session"]
_LIST_LIVE = _SQL["list_live_sessions_of_user"]
_REVOKE_OF_USER = _SQL["revoke_session_of_user"]
_REVOKE_OTHERS = _SQL["revoke_other_sessions"]
_LIST_ENDED = _SQL["list_ended_sessions"]
_OF_ADMINS = _SQL["list_sessions_of_admins"]
_TOUCH = _SQL["touch_sessions"]


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """What a request says about its client; stored with the session."""

    ip: Address | None
    user_agent: str | None
    version: str | None
    content_version: str | None


@dataclass(frozen=True, slots=True)
class SessionTerms:
    """Lifetimes and numbers that the configuration sets."""

    ttl_days: int
    idle_days: int
    max_per_account: int


@dataclass(frozen=True, slots=True)
class RefreshTerms:
    """`reentry_hours` after a drain its sessions may come back, 0: not at all; and only where the
    release gate lets the client in. The oldest beyond the account's number make room."""

    idle_days: int
    reentry_hours: int
    passes_gate: bool
    max_per_account: int


NO_RETURN = RefreshTerms(idle_days=0, reentry_hours=0, passes_gate=False, max_per_account=1)


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """`is_drained`: outdated for a drain whose deadline has passed, so it never lived."""

    id: int
    expires_at: datetime
    now: datetime
    is_drained: bool
    refresh_token: str


@dataclass(frozen=True, slots=True)
class LiveSession:
    """A session that lives at `now`, the database's clock, with its user."""

    session_id: int
    user_id: int
    email: str
    display_name: str
    is_admin: bool
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    ip: Address | None
    user_agent: str | None
    client_version: str | None
    client_content_version: str | None
    now: datetime


class RefreshVerdict(Enum):
    RENEWED = "renewed"  # with a successor: the first use, or a repeat within the grace
    RETURNED = "returned"  # the same, but it belongs to a new session: a drain ended the old one
    DRAINED = "drained"  # a drain ended the session; an updated client may come back in time
    UNKNOWN = "unknown"
    REUSED = "reused"  # theft: the session has just been revoked
    ENDED = "ended"  # the session was revoked, expired, or its user disabled, before


@dataclass(frozen=True, slots=True)
class Refreshed:
    verdict: RefreshVerdict
    session: LiveSession | None = None
    refresh_token: str | None = None


@dataclass(frozen=True, slots=True)
class EndedSession:
    """`cause` is revoked, disabled, drained or expired.

    `ended_seconds_ago` counts from revoked_at or disabled_at, whatever somebody set it to; None
    where there is neither.
    """

    session_id: int
    cause: str
    revoked_reason: str | None
    ended_seconds_ago: float | None


@dataclass(frozen=True, slots=True)
class _RefreshToken:
    spent: bool
    successor_nonce: bytes | None
    repeatable: bool

    def successor_of(self, token: str) -> str:
        assert self.successor_nonce is not None  # noqa: S101 - it is repeatable
        return opaque_tokens.successor_of(token, self.successor_nonce)


def lock_user_if_unchanged(connection: Connection, user_id: int, checked_hash: str) -> bool:
    """Locks the user row; False when the hash has changed meanwhile or the user is disabled."""
    values = {"user_id": user_id, "checked_hash": checked_hash}
    return connection.execute(_LOCK_USER, values).fetchone() is not None


def lock_user(connection: Connection, user_id: int) -> None:
    """No session of the user is opened until the transaction ends, or comes back from a drain."""
    connection.execute(_LOCK_ANY_USER, {"user_id": user_id})


def open_session(
    connection: Connection,
    user_id: int,
    *,
    checked_hash: str,
    client: ClientInfo,
    terms: SessionTerms,
) -> OpenedSession | None:
    """None when the password hash that was checked is no longer the user's, or they are disabled.

    The oldest sessions beyond the account's number make room. The release policy is held, so that
    no session is created behind an activation's back; who decides by it has held it before.
    A drain enrols what it means as it is inserted (db/sql/migrations/0012_drains.sql).
    """
    hold_policy(connection)
    if not lock_user_if_unchanged(connection, user_id, checked_hash):
        return None
    connection.execute(_MAKE_ROOM, {"user_id": user_id, "limit": terms.max_per_account})
    token = opaque_tokens.new_token()
    values = {
        "user_id": user_id,
        "ttl_days": terms.ttl_days,
        "idle_days": terms.idle_days,
        "ip": client.ip,
        "user_agent": client.user_agent,
        "client_version": client.version,
        "client_content_version": client.content_version,
    }
    row = connection.execute(_INSERT, values).fetchone()
    assert row is not None  # noqa: S101 - INSERT ... RETURNING without a condition
    session_id, expires_at, now, is_drained = row
    _insert_token(connection, session_id, token)
    return OpenedSession(session_id, expires_at, now, is_drained, token)


def find_live_session(connection: Connection, session_id: int) -> LiveSession | None:
    with connection.cursor(row_factory=class_row(LiveSession)) as cursor:
        return cursor.execute(_FIND_LIVE, {"session_id": session_id}).fetchone()


def find_live_session_and_policy(
    connection: Connection, session_id: int
) -> tuple[LiveSession, ReleasePolicy] | None:
    row = connection.execute(_FIND_LIVE_AND_POLICY, {"session_id": session_id}).fetchone()
    if row is None:
        return None
    columns = len(LiveSession.__slots__)  # the statement lists both in the order of their fields
    return LiveSession(*row[:columns]), ReleasePolicy(*row[columns:])


def touch_session(connection: Connection, session_id: int, idle_days: int) -> None:
    """Its client is there. Waits for nobody: who holds the row has it left for the next time."""
    connection.execute(_TOUCH, {"session_ids": [session_id], "idle_days": idle_days})


def lock_session_of(connection: Connection, token: str) -> int | None:
    """Locks the session that a refresh token belongs to, dead or alive; None for an unknown token.

    Whoever presents a token of this session queues here, so what follows is decided alone.
    """
    values = {"token_hash": opaque_tokens.hash_token(token)}
    connection.execute(_LOCK_USER_OF_TOKEN, values)
    connection.execute(_LOCK_BESIDE_DRAINED, values)
    row = connection.execute(_LOCK_BY_TOKEN, values).fetchone()
    return None if row is None else int(row[0])


def refresh_session(
    connection: Connection,
    token: str,
    *,
    grace_seconds: int,
    client: ClientInfo,
    terms: RefreshTerms = NO_RETURN,
) -> Refreshed:
    """Spends `token` for its successor, repeats the answer within the grace, or ends the session.

    A repeat counts as the same answer only while the successor is unused: whoever has used it has
    received it, so a further use of the old token is somebody else's (RFC 9700, 4.14.2).
    """
    session_id = lock_session_of(connection, token)
    if session_id is None:
        return Refreshed(RefreshVerdict.UNKNOWN)
    token_hash = opaque_tokens.hash_token(token)
    with connection.cursor(row_factory=class_row(_RefreshToken)) as cursor:
        stored = cursor.execute(
            _FIND_REFRESH_TOKEN, {"token_hash": token_hash, "grace_seconds": grace_seconds}
        ).fetchone()
    session = find_live_session(connection, session_id)
    if stored is None:
        return Refreshed(RefreshVerdict.ENDED)
    if session is None:
        may_follow = stored.repeatable and is_session_drained(connection, session_id)
        if may_follow and _session_of_successor(connection, token) is None:
            # Spent right before the drain, and the answer got lost: its successor counts.
            return refresh_session(
                connection,
                stored.successor_of(token),
                grace_seconds=grace_seconds,
                client=client,
                terms=terms,
            )
        return _come_back(connection, session_id, token, stored, client=client, terms=terms)
    if stored.spent and not stored.repeatable:
        revoke_session(connection, session_id, "refresh_token_reused")
        return Refreshed(RefreshVerdict.REUSED, session)
    if stored.spent:
        successor = stored.successor_of(token)
    else:
        successor = _spend(connection, token, session_id)
    update_client_version(connection, session_id, client)
    return Refreshed(RefreshVerdict.RENEWED, session, successor)


def _come_back(
    connection: Connection,
    session_id: int,
    token: str,
    stored: _RefreshToken,
    *,
    client: ClientInfo,
    terms: RefreshTerms,
) -> Refreshed:
    """A drain has ended the session, perhaps: then the newest token opens one new session.

    A lost answer is repeated, and a spent token is theft, as in refresh_session.
    """
    if stored.spent:
        new_id = _session_of_successor(connection, token)
        if new_id is None and not is_session_drained(connection, session_id):
            return Refreshed(RefreshVerdict.ENDED)
        new_id = new_id or session_id
        session = find_live_session(connection, new_id)
        if stored.repeatable and session is not None:
            return Refreshed(RefreshVerdict.RENEWED, session, stored.successor_of(token))
        if not stored.repeatable and revoke_session(connection, new_id, "refresh_token_reused"):
            return Refreshed(RefreshVerdict.REUSED, session)
        return Refreshed(RefreshVerdict.ENDED)
    asked = {
        "session_id": session_id,
        "reentry_hours": terms.reentry_hours,
        "idle_days": terms.idle_days,
        "ip": client.ip,
        "user_agent": client.user_agent,
        "client_version": client.version,
        "client_content_version": client.content_version,
    }
    row = connection.execute(_FIND_DRAINED, asked).fetchone()
    if row is None:
        return Refreshed(RefreshVerdict.ENDED)
    user_id, is_new_enough = row
    if not (is_new_enough and terms.passes_gate):
        return Refreshed(RefreshVerdict.DRAINED)
    connection.execute(_MAKE_ROOM, {"user_id": user_id, "limit": terms.max_per_account})
    row = connection.execute(_INSERT_RETURNING, asked).fetchone()
    assert row is not None  # noqa: S101 - its row is locked, so it is there
    # Once: what was drained is now revoked like any other.
    revoke_session(connection, session_id, "came_back")
    successor = _spend(connection, token, row[0])
    return Refreshed(RefreshVerdict.RETURNED, find_live_session(connection, row[0]), successor)


def _session_of_successor(connection: Connection, token: str) -> int | None:
    """The other session to which a spent token has led its owner back."""
    values = {"token_hash": opaque_tokens.hash_token(token)}
    row = connection.execute(_FIND_SESSION_OF_SUCCESSOR, values).fetchone()
    return None if row is None else int(row[0])


def is_session_drained(connection: Connection, session_id: int) -> bool:
    """Whether a drain has ended it, and it may still come back."""
    row = connection.execute(_IS_DRAINED, (session_id,)).fetchone()
    return row is not None and bool(row[0])


def update_client_version(connection: Connection, session_id: int, client: ClientInfo) -> None:
    """Each version that the call named; the other stays."""
    values = {
        "session_id": session_id,
        "client_version": client.version,
        "client_content_version": client.content_version,
    }
    connection.execute(_UPDATE_CLIENT_VERSION, values)


def revoke_session(connection: Connection, session_id: int, reason: str) -> bool:
    """False when it had ended before."""
    values = {"session_id": session_id, "reason": reason}
    return connection.execute(_REVOKE, values).rowcount == 1


def list_live_sessions(connection: Connection, user_id: int) -> list[LiveSession]:
    """Newest first."""
    with connection.cursor(row_factory=class_row(LiveSession)) as cursor:
        return cursor.execute(_LIST_LIVE, {"user_id": user_id}).fetchall()


def revoke_session_of_user(connection: Connection, session_id: int, user_id: int) -> bool:
    """False where the user has no such live session."""
    values = {"session_id": session_id, "user_id": user_id}
    return connection.execute(_REVOKE_OF_USER, values).rowcount == 1


def revoke_other_sessions(
    connection: Connection, user_id: int, *, except_session_id: int, reason: str
) -> int:
    """Ends all sessions of the user but one; returns how many."""
    values = {"user_id": user_id, "session_id": except_session_id, "reason": reason}
    return connection.execute(_REVOKE_OTHERS, values).rowcount


async def list_ended_sessions(
    connection: AsyncConnection, session_ids: Collection[int]
) -> list[EndedSession]:
    """Those of the sessions that no longer live; a deleted one counts as revoked."""
    async with connection.cursor(row_factory=class_row(EndedSession)) as cursor:
        await cursor.execute(_LIST_ENDED, {"session_ids": list(session_ids)})
        return await cursor.fetchall()


async def list_sessions_of_admins(
    connection: AsyncConnection, session_ids: Collection[int]
) -> set[int]:
    """Those of the sessions whose users are administrators by now."""
    cursor = await connection.execute(_OF_ADMINS, {"session_ids": list(session_ids)})
    return {session_id for (session_id,) in await cursor.fetchall()}


async def touch_sessions(
    connection: AsyncConnection, session_ids: Collection[int], idle_days: int
) -> None:
    """touch_session for every session that has a socket here."""
    values = {"session_ids": list(session_ids), "idle_days": idle_days}
    await connection.execute(_TOUCH, values)


def _spend(connection: Connection, token: str, session_id: int) -> str:
    """The successor, which belongs to `session_id`."""
    nonce = opaque_tokens.new_nonce()
    successor = opaque_tokens.successor_of(token, nonce)
    values = {
        "token_hash": opaque_tokens.hash_token(token),
        "nonce": nonce,
        "successor_hash": opaque_tokens.hash_token(successor),
    }
    connection.execute(_SPEND, values)
    _insert_token(connection, session_id, successor)
    return successor


def _insert_token(connection: Connection, session_id: int, token: str) -> None:
    values = {"token_hash": opaque_tokens.hash_token(token), "session_id": session_id}
    connection.execute(_INSERT_REFRESH_TOKEN, values)
