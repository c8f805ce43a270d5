"""Channels: which ones a user may read, and where their logs begin and end."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row, scalar_row

from db import queries

_SQL = queries.load("channels")
_LIST_READABLE = _SQL["list_readable_channels"]
_CREATE_GROUP = _SQL["create_group"]
_FIND_DIRECT = _SQL["find_direct"]
_OPEN_DIRECT = _SQL["open_direct"]
_FIND_READABLE = _SQL["find_readable_channel"]
_LIST_UNREADABLE = _SQL["list_unreadable"]


@dataclass(frozen=True, slots=True)
class Channel:
    id: int
    kind: str
    name: str | None
    created_at: datetime
    last_seq: int
    role: str | None  # the user's: owner, member, or none in a channel of everybody
    peer_id: int | None  # direct only: who is at the other end
    peer_name: str | None


@dataclass(frozen=True, slots=True)
class LogBounds:
    """The oldest entry that is kept and the newest; of an empty log first_seq is last_seq + 1."""

    last_seq: int
    first_seq: int


def list_readable_channels(
    connection: Connection, user_id: int, channel_id: int | None = None
) -> list[Channel]:
    """Newest first; with `channel_id` that one alone, if the user may read it."""
    values = {"user_id": user_id, "channel_id": channel_id}
    with connection.cursor(row_factory=class_row(Channel)) as cursor:
        return cursor.execute(_LIST_READABLE, values).fetchall()


def create_group(connection: Connection, *, owner_id: int, name: str, request_id: str) -> int:
    """Returns the new channel's id."""
    values = {"owner_id": owner_id, "name": name, "request_id": request_id}
    with connection.cursor(row_factory=scalar_row) as cursor:
        return int(str(cursor.execute(_CREATE_GROUP, values).fetchone()))


def find_direct(connection: Connection, user_id: int, other_id: int) -> tuple[int | None] | None:
    """The channel that the two have, if any; None where the other does not exist or is disabled."""
    values = {"user_id": user_id, "other_id": other_id}
    return connection.execute(_FIND_DIRECT, values).fetchone()


def open_direct(connection: Connection, user_id: int, other_id: int) -> tuple[int, bool] | None:
    """(channel id, whether it is new); None where the other does not exist or is disabled."""
    values = {"user_id": user_id, "other_id": other_id}
    return connection.execute(_OPEN_DIRECT, values).fetchone()


def find_readable_channel(
    connection: Connection, channel_id: int, user_id: int
) -> LogBounds | None:
    """None where the channel does not exist or is not the user's to read."""
    with connection.cursor(row_factory=class_row(LogBounds)) as cursor:
        return cursor.execute(
            _FIND_READABLE, {"channel_id": channel_id, "user_id": user_id}
        ).fetchone()


async def find_readable_channel_async(
    connection: AsyncConnection, channel_id: int, user_id: int
) -> LogBounds | None:
    """find_readable_channel for the gateway."""
    async with connection.cursor(row_factory=class_row(LogBounds)) as cursor:
        await cursor.execute(_FIND_READABLE, {"channel_id": channel_id, "user_id": user_id})
        return await cursor.fetchone()


async def list_unreadable(
    connection: AsyncConnection, pairs: Collection[tuple[int, int]]
) -> set[tuple[int, int]]:
    """Of these (channel id, user id) those where the user may not read the channel."""
    values = {
        "channel_ids": [channel_id for channel_id, _ in pairs],
        "user_ids": [user_id for _, user_id in pairs],
    }
    cursor = await connection.execute(_LIST_UNREADABLE, values)
    return {(channel_id, user_id) for channel_id, user_id in await cursor.fetchall()}
