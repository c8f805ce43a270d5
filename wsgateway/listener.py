"""Keeps one connection listening, and repairs what a break may have hidden.

After every (re)connect it listens first and then looks at everything, so that nothing can fall in
between; and it looks at everything every few seconds anyway, so that a notification that was lost
costs seconds, never a message or a revocation. A line that has broken without a word looks like
silence: so every few seconds it notifies itself, and wants to hear that.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from psycopg import AsyncConnection

from db.connections import FAILED, UNAVAILABLE, cut
from db.notifications import (
    AddressesLocked,
    ConnectionsReplaced,
    DrainsChanged,
    Heartbeat,
    LogGrown,
    MembersGone,
    Notice,
    ReleaseChanged,
    SessionsChanged,
    Typing,
    beat_heart,
    listen,
    receive,
)
from wsgateway.drain_watch import DrainWatch
from wsgateway.fanout import Fanout
from wsgateway.lockouts import Lockouts
from wsgateway.member_watch import MemberWatch
from wsgateway.presence import Presence
from wsgateway.release_watch import ReleaseWatch
from wsgateway.session_watch import SessionWatch
from wsgateway.typists import Typists
from wsgateway.writer import Writer

logger = logging.getLogger("gatehouse.gateway")

# The promise is 5 s from a lost notification to its effect; two sweeps fit in.
SWEEP_SECONDS = 2.0
ANSWER_WITHIN_SECONDS = 2.0
RECONNECT_SECONDS = 0.5


class DeafError(Exception):
    """What was notified did not come back."""


class Listener:
    """`connect` opens a connection of its own: LISTEN belongs to one connection for good."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[AsyncConnection]],
        *,
        fanout: Fanout,
        watch: SessionWatch,
        members: MemberWatch,
        releases: ReleaseWatch,
        drains: DrainWatch,
        writer: Writer,
        presence: Presence,
        lockouts: Lockouts,
        typists: Typists,
    ) -> None:
        self._connect = connect
        self._fanout = fanout
        self._watch = watch
        self._members = members
        self._releases = releases
        self._drains = drains
        self._writer = writer
        self._presence = presence
        self._lockouts = lockouts
        self._typists = typists
        self._beat: str | None = None  # the one that is to come back
        self._beaten_at = 0.0
        self.lag_seconds = 0.0  # from a notification to its being heard

    async def run(self) -> None:
        while True:
            try:
                await self._listen_until_it_breaks()
            except (FAILED, *UNAVAILABLE, OSError, DeafError) as error:
                logger.warning("listening broke off: %s", type(error).__name__)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen_until_it_breaks(self) -> None:
        connection = await self._connect()
        try:
            await _answered(connection, listen(connection))
            logger.info("listening")
            while True:
                # In this order: from one look to the next it is never more than the promise, though
                # the line stands still or the beat gets lost in between.
                await self._look_at_everything(connection)
                await self._beat_heart(connection)
                await self._receive_for(connection, SWEEP_SECONDS)
                if self._beat is not None:
                    raise DeafError
        finally:
            await connection.close()

    async def _beat_heart(self, connection: AsyncConnection) -> None:
        self._beat = secrets.token_hex(8)
        self._beaten_at = time.monotonic()
        await _answered(connection, beat_heart(connection, self._beat))

    async def _look_at_everything(self, connection: AsyncConnection) -> None:
        """What is notified meanwhile waits for one of the looks, not for all of them; and never
        beside one, so that none overwrites a newer one with what it has read before."""
        for look in (
            self._watch.sweep,
            self._releases.read,
            self._drains.read,
            self._members.sweep,
            self._fanout.look_at_everything,
            self._presence.report,
            self._lockouts.read,
        ):
            await look()
            await self._receive_for(connection, 0.0)

    async def _receive_for(self, connection: AsyncConnection, seconds: float) -> None:
        async for notice in receive(connection, seconds):
            await self._act_on(notice)

    async def _act_on(self, notice: Notice) -> None:
        match notice:
            case SessionsChanged(session_ids):
                await self._watch.changed(session_ids)
                await self._drains.sessions_changed(session_ids)
            case ConnectionsReplaced(connection_ids) if connection_ids is not None:
                self._presence.replaced(connection_ids)
            case LogGrown(last_seqs, backend_pid) if last_seqs is not None:
                if backend_pid != self._writer.storing_pid:
                    self._fanout.grown(last_seqs)
            case MembersGone(channel_ids):
                await self._members.changed(channel_ids)
            case ReleaseChanged() | DrainsChanged():  # mostly they come together
                await self._releases.read()
                await self._drains.read()
            case AddressesLocked():
                self._lockouts.changed()
            case Heartbeat(beat):
                if beat == self._beat:
                    self._beat = None
                    self.lag_seconds = time.monotonic() - self._beaten_at
            case Typing(pairs):
                self._typists.heard(pairs)
            case ConnectionsReplaced():
                await self._presence.report()
            case LogGrown():
                await self._fanout.look_at_everything()


async def _answered(connection: AsyncConnection, asking: Coroutine[Any, Any, None]) -> None:
    """A line that does not answer in time is cut, which ends the asking with an error."""
    call_later = asyncio.get_running_loop().call_later
    deadline = call_later(ANSWER_WITHIN_SECONDS, cut, connection)
    try:
        await asking
    finally:
        deadline.cancel()
