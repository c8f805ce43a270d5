"""A TCP proxy in front of Postgres that spoils single lines: what a network does at its worst."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from types import TracebackType

_NOTIFICATION = b"A"  # NotificationResponse, of the protocol's message types


class DeafProxy:
    """Passes lines on to Postgres. `freeze` and `deafen` spoil those that are open and were opened
    under an application's name; lines that are opened afterwards are good."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._lines: list[_Line] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self, application: str) -> int:
        """Nothing comes through any more, and nobody is told; returns how many lines."""
        lines = self._of(application)
        for line in lines:
            line.is_frozen = True
        return len(lines)

    def deafen(self, application: str) -> int:
        """Everything comes through but notifications."""
        lines = self._of(application)
        for line in lines:
            line.is_deaf = True
        return len(lines)

    def __enter__(self) -> DeafProxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for line in self._lines:
            line.close()

    def _of(self, application: str) -> list[_Line]:
        return [line for line in self._lines if line.is_of(application)]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self._lines.append(_Line(client, socket.create_connection(self._target)))


class _Line:
    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.is_frozen = False
        self.is_deaf = False
        self._client, self._server = client, server
        self._startup = b""
        self._is_open = True
        for work in (self._pass_up, self._pass_down):
            threading.Thread(target=self._until_it_breaks, args=(work,), daemon=True).start()

    def is_of(self, application: str) -> bool:
        name = b"application_name\0" + application.encode() + b"\0"
        return self._is_open and name in self._startup and not (self.is_frozen or self.is_deaf)

    def close(self) -> None:
        self._is_open = False
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _until_it_breaks(self, work: object) -> None:
        assert callable(work)
        with contextlib.suppress(OSError, struct.error):
            work()
        if not self.is_frozen:
            self.close()

    def _pass_up(self) -> None:
        while data := self._client.recv(65_536):
            self._startup = self._startup or data
            if not self.is_frozen:
                self._server.sendall(data)

    def _pass_down(self) -> None:
        while True:
            head = self._exactly(5)
            kind, length = struct.unpack("!cI", head)
            body = self._exactly(length - 4)
            if not self.is_frozen and not (self.is_deaf and kind == _NOTIFICATION):
                self._client.sendall(head + body)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._server.recv(count - len(data))
            if not more:
                raise ConnectionError
            data += more
        return data
