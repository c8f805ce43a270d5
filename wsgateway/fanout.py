"""Delivery: every channel's entries reach its local subscribers through one ordered path.

A feed knows the last seq that it has delivered and accepts nothing but the next one. Entries come
from the write path of this process (offered right after the commit) or from the table (after a
notification, a sweep or a gap); whatever is not the next one is dropped when it is old, and makes
the feed read the table when something is missing in between. So the order does not depend on who
wrote, and a lost notification costs time, never a message.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from db import channels, chat_log
from db.connections import FAILED, UNAVAILABLE, AsyncPool
from rules.errors import Refusal
from rules.log_entry import Entry
from wsgateway.connection import Connection
from wsgateway.framing import text_frame

logger = logging.getLogger("gatehouse.gateway")

CATCH_UP_PAGE = 500
RETRY_SECONDS = 0.2


@dataclass(slots=True)
class Feed:
    """One channel's delivery in this process.

    `ahead` holds subscribers that joined at a seq which is not delivered yet: what came in their
    `subscribed` answer must not come again.
    """

    channel_id: int
    delivered_seq: int
    subscribers: set[Connection] = field(default_factory=set)
    ahead: dict[Connection, int] = field(default_factory=dict)

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Writes `entries`, which begin right after delivered_seq and have no gaps."""
        frames = [text_frame(entry.as_object()) for entry in entries]
        joined = b"".join(frames)
        first, last = entries[0].seq, entries[-1].seq
        self.delivered_seq = last
        for subscriber in tuple(self.subscribers):
            joined_at = self.ahead.get(subscriber)
            if joined_at is None:
                subscriber.write(joined)
                continue
            if joined_at >= last:
                continue
            subscriber.write(b"".join(frames[max(0, joined_at + 1 - first) :]))
            del self.ahead[subscriber]


@dataclass(frozen=True, slots=True)
class Subscription:
    """The answer to a subscribe: entries end with last_seq, live delivery begins after it."""

    first_seq: int
    last_seq: int
    recovered: bool
    entries: list[Entry]


class Fanout:
    def __init__(self, pool: AsyncPool, *, recovery_messages: int, recovery_bytes: int) -> None:
        self._pool = pool
        self._recovery_messages = recovery_messages
        self._recovery_bytes = recovery_bytes
        self._feeds: dict[int, Feed] = {}
        self._behind: dict[int, int] = {}  # channel id -> a seq that is known to exist
        # Of channels that somebody is joining and that have no feed yet: how many are joining, and
        # the newest seq that was heard of meanwhile.
        self._joining: Counter[int] = Counter()
        self._heard: dict[int, int] = {}
        self._wake = asyncio.Event()

    @property
    def subscription_count(self) -> int:
        return sum(len(feed.subscribers) for feed in self._feeds.values())

    async def subscribe(
        self, subscriber: Connection, channel_id: int, after_seq: int | None
    ) -> Subscription:
        """Reads what was missed and joins the feed with nothing missing or doubled in between.

        Raises Refusal not_found for a channel that the user may not read.
        """
        self.unsubscribe(subscriber, channel_id)
        self._joining[channel_id] += 1
        try:
            return await self._join(subscriber, channel_id, after_seq)
        finally:
            self._joining[channel_id] -= 1
            if not self._joining[channel_id]:
                del self._joining[channel_id]
                self._heard.pop(channel_id, None)

    async def _join(
        self, subscriber: Connection, channel_id: int, after_seq: int | None
    ) -> Subscription:
        async with self._pool.connection() as connection:
            bounds = await channels.find_readable_channel_async(
                connection, channel_id, subscriber.user_id
            )
            if bounds is None:
                raise Refusal("not_found")
            recovery = Recovery(bounds, after_seq, self._recovery_messages)
            entries = await chat_log.list_entries_between(
                connection, channel_id, recovery.start, bounds.last_seq, self._recovery_messages
            )
        last_seq = bounds.last_seq
        # While we read, the feed may have moved on; what it delivered meanwhile is fetched, until
        # feed and answer meet. No await stands between the last comparison, the joining and the
        # caller's answer, so nothing is delivered before it or missing after it.
        while (feed := self._feeds.get(channel_id)) and feed.delivered_seq > last_seq:
            target = feed.delivered_seq
            if after_seq is not None:
                async with self._pool.connection() as connection:
                    entries += await chat_log.list_entries_between(
                        connection, channel_id, last_seq, target, target - last_seq
                    )
            last_seq = target
        if feed is None:
            feed = self._feeds[channel_id] = Feed(channel_id, last_seq)
            self.grown({channel_id: self._heard.get(channel_id, 0)})
        feed.subscribers.add(subscriber)
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
        feed.subscribers.discard(subscriber)
        feed.ahead.pop(subscriber, None)
        if not feed.subscribers:
            del self._feeds[channel_id]
            self.grown({channel_id: feed.delivered_seq})  # for somebody who is just joining

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

    def grown(self, last_seqs: Mapping[int, int]) -> None:
        """These channels are known to have entries up to these seqs."""
        for channel_id, last_seq in last_seqs.items():
            feed = self._feeds.get(channel_id)
            if feed is None:
                if channel_id in self._joining:
                    self._heard[channel_id] = max(last_seq, self._heard.get(channel_id, 0))
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
            entries = await chat_log.list_entries_of_channels(connection, after_seqs, CATCH_UP_PAGE)
            self.offer(entries)
            stuck = [
                channel_id
                for channel_id, after_seq in after_seqs.items()
                if (feed := self._feeds.get(channel_id)) and feed.delivered_seq == after_seq
            ]
            if stuck:
                self._give_up(await chat_log.list_last_seqs(connection, stuck), stuck)

    def _give_up(self, last_seqs: Mapping[int, int], channel_ids: Sequence[int]) -> None:
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
            feed.deliver(next_ones)
        self.grown({channel_id: entries[-1].seq})


class Recovery:
    """How much of what was missed is given, and whether that is all of it."""

    def __init__(
        self, bounds: channels.LogBounds, after_seq: int | None, max_messages: int
    ) -> None:
        self._bounds = bounds
        self._after_seq = after_seq
        oldest = max(bounds.first_seq - 1, bounds.last_seq - max_messages)
        if after_seq is None:
            self.start = bounds.last_seq
        elif after_seq > bounds.last_seq:  # a database that was restored to an earlier state
            self.start = oldest
        else:
            self.start = max(after_seq, oldest)

    def answer(self, entries: list[Entry], last_seq: int, max_bytes: int) -> Subscription:
        kept = _newest_within(entries, max_bytes)
        complete = self._after_seq is None or (
            self.start == self._after_seq and len(kept) == last_seq - self.start
        )
        return Subscription(self._bounds.first_seq, last_seq, complete, kept)


def _newest_within(entries: list[Entry], max_bytes: int) -> list[Entry]:
    size = 0
    for position in range(len(entries) - 1, -1, -1):
        size += len(text_frame(entries[position].as_object()))
        if size > max_bytes:
            return entries[position + 1 :]
    return entries
