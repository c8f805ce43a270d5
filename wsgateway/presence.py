"""What this process says of its sockets to all others, and hears of them.

A connection is written down in the statement that spends its ticket and struck out when its socket
ends. A row that somebody else has struck out means that a newer connection of the account took the
place: the socket closes with `replaced`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from db import presence
from db.connections import FAILED, UNAVAILABLE, AsyncPool
from db.presence import Present
from db.tickets import Admission
from rules.errors import Refusal
from wsgateway.batching import Batcher
from wsgateway.connections import Connections

logger = logging.getLogger("gatehouse.gateway")

MAX_BATCH = 500


class Presence:
    def __init__(
        self,
        pool: AsyncPool,
        connections: Connections,
        instance_id: str,
        read_stats: Callable[[], Mapping[str, Any]],
    ) -> None:
        self.instance_id = instance_id
        self._read_stats = read_stats
        self._pool = pool
        self._connections = connections
        self._present: dict[int, Present] = {}
        self._newest_id = 0
        self._departures = Batcher(self._strike_out, max_batch=MAX_BATCH, max_waiting=1_000_000)

    async def run(self) -> None:
        await self._departures.run()

    def opened(self, admission: Admission) -> None:
        """Right after the statement that wrote it down, before anything else can happen."""
        self._present[admission.connection_id] = Present(admission.session_id, admission.user_id)
        self._newest_id = max(self._newest_id, admission.connection_id)

    def ended(self, connection_id: int) -> None:
        self._present.pop(connection_id, None)
        self._departures.submit(connection_id)

    async def report(self) -> None:
        """The heartbeat; also what repairs a departure or a replacement that got lost."""
        async with self._pool.connection() as connection:
            replaced = await presence.report_presence(
                connection, self.instance_id, self._present, self._newest_id
            )
            await presence.report_stats(connection, self.instance_id, self._read_stats())
        self.replaced(replaced)

    def replaced(self, connection_ids: Iterable[int]) -> None:
        for connection_id in connection_ids:
            connection = self._connections.with_id(connection_id)
            if connection is not None:
                connection.close(Refusal("replaced"))

    async def say_goodbye(self) -> None:
        try:
            async with self._pool.connection() as connection:
                await presence.delete_instance(connection, self.instance_id)
        except (FAILED, *UNAVAILABLE) as error:
            logger.warning("left without a goodbye: %s", type(error).__name__)

    async def _strike_out(self, connection_ids: list[int]) -> None:
        try:
            async with self._pool.connection() as connection:
                await presence.delete_connections(connection, connection_ids)
        except (FAILED, *UNAVAILABLE) as error:
            logger.warning("departures wait for the next report: %s", type(error).__name__)
