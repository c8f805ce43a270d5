"""HTTP as a client speaks it, and as one speaks it that means harm."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from email.message import Message
from typing import Any

SECONDS = 15.0
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["Content-Type"] == "application/json", self
        return json.loads(self.body.decode("utf-8"))

    @property
    def error(self) -> dict[str, Any]:
        """What stands in an error envelope, whose form is checked."""
        envelope = self.json
        assert set(envelope) == {"error"}, envelope
        error: dict[str, Any] = envelope["error"]
        assert set(error) == {"code", "message", "request_id", "details"}, error
        assert isinstance(error["message"], str)
        assert error["message"]
        assert isinstance(error["details"], dict)
        assert error["request_id"] == self.headers["X-Request-ID"]
        return error


class Http:
    """Calls to one service on the loopback address, a connection each."""

    def __init__(self, port: int) -> None:
        self.port = port

    def call(
        self,
        method: str,
        path: str,
        body: Any = _ABSENT,
        *,
        token: str | None = None,
        ops_token: str | None = None,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """`body` goes as JSON; `data` goes as it is, with whatever `headers` say."""
        sent = dict(headers or {})
        if body is not _ABSENT:
            data = json.dumps(body).encode("utf-8")
            sent.setdefault("Content-Type", "application/json")
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if ops_token is not None:
            sent["X-Ops-Token"] = ops_token
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request(method, path, body=data, headers=sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **options: Any) -> Answer:
        return self.call("GET", path, **options)

    def post(self, path: str, body: Any = _ABSENT, **options: Any) -> Answer:
        return self.call("POST", path, body, **options)

    def raw(self, *pieces: bytes, seconds: float = SECONDS) -> Answer:
        """The first answer to bytes as they are, each piece in a write of its own."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                connection.sendall(piece)
            return read_answer(connection)


def read_answer(connection: socket.socket) -> Answer:
    """The next answer on a connection."""
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
        return Answer(response.status, response.headers, response.read())
    finally:
        response.close()
