"""A client of the gateway for tests: frames as dictionaries, ends as close codes."""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

Frame = dict[str, Any]
SECONDS = 15.0


class TestSocket:
    """One socket. Frames that a test has not asked for yet wait in `unread`."""

    __test__ = False  # pytest would take the name for a class of tests

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.unread: list[Frame] = []

    def send(self, kind: str, **members: Any) -> None:
        self.connection.send(json.dumps({"type": kind, **members}))

    def say(self, channel_id: int, content: str, client_msg_id: str | None = None) -> str:
        """Sends a message without waiting for its ack; returns its client_msg_id."""
        client_msg_id = client_msg_id or str(uuid.uuid4())
        self.send("send", channel_id=channel_id, client_msg_id=client_msg_id, content=content)
        return client_msg_id

    def subscribe(self, channel_id: int, **members: Any) -> Frame:
        self.send("subscribe", channel_id=channel_id, **members)
        return self.receive("subscribed", channel_id=channel_id)

    def receive(self, kind: str, seconds: float = SECONDS, **members: Any) -> Frame:
        """The next frame of this type with these members; what came before it stays unread."""
        wanted = {"type": kind, **members}
        for position, frame in enumerate(self.unread):
            if wanted.items() <= frame.items():
                return self.unread.pop(position)
        deadline = time.monotonic() + seconds
        while True:
            try:
                frame = self._next(deadline)
            except (TimeoutError, ConnectionClosed) as error:
                raise AssertionError(
                    f"no {wanted} but {error!r}; before it {self.unread}"
                ) from None
            if wanted.items() <= frame.items():
                return frame
            self.unread.append(frame)

    def take(self, kind: str, count: int, seconds: float = SECONDS) -> list[Frame]:
        """The next `count` frames of this type, in their order."""
        return [self.receive(kind, seconds) for _ in range(count)]

    def receive_any(self, seconds: float = SECONDS) -> Frame:
        """The next frame, whatever it is."""
        return self.unread.pop(0) if self.unread else self._next(time.monotonic() + seconds)

    def closed(self, seconds: float = SECONDS) -> tuple[int, str]:
        """Reads until the end; (close code, reason)."""
        deadline = time.monotonic() + seconds
        try:
            while True:
                self.unread.append(self._next(deadline))
        except TimeoutError:
            raise AssertionError(f"not closed; unread {self.unread}") from None
        except ConnectionClosed as error:
            return (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "")

    def is_alive(self) -> bool:
        """Whether the gateway still answers."""
        ref = str(uuid.uuid4())
        try:
            self.send("ping", ref=ref)
            self.receive("pong", ref=ref)
        except (ConnectionClosed, AssertionError):
            return False
        return True

    def close(self) -> None:
        self.connection.close()

    def abort(self) -> None:
        """Ends as a phone does that loses its network: without a word."""
        self.connection.socket.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def _next(self, deadline: float) -> Frame:
        data = self.connection.recv(timeout=max(0.0, deadline - time.monotonic()))
        assert isinstance(data, str), "the gateway sends text alone"
        frame = json.loads(data)
        assert isinstance(frame, dict)
        return frame


class Sockets:
    """Opens sockets and remembers them, so that none outlives its test."""

    def __init__(self) -> None:
        self._open = ExitStack()

    def open(
        self,
        port: int,
        ticket: str | None = None,
        *,
        query: str = "",
        subprotocols: Sequence[str] | None = None,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> TestSocket:
        """After the upgrade; the gateway's first frame is not read yet."""
        if subprotocols is None:
            subprotocols = ["gatehouse.v1"] + ([f"ticket.{ticket}"] if ticket else [])
        connection = self._open.enter_context(
            connect(
                f"ws://127.0.0.1:{port}/ws{query}",
                subprotocols=[Subprotocol(name) for name in subprotocols] or None,
                additional_headers=headers,
                compression=None,
                ping_interval=None,
                max_size=None,
                # A socket whose gateway is gone or stands still answers no closing handshake.
                close_timeout=1,
                **{"max_queue": None, **options},
            )
        )
        return TestSocket(connection)

    def admitted(self, port: int, ticket: str, **options: Any) -> TestSocket:
        """Open, and `connected` read."""
        opened = self.open(port, ticket, **options)
        opened.receive("connected")
        return opened

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> Sockets:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
