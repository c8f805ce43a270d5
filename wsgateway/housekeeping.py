"""Keeps the tables small: every gateway tries, one at a time gets to do a step.

A step is one short statement; between two there is a pause, so that a backlog, however long, costs
the write path nothing that anybody would notice. Whoever is killed in the middle leaves nothing
half done: the next round, of whatever gateway, goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any

from db.connections import FAILED, UNAVAILABLE, AsyncPool
from db.housekeeping import Busy, Chore, forget, forget_messages
from rules.settings import Settings

logger = logging.getLogger("gatehouse.gateway")

FIRST_ROUND_WITHIN_SECONDS = 5.0
ROUND_SECONDS = 60.0
STEP_ROWS = 500
PAUSE_SECONDS = 0.05

# Until then a ticket that comes twice is told from one that was never issued.
TICKET_KEPT_SECONDS = 3600
# Until then an operator still sees it, and its network counts as one where the account is at home.
SESSION_KEPT_DAYS = 30
# A lockout within a day of the one before it is twice as long.
LIMIT_KEPT_SECONDS = 86_400


class Housekeeping:
    def __init__(self, pool: AsyncPool, settings: Settings) -> None:
        self._pool = pool
        self._chat_days = settings.chat.retention_days
        self._ages: Mapping[Chore, int] = {
            Chore.TICKETS: TICKET_KEPT_SECONDS,
            Chore.NONCES: settings.auth.refresh_reuse_grace_seconds,
            Chore.REFRESH_TOKENS: SESSION_KEPT_DAYS,
            Chore.SESSIONS: SESSION_KEPT_DAYS,
            Chore.LIMITS: LIMIT_KEPT_SECONDS,
            Chore.SECURITY_EVENTS: settings.service.retention_days_security_events,
        }

    async def run(self) -> None:
        # Gateways that were started together do not knock together.
        await asyncio.sleep(random.uniform(0, FIRST_ROUND_WITHIN_SECONDS))  # noqa: S311 - jitter
        while True:
            with suppress(Busy):  # it is being done
                await self._round()
            await asyncio.sleep(ROUND_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - jitter

    async def _round(self) -> None:
        """Whatever cannot be done now leaves the others their turn."""
        for chore, age in self._ages.items():
            await _attempt(chore.name.lower(), self._do(chore, age))
        if self._chat_days:
            await _attempt("messages", self._forget_messages())

    async def _do(self, chore: Chore, age: int) -> int:
        total = 0
        while True:
            async with self._pool.connection() as connection:
                forgotten = await forget(connection, chore, age, STEP_ROWS)
            total += forgotten
            if forgotten < STEP_ROWS:
                return total
            await asyncio.sleep(PAUSE_SECONDS)

    async def _forget_messages(self) -> int:
        total = after_channel_id = 0
        while True:
            async with self._pool.connection() as connection:
                step = await forget_messages(
                    connection, self._chat_days, after_channel_id, STEP_ROWS
                )
            if step is None:
                return total
            channel_id, forgotten = step
            total += forgotten
            # Where a full step went there may be more.
            after_channel_id = channel_id - (forgotten == STEP_ROWS)
            await asyncio.sleep(PAUSE_SECONDS)


async def _attempt(what: str, work: Coroutine[Any, Any, int]) -> None:
    try:
        forgotten = await work
    except (FAILED, *UNAVAILABLE) as error:
        logger.warning("housekeeping: %s wait: %s", what, type(error).__name__)
    else:
        if forgotten:
            logger.info("housekeeping: %d rows of %s are forgotten", forgotten, what)
