"""Tells sockets of a new release, and ends those whose client is served no more.

A notification says that the policy was written, and a sweep reads it every few seconds in case it
was lost. When a minimum begins to be enforced is a matter of the database's clock: it is read along
with the policy, and ours only counts on from there. Admins are told, never closed.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from db.connections import FAILED, UNAVAILABLE, AsyncPool
from db.releases import PolicyNow, find_policy_async
from db.sessions import list_ended_sessions, list_sessions_of_admins
from rules.errors import Refusal
from rules.versions import ReleasePolicy, is_below_minimum, is_update_required, version_status
from wsgateway.connection import Connection
from wsgateway.connections import Connections
from wsgateway.framing import text_frame

logger = logging.getLogger("gatehouse.gateway")

LOOK_EVERY_SECONDS = 0.25
# Those who must update do not all ask for it at once. After a lost notification a sweep comes first
# (2 s and a little), and all of it fits into 5 s.
SPREAD_SECONDS = 2.0


class ReleaseWatch:
    """`read` once before the first socket is admitted; from then on `policy` is the newest read."""

    def __init__(self, pool: AsyncPool, connections: Connections) -> None:
        self._pool = pool
        self._connections = connections
        self._known = PolicyNow(ReleasePolicy(), datetime.min.replace(tzinfo=UTC))
        self._known_at = time.monotonic()

    @property
    def policy(self) -> ReleasePolicy:
        return self._known.policy

    async def read(self) -> None:
        """Reads the policy, and tells every socket that a change of it concerns."""
        async with self._pool.connection() as connection:
            known = await find_policy_async(connection)
        has_changed = known.policy != self.policy
        self._known, self._known_at = known, time.monotonic()
        if has_changed:
            self._tell()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            await self._close_outdated()

    def _tell(self) -> None:
        now = self._now()
        frames: dict[tuple[str | None, str | None, bool], bytes | None] = {}
        for connection in self._connections:
            who = (connection.client_version, connection.content_version, connection.is_admin)
            if who not in frames:
                frame = self._notice(*who, now)
                frames[who] = None if frame is None else text_frame(frame)
            data = frames[who]
            if data is not None:
                connection.write(data)

    def _notice(
        self, version: str | None, content: str | None, is_admin: bool, now: datetime
    ) -> dict[str, Any] | None:
        status = version_status(self.policy, version, content, now)
        if is_below_minimum(self.policy, version, content) and not is_admin:
            return {"type": "update_required", "version_status": status}
        if status["update_available"]:
            return {"type": "update_available", "version_status": status}
        return None

    async def _close_outdated(self) -> None:
        outdated = await self._still_meant(self._outdated())
        random.shuffle(outdated)
        for connection in outdated:
            # Asked again: the release may have been taken back meanwhile.
            if self._is_outdated(connection, self._now()):
                self._close(connection)
                await asyncio.sleep(SPREAD_SECONDS / len(outdated))

    async def _still_meant(self, outdated: list[Connection]) -> list[Connection]:
        """A drain has the deadline of its release. Whom it has ended is drained, and told so by
        wsgateway/session_watch.py. Who has become an administrator since the ticket stays. What
        cannot be read is no reason to serve anybody."""
        if not outdated:
            return []
        session_ids = {connection.session_id for connection in outdated}
        try:
            async with self._pool.connection() as connection:
                ended = await list_ended_sessions(connection, session_ids)
                of_admins = await list_sessions_of_admins(connection, session_ids)
        except (FAILED, *UNAVAILABLE) as error:
            logger.warning("outdated sockets close unread: %s", type(error).__name__)
            return outdated
        for one in outdated:
            one.is_admin = one.session_id in of_admins
        gone = of_admins | {session.session_id for session in ended}
        return [one for one in outdated if one.session_id not in gone]

    def _outdated(self) -> list[Connection]:
        """Compared once a version, not once a socket: mostly there are few."""
        now = self._now()
        verdicts: dict[tuple[str | None, str | None, bool], bool] = {}
        found = []
        for connection in self._connections:
            who = (connection.client_version, connection.content_version, connection.is_admin)
            if who not in verdicts:
                verdicts[who] = self._is_outdated(connection, now)
            if verdicts[who] and not connection.is_ending:
                found.append(connection)
        return found

    def _is_outdated(self, connection: Connection, now: datetime) -> bool:
        return not connection.is_admin and is_update_required(
            self.policy, connection.client_version, connection.content_version, now
        )

    def _close(self, connection: Connection) -> None:
        status = version_status(
            self.policy, connection.client_version, connection.content_version, self._now()
        )
        farewell = {"type": "update_required", "version_status": status}
        connection.close(Refusal("update_required"), farewell=farewell)

    def _now(self) -> datetime:
        """The database's clock, never ahead of it."""
        return self._known.now + timedelta(seconds=time.monotonic() - self._known_at)
