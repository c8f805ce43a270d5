"""A websocket client that costs next to nothing: for load, not for use.

Frames are masked with zeros, which RFC 6455 lets a server not notice; who only listens counts bytes
and looks at nothing. So one process can be a hundred members and still be idle most of the time.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

HANDSHAKE_SECONDS = 60.0
GLOBAL = 1


def text_frame(payload: bytes) -> bytes:
    """A client's text frame; RFC 6455, section 5.2."""
    length = len(payload)
    if length < 126:
        head = bytes((0x81, 0x80 | length))
    elif length < 65_536:
        head = b"\x81\xfe" + length.to_bytes(2, "big")
    else:
        head = b"\x81\xff" + length.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


class Dialect:
    """How a frame is said to Gatehouse, and to peers that speak its frames."""

    path = "/ws"
    greeting: bytes | None = None
    admitted = frozenset({"connected"})
    # What a payload of each kind has in its head: it can be counted without being read.
    head = slice(28)
    ack_mark, message_mark, error_mark = b'"ack"', b'"message"', b'"error"'

    def reply(self, kind: str) -> bytes | None:
        """What is said to a frame of this kind on the way into the room."""
        if kind in self.admitted:
            return self.say({"type": "subscribe", "channel_id": GLOBAL})
        return None

    def say(self, frame: dict[str, Any]) -> bytes:
        return text_frame(json.dumps(frame).encode())

    def read(self, payload: bytes) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(payload)
        return frame


class SocketIo(Dialect):
    """The same frames as events of socket.io (protocol 5 over engine.io 4)."""

    path = "/socket.io/?EIO=4&transport=websocket"
    greeting = b"40"
    admitted = frozenset({"connected", "40"})

    def say(self, frame: dict[str, Any]) -> bytes:
        return text_frame(b"42" + json.dumps([frame["type"], frame]).encode())

    def read(self, payload: bytes) -> dict[str, Any]:
        if not payload.startswith(b"42"):
            return {"type": payload[:2].decode()}
        frame: dict[str, Any] = json.loads(payload[2:])[1]
        return frame


class Wire(asyncio.Protocol):
    """One socket. `on_frame` gets each text payload; None counts bytes and nothing else."""

    def __init__(self, path: str, subprotocols: list[str]) -> None:
        self._path = path
        self._subprotocols = subprotocols
        self._buffer = bytearray()
        self.is_open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._early: list[bytes] = []
        self.on_frame: Callable[[bytes], None] | None = self._early.append
        self.on_chunk: Callable[[], None] | None = None
        self.bytes = 0

    def listen(self, on_frame: Callable[[bytes], None]) -> None:
        """From now on, and with what has come before anybody listened."""
        self.on_frame = on_frame
        for payload in self._early:
            on_frame(payload)
        self._early.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        lines = [
            f"GET {self._path} HTTP/1.1",
            "Host: 127.0.0.1",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            "Sec-WebSocket-Version: 13",
        ]
        if self._subprotocols:
            lines.append(f"Sec-WebSocket-Protocol: {', '.join(self._subprotocols)}")
        transport.write("\r\n".join([*lines, "", ""]).encode())

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        if self.on_frame is None:
            return
        self._buffer += data
        if not self.is_open.done():
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            if b" 101 " not in head[:16]:
                self.is_open.set_exception(ConnectionError(head[:200].decode(errors="replace")))
                return
            self._buffer = bytearray(rest)
            self.is_open.set_result(None)
        for opcode, payload in self._frames():
            if opcode == 1 and self.on_frame is not None:
                self.on_frame(payload)
            elif opcode == 9:
                self.transport.write(b"\x8a\x80\0\0\0\0")
            elif opcode == 8 and not self.closed.done():
                self.closed.set_result(asyncio.get_running_loop().time())
                self.transport.write(b"\x88\x80\0\0\0\0")
        if self.on_chunk is not None:
            self.on_chunk()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.is_open.done():
            self.is_open.set_exception(ConnectionError("closed during the handshake"))
        if not self.closed.done():
            self.closed.set_result(asyncio.get_running_loop().time())

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        buffer, position = self._buffer, 0
        while len(buffer) - position >= 2:
            length, start = buffer[position + 1] & 0x7F, position + 2
            if length >= 126:
                size = 2 if length == 126 else 8
                length, start = int.from_bytes(buffer[start : start + size], "big"), start + size
            if len(buffer) < start + length:
                break
            yield buffer[position] & 0x0F, bytes(buffer[start : start + length])
            position = start + length
        del buffer[:position]


async def open_wire(port: int, path: str, subprotocols: list[str]) -> Wire:
    loop = asyncio.get_running_loop()
    _, wire = await loop.create_connection(lambda: Wire(path, subprotocols), "127.0.0.1", port)
    async with asyncio.timeout(HANDSHAKE_SECONDS):
        await wire.is_open
    return wire
