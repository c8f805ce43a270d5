"""One socket: who it belongs to, how bytes reach it, how it ends."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from db.tickets import Admission
from rules.client_address import Address
from rules.errors import KINDS, Refusal
from rules.patience import Patience
from wsgateway.framing import text_frame
from wsgateway.protocol import Limits, SocketState, error_frame

logger = logging.getLogger("gatehouse.gateway")


class Connection:
    """An admitted socket. Writing never waits: a reader that does not keep up is cut off."""

    def __init__(
        self,
        socket: ServerConnection,
        admission: Admission,
        address: Address | None,
        *,
        limits: Limits,
        buffer_bytes: int,
    ) -> None:
        self.id = admission.connection_id
        self.session_id = admission.session_id
        self.user_id = admission.user_id
        self.is_admin = admission.is_admin
        self.client_version = admission.client_version
        self.content_version = admission.client_content_version
        self.request_id = admission.request_id
        self.address = address
        self.state = SocketState(limits)
        self.patience = Patience()
        self.acks_due = 0
        self.drain_id: int | None = None
        self._silent_at: float | None = None
        self._socket = socket
        self._buffer_bytes = buffer_bytes
        self._ending: tuple[Refusal, dict[str, Any]] | None = None
        self._close_task: asyncio.Task[None] | None = None

    @property
    def is_ending(self) -> bool:
        """Nothing is read from it any more."""
        return self._ending is not None

    @property
    def is_silent(self) -> bool:
        """Its drain's deadline has passed: nothing is sent to it or read from it any more."""
        return self._silent_at is not None and time.monotonic() >= self._silent_at

    def silence_at(self, moment: float | None) -> None:
        """By the monotonic clock."""
        self._silent_at = moment

    @property
    def end_code(self) -> str | None:
        """Why it ends, where that was our doing."""
        return self._ending[0].code if self._ending is not None else None

    def write(self, data: bytes) -> None:
        """Frames as text_frame builds them, one or several joined."""
        if not self.is_silent:
            self._write(data)

    def _write(self, data: bytes) -> None:
        if self._close_task is not None:
            return
        write_frames(self._socket, data)
        transport = self._socket.transport
        if transport.get_write_buffer_size() > self._buffer_bytes:
            self._close_now(Refusal("slow_consumer"))

    def write_if_quiet(self, data: bytes) -> None:
        """What may be lost: not to somebody who has not read what came before."""
        if not self._socket.transport.get_write_buffer_size():
            self.write(data)

    def send(self, frame: dict[str, Any]) -> None:
        self.write(text_frame(frame))

    def close(
        self,
        refusal: Refusal,
        *,
        farewell: dict[str, Any] | None = None,
        after_acks: bool = False,
    ) -> None:
        """One frame that says why, then the close code of the table; the first reason counts.

        With `after_acks` the answers to what was sent before still go out.
        """
        if self._ending is None:
            self._ending = refusal, farewell or error_frame(refusal)
        if not (after_acks and self.acks_due):
            self._finish()

    def ack_given(self) -> None:
        self.acks_due -= 1
        if self._ending is not None and not self.acks_due:
            self._finish()

    def note(self, message: str, *arguments: object, **more: object) -> None:
        """A log line of this socket, from whatever task."""
        own = {
            "request_id": self.request_id,
            "user_id": self.user_id,
            "session_id": self.session_id,
        }
        logger.info(message, *arguments, extra={"fields": own | more})

    async def closed(self) -> None:
        """Until a close that was begun is through: when the handler returns, the library closes
        whatever is still open with 1000."""
        if self._close_task is not None:
            await self._close_task

    def _finish(self) -> None:
        assert self._ending is not None  # noqa: S101 - both callers have set or seen it
        refusal, farewell = self._ending
        self._close_now(refusal, text_frame(farewell))

    def _close_now(self, refusal: Refusal, farewell: bytes = b"") -> None:
        if self._close_task is not None:
            return
        self._ending = self._ending or (refusal, {})
        say_goodbye(self._socket, refusal, farewell)
        self._close_task = asyncio.create_task(self._end(refusal))

    async def _end(self, refusal: Refusal) -> None:
        self.note("socket closed: %s", refusal.code, code=refusal.code)
        await finish_closing(self._socket)


def write_frames(socket: ServerConnection, data: bytes) -> None:
    """Not once an end has begun, ours or the client's: a transport that has sent its EOF, but not
    yet all that was to go before it, raises at a write."""
    if socket.state is State.OPEN:
        socket.transport.write(data)


def say_goodbye(socket: ServerConnection, refusal: Refusal, farewell: bytes) -> None:
    """The last frames, at once and in one write. What follows can wait: when thousands of sockets
    end together, each of them is told before the first has been seen out."""
    kind = KINDS[refusal.code]
    assert kind.close is not None  # noqa: S101 - only codes that end a socket come here
    if socket.state is State.OPEN:
        socket.protocol.send_close(kind.close, kind.close_reason)
        socket.transport.write(farewell + b"".join(socket.protocol.data_to_send()))


async def finish_closing(socket: ServerConnection) -> None:
    """Until the other side has answered, or has had the time for it that serve() gives: close()
    sends nothing any more, waits, and then cuts the connection."""
    await socket.close()
