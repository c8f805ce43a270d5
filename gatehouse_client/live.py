"""The live connection: it comes back by itself, resumes where it was, and loses no send.

Events are the server's frames as dictionaries (`message`, `deleted`, `joined`, `left`, `removed`,
`typing`, `drain_started`, `update_required` ...), and some of the library's own:

    {"type": "online"}                                  after every (re)connect
    {"type": "offline", "code", "reason", "seconds"}    it comes back after so many seconds
    {"type": "missed", "channel_id", "first_seq", "last_seq"}
                                                        these entries are not kept any more
    {"type": "rewound", "channel_id", "last_seq"}       the server's log ends before what was read
                                                        (a restored database): read it anew

A channel's entries come with every seq once, ascending, over all reconnects; what is skipped is
told by `missed` or `rewound` first. A drain is told by `drain_started` once, however often the
connection breaks meanwhile; whoever comes back in the middle of it gets a `drain_warning`, and a
`drain_cancelled` where it ended while nobody listened.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from gatehouse_client import backoff
from gatehouse_client.close_codes import SENT_WRONG, Advice, advice_on
from gatehouse_client.drains import REF as DRAIN_REF
from gatehouse_client.drains import Drains, ack_frame
from gatehouse_client.errors import ApiError, LiveEnded
from gatehouse_client.inbox import Event, Inbox
from gatehouse_client.outbox import Outbox, Pending
from gatehouse_client.pace import Pace
from gatehouse_client.progress import GapError
from gatehouse_client.socket_link import Link, LinkClosed, LinkRefused
from gatehouse_client.subscriptions import Subscription, Subscriptions

if TYPE_CHECKING:
    from gatehouse_client.client import Client

ENTRY_TYPES = frozenset({"message", "deleted", "joined", "left"})
DRAIN_TYPES = frozenset({"drain_started", "drain_warning", "drain_cancelled"})
_ANSWERS_FOR_NOBODY = frozenset({"unsubscribed", "pong"})


class Live(AsyncIterator[Event]):
    """One person's live connection; Client.live() makes it.

    Entering returns at once. `subscribe` and `send` wait as long as the server is away; put
    asyncio.timeout around them to give up sooner. Iterating ends when the connection is closed
    here, and raises LiveEnded when it has ended for good.
    """

    def __init__(self, client: Client, *, frames_per_second: float, max_events: int) -> None:
        self._client = client
        self._frames_per_second = frames_per_second
        self._outbox = Outbox()
        self._drains = Drains()
        self._inbox = Inbox(max_events, self._somebody_waits)
        self._subscriptions = Subscriptions(self._inbox, client.entries)
        # What goes out on this connection; None while there is none.
        self._outgoing: asyncio.Queue[str | Pending] | None = None
        self._online_at: float | None = None
        self._ended: LiveEnded | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Live:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._end(LiveEnded(None, "the connection was closed here"), StopAsyncIteration())

    def __aiter__(self) -> Live:
        return self

    async def __anext__(self) -> Event:
        return await self._inbox.get()

    async def subscribe(self, channel_id: int, after_seq: int | None = None) -> Subscription:
        """Entries after `after_seq`, then every new one; without it, only what comes from now on.

        Raises SendRefused for a channel that is not ours to read.
        """
        self._raise_if_ended()
        channel = self._subscriptions.add(channel_id, after_seq)
        self._inbox.nudge()
        self._transmit(channel.frame)
        try:
            return await channel.joined
        finally:
            if channel.joined.cancelled() and self._subscriptions.is_wanted(channel):
                await self.unsubscribe(channel_id)

    async def unsubscribe(self, channel_id: int) -> None:
        if self._subscriptions.drop(channel_id) is not None:
            self._transmit(json.dumps({"type": "unsubscribe", "channel_id": channel_id}))

    async def send(
        self, channel_id: int, content: str, client_msg_id: str | None = None
    ) -> dict[str, Any]:
        """Returns the ack {seq, created_at, duplicate ...} once the message is stored.

        It may take as long as the server is away: the same message, under the same id, is sent
        again after every reconnect. Raises SendRefused when the server will not have it. Who gives
        up waiting cannot know whether it was stored; to find out, send it again under the same id.
        """
        self._raise_if_ended()
        pending = self._outbox.add(channel_id, content, client_msg_id or str(uuid.uuid4()))
        self._inbox.nudge()
        if not pending.waiting:
            self._transmit(pending)
        pending.waiting += 1
        try:
            return await asyncio.shield(pending.outcome)
        finally:
            pending.waiting -= 1
            if not pending.waiting:
                self._outbox.forget(pending)

    def typing(self, channel_id: int) -> None:
        """Tells the others that somebody is typing; they hear of it once in 3 s at most."""
        self._transmit(json.dumps({"type": "typing", "channel_id": channel_id}))

    async def acknowledge_drain(self, event_id: int) -> None:
        """Tells the server that everything which must be saved before the deadline has been.

        Returns once it has noted that. Raises SendRefused when the drain does not concern us, or
        no longer does.
        """
        self._raise_if_ended()
        noted = self._drains.acknowledge(event_id)
        self._inbox.nudge()
        self._transmit(ack_frame(event_id))
        await asyncio.shield(noted)

    # From here on: the one task that owns the connection.

    async def _run(self) -> None:
        attempt = 0
        try:
            while True:
                self._online_at = None
                # Each connection brings what was missed meanwhile, whether or not there is room.
                await self._inbox.wait_for_room()
                closed = await self._connect_once()
                advice = advice_on(closed.code)
                if advice is Advice.ASK_A_PERSON:
                    raise LiveEnded(closed.code, closed.reason)
                if advice is Advice.SEND_SOMETHING_ELSE:
                    code = SENT_WRONG.get(closed.code or 0, closed.reason)
                    self._outbox.blame_written(code, "The server closed the socket on it.")
                attempt = backoff.attempt_after(attempt, self._online_seconds())
                seconds = closed.retry_after_seconds + backoff.delay(attempt)
                attempt += 1
                offline = {"code": closed.code, "reason": closed.reason, "seconds": seconds}
                self._inbox.put({"type": "offline", **offline})
                await asyncio.sleep(seconds)
        except LiveEnded as ended:
            self._end(ended)
        except Exception as error:
            self._end(LiveEnded(None, f"the client library failed: {error!r}"), error)

    async def _connect_once(self) -> LinkClosed:
        """One socket from its ticket to its end; raises LiveEnded when it is the last one."""
        try:
            ticket = await self._client.ticket()
            link = await Link.open(ticket.websocket_url, ticket.subprotocols)
            try:
                await self._converse(link)
            finally:
                self._outgoing = None
                await link.close()
        except LinkClosed as closed:
            return closed
        except LinkRefused as refused:
            raise LiveEnded(None, str(refused)) from refused
        except ApiError as error:
            if not error.is_temporary:
                raise LiveEnded(None, error.code) from error
            return LinkClosed(None, error.code, error.retry_after_seconds or 0.0)
        except OSError as error:
            return LinkClosed(None, f"the API cannot be reached ({type(error).__name__})")
        except GapError as error:
            return LinkClosed(None, str(error))
        except (KeyError, TypeError, ValueError) as error:
            return LinkClosed(None, f"the server sent a frame without sense: {error!r}")

    async def _converse(self, link: Link) -> NoReturn:
        """Reads until the link raises; what goes out goes out in one order, at our pace."""
        frame = await link.receive()
        if frame["type"] != "connected":  # an error frame; the close code behind it says it all
            await link.receive()
        self._online_at = asyncio.get_running_loop().time()
        self._outgoing = asyncio.Queue()
        for subscribe in self._subscriptions.reconnected():
            self._transmit(subscribe)
        for pending in self._outbox.reconnected():
            self._transmit(pending)
        for ack in self._drains.reconnected():
            self._transmit(ack)
        if self._outgoing.empty():  # the gateway hangs up on who says nothing at all
            self._transmit(json.dumps({"type": "ping"}))
        self._inbox.put({"type": "online"})
        for event in self._drains.connected(frame.get("drain")):
            self._inbox.put(event)
        writing = asyncio.create_task(self._write(link, self._outgoing))
        try:
            while True:
                await self._receive(await link.receive())
                await self._inbox.wait_for_room()
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write(self, link: Link, outgoing: asyncio.Queue[str | Pending]) -> None:
        clock, pace = asyncio.get_running_loop().time, Pace(self._frames_per_second)
        while True:
            item = await outgoing.get()
            await asyncio.sleep(pace.take(clock()))
            if isinstance(item, Pending) and item.outcome.done():
                continue
            with contextlib.suppress(LinkClosed):  # the reader is told as well
                if isinstance(item, Pending):
                    item.is_written = True
                    item.answered.clear()
                    await link.send(item.frame)
                    if item.is_suspect:
                        await item.answered.wait()
                else:
                    await link.send(item)

    def _transmit(self, item: str | Pending) -> None:
        """Now, or after the next reconnect, which sends everything that is still wanted."""
        if self._outgoing is not None:
            self._outgoing.put_nowait(item)

    async def _receive(self, frame: dict[str, Any]) -> None:
        kind = frame["type"]
        if kind in ENTRY_TYPES:
            self._subscriptions.hand_on(frame)
        elif kind == "ack":
            self._outbox.acknowledged(frame)
        elif kind == "subscribed":
            await self._subscriptions.answered(frame)
        elif kind == "error" and "client_msg_id" in frame:
            again = self._outbox.refused(frame)
            if again is not None:
                pending, seconds = again
                asyncio.get_running_loop().call_later(seconds, self._transmit, pending)
        elif kind == "error" and str(frame.get("ref", "")).startswith("subscribe "):
            self._subscriptions.refused(frame)
        elif kind == "drain_acked":
            self._drains.acked(frame["event_id"])
        elif kind == "error" and str(frame.get("ref", "")).startswith(DRAIN_REF):
            self._drains.refused(frame)
        elif kind not in _ANSWERS_FOR_NOBODY:
            if kind == "removed":
                self._subscriptions.drop(frame["channel_id"])
            if kind in DRAIN_TYPES:
                self._drains.heard(frame)
            self._inbox.put(frame)

    def _online_seconds(self) -> float:
        now = asyncio.get_running_loop().time()
        return 0.0 if self._online_at is None else now - self._online_at

    def _somebody_waits(self) -> bool:
        return bool(self._outbox) or bool(self._drains) or self._subscriptions.is_joining()

    def _raise_if_ended(self) -> None:
        if self._ended is not None:
            raise self._ended

    def _end(self, ended: LiveEnded, for_readers: Exception | None = None) -> None:
        if self._ended is not None:
            return
        self._ended = ended
        self._inbox.end(for_readers or ended)
        self._outbox.fail_all(ended)
        self._drains.fail_all(ended)
        self._subscriptions.fail_all(ended)
