"""Listening for NOTIFY: a wake-up and a hint where to look, never the data itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from psycopg import AsyncConnection

from db import queries

_SQL = queries.load("notifications")
_LISTEN_LOG = _SQL["listen_log"]
_LISTEN_SESSIONS = _SQL["listen_sessions"]
_LISTEN_REPLACED = _SQL["listen_replaced"]

LOG_CHANNEL = "gatehouse_log"
SESSIONS_CHANNEL = "gatehouse_sessions"
REPLACED_CHANNEL = "gatehouse_replaced"


@dataclass(frozen=True, slots=True)
class LogGrown:
    """`last_seqs` by channel id; None means look at everything. `backend_pid` is the writer's."""

    last_seqs: dict[int, int] | None
    backend_pid: int


@dataclass(frozen=True, slots=True)
class SessionsChanged:
    """`session_ids`; None means look at everything."""

    session_ids: frozenset[int] | None


@dataclass(frozen=True, slots=True)
class ConnectionsReplaced:
    """`connection_ids` of whatever instance; None means look at everything."""

    connection_ids: frozenset[int] | None


Notice = LogGrown | SessionsChanged | ConnectionsReplaced


async def listen(connection: AsyncConnection) -> None:
    await connection.execute(_LISTEN_LOG)
    await connection.execute(_LISTEN_SESSIONS)
    await connection.execute(_LISTEN_REPLACED)


async def receive(connection: AsyncConnection, seconds: float) -> AsyncIterator[Notice]:
    """What arrives within `seconds`; a payload that cannot be read means look at everything."""
    async for notify in connection.notifies(timeout=seconds):
        if notify.channel == LOG_CHANNEL:
            yield LogGrown(_last_seqs(notify.payload), notify.pid)
        elif notify.channel == SESSIONS_CHANNEL:
            yield SessionsChanged(_ids(notify.payload))
        else:
            yield ConnectionsReplaced(_ids(notify.payload))


def _last_seqs(payload: str) -> dict[int, int] | None:
    try:
        pairs = (item.split(":") for item in payload.split())
        return {int(channel_id): int(last_seq) for channel_id, last_seq in pairs}
    except ValueError:
        return None


def _ids(payload: str) -> frozenset[int] | None:
    try:
        return frozenset(int(item) for item in payload.split())
    except ValueError:
        return None
