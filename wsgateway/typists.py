"""Who is typing: passed on to all instances through NOTIFY, best effort, never stored.

The one case where a notification is the data. A process sends at most a few of them a second, each
with a bounded number of people in it, on one connection that it gives up at once when the pool is
busy: what does not fit is dropped, and typing can neither slow the write path nor flood NOTIFY,
which all commits that notify queue for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

from db.connections import FAILED, UNAVAILABLE, AsyncPool
from db.notifications import notify_typing
from rules.typing_pace import TypingPace
from wsgateway.fanout import Fanout

logger = logging.getLogger("gatehouse.gateway")

NOTIFY_EVERY_SECONDS = 0.25
MAX_WAITING = 100
POOL_TIMEOUT_SECONDS = 0.5


class Typists:
    def __init__(self, pool: AsyncPool, fanout: Fanout) -> None:
        self._pool = pool
        self._fanout = fanout
        # Once where it is said, so that it costs nothing, and once where it is heard: somebody may
        # have a socket on each of two instances.
        self._said = TypingPace()
        self._heard = TypingPace()
        self._waiting: list[tuple[int, int]] = []  # (session, channel)
        self._arrived = asyncio.Event()

    def says(self, session_id: int, user_id: int, channel_id: int) -> None:
        """Whether they may write there is looked at together with others, in the database."""
        if len(self._waiting) >= MAX_WAITING:
            return
        if self._said.take(user_id, time.monotonic()):
            self._waiting.append((session_id, channel_id))
            self._arrived.set()

    def heard(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Of (channel id, user id)."""
        for channel_id, user_id in pairs:
            if self._heard.take(user_id, time.monotonic()):
                self._fanout.whisper(channel_id, user_id)

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            waiting, self._waiting = self._waiting, []
            try:
                async with self._pool.connection(POOL_TIMEOUT_SECONDS) as connection:
                    await notify_typing(connection, waiting)
            except (FAILED, *UNAVAILABLE) as error:
                logger.warning("typing is not passed on: %s", type(error).__name__)
            await asyncio.sleep(NOTIFY_EVERY_SECONDS)
