"""Security events of the gateway: told to the log at once, written to the table behind the scenes.

A stranger can cause any number of them, so of one address each kind is taken once a minute, and of
all addresses together so many; the log line of each refusal is there anyway.
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
from rules.sampler import Sampler
from wsgateway.batching import Batcher

logger = logging.getLogger("gatehouse.gateway")

_EVERY_SECONDS = 60
_AT_MOST = 600
_MAX_BATCH = 50


class SecurityEvents:
    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool
        self._sampler = Sampler(_EVERY_SECONDS, _AT_MOST)
        self._rows = Batcher(self._write, max_batch=_MAX_BATCH, max_waiting=_AT_MOST)

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
        if self._sampler.take((event, ip), time.monotonic()):
            self.note(event, ip, request_id=request_id)

    async def _write(self, rows: list[dict[str, Any]]) -> None:
        try:
            async with self._pool.connection() as connection:
                await security_events.record_all(connection, rows)
        except (FAILED, *UNAVAILABLE) as error:
            logger.warning("security events could not be stored: %s", type(error).__name__)
