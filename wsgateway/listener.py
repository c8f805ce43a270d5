"""Keeps one connection listening, and repairs what a break may have hidden.

After every (re)connect it listens first and then looks at everything, so that nothing can fall in
between; and it looks at everything every few seconds anyway, so that a notification that was lost
costs seconds, never a message or a revocation.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from psycopg import AsyncConnection

from db.connections import FAILED, UNAVAILABLE, probe_async
from db.notifications import (
    ConnectionsReplaced,
    LogGrown,
    MembersGone,
    Notice,
    SessionsChanged,
    Typing,
    listen,
    receive,
)
from wsgateway.fanout import Fanout
from wsgateway.lockouts import Lockouts
from wsgateway.member_watch import MemberWatch
from wsgateway.presence import Presence
from wsgateway.session_watch import SessionWatch
from wsgateway.typists import Typists
from wsgateway.writer import Writer

logger = logging.getLogger("gatehouse.gateway")

# The promise is 5 s from a lost notification to its effect; two sweeps fit in.
SWEEP_SECONDS = 2.0
PROBE_TIMEOUT_SECONDS = 3.0
RECONNECT_SECONDS = 0.5


class Listener:
    """`connect` opens a connection of its own: LISTEN belongs to one connection for good."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[AsyncConnection]],
        *,
        fanout: Fanout,
        watch: SessionWatch,
        members: MemberWatch,
        writer: Writer,
        presence: Presence,
        lockouts: Lockouts,
        typists: Typists,
    ) -> None:
        self._connect = connect
        self._fanout = fanout
        self._watch = watch
        self._members = members
        self._writer = writer
        self._presence = presence
        self._lockouts = lockouts
        self._typists = typists

    async def run(self) -> None:
        while True:
            try:
                await self._listen_until_it_breaks()
            except (FAILED, *UNAVAILABLE, OSError) as error:
                logger.warning("listening broke off: %s", type(error).__name__)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen_until_it_breaks(self) -> None:
        connection = await self._connect()
        try:
            await listen(connection)
            logger.info("listening")
            while True:
                await self._look_at_everything()
                await self._receive_for(connection, SWEEP_SECONDS)
                # A half-dead line looks like silence: ask.
                await asyncio.wait_for(probe_async(connection), PROBE_TIMEOUT_SECONDS)
        finally:
            await connection.close()

    async def _look_at_everything(self) -> None:
        await self._watch.sweep()
        await self._members.sweep()
        await self._fanout.look_at_everything()
        await self._presence.report()
        await self._lockouts.read()

    async def _receive_for(self, connection: AsyncConnection, seconds: float) -> None:
        async for notice in receive(connection, seconds):
            await self._act_on(notice)

    async def _act_on(self, notice: Notice) -> None:
        match notice:
            case SessionsChanged(session_ids):
                await self._watch.changed(session_ids)
            case ConnectionsReplaced(connection_ids) if connection_ids is not None:
                self._presence.replaced(connection_ids)
            case LogGrown(last_seqs, backend_pid) if last_seqs is not None:
                if backend_pid != self._writer.storing_pid:
                    self._fanout.grown(last_seqs)
            case MembersGone(channel_ids):
                await self._members.changed(channel_ids)
            case Typing(pairs):
                for channel_id, user_id in pairs:
                    self._typists.heard(user_id, channel_id)
            case ConnectionsReplaced():
                await self._presence.report()
            case LogGrown():
                await self._fanout.look_at_everything()
