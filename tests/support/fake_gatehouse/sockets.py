"""The websockets of the fake (RFC 6455), strict until told otherwise."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import struct
import time
from collections.abc import Collection
from typing import Any

from tests.support.fake_gatehouse.app import App, Session
from tests.support.fake_gatehouse.http import Refused, Request, refusal, request_id, write

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MOST_FRAME_BYTES, _MOST_FRAMES, _MOST_BUFFERED = 32_768, 300, 262_144
_MOST_SOCKETS, _MOST_MADE_UP = 5, 50


class Closing(Exception):
    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(str(code))


class Sockets:
    """All sockets of the fake."""

    def __init__(self, app: App, holes: Collection[str]) -> None:
        self._app = app
        self._holes = holes
        self.open: list[Connection] = []
        self._made_up = 0
        app.on_entry = self._deliver
        app.on_end = self._session_ended

    def has(self, hole: str) -> bool:
        return hole in self._holes

    def _deliver(self, channel: int, entry: dict[str, Any]) -> None:
        for socket in list(self.open):
            allowed = self._app.may_read(self._app.channels[channel], socket.session.user)
            if channel in socket.channels and (allowed or self.has("removed-hear-on")):
                socket.send(entry)

    def _session_ended(self, session: Session) -> None:
        for socket in list(self.open):
            if socket.session is session:
                socket.close(4501)

    async def serve(
        self, request: Request, stream: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        offered = [p.strip() for p in request.headers.get("sec-websocket-protocol", "").split(",")]
        tickets = [p.removeprefix("ticket.") for p in offered if p.startswith("ticket.")]
        try:
            self._check(request)
        except Refused as error:
            id_ = request_id(request, self._holes)
            writer.write(write(refusal(error, id_), id_, self._holes))
            return
        writer.write(self._upgrade(request, tickets))
        if self.has("ticket-in-query") and request.query.startswith("ticket="):
            tickets = [request.query.removeprefix("ticket=")]
        session = self._session(request, tickets)
        if session is None:
            writer.write(_text({"type": "error", "code": "ticket_invalid"}) + _close(4401))
            return
        socket = Connection(self._app, session, stream, writer, self._holes)
        mine = [other for other in self.open if other.session.user is session.user]
        if len(mine) >= _MOST_SOCKETS and not self.has("no-socket-limit"):
            mine[0].close(4509)
        self.open.append(socket)
        try:
            await socket.run()
        finally:
            self.open.remove(socket)

    def _check(self, request: Request) -> None:
        if self.has("lax-handshake"):
            return
        if request.path != "/ws":
            raise Refused(404, "not_found")
        if request.method != "GET":
            raise Refused(405, "method_not_allowed")
        if "origin" in request.headers and not self.has("any-socket-origin"):
            raise Refused(403, "origin_not_allowed")
        if self._made_up >= _MOST_MADE_UP and not self.has("no-made-up-limit"):
            raise Refused(429, "rate_limited", retry_after_seconds=30)
        try:
            key = base64.b64decode(request.headers.get("sec-websocket-key", ""))
        except ValueError:
            key = b""
        good = (
            len(key) == 16
            and request.headers.get("sec-websocket-version") == "13"
            and request.headers.get("upgrade") == "websocket"
            and request.headers.get("connection") == "Upgrade"
        )
        if not good:
            raise Refused(400, "invalid_request")

    def _upgrade(self, request: Request, tickets: list[str]) -> bytes:
        key = request.headers.get("sec-websocket-key", "").encode()
        accept = base64.b64encode(hashlib.sha1(key + _MAGIC).digest()).decode()  # noqa: S324
        chosen = "gatehouse.v1"
        if self.has("repeats-ticket") and tickets:
            chosen = f"ticket.{tickets[0]}"
        lines = [
            "HTTP/1.1 101 X",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept}",
            f"Sec-WebSocket-Protocol: {chosen}",
        ]
        if self.has("compression") and "sec-websocket-extensions" in request.headers:
            lines.append("Sec-WebSocket-Extensions: permessage-deflate")
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    def _session(self, request: Request, tickets: list[str]) -> Session | None:
        if self.has("bearer-opens") and "authorization" in request.headers:
            return self._app.session_of(request.headers["authorization"].removeprefix("Bearer "))
        if not tickets and self.has("no-ticket-needed"):
            return next(iter(self._app.sessions.values()))
        if self.has("two-tickets"):
            tickets = tickets[:1]
        if len(tickets) != 1:
            return None
        ticket = tickets[0]
        if self.has("token-as-ticket") and ticket.count(".") == 2:
            return self._app.session_of(ticket)
        if self.has("any-ticket") and ticket not in self._app.tickets:
            return next(iter(self._app.sessions.values()))
        if ticket not in self._app.tickets:
            self._made_up += 1
            return None
        session, expires = self._app.tickets[ticket]
        if expires < time.monotonic() and not self.has("eternal-tickets"):
            return None
        if not session.alive and not self.has("tickets-outlive"):
            return None
        if ticket in self._app.spent_tickets and not self.has("tickets-replay"):
            return None
        self._app.spent_tickets.add(ticket)
        return session


class Connection:
    def __init__(
        self,
        app: App,
        session: Session,
        stream: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        holes: Collection[str],
    ) -> None:
        self._app, self.session, self._holes = app, session, holes
        self._stream, self._writer = stream, writer
        self.channels: set[int] = set()
        self._closed = False

    def has(self, hole: str) -> bool:
        return hole in self._holes

    def send(self, frame: dict[str, Any]) -> None:
        if self._closed:
            return
        self._writer.write(_text(frame))
        held = self._writer.transport.get_write_buffer_size()
        if held > _MOST_BUFFERED and not self.has("endless-buffers"):
            self.close(4408)
            self._writer.transport.abort()

    def close(self, code: int) -> None:
        if not self._closed:
            self._closed = True
            self._writer.write(_close(code))
            self._writer.close()

    async def run(self) -> None:
        self.send({"type": "connected"})
        frames = 0
        try:
            while not self._closed:
                text = await self._message()
                frames += 1
                if frames > _MOST_FRAMES and not self.has("floods"):
                    raise Closing(4429)
                self._obey(text)
        except Closing as closing:
            self.close(closing.code)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass

    async def _message(self) -> bytes:
        data, started = b"", False
        while True:
            first, second = await self._stream.readexactly(2)
            opcode, length = first & 0x0F, second & 0x7F
            if first & 0x70 and not self.has("reserved-bits"):
                raise Closing(1002)
            if not second & 0x80 and not self.has("unmasked"):
                raise Closing(1002)
            if opcode not in (0, 1, 2, 8, 9, 10):
                raise Closing(1002)
            if opcode >= 8 and not self.has("lax-control") and (length > 125 or not first & 0x80):
                raise Closing(1002)
            if length == 126:
                length = struct.unpack("!H", await self._stream.readexactly(2))[0]
            elif length == 127:
                length = struct.unpack("!Q", await self._stream.readexactly(8))[0]
            if length + len(data) > _MOST_FRAME_BYTES and not self.has("endless-frames"):
                raise Closing(1009)
            mask = await self._stream.readexactly(4) if second & 0x80 else b"\0" * 4
            payload = await self._stream.readexactly(length)
            payload = (
                bytes(b ^ mask[i & 3] for i, b in enumerate(payload)) if any(mask) else payload
            )
            if opcode >= 8:
                self._control(opcode, payload)
                continue
            if (opcode == 0) != started and not self.has("lax-control"):
                raise Closing(1002)
            if opcode == 2 and not self.has("binary"):
                raise Closing(1003)
            data, started = data + payload, True
            if first & 0x80:
                return data

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode != 8 or self.has("lax-control"):
            return
        if len(payload) == 1:
            raise Closing(1002)
        code = struct.unpack("!H", payload[:2])[0] if payload else 1000
        raise Closing(1002 if code in (1004, 1005, 1006, 1015) else code)

    def _obey(self, data: bytes) -> None:
        try:
            text = data.decode("utf-8", "replace" if self.has("any-utf8") else "strict")
        except UnicodeDecodeError:
            raise Closing(1007) from None
        try:
            frame = json.loads(text, object_pairs_hook=self._pairs, parse_constant=_constant)
            self.send(self._answer(frame))
        except (ValueError, KeyError, TypeError, RecursionError, AttributeError):
            if self.has("frames-crash"):
                raise Closing(1011) from None
            self.send({"type": "error", "code": "invalid_request"})

    def _pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("doubled")
        return dict(pairs)

    def _answer(self, frame: dict[str, Any]) -> dict[str, Any]:
        ref = {"ref": frame["ref"]} if "ref" in frame else {}
        frame["ref"] = str(frame.get("ref", "")).encode().decode()  # no lone surrogates
        try:
            return {**self._act(frame), **ref}
        except Refused as error:
            return {"type": "error", "code": error.code, **ref}

    def _act(self, frame: dict[str, Any]) -> dict[str, Any]:
        known = {"type", "ref", "channel_id", "after_seq", "client_msg_id", "content"}
        if set(frame) - known and not self.has("mass-assignment"):
            raise Refused(422, "validation_failed")
        if frame["type"] == "ping":
            return {"type": "pong"}
        number = frame["channel_id"]
        if type(number) is not int:
            raise ValueError("channel")
        channel = self._app.channels.get(number)
        if channel is None or not self._app.may_read(channel, self.session.user):
            raise Refused(404, "not_found")
        if frame["type"] == "subscribe":
            self.channels.add(number)
            return {
                "type": "subscribed",
                "entries": channel.entries if "after_seq" in frame else [],
            }
        if frame["type"] != "send" or len(frame["client_msg_id"]) != 36:
            raise ValueError("type")
        entry, repeat = self._app.append(number, self.session.user, frame)
        return {"type": "ack", "seq": entry["seq"], "duplicate": repeat}


def _constant(name: str) -> Any:
    raise ValueError(name)


def _text(frame: dict[str, Any]) -> bytes:
    data = json.dumps(frame).encode()
    return b"\x81" + _size(len(data)) + data


def _size(length: int) -> bytes:
    if length < 126:
        return bytes([length])
    return (
        b"\x7e" + struct.pack("!H", length)
        if length < 65_536
        else b"\x7f" + struct.pack("!Q", length)
    )


def _close(code: int) -> bytes:
    return b"\x88\x02" + struct.pack("!H", code)


async def finish(writer: asyncio.StreamWriter) -> None:
    """Lets the client read what was said before the connection goes."""
    with contextlib.suppress(OSError):
        await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
