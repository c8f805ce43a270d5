"""The channels of a live connection: each resumes where it was, and nothing is skipped silently."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gatehouse_client.errors import ApiError, SendRefused
from gatehouse_client.inbox import Inbox
from gatehouse_client.progress import ChannelProgress

# channel_id, after_seq, until_seq -> what is kept of it, over HTTP.
History = Callable[[int, int, int], AsyncIterator[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Subscription:
    """What the first `subscribed` answer said; its entries come as events."""

    channel_id: int
    first_seq: int
    last_seq: int


@dataclass(slots=True, eq=False)
class Channel:
    """`is_live` is whether this connection has answered our subscribe; entries count from then."""

    id: int
    ref: str
    progress: ChannelProgress
    joined: asyncio.Future[Subscription]
    is_live: bool = False

    @property
    def frame(self) -> str:
        frame = {"type": "subscribe", "channel_id": self.id, "ref": self.ref}
        if self.progress.last_seq is not None:
            frame["after_seq"] = self.progress.last_seq
        return json.dumps(frame)


class Subscriptions:
    def __init__(self, inbox: Inbox, history: History) -> None:
        self._inbox = inbox
        self._history = history
        self._channels: dict[int, Channel] = {}
        self._numbers = itertools.count(1)

    def add(self, channel_id: int, after_seq: int | None) -> Channel:
        """A channel that is wanted from now on; send its frame, and wait until it is joined."""
        before = self.drop(channel_id)
        if before is not None and not before.joined.done():
            before.joined.set_exception(SendRefused("conflict", "Subscribed again meanwhile."))
        # The ref tells apart the answers to two subscribes of one channel.
        ref = f"subscribe {next(self._numbers)}"
        joined: asyncio.Future[Subscription] = asyncio.get_running_loop().create_future()
        channel = Channel(channel_id, ref, ChannelProgress(after_seq), joined)
        self._channels[channel_id] = channel
        return channel

    def drop(self, channel_id: int) -> Channel | None:
        channel = self._channels.pop(channel_id, None)
        if channel is not None:
            channel.is_live = False
        return channel

    def is_wanted(self, channel: Channel) -> bool:
        return self._channels.get(channel.id) is channel

    def is_joining(self) -> bool:
        return any(not channel.joined.done() for channel in self._channels.values())

    def reconnected(self) -> Iterator[str]:
        """The frames that a new connection must send."""
        for channel in self._channels.values():
            channel.is_live = False
            yield channel.frame

    def fail_all(self, error: Exception) -> None:
        for channel in self._channels.values():
            if not channel.joined.done():
                channel.joined.set_exception(error)
                channel.joined.exception()  # whoever waits is told; nobody has to

    def hand_on(self, entry: dict[str, Any]) -> None:
        """A new entry; raises GapError when it is not the next one."""
        channel = self._channels.get(entry["channel_id"])
        if channel is not None and channel.is_live and channel.progress.take(entry):
            self._inbox.put(entry)

    def refused(self, error: dict[str, Any]) -> None:
        """An error frame with the ref of a subscribe."""
        for channel in list(self._channels.values()):
            if channel.ref == error["ref"]:
                self._lost(channel, SendRefused(str(error["code"]), str(error["message"])))

    async def answered(self, answer: dict[str, Any]) -> None:
        """A `subscribed` frame: hands on what was missed, and is live from then on."""
        channel = self._channels.get(answer["channel_id"])
        if channel is None or channel.ref != answer.get("ref"):
            return
        channel.is_live = True
        progress, last_seq = channel.progress, int(answer["last_seq"])
        if not channel.joined.done():
            channel.joined.set_result(Subscription(channel.id, int(answer["first_seq"]), last_seq))
        if progress.last_seq is None:
            progress.skip_to(last_seq)
        elif progress.is_beyond(answer):
            self._inbox.put({"type": "rewound", "channel_id": channel.id, "last_seq": last_seq})
            first = answer["entries"][0]["seq"] if answer["entries"] else last_seq + 1
            progress.skip_to(int(first) - 1)
        elif missing := progress.missing_before(answer):
            await self._page_in(channel, missing)
        for entry in answer["entries"]:
            self._hand_on_kept(channel, entry)
        self._skip_to(channel, last_seq)

    async def _page_in(self, channel: Channel, missing: range) -> None:
        try:
            async for entry in self._history(channel.id, missing[0] - 1, missing[-1]):
                if not channel.is_live:  # unsubscribed meanwhile: nobody wants the rest
                    return
                await self._inbox.wait_for_room()
                self._hand_on_kept(channel, entry)
        except ApiError as error:
            if error.code != "not_found":
                raise
            self._lost(channel, SendRefused(error.code, error.message))

    def _hand_on_kept(self, channel: Channel, entry: dict[str, Any]) -> None:
        """Of what is past, retention may have taken a part."""
        self._skip_to(channel, int(entry["seq"]) - 1)
        self.hand_on(entry)

    def _skip_to(self, channel: Channel, seq: int) -> None:
        progress = channel.progress
        if not channel.is_live or progress.last_seq is None or progress.last_seq >= seq:
            return
        missed = progress.skip_to(seq)
        bounds = {"first_seq": missed[0], "last_seq": missed[-1]}
        self._inbox.put({"type": "missed", "channel_id": channel.id, **bounds})

    def _lost(self, channel: Channel, why: SendRefused) -> None:
        channel.is_live = False
        if self.is_wanted(channel):
            self.drop(channel.id)
            if channel.joined.done():  # it was ours before the connection broke
                self._inbox.put({"type": "removed", "channel_id": channel.id})
        if not channel.joined.done():
            channel.joined.set_exception(why)
