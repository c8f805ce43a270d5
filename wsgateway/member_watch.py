"""Ends the subscriptions of people who may no longer read a channel, however that happened.

Who leaves or is removed leaves a `left` entry in the log, and delivery ends with it
(wsgateway/fanout.py). This is for what has no entry, a plain DELETE above all: a notification says
which channels to look at again, and a sweep looks at all of them every few seconds, in case it was
lost.
"""

from __future__ import annotations

from collections.abc import Collection

from db.channels import list_unreadable
from db.connections import AsyncPool
from wsgateway.fanout import Fanout

PAIRS_AT_A_TIME = 5_000


class MemberWatch:
    def __init__(self, pool: AsyncPool, fanout: Fanout) -> None:
        self._pool = pool
        self._fanout = fanout

    async def changed(self, channel_ids: Collection[int] | None) -> None:
        """Members of these channels were added, changed or taken out; None: of any."""
        self._fanout.members_changed(channel_ids)
        await self._check(channel_ids)

    async def sweep(self) -> None:
        await self._check(None)

    async def _check(self, channel_ids: Collection[int] | None) -> None:
        # Taken down before the table is read: who joins while it is being read was looked at anew.
        subscribed = self._fanout.subscriptions(channel_ids)
        pairs = {(channel_id, subscriber.user_id) for channel_id, subscriber in subscribed}
        unreadable: set[tuple[int, int]] = set()
        while pairs:
            some = [pairs.pop() for _ in range(min(PAIRS_AT_A_TIME, len(pairs)))]
            async with self._pool.connection() as connection:
                unreadable |= await list_unreadable(connection, some)
        if not unreadable:
            return
        for (channel_id, subscriber), number in subscribed.items():
            is_lost = (channel_id, subscriber.user_id) in unreadable
            if is_lost and self._fanout.is_still_subscribed(subscriber, channel_id, number):
                self._fanout.remove(subscriber, channel_id)
