"""Who is in a channel. The functions in the database decide, under the channel's lock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg import Connection
from psycopg.rows import class_row, scalar_row

from db import queries

_SQL = queries.load("members")
_LIST = _SQL["list_members"]
_FIND = _SQL["find_member"]
_ADD = _SQL["add_member"]
_REMOVE = _SQL["remove_member"]


@dataclass(frozen=True, slots=True)
class Member:
    user_id: int
    display_name: str
    role: str
    joined_at: datetime


def list_members(connection: Connection, channel_id: int) -> list[Member]:
    """The longest-standing first; whether the asker may see them is the caller's question."""
    with connection.cursor(row_factory=class_row(Member)) as cursor:
        return cursor.execute(_LIST, {"channel_id": channel_id}).fetchall()


def find_member(connection: Connection, channel_id: int, user_id: int) -> Member | None:
    with connection.cursor(row_factory=class_row(Member)) as cursor:
        return cursor.execute(_FIND, {"channel_id": channel_id, "user_id": user_id}).fetchone()


def add_member(
    connection: Connection,
    *,
    actor_id: int,
    channel_id: int,
    user_id: int,
    most: int,
    request_id: str,
) -> str:
    """added, already, not_found, no_such_user, forbidden or full (`most` members are in it)."""
    values = {
        "actor_id": actor_id,
        "channel_id": channel_id,
        "user_id": user_id,
        "most": most,
        "request_id": request_id,
    }
    with connection.cursor(row_factory=scalar_row) as cursor:
        return str(cursor.execute(_ADD, values).fetchone())


def remove_member(
    connection: Connection, *, actor_id: int, channel_id: int, user_id: int, request_id: str
) -> str:
    """removed, not_found or forbidden; actor and user are the same where somebody leaves."""
    values = {
        "actor_id": actor_id,
        "channel_id": channel_id,
        "user_id": user_id,
        "request_id": request_id,
    }
    with connection.cursor(row_factory=scalar_row) as cursor:
        return str(cursor.execute(_REMOVE, values).fetchone())
