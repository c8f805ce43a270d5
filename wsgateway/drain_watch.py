"""Tells sockets of a drain, silences them at its deadline, closes them, and finishes the drain.

A notification says that a drain began or ended, another one that sessions joined or left it, and a
sweep looks every few seconds in case they were lost. The deadline is the database's clock's: ours
only counts on from when it was read, and so is never behind it. From the deadline on a socket of
the drain is sent nothing any more, whether a timer fires or not (Connection.is_silent), and what it
sends is not read. The closes follow, spread over a moment.

Any gateway finishes any drain, one that started after its deadline too.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from db import audit
from db.connections import FAILED, UNAVAILABLE, AsyncPool
from db.drains import (
    ActiveDrain,
    find_active_drain,
    finish_drain,
    list_enrolled_sessions,
    note_drain_receipts,
)
from rules.errors import Refusal
from rules.times import rfc3339
from wsgateway.connection import Connection
from wsgateway.connections import Connections
from wsgateway.framing import text_frame
from wsgateway.protocol import error_frame, with_ref
from wsgateway.turns import Turns

logger = logging.getLogger("gatehouse.gateway")

LOOK_EVERY_SECONDS = 0.1
# With the three seconds that a client has for its half of the close it fits into five.
SPREAD_SECONDS = 1.5
# Every gateway has closed its sockets and written its receipts by then.
FINISH_AFTER_SECONDS = SPREAD_SECONDS + 1.0
FINISH_EVERY_SECONDS = 0.5
# An attempt that fails may have kept logins waiting: each time the next one comes after twice the
# time, up to this.
FINISH_EVERY_SECONDS_AT_MOST = 30.0
# A socket that somebody reports and nobody closes, of a gateway that hangs.
LINGER_SECONDS = 10


@dataclass(slots=True)
class _Known:
    """The active drain; `deadline_at` by our monotonic clock, not later than by the database's."""

    drain: ActiveDrain
    deadline_at: float
    warnings: list[int]  # seconds before the deadline, the next one last

    def frame(self, kind: str) -> dict[str, Any]:
        return {"type": kind, **self.members()}

    def members(self) -> dict[str, Any]:
        return {
            "event_id": self.drain.id,
            "reason": self.drain.reason,
            "deadline": rfc3339(self.drain.deadline),
            "seconds_remaining": max(0, math.ceil(self.deadline_at - time.monotonic())),
        }


@dataclass(slots=True)
class _Receipts:
    """What has been seen of a drain's sessions and is not written yet."""

    notified: set[int] = field(default_factory=set)
    acked: set[int] = field(default_factory=set)
    closed: set[int] = field(default_factory=set)
    acks: list[tuple[Connection, str | None]] = field(default_factory=list)


