"""The live connection: it comes back by itself, resumes where it was, and loses no send.

Events are the server's frames as dictionaries (`message`, `deleted`, `joined`, `left`,
`drain_started` ...), and two of the library's own: {"type": "online"} after every (re)connect and
{"type": "offline", "reason": ..., "seconds": ...} when it has to come back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.typing import Subprotocol

from gatehouse_client import backoff
from gatehouse_client.close_codes import Advice, advice_on
from gatehouse_client.errors import ApiError, LiveEnded, SendRefused
from gatehouse_client.progress import ChannelProgress, GapError

if TYPE_CHECKING:
    from gatehouse_client.client import Client

T = TypeVar("T")

ENTRY_TYPES = frozenset({"message", "deleted", "joined", "left"})
PAGE = 200


@dataclass(frozen=True, slots=True)
class Subscription:
    """What the first `subscribed` answer said; its entries come as events."""

    channel_id: int
    first_seq: int
    last_seq: int


@dataclass(slots=True)
class _Channel:
    progress: ChannelProgress
    joined: asyncio.Future[Subscription]


@dataclass(slots=True)
class _Pending:
    """A send that is not acknowledged yet; it goes out again after every reconnect."""

    frame: str
    outcome: asyncio.Future[dict[str, Any]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Live:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._socket: ClientConnection | None = None
        self._channels: dict[int, _Channel] = {}
        self._pending: dict[str, _Pending] = {}
        self._events: asyncio.Queue[dict[str, Any] | LiveEnded] = asyncio.Queue()
        self._ended: LiveEnded | None = None
        self._task: asyncio.Task[None] | None = None
        self._resending: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Live:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        tasks = [task for task in (self._task, *self._resending) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._end(LiveEnded(None, "the connection was closed here"))

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        """Events as they come; raises LiveEnded when a person must act."""
        while True:
            event = await self._events.get()
            if isinstance(event, LiveEnded):
                self._events.put_nowait(event)  # for whoever asks again
                raise event
            yield event

    async def subscribe(self, channel_id: int, after_seq: int | None = None) -> Subscription:
        """Entries after `after_seq`, then every new one; without it, only what comes from now on.

        Raises SendRefused for a channel that is not ours to read.
        """
        joined: asyncio.Future[Subscription] = asyncio.get_running_loop().create_future()
        self._channels[channel_id] = _Channel(ChannelProgress(after_seq), joined)
        await self._transmit(self._subscribe_frame(channel_id))
        return await self._unless_ended(joined)

    async def unsubscribe(self, channel_id: int) -> None:
        if self._channels.pop(channel_id, None) is not None:
            await self._transmit(json.dumps({"type": "unsubscribe", "channel_id": channel_id}))

    async def send(
        self, channel_id: int, content: str, client_msg_id: str | None = None
    ) -> dict[str, Any]:
        """Returns the ack {seq, created_at, duplicate ...} once the message is stored.

        It may take as long as the server is away: the same message, under the same id, is sent
        again after every reconnect. Raises SendRefused when the server will not have it.
        """
        identifier = client_msg_id or str(uuid.uuid4())
        frame = {
            "type": "send",
            "channel_id": channel_id,
            "client_msg_id": identifier,
            "content": content,
        }
        pending = self._pending.setdefault(identifier, _Pending(json.dumps(frame)))
        await self._transmit(pending.frame)
        return await self._unless_ended(pending.outcome)

    async def _unless_ended(self, outcome: asyncio.Future[T]) -> T:
        if self._ended is not None:
            raise self._ended
        return await asyncio.shield(outcome)

    async def _transmit(self, frame: str) -> None:
        """Now, or after the next reconnect, which sends everything that is still wanted."""
        if self._socket is not None:
            with contextlib.suppress(ConnectionClosed):
                await self._socket.send(frame)

    async def _run(self) -> None:
        attempt = 0
        while True:
            at_least = 0.0
            reason = "connection lost"
            try:
                code, reason, was_online = await self._connect_once()
                if advice_on(code) is Advice.ASK_A_PERSON:
                    self._end(LiveEnded(code, reason))
                    return
                attempt = 0 if was_online else attempt
            except ApiError as error:
                if error.status < 500 and error.status != 429:
                    self._end(LiveEnded(None, f"{error.code}: {error.message}"))
                    return
                reason, at_least = error.code, error.retry_after_seconds or 0.0
            except (OSError, TimeoutError, InvalidHandshake, InvalidMessage) as error:
                reason = type(error).__name__
            seconds = at_least + backoff.delay(attempt)
            attempt += 1
            self._events.put_nowait({"type": "offline", "reason": reason, "seconds": seconds})
            await asyncio.sleep(seconds)

    async def _connect_once(self) -> tuple[int | None, str, bool]:
        """One socket from its ticket to its end: close code, reason, and whether we got in."""
        ticket = await self._client.ticket()
        async with connect(
            ticket.websocket_url,
            subprotocols=[Subprotocol(name) for name in ticket.subprotocols],
            compression=None,
            open_timeout=15,
            close_timeout=2,
            max_size=None,  # the server bounds its frames itself
        ) as socket:
            online = False
            try:
                async for message in socket:
                    frame = json.loads(message)
                    if frame["type"] == "connected":
                        online = True
                        await self._resume(socket)
                    await self._receive(frame)
            except GapError as error:
                return None, str(error), online
            except ConnectionClosed:
                pass
            finally:
                self._socket = None
            return socket.close_code, socket.close_reason or "connection lost", online

    async def _resume(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._events.put_nowait({"type": "online"})
        for channel_id in self._channels:
            await socket.send(self._subscribe_frame(channel_id))
        for pending in tuple(self._pending.values()):
            await socket.send(pending.frame)

    def _subscribe_frame(self, channel_id: int) -> str:
        frame: dict[str, Any] = {"type": "subscribe", "channel_id": channel_id}
        frame["ref"] = f"subscribe {channel_id}"
        last_seq = self._channels[channel_id].progress.last_seq
        if last_seq is not None:
            frame["after_seq"] = last_seq
        return json.dumps(frame)

    async def _receive(self, frame: dict[str, Any]) -> None:
        kind = frame["type"]
        if kind in ENTRY_TYPES:
            self._hand_on(frame)
        elif kind == "ack":
            pending = self._pending.pop(frame["client_msg_id"], None)
            if pending is not None and not pending.outcome.done():
                pending.outcome.set_result(frame)
        elif kind == "subscribed":
            await self._joined(frame)
        elif kind == "error" and "client_msg_id" in frame:
            self._refused(frame)
        elif kind == "error" and str(frame.get("ref", "")).startswith("subscribe "):
            channel = self._channels.pop(int(frame["ref"].split()[1]), None)
            if channel is not None and not channel.joined.done():
                channel.joined.set_exception(SendRefused(frame["code"], frame["message"], None))
        elif kind not in ("connected", "unsubscribed", "pong"):
            self._events.put_nowait(frame)

    def _hand_on(self, entry: dict[str, Any]) -> None:
        channel = self._channels.get(entry["channel_id"])
        if channel is not None and channel.progress.take(entry):
            self._events.put_nowait(entry)

    async def _joined(self, frame: dict[str, Any]) -> None:
        channel = self._channels.get(frame["channel_id"])
        if channel is None:
            return
        entries, progress = frame["entries"], channel.progress
        if progress.last_seq is None or progress.last_seq > frame["last_seq"]:
            # Our first time without a place to start from, or a log that was set back.
            progress.skip_to(int(entries[0]["seq"]) - 1 if entries else frame["last_seq"])
        if not frame["recovered"]:
            await self._page_in(frame, channel)
        for entry in entries:
            self._hand_on(entry)
        if not channel.joined.done():
            channel.joined.set_result(
                Subscription(frame["channel_id"], frame["first_seq"], frame["last_seq"])
            )

    async def _page_in(self, frame: dict[str, Any], channel: _Channel) -> None:
        """What lies between our place and the entries of the answer, over HTTP."""
        missing = channel.progress.missing_before(frame["entries"], frame["first_seq"])
        if channel.progress.last_seq is None or missing.start > channel.progress.last_seq + 1:
            channel.progress.skip_to(missing.start - 1)  # the rest is gone by retention
        position = missing.start - 1
        while position + 1 < missing.stop:
            page = await self._client.history(frame["channel_id"], after_seq=position, limit=PAGE)
            wanted = [entry for entry in page["entries"] if entry["seq"] < missing.stop]
            if not wanted:
                break
            for entry in wanted:
                self._hand_on(entry)
            position = int(wanted[-1]["seq"])

    def _refused(self, frame: dict[str, Any]) -> None:
        pending = self._pending.get(frame["client_msg_id"])
        if pending is None:
            return
        seconds = frame.get("retry_after_seconds")
        if frame["code"] in ("unavailable", "internal_error"):
            task = asyncio.create_task(self._send_again(pending, float(seconds or 1)))
            self._resending.add(task)
            task.add_done_callback(self._resending.discard)
            return
        del self._pending[frame["client_msg_id"]]
        if not pending.outcome.done():
            pending.outcome.set_exception(SendRefused(frame["code"], frame["message"], seconds))

    async def _send_again(self, pending: _Pending, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if not pending.outcome.done():
            await self._transmit(pending.frame)

    def _end(self, ended: LiveEnded) -> None:
        if self._ended is not None:
            return
        self._ended = ended
        self._events.put_nowait(ended)
        waiting: list[asyncio.Future[Any]] = [c.joined for c in self._channels.values()]
        waiting += [pending.outcome for pending in self._pending.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(ended)
                future.exception()  # whoever still waits is told; nobody has to
