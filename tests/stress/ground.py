"""What the stress run stands on: a database, accounts, and channels of its own."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from typing import Any

import psycopg

from db.channels import create_group
from db.members import add_member
from db.sessions import ClientInfo, SessionTerms, open_session
from db.users import insert_user

Connection = psycopg.Connection[tuple[Any, ...]]

_NOBODY = ClientInfo(ip=None, user_agent=None, version=None, content_version=None)
_TERMS = SessionTerms(ttl_days=30, idle_days=14, max_per_account=5)


@dataclass(frozen=True, slots=True)
class Ground:
    """`conninfo` is libpq's, of the owner; the ids are those of this run alone."""

    conninfo: str
    user_ids: tuple[int, ...]
    channel_ids: tuple[int, ...]

    def connect(self) -> Connection:
        return psycopg.connect(self.conninfo, autocommit=True)


def lay(conninfo: str, accounts: int, channels: int) -> Ground:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        user_ids = tuple(_make_account(connection) for _ in range(accounts))
        channel_ids = tuple(_make_channel(connection, user_ids) for _ in range(channels))
    return Ground(conninfo, user_ids, channel_ids)


def open_another_session(connection: Connection, user_id: int) -> None:
    with connection.transaction():
        open_session(connection, user_id, checked_hash="stress", client=_NOBODY, terms=_TERMS)


def live_sessions(connection: Connection, ground: Ground) -> list[tuple[int, int]]:
    """(session id, user id)."""
    rows = connection.execute(
        "SELECT session_id, user_id FROM live_sessions WHERE user_id = ANY (%s)",
        (list(ground.user_ids),),
    ).fetchall()
    random.shuffle(rows)
    return [(session_id, user_id) for session_id, user_id in rows]


def _make_account(connection: Connection) -> int:
    user = insert_user(
        connection,
        email=f"stress-{uuid.uuid4()}@example.org",
        password_hash="stress",
        display_name="Stress",
    )
    assert user is not None
    open_another_session(connection, user.id)
    return user.id


def _make_channel(connection: Connection, user_ids: tuple[int, ...]) -> int:
    """The first account owns it and is never taken out."""
    owner_id = user_ids[0]
    channel_id = create_group(connection, owner_id=owner_id, name="Stress", request_id="stress")
    for user_id in user_ids[1:]:
        verdict = add_member(
            connection,
            actor_id=owner_id,
            channel_id=channel_id,
            user_id=user_id,
            most=1000,
            request_id="stress",
        )
        assert verdict == "added", verdict
    return channel_id
