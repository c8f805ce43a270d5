"""Which sockets are open on which gateway, for everybody to count."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from db import queries

_SQL = queries.load("presence")
_REPORT = _SQL["report_presence"]
_DELETE_CONNECTIONS = _SQL["delete_connections"]
_DELETE_INSTANCE = _SQL["delete_instance"]
_UPDATE_STATS = _SQL["update_stats"]


@dataclass(frozen=True, slots=True)
class Present:
    """Whose socket a connection id is."""

    session_id: int
    user_id: int


async def report_presence(
    connection: AsyncConnection,
    instance_id: str,
    present: Mapping[int, Present],
    newest_id: int,
) -> list[int]:
    """A heartbeat with all sockets of the instance, by connection id; returns the replaced ones.

    `newest_id` is the highest id that the instance has ever been given.
    """
    values = {
        "instance_id": instance_id,
        "connection_ids": list(present.keys()),
        "session_ids": [one.session_id for one in present.values()],
        "user_ids": [one.user_id for one in present.values()],
        "newest_id": newest_id,
    }
    cursor = await connection.execute(_REPORT, values)
    return [row[0] for row in await cursor.fetchall()]


async def report_stats(
    connection: AsyncConnection, instance_id: str, stats: Mapping[str, Any]
) -> None:
    """What the instance says of itself."""
    values = {"instance_id": instance_id, "stats": Jsonb(stats)}
    await connection.execute(_UPDATE_STATS, values)


async def delete_connections(connection: AsyncConnection, ids: Collection[int]) -> None:
    await connection.execute(_DELETE_CONNECTIONS, (list(ids),))


async def delete_instance(connection: AsyncConnection, instance_id: str) -> None:
    """At the end of an instance."""
    await connection.execute(_DELETE_INSTANCE, (instance_id,))
