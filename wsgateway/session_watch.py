"""Ends the sockets of sessions that have ended, however that happened.

A notification says which sessions to read again, and so does a message that was refused because
its session has ended; a sweep reads all of them every few seconds, in case neither came; and a
gateway that could not read for too long ends its sockets, because what cannot be checked is
refused.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection

from db.connections import FAILED, UNAVAILABLE, AsyncPool
from db.sessions import EndedSession, list_ended_sessions, touch_sessions
from rules.errors import Refusal
from rules.recent import RecentValues
from wsgateway.connections import Connections
from wsgateway.turns import Turns

logger = logging.getLogger("gatehouse.gateway")

TOUCH_EVERY_SECONDS = 30.0
VERIFY_EVERY_SECONDS = 0.5
# Longer ago was a time that somebody made up: it does not say how quick we are.
MEASURED_SECONDS = 600.0

_CODES = {
    "revoked": "session_revoked",
    "expired": "session_revoked",
    "disabled": "account_disabled",
}


class SessionWatch:
    def __init__(
        self,
        pool: AsyncPool,
        turns: Turns,
        connections: Connections,
        *,
        idle_days: int,
        unverified_max_seconds: int,
        overdue: Callable[[int], None],
    ) -> None:
        self._pool = pool
        self._turns = turns
        self._connections = connections
        self._idle_days = idle_days
        self._unverified_max_seconds = unverified_max_seconds
        self._overdue = overdue
        self._verified_at = time.monotonic()
        self._touched_at = time.monotonic()
        # Counts the changes that were heard of, so that an admission can tell whether one of them
        # came between its check and its registration.
        self.changes = 0
        self._doubted: set[int] = set()
        self._has_doubts = asyncio.Event()
        # For the metrics: from the end of a session to that of its sockets here.
        self.revocation_ms = RecentValues(seconds=300, room=5000)

    async def changed(self, session_ids: Collection[int] | None) -> None:
        """Something was changed about these sessions; None: about any."""
        self.changes += 1
        here = self._connections.session_ids()
        await self._check([i for i in here if session_ids is None or i in session_ids])

    async def sweep(self) -> None:
        """Reads every session that has a socket here."""
        started = time.monotonic()
        await self._check(self._connections.session_ids())
        self._verified_at = started
        if started - self._touched_at > TOUCH_EVERY_SECONDS and len(self._connections):
            self._touched_at = started
            async with self._pool.connection() as connection:
                await touch_sessions(connection, self._connections.session_ids(), self._idle_days)

    async def check(self, session_id: int) -> None:
        """For a socket that is being admitted. TimeoutError when its turn does not come."""
        async with self._turns.turn():
            await self._check([session_id])

    def doubt(self, session_id: int) -> None:
        """Somebody was told that the session has ended, and here it is read why."""
        self._doubted.add(session_id)
        self._has_doubts.set()

    async def follow(self) -> None:
        """Reads what is doubted, whatever has gathered in one statement."""
        while True:
            await self._has_doubts.wait()
            self._has_doubts.clear()
            doubted, self._doubted = self._doubted, set()
            try:
                await self._check(doubted)
            except (FAILED, *UNAVAILABLE) as error:
                logger.warning("ended sessions wait for the sweep: %s", type(error).__name__)

    async def run(self) -> None:
        """Apart from the reading, which may hang together with the database."""
        while True:
            await asyncio.sleep(VERIFY_EVERY_SECONDS)
            self._close_if_unverified()

    def _close_if_unverified(self) -> None:
        unverified = time.monotonic() - self._verified_at
        if unverified <= self._unverified_max_seconds or not len(self._connections):
            return
        logger.error("sessions could not be checked for %.0f s: closing all sockets", unverified)
        for connection in self._connections:
            connection.close(Refusal("at_capacity", "Sessions cannot be checked now."))

    async def _check(self, session_ids: Collection[int]) -> None:
        if not session_ids:
            return
        async with self._pool.connection() as connection:
            ended = await list_ended_sessions(connection, session_ids)
        read_at = time.monotonic()
        for session in ended:
            self._end(session, read_at)

    def _end(self, session: EndedSession, read_at: float) -> None:
        if session.cause == "drained":
            self._overdue(session.session_id)  # closed by the drain's own watch, staggered
            return
        code = _CODES[session.cause]
        farewell = None
        if code == "session_revoked":
            reason = session.revoked_reason or session.cause
            farewell = {"type": "session_revoked", "reason": reason}
        for connection in self._connections.of_session(session.session_id):
            if not connection.is_ending and session.ended_seconds_ago is not None:
                self._measure(session.ended_seconds_ago, read_at)
            connection.close(Refusal(code), farewell=farewell)

    def _measure(self, ended_seconds_ago: float, read_at: float) -> None:
        now = time.monotonic()
        seconds = ended_seconds_ago + now - read_at
        if 0 <= seconds <= MEASURED_SECONDS:
            self.revocation_ms.add(seconds * 1000, now)
