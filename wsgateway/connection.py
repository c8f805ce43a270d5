"""One socket: who it belongs to, how bytes reach it, how it ends."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from websockets.asyncio.server import ServerConnection

from db.tickets import Admission
from rules.errors import KINDS, Refusal
from wsgateway.framing import text_frame
from wsgateway.protocol import Limits, SocketState, error_frame

logger = logging.getLogger("gatehouse.gateway")


class Connection:
    """An admitted socket. Writing never waits: a reader that does not keep up is cut off."""

    def __init__(
        self, socket: ServerConnection, admission: Admission, limits: Limits, buffer_bytes: int
    ) -> None:
        self.id = admission.connection_id
        self.session_id = admission.session_id
        self.user_id = admission.user_id
        self.request_id = admission.request_id
        self.state = SocketState(limits)
        self.acks_due = 0
        self._socket = socket
        self._buffer_bytes = buffer_bytes
        self._ending: tuple[Refusal, dict[str, Any]] | None = None
        self._close_task: asyncio.Task[None] | None = None

    @property
    def is_ending(self) -> bool:
        """Nothing is read from it any more."""
        return self._ending is not None

    def write(self, data: bytes) -> None:
        """Frames as text_frame builds them, one or several joined."""
        if self._close_task is not None:
            return
        transport = self._socket.transport
        transport.write(data)
        if transport.get_write_buffer_size() > self._buffer_bytes:
            self._close_now(Refusal("slow_consumer"))

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

    def _finish(self) -> None:
        assert self._ending is not None  # noqa: S101 - both callers have set or seen it
        refusal, farewell = self._ending
        self.send(farewell)
        self._close_now(refusal)

    def _close_now(self, refusal: Refusal) -> None:
        if self._close_task is not None:
            return
        self._ending = self._ending or (refusal, {})
        self._close_task = asyncio.create_task(close_socket(self._socket, refusal))
        fields = {"code": refusal.code, "session_id": self.session_id, "user_id": self.user_id}
        logger.info("socket closed: %s", refusal.code, extra={"fields": fields})


async def close_socket(socket: ServerConnection, refusal: Refusal) -> None:
    kind = KINDS[refusal.code]
    assert kind.close is not None  # noqa: S101 - only codes that end a socket come here
    await socket.close(kind.close, kind.code)
