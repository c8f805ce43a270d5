"""Channels: which ones a user may read, and where their logs begin and end."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row

from db import queries

_SQL = queries.load("channels")
_LIST_READABLE = _SQL["list_readable_channels"]
_FIND_READABLE = _SQL["find_readable_channel"]
_LIST_UNREADABLE = _SQL["list_unreadable"]


@dataclass(frozen=True, slots=True)
class Channel:
    id: int
    kind: str
    name: str | None
    created_at: datetime
    last_seq: int


@dataclass(frozen=True, slots=True)
class LogBounds:
    """The oldest entry that is kept and the newest; of an empty log first_seq is last_seq + 1."""

    last_seq: int
    first_seq: int


def list_readable_channels(connection: Connection, user_id: int) -> list[Channel]:
    with connection.cursor(row_factory=class_row(Channel)) as cursor:
        return cursor.execute(_LIST_READABLE, {"user_id": user_id}).fetchall()


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
