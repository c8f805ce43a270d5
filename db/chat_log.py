"""The chat log: appending batches of messages and reading entries back in order.

The API and the gateway run the same statements; where both need one, the asynchronous function
stands beside the synchronous one and shares its statement and shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row, scalar_row

from db import queries
from db.arrays import plain_array, text_array
from rules.client_address import Address
from rules.limit_subjects import chat_from_address
from rules.log_entry import Entry
from rules.settings import ChatSettings

_SQL = queries.load("chat_log")
_APPEND = _SQL["append_messages"]
_AFTER = _SQL["list_entries_after"]
_BEFORE = _SQL["list_entries_before"]
_OF_CHANNELS_AFTER = _SQL["list_entries_of_channels_after"]
_ERASE = _SQL["erase_message"]
_LAST_SEQS = _SQL["list_last_seqs"]

NO_END = 2**63 - 1


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message that asks to be stored; the sender is the session's user."""

    session_id: int
    channel_id: int
    client_msg_id: UUID
    content: str
    request_id: str
    address: Address | None  # where it came from, for the limits


@dataclass(frozen=True, slots=True)
class WriteLimits:
    """Accepted messages in a sliding window, and what going on after that costs an account."""

    window_seconds: int
    max_per_account: int
    max_per_address: int
    lockout_seconds: int
    lockout_max_seconds: int


def write_limits(settings: ChatSettings) -> WriteLimits:
    return WriteLimits(
        window_seconds=settings.write_window_seconds,
        max_per_account=settings.write_max_per_account,
        max_per_address=settings.write_max_per_ip,
        lockout_seconds=settings.write_lockout_seconds,
        lockout_max_seconds=settings.write_lockout_max_seconds,
    )


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What became of one message; seq and created_at are set for "stored" and "repeat"."""

    position: int
    verdict: str
    seq: int | None
    created_at: datetime | None
    sender_id: int | None
    sender_name: str | None
    retry_after_seconds: int | None


def append_messages(
    connection: Connection, messages: Sequence[NewMessage], limits: WriteLimits
) -> list[AppendResult]:
    """Stores what may be stored, in one transaction; one result a message, in order.

    The connection must be in autocommit and outside a transaction: the locks that this takes are
    for the time of one statement.
    """
    with connection.cursor(row_factory=class_row(AppendResult)) as cursor:
        return cursor.execute(_APPEND, _arguments(messages, limits)).fetchall()


async def append_messages_async(
    connection: AsyncConnection, messages: Sequence[NewMessage], limits: WriteLimits
) -> list[AppendResult]:
    """append_messages for the gateway."""
    async with connection.cursor(row_factory=class_row(AppendResult)) as cursor:
        await cursor.execute(_APPEND, _arguments(messages, limits))
        return await cursor.fetchall()


def _arguments(messages: Sequence[NewMessage], limits: WriteLimits) -> Mapping[str, Any]:
    return {
        "window_seconds": limits.window_seconds,
        "max_per_account": limits.max_per_account,
        "max_per_address": limits.max_per_address,
        "lockout_seconds": limits.lockout_seconds,
        "lockout_max_seconds": limits.lockout_max_seconds,
        "session_ids": plain_array([message.session_id for message in messages]),
        "channel_ids": plain_array([message.channel_id for message in messages]),
        "client_msg_ids": plain_array([message.client_msg_id for message in messages]),
        "contents": text_array([message.content for message in messages]),
        "request_ids": text_array([message.request_id for message in messages]),
        "address_keys": text_array([chat_from_address(message.address) for message in messages]),
    }


def erase_message(
    connection: Connection, *, actor_id: int | None, channel_id: int, seq: int, request_id: str
) -> str:
    """erased, already, not_found or forbidden; without an actor it is an operator who erases."""
    values = {
        "actor_id": actor_id,
        "channel_id": channel_id,
        "seq": seq,
        "request_id": request_id,
    }
    with connection.cursor(row_factory=scalar_row) as cursor:
        return str(cursor.execute(_ERASE, values).fetchone())


def list_entries_after(
    connection: Connection, channel_id: int, after_seq: int, limit: int
) -> list[Entry]:
    """The next `limit` entries after `after_seq`, ascending."""
    values = _range(channel_id, after_seq, NO_END, limit)
    with connection.cursor(row_factory=class_row(Entry)) as cursor:
        return cursor.execute(_AFTER, values).fetchall()


def list_entries_before(
    connection: Connection, channel_id: int, before_seq: int, limit: int
) -> list[Entry]:
    """The last `limit` entries before `before_seq`, ascending."""
    values = {"channel_id": channel_id, "before_seq": before_seq, "limit": limit}
    with connection.cursor(row_factory=class_row(Entry)) as cursor:
        return cursor.execute(_BEFORE, values).fetchall()[::-1]


async def list_entries_between(
    connection: AsyncConnection, channel_id: int, after_seq: int, until_seq: int, limit: int
) -> list[Entry]:
    """The first `limit` entries with after_seq < seq <= until_seq, ascending."""
    async with connection.cursor(row_factory=class_row(Entry)) as cursor:
        await cursor.execute(_AFTER, _range(channel_id, after_seq, until_seq, limit))
        return await cursor.fetchall()


async def list_entries_of_channels(
    connection: AsyncConnection, after_seqs: Mapping[int, int], limit: int
) -> list[Entry]:
    """For each channel at most `limit` entries after its seq, ascending within the channel."""
    values = {
        "channel_ids": list(after_seqs.keys()),
        "after_seqs": list(after_seqs.values()),
        "limit": limit,
    }
    async with connection.cursor(row_factory=class_row(Entry)) as cursor:
        await cursor.execute(_OF_CHANNELS_AFTER, values)
        return await cursor.fetchall()


async def list_last_seqs(
    connection: AsyncConnection, channel_ids: Sequence[int]
) -> Mapping[int, int]:
    """The newest seq of each channel that exists."""
    cursor = await connection.execute(_LAST_SEQS, (list(channel_ids),))
    return dict(await cursor.fetchall())


def _range(channel_id: int, after_seq: int, until_seq: int, limit: int) -> Mapping[str, int]:
    return {
        "channel_id": channel_id,
        "after_seq": after_seq,
        "until_seq": until_seq,
        "limit": limit,
    }
