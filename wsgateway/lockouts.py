"""Addresses that are locked out, and the bad tickets that lock them.

A ticket that was never issued counts like a wrong password from that address, in the same place.
Which addresses are locked is read when one is locked anywhere, and every few seconds, so that
refusing them costs the database nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time

from db import limits
from db.connections import FAILED, UNAVAILABLE, AsyncPool
from db.limits import Lockout
from db.security_events import Event
from rules import limit_subjects
from rules.client_address import Address
from rules.errors import Refusal
from rules.settings import AuthSettings
from wsgateway.batching import Batcher
from wsgateway.security_events import SecurityEvents

logger = logging.getLogger("gatehouse.gateway")

MAX_BATCH = 50
# More than these at once come from nobody who needs to be counted exactly.
MAX_WAITING = 1_000
# Whoever has many addresses locked out does not have us read all the time.
READ_EVERY_SECONDS = 0.25


class Lockouts:
    def __init__(self, pool: AsyncPool, events: SecurityEvents, settings: AuthSettings) -> None:
        self._pool = pool
        self._events = events
        self._maximum = settings.rate_limit_max_attempts_per_ip
        self._window_seconds = settings.rate_limit_window_seconds
        self._lockout = Lockout(
            settings.rate_limit_lockout_seconds, settings.rate_limit_lockout_max_seconds
        )
        self._until: dict[str, float] = {}  # subject -> monotonic time
        self._changed = asyncio.Event()
        self._failures = Batcher(self._write_down, max_batch=MAX_BATCH, max_waiting=MAX_WAITING)

    async def run(self) -> None:
        await self._failures.run()

    def changed(self) -> None:
        """An address was locked out, by whatever instance."""
        self._changed.set()

    async def follow(self) -> None:
        """Reads after each change, or once after several."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.read()
            except (FAILED, *UNAVAILABLE) as error:
                logger.warning("lockouts could not be read: %s", type(error).__name__)
            await asyncio.sleep(READ_EVERY_SECONDS)

    def refusal_for(self, address: Address | None) -> Refusal | None:
        """rate_limited with the seconds that are left, while the address is locked out."""
        left = self._until.get(limit_subjects.login_from_ip(address), 0.0) - time.monotonic()
        if left <= 0:
            return None
        return Refusal("rate_limited", retry_after_seconds=math.ceil(left))

    def count_failure(self, address: Address | None) -> None:
        self._failures.submit(limit_subjects.login_from_ip(address))

    async def read(self) -> None:
        async with self._pool.connection() as connection:
            locked = await limits.list_locked_addresses(connection)
        now = time.monotonic()
        self._until = {subject.key: now + subject.seconds for subject in locked}

    async def _write_down(self, subjects: list[str]) -> None:
        try:
            async with self._pool.connection() as connection:
                for subject in subjects:
                    locked = await limits.count_failure(
                        connection, {subject: self._maximum}, self._window_seconds, self._lockout
                    )
                    for one in locked:
                        self._until[one.key] = time.monotonic() + one.seconds
                        self._events.note(
                            Event.LOGIN_LOCK, None, subject=one.key, seconds=one.seconds
                        )
        except (FAILED, *UNAVAILABLE) as error:
            logger.warning("bad tickets could not be counted: %s", type(error).__name__)
