"""Delivery: every channel's entries reach its local subscribers through one ordered path.

A feed knows the last seq that it has delivered and accepts nothing but the next one. Entries come
from the write path of this process (offered right after the commit) or from the table (after a
notification, a sweep or a gap); whatever is not the next one is dropped when it is old, and makes
the feed read the table when something is missing in between. So the order does not depend on who
wrote, and a lost notification costs time, never a message.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from psycopg import AsyncConnection

from db import channels, chat_log
from db.connections import FAILED, UNAVAILABLE, AsyncPool
from rules.errors import Refusal
from rules.log_entry import Entry
from wsgateway.connection import Connection
from wsgateway.feed import Feed
from wsgateway.framing import text_frame
from wsgateway.recovery import Recovery, Subscription
from wsgateway.turns import Turns

logger = logging.getLogger("gatehouse.gateway")

CATCH_UP_PAGE = 500
RETRY_SECONDS = 0.2


@dataclass(slots=True)
class Joining:
    """Of a channel that somebody is joining at this moment: how many are, the newest seq that was
    heard of meanwhile, and how often its members have changed."""

    count: int = 0
    heard: int = 0
    member_changes: int = 0


class Fanout:
    def __init__(
        self, pool: AsyncPool, turns: Turns, *, recovery_messages: int, recovery_bytes: int
    ) -> None:
        self._pool = pool
        self._turns = turns
        self._recovery_messages = recovery_messages
        self._recovery_bytes = recovery_bytes
        self._feeds: dict[int, Feed] = {}
        self._behind: dict[int, int] = {}  # channel id -> a seq that is known to exist
        self._joining: dict[int, Joining] = {}
        self._numbers = itertools.count(1)
        self._wake = asyncio.Event()
        self.deliveries = 0  # entries written to subscribers

    @property
    def subscription_count(self) -> int:
        return sum(len(feed.subscribers) for feed in self._feeds.values())

    async def subscribe(
        self, subscriber: Connection, channel_id: int, after_seq: int | None
    ) -> Subscription:
        """Reads what was missed and joins the feed with nothing missing or doubled in between.

        Raises Refusal not_found for a channel that the user may not read, and TimeoutError when
        its turn does not come.
        """
        self.unsubscribe(subscriber, channel_id)
        joining = self._joining.setdefault(channel_id, Joining())
        joining.count += 1
        try:
            # One turn for all of it: a busy channel would move on while the next one is waited for.
            async with self._turns.turn():
                return await self._join(subscriber, channel_id, after_seq, joining)
        finally:
            joining.count -= 1
            if not joining.count:
                del self._joining[channel_id]

    async def _join(
        self, subscriber: Connection, channel_id: int, after_seq: int | None, joining: Joining
    ) -> Subscription:
        changes = joining.member_changes
        async with self._pool.connection() as connection:
            bounds = await _require_readable(connection, channel_id, subscriber)
            recovery = Recovery(bounds, after_seq, self._recovery_messages)
            entries = await chat_log.list_entries_between(
                connection, channel_id, recovery.start, bounds.last_seq, self._recovery_messages
            )
        last_seq = bounds.last_seq
        # While we read, the feed may have moved on; what it delivered meanwhile is fetched, until
        # feed and answer meet. No await stands between the last comparison, the joining and the
        # caller's answer, so nothing is delivered before it or missing after it. And the subscriber
        # may have been removed, which neither the feed nor a notification will tell us again.
        while True:
            feed = self._feeds.get(channel_id)
            target = feed.delivered_seq if feed else 0
            if target <= last_seq and changes == joining.member_changes:
                break
            may_have_left = after_seq is None or changes != joining.member_changes
            changes = joining.member_changes
            async with self._pool.connection() as connection:
                if after_seq is not None and target > last_seq:
                    more = await chat_log.list_entries_between(
                        connection, channel_id, last_seq, target, target - last_seq
                    )
                    may_have_left |= any(
                        entry.kind == "left" and entry.sender_id == subscriber.user_id
                        for entry in more
                    )
                    entries += more
                if may_have_left:
                    await _require_readable(connection, channel_id, subscriber)
            last_seq = max(last_seq, target)
        if feed is None:
            feed = self._feeds[channel_id] = Feed(channel_id, last_seq)
            self.grown({channel_id: joining.heard})
        feed.subscribers[subscriber] = next(self._numbers)
        subscriber.state.subscriptions.add(channel_id)
        if feed.delivered_seq < last_seq:
            feed.ahead[subscriber] = last_seq
            self.grown({channel_id: last_seq})
        return recovery.answer(entries, last_seq, self._recovery_bytes)

    def unsubscribe(self, subscriber: Connection, channel_id: int) -> None:
        subscriber.state.subscriptions.discard(channel_id)
        feed = self._feeds.get(channel_id)
        if feed is None:
            return
        feed.subscribers.pop(subscriber, None)
        feed.ahead.pop(subscriber, None)
        if not feed.subscribers:
            del self._feeds[channel_id]
            self.grown({channel_id: feed.delivered_seq})  # for somebody who is just joining

    def remove(self, subscriber: Connection, channel_id: int) -> None:
        """Somebody who may no longer read the channel."""
        self.unsubscribe(subscriber, channel_id)
        subscriber.send({"type": "removed", "channel_id": channel_id})

    def members_changed(self, channel_ids: Collection[int] | None) -> None:
        """Members came or went; None: in any channel. Who is just joining looks again."""
        for channel_id, joining in self._joining.items():
            if channel_ids is None or channel_id in channel_ids:
                joining.member_changes += 1

    def subscriptions(
        self, channel_ids: Collection[int] | None
    ) -> Mapping[tuple[int, Connection], int]:
        """(channel id, subscriber) of these channels, None: of all, with the joining's number."""
        return {
            (channel_id, subscriber): number
            for channel_id in (self._feeds if channel_ids is None else channel_ids)
            if (feed := self._feeds.get(channel_id)) is not None
            for subscriber, number in feed.subscribers.items()
        }

    def is_still_subscribed(self, subscriber: Connection, channel_id: int, number: int) -> bool:
        """By the joining of that number, not by a later one."""
        feed = self._feeds.get(channel_id)
        return feed is not None and feed.subscribers.get(subscriber) == number

    def leave(self, subscriber: Connection) -> None:
        for channel_id in tuple(subscriber.state.subscriptions):
            self.unsubscribe(subscriber, channel_id)

    def offer(self, entries: Sequence[Entry]) -> None:
        """Entries that this process has just stored, of any channels, ascending in each."""
        by_channel: dict[int, list[Entry]] = {}
        for entry in entries:
            by_channel.setdefault(entry.channel_id, []).append(entry)
        for channel_id, of_channel in by_channel.items():
            self._accept(channel_id, of_channel)

    def whisper(self, channel_id: int, typing_user_id: int) -> None:
        """Tells the channel's subscribers who is typing, but for that person."""
        feed = self._feeds.get(channel_id)
        if feed is None:
            return
        frame = text_frame({"type": "typing", "channel_id": channel_id, "user_id": typing_user_id})
        for subscriber in tuple(feed.subscribers):
            if subscriber.user_id != typing_user_id:
                subscriber.write_if_quiet(frame)

    def grown(self, last_seqs: Mapping[int, int]) -> None:
        """These channels are known to have entries up to these seqs."""
        for channel_id, last_seq in last_seqs.items():
            feed = self._feeds.get(channel_id)
            if feed is None:
                joining = self._joining.get(channel_id)
                if joining is not None:
                    joining.heard = max(last_seq, joining.heard)
            elif feed.delivered_seq < last_seq:
                self._behind[channel_id] = max(last_seq, self._behind.get(channel_id, 0))
                self._wake.set()

    def suspect(self, channel_ids: Collection[int]) -> None:
        """These channels may have grown without our knowing by how much."""
        for channel_id in channel_ids:
            feed = self._feeds.get(channel_id)
            if feed is not None:
                self.grown({channel_id: feed.delivered_seq + 1})

    async def look_at_everything(self) -> None:
        """Compares every feed with the table: after a break, and now and then for safety."""
        if not self._feeds:
            return
        delivered = {channel_id: feed.delivered_seq for channel_id, feed in self._feeds.items()}
        async with self._pool.connection() as connection:
            last_seqs = await chat_log.list_last_seqs(connection, list(delivered))
        self.grown(last_seqs)
        for channel_id, last_seq in last_seqs.items():
            if last_seq < delivered[channel_id]:
                # A backup was restored: what it is about to write under these seqs, our
                # subscribers would take for what they have.
                logger.error("channel %d has gone back to %d", channel_id, last_seq)
                self._send_back(channel_id)

    async def run(self) -> None:
        """Reads for the feeds that are behind, all in one statement, until none is."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                while after_seqs := self._take_behind():
                    await self._catch_up(after_seqs)
            except (FAILED, *UNAVAILABLE) as error:
                logger.warning("catching up waits for the database: %s", type(error).__name__)
                self._wake.set()
                await asyncio.sleep(RETRY_SECONDS)

    def _take_behind(self) -> dict[int, int]:
        after_seqs: dict[int, int] = {}
        for channel_id, target in tuple(self._behind.items()):
            feed = self._feeds.get(channel_id)
            if feed is None or feed.delivered_seq >= target:
                del self._behind[channel_id]
            else:
                after_seqs[channel_id] = feed.delivered_seq
        return after_seqs

    async def _catch_up(self, after_seqs: Mapping[int, int]) -> None:
        async with self._pool.connection() as connection:
            stuck = await self._deliver_after(connection, after_seqs)
            if stuck:
                # Read again: what is committed between two statements is in the second one alone,
                # and only what was there before the entries were read can be missing from them.
                last_seqs = await chat_log.list_last_seqs(connection, list(stuck))
                self._give_up(last_seqs, await self._deliver_after(connection, stuck))

    async def _deliver_after(
        self, connection: AsyncConnection, after_seqs: Mapping[int, int]
    ) -> Mapping[int, int]:
        """Offers what the table has; returns the feeds that have not moved for all that."""
        self.offer(await chat_log.list_entries_of_channels(connection, after_seqs, CATCH_UP_PAGE))
        return {
            channel_id: after_seq
            for channel_id, after_seq in after_seqs.items()
            if (feed := self._feeds.get(channel_id)) and feed.delivered_seq == after_seq
        }

    def _give_up(self, last_seqs: Mapping[int, int], channel_ids: Collection[int]) -> None:
        """The next entry is not in the table. Either the hint was wrong, or retention took entries
        that were never delivered: then the subscribers end, since nothing is skipped silently."""
        for channel_id in channel_ids:
            feed = self._feeds.get(channel_id)
            self._behind.pop(channel_id, None)
            if feed is None or last_seqs.get(channel_id, 0) <= feed.delivered_seq:
                continue
            logger.error("channel %d has lost entries after %d", channel_id, feed.delivered_seq)
            self._send_back(channel_id)

    def _send_back(self, channel_id: int) -> None:
        """Ends the channel's subscribers, who come back and resume with what there is."""
        feed = self._feeds.get(channel_id)
        for subscriber in tuple(feed.subscribers) if feed else ():
            self.unsubscribe(subscriber, channel_id)
            subscriber.close(Refusal("slow_consumer", "The log has changed. Resume."))

    def _accept(self, channel_id: int, entries: Sequence[Entry]) -> None:
        feed = self._feeds.get(channel_id)
        if feed is None:
            self.grown({channel_id: entries[-1].seq})
            return
        expected = feed.delivered_seq + 1
        next_ones = []
        for entry in entries:
            if entry.seq == expected:
                next_ones.append(entry)
                expected += 1
        if next_ones:
            departed = feed.deliver(next_ones)
            self.deliveries += feed.last_deliveries
            for subscriber in departed:
                self.remove(subscriber, channel_id)
        self.grown({channel_id: entries[-1].seq})


async def _require_readable(
    connection: AsyncConnection, channel_id: int, subscriber: Connection
) -> channels.LogBounds:
    bounds = await channels.find_readable_channel_async(connection, channel_id, subscriber.user_id)
    if bounds is None:
        raise Refusal("not_found")
    return bounds
