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
from websockets.frames import DATA_OPCODES, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Event, State
from websockets.server import ServerProtocol

from rules.token_bucket import TokenBucket

logger = logging.getLogger("gatehouse.gateway")


@dataclass(frozen=True, slots=True)
class Guard:
    """What all sockets of a gateway share.

    `last_look` goes over whatever answers a handshake. `most_unsent_bytes` is what may wait for a
    client that reads slowly; pongs are written whether or not it reads them. `accepted` has every
    socket from its TCP connection to its end.
    """

    most_unsent_bytes: int
    frames_per_second: int
    last_look: Callable[[Response], Response]
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
        # Whoever serves the socket has it end in good order instead.
        self.on_flood: Callable[[], None] = self._cut
        send_response = protocol.send_response
        protocol.send_response = lambda response: send_response(  # type: ignore[method-assign]
            self.guard.last_look(response)
        )

    def connection_made(self, transport: Any) -> None:
        self.guard.accepted.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.guard.accepted.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_write_buffer_size() > self.guard.most_unsent_bytes:
            logger.warning("a socket was cut: it does not read the answers to its pings")
            self.transport.abort()

    def process_event(self, event: Event) -> None:
        """Messages are counted where they are read, by their first frame; all others here."""
        is_counted_here = isinstance(event, Frame) and not _begins_message(event)
        if is_counted_here and not self._lower_frames.take(self.loop.time()):
            self.on_flood()
            return
        super().process_event(event)

    def _cut(self) -> None:
        self.transport.abort()


def guarded_by(guard: Guard) -> type[GuardedSocket]:
    return type("GatewaySocket", (GuardedSocket,), {"guard": guard})


def _begins_message(frame: Frame) -> bool:
    return frame.opcode in DATA_OPCODES and frame.opcode is not Opcode.CONT
