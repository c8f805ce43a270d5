"""What is of no use any more, forgotten a bounded step at a time.

Every step is one statement on a connection in autocommit. It returns how many rows went, or raises
Busy while another gateway is at a step; a step that takes less than its limit was the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from psycopg import AsyncConnection
from psycopg.rows import class_row

from db import queries

_SQL = queries.load("housekeeping")
_FORGET_MESSAGES = _SQL["forget_messages"]


class Busy(Exception):
    """Somebody else keeps house at this moment."""


class Chore(Enum):
    """What is forgotten when it is older than an age. Sessions go after what hangs on them."""

    TICKETS = _SQL["forget_tickets"]  # seconds since they expired
    NONCES = _SQL["forget_nonces"]  # seconds since their token was spent
    REFRESH_TOKENS = _SQL["forget_refresh_tokens"]  # days since their session expired
    SESSIONS = _SQL["forget_sessions"]  # days since they expired
    LIMITS = _SQL[
        "forget_limits"
    ]  # seconds since they were touched, and since the end of a lockout
    SECURITY_EVENTS = _SQL["forget_security_events"]  # days


async def forget(connection: AsyncConnection, chore: Chore, age: int, limit: int) -> int:
    """`age` in the unit that the chore names."""
    cursor = await connection.execute(chore.value, {"age": age, "limit": limit})
    row = await cursor.fetchone()
    if row is None or row[0] is None:
        raise Busy
    return int(row[0])


@dataclass(frozen=True, slots=True)
class ForgottenMessages:
    channel_id: int | None
    forgotten: int | None


async def forget_messages(
    connection: AsyncConnection, age_days: int, after_channel_id: int, limit: int
) -> tuple[int, int] | None:
    """The oldest entries of the first channel after this one that has any that are too old.

    (channel id, how many went), or None when no channel is left. Where 0 went, that is only how far
    the step has looked.
    """
    values = {"age_days": age_days, "after_channel_id": after_channel_id, "limit": limit}
    async with connection.cursor(row_factory=class_row(ForgottenMessages)) as cursor:
        await cursor.execute(_FORGET_MESSAGES, values)
        row = await cursor.fetchone()
    if row is None:
        return None
    if row.channel_id is None or row.forgotten is None:
        raise Busy
    return row.channel_id, row.forgotten