class DrainWatch:
    """`read` once before the first socket is admitted."""

    def __init__(
        self,
        pool: AsyncPool,
        turns: Turns,
        connections: Connections,
        instance_id: str,
        warning_seconds: Sequence[int],
    ) -> None:
        self._pool = pool
        self._turns = turns
        self._connections = connections
        self._instance_id = instance_id
        self._warning_seconds = sorted(warning_seconds)
        self._known: _Known | None = None
        self._receipts: dict[int, _Receipts] = {}
        self._finish_at = 0.0  # not before this monotonic time
        self._finish_every_seconds = FINISH_EVERY_SECONDS
        # Sessions whose drain has passed though no drain that we know of holds them.
        self._has_strays = False
        # Counts the looks while there is a drain, for who is just being admitted.
        self.changes = 0

    async def read(self) -> None:
        """Looks which drain there is, and which of the sessions here it holds."""
        had_one = self._known is not None
        await self._read(self._connections.session_ids())
        if had_one or self._known is not None:
            self.changes += 1

    async def sessions_changed(self, session_ids: Collection[int] | None) -> None:
        """Some may have been let go, or been enrolled; None: any."""
        if self._known is None:
            return
        here = self._connections.session_ids()
        await self._read([i for i in here if session_ids is None or i in session_ids])
        self.changes += 1

    async def drain_of(self, session_id: int) -> int | None:
        """The id of the drain that holds the session."""
        known = self._known
        if known is None:
            return None
        try:
            async with self._turns.turn(), self._pool.connection() as connection:
                enrolled = await list_enrolled_sessions(connection, known.drain.id, [session_id])
        except (TimeoutError, FAILED, *UNAVAILABLE):
            self.changes += 1  # look_at will ask again
            return None
        return known.drain.id if enrolled else None

    def enter(self, connection: Connection, drain_id: int | None) -> dict[str, Any] | None:
        """What `connected` says of the drain; the socket is in it from then on."""
        known = self._known
        if known is None or known.drain.id != drain_id:
            return None
        self._hold(connection, known)
        return known.members()

    async def look_at(self, session_id: int) -> None:
        """Something has changed while its socket was being admitted. TimeoutError when its turn
        does not come."""
        async with self._turns.turn():
            await self._read([session_id])

    def overdue(self, session_id: int) -> None:
        """The database says that the session's drain deadline has passed."""
        for connection in self._connections.of_session(session_id):
            connection.silence_at(time.monotonic())
            self._has_strays = True

    def ack(self, connection: Connection, event_id: int, ref: str | None) -> None:
        """The client has saved what it must; it is answered once that is written down."""
        if connection.drain_id != event_id:
            refusal = Refusal("not_found", "This session is in no such drain.")
            connection.send(error_frame(refusal, ref=ref))
            return
        receipts = self._receipts_of(event_id)
        receipts.acked.add(connection.session_id)
        receipts.acks.append((connection, ref))

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            try:
                await self._look()
            except (FAILED, *UNAVAILABLE) as error:
                logger.warning("a drain waits for the database: %s", type(error).__name__)

    async def write_receipts(self) -> None:
        """What cannot be written now is kept for the next time."""
        for drain_id in tuple(self._receipts):
            receipts = self._receipts.pop(drain_id)
            try:
                async with self._pool.connection() as connection:
                    await note_drain_receipts(
                        connection,
                        drain_id,
                        notified=receipts.notified,
                        acked=receipts.acked,
                        closed=receipts.closed,
                    )
            except BaseException:
                kept = self._receipts_of(drain_id)
                kept.notified |= receipts.notified
                kept.acked |= receipts.acked
                kept.closed |= receipts.closed
                kept.acks = receipts.acks + kept.acks
                raise
            for acked, ref in receipts.acks:
                acked.send(with_ref({"type": "drain_acked", "event_id": drain_id}, ref))

    async def _read(self, session_ids: Collection[int]) -> None:
        asked_at = time.monotonic()
        async with self._pool.connection() as connection:
            drain = await find_active_drain(connection)
            enrolled = (
                await list_enrolled_sessions(connection, drain.id, session_ids)
                if drain is not None and session_ids
                else set()
            )
        self._know(drain, asked_at)
        for session_id in session_ids:
            for one in self._connections.of_session(session_id):
                if self._known is not None and session_id in enrolled:
                    if one.drain_id != self._known.drain.id:
                        self._hold(one, self._known)
                        one.send(self._known.frame("drain_started"))
                elif one.drain_id is not None:
                    self._let_go(one)

    def _know(self, drain: ActiveDrain | None, asked_at: float) -> None:
        if drain is None:
            self._known = None
        elif self._known is None or self._known.drain.id != drain.id:
            # The clock was read at this moment or later, so the deadline is not before this.
            left = (drain.deadline - drain.now).total_seconds()
            warnings = [seconds for seconds in self._warning_seconds if seconds < left]
            self._known = _Known(drain, asked_at + left, warnings)
            logger.info("drain %d: %.1f s to its deadline", drain.id, left)

    def _hold(self, connection: Connection, known: _Known) -> None:
        connection.drain_id = known.drain.id
        connection.silence_at(known.deadline_at)
        self._receipts_of(known.drain.id).notified.add(connection.session_id)

    def _let_go(self, connection: Connection) -> None:
        """The drain was cancelled, or the client has updated. Who has been silenced may have missed
        something already, and is closed all the same: it comes back and resumes."""
        if connection.is_silent:
            self._has_strays = True
            return
        drain_id, connection.drain_id = connection.drain_id, None
        connection.silence_at(None)
        connection.send({"type": "drain_cancelled", "event_id": drain_id})

    async def _look(self) -> None:
        known, now = self._known, time.monotonic()
        if known is not None:
            self._warn(known, now)
        if self._has_strays or (known is not None and known.deadline_at <= now):
            await self._close_silent()
        await self.write_receipts()
        if (
            known is not None
            and known.deadline_at + FINISH_AFTER_SECONDS <= now
            and self._finish_at <= now
        ):
            await self._finish()

    def _warn(self, known: _Known, now: float) -> None:
        due = False
        while known.warnings and known.deadline_at - now <= known.warnings[-1]:
            known.warnings.pop()
            due = True
        if not due or known.deadline_at <= now:
            return
        data = text_frame(known.frame("drain_warning"))
        for connection in self._connections:
            if connection.drain_id == known.drain.id:
                connection.write(data)

    async def _close_silent(self) -> None:
        self._has_strays = False
        silent = [one for one in self._connections if one.is_silent and not one.is_ending]
        random.shuffle(silent)
        started = time.monotonic()
        for number, connection in enumerate(silent):
            due = started + number * SPREAD_SECONDS / len(silent)
            if due > time.monotonic():
                await asyncio.sleep(due - time.monotonic())
            connection.close(Refusal("drained"))
            if connection.drain_id is not None:
                self._receipts_of(connection.drain_id).closed.add(connection.session_id)

    async def _finish(self) -> None:
        seconds = min(2 * self._finish_every_seconds, FINISH_EVERY_SECONDS_AT_MOST)
        try:
            async with self._pool.connection() as connection, connection.transaction():
                finished = await finish_drain(connection, self._instance_id, LINGER_SECONDS)
            seconds = FINISH_EVERY_SECONDS
        finally:
            self._finish_every_seconds = seconds
            self._finish_at = time.monotonic() + seconds
        if finished is not None:
            drain_id, head = finished
            logger.info("drain %d is completed", drain_id)
            audit.announce(head)

    def _receipts_of(self, drain_id: int) -> _Receipts:
        return self._receipts.setdefault(drain_id, _Receipts())
