"""Security events of the gateway: told to the log at once, written to the table behind the scenes.

A stranger can cause any number of them, so of one address and kind a burst is taken in a minute,
and of all addresses together so many (rules/sampler.py); the log line of each refusal is there.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from db import security_events
from db.connections import FAILED, UNAVAILABLE, AsyncPool
from db.security_events import Event
from rules import log_lines
from rules.client_address import Address
from rules.limit_subjects import source
from rules.sampler import Sampler
from wsgateway.batching import Batcher

logger = logging.getLogger("gatehouse.gateway")

_MAX_BATCH = 50
_MAX_WAITING = 600


class SecurityEvents:
    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool
        self._sampler = Sampler()
        self._rows = Batcher(self._write, max_batch=_MAX_BATCH, max_waiting=_MAX_WAITING)

    async def run(self) -> None:
        await self._rows.run()

    def note(
        self, event: Event, ip: Address | None, *, request_id: str | None = None, **details: Any
    ) -> None:
        """`user_id` and `session_id` among the details go to their columns."""
        before = log_lines.request_id.set(request_id)
        try:
            self._rows.submit(security_events.told(event, ip, **details))
        finally:
            log_lines.request_id.reset(before)

    def note_from_stranger(self, event: Event, ip: Address | None, request_id: str) -> None:
        if self._sampler.take((event, source(ip)), time.monotonic()):
            self.note(event, ip, request_id=request_id)

    async def _write(self, rows: list[dict[str, Any]]) -> None:
        try:
            async with self._pool.connection() as connection:
                await security_events.record_all(connection, rows)
        except (FAILED, *UNAVAILABLE) as error:
            logger.warning("security events could not be stored: %s", type(error).__name__)
