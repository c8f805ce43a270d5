"""The websockets library's connection, with what it does by itself under our rules.

Below the messages that wsgateway/protocol.py sees lies what the library answers alone: handshakes,
pings, pongs and the pieces of fragmented messages. None of it may be had without end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import InvalidMessage
from websockets.frames import DATA_OPCODES, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Event, State
from websockets.server import ServerProtocol

from rules.token_bucket import TokenBucket
from wsgateway.unread_heads import read_what_can_be_read

logger = logging.getLogger("gatehouse.gateway")

# Of each head, until it has been read: for the answer to one that the library cannot read.
KEPT_HEAD_BYTES = 16_384
_FORGOTTEN = Request("", Headers())


@dataclass(frozen=True, slots=True)
class Guard:
    """What all sockets of a gateway share.

    `last_look` goes over whatever answers a handshake, `refuse_unread` answers the requests that
    the library leaves without one; both are given the request as far as it is known.
    `most_unsent_bytes` is what may wait for a client that reads slowly; pongs are written whether
    or not it reads them. `accepted` has every socket from its TCP connection to its end.
    """

    most_unsent_bytes: int
    frames_per_second: int
    last_look: Callable[[Request, Response], Response]
    refuse_unread: Callable[[Request], Response]
    accepted: set[GuardedSocket] = field(default_factory=set)

    def cut_handshakes(self) -> int:
        """Ends the connections that have not finished their handshake; returns how many."""
        unfinished = [socket for socket in self.accepted if socket.state is State.CONNECTING]
        for socket in unfinished:
            socket.transport.abort()
        return len(unfinished)


class GuardedSocket(ServerConnection):
    """Made by the library through a subclass that guarded_by gives a guard."""

    guard: ClassVar[Guard]

    def __init__(self, protocol: ServerProtocol, *arguments: Any, **options: Any) -> None:
        super().__init__(protocol, *arguments, **options)
        rate = self.guard.frames_per_second
        self._lower_frames = TokenBucket(rate=rate, burst=2 * rate)
        self._has_flooded = False
        # Whoever serves the socket has it end in good order instead.
        self.on_flood: Callable[[], None] = self._cut
        self._head = bytearray()
        send_response = protocol.send_response
        protocol.send_response = lambda response: send_response(  # type: ignore[method-assign]
            self.guard.last_look(self._known_request(), response)
        )

    def connection_made(self, transport: Any) -> None:
        self.guard.accepted.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.guard.accepted.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.request is None:
            self._head += data[: KEPT_HEAD_BYTES - len(self._head)]
        super().data_received(data)
        if self.transport.get_write_buffer_size() > self.guard.most_unsent_bytes:
            logger.warning("a socket was cut: it does not read the answers to its pings")
            self.transport.abort()

    def process_event(self, event: Event) -> None:
        """Messages are counted where they are read, by their first frame; all others here. After
        a flood nothing passes any more: a message with a piece missing is none."""
        if self._has_flooded:
            return
        if self.request is None:
            self._head.clear()  # this event is the request
        is_counted_here = isinstance(event, Frame) and not _begins_message(event)
        if is_counted_here and not self._lower_frames.take(self.loop.time()):
            self._has_flooded = True
            self.on_flood()
            return
        super().process_event(event)

    def send_data(self) -> None:
        """The library hangs up on a request that it cannot read; not before it has our answer. Who
        has said nothing, or half of it, and then hung up, is not waiting for one."""
        hangs_up = isinstance(self.protocol.handshake_exc, InvalidMessage) and self.protocol.writes
        if hangs_up and not self.protocol.reader.eof:
            response = self.guard.refuse_unread(self._known_request())
            self.protocol.writes.insert(0, response.serialize())
        super().send_data()

    def forget_handshake(self) -> None:
        """Frees a good deal of what an idle socket would cost."""
        # None as the request would make the library read another one.
        self.request, self.response = _FORGOTTEN, None
        del self.protocol.send_response

    def _known_request(self) -> Request:
        return self.request or read_what_can_be_read(bytes(self._head))

    def _cut(self) -> None:
        self.transport.abort()


def guarded_by(guard: Guard) -> type[GuardedSocket]:
    return type("GatewaySocket", (GuardedSocket,), {"guard": guard})


def _begins_message(frame: Frame) -> bool:
    return frame.opcode in DATA_OPCODES and frame.opcode is not Opcode.CONT
