"""One HTTP call: JSON in, JSON out, errors as ApiError; the standard library and nothing else.

A connection a call: a client makes few of them, and none can go stale. No thread is involved, so a
call that is cancelled is over at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from gatehouse_client.errors import UNEXPECTED_ANSWER, ApiError

TIMEOUT_SECONDS = 15.0
# Far above the longest page of history.
MAX_ANSWER_BYTES = 32 * 1024 * 1024


class Rest:
    def __init__(self, api_url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(api_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an API address: {api_url!r}; expected http(s)://host[:port]")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.hostname
        self._port = parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        self._headers = {
            "Host": parts.netloc.rpartition("@")[2],
            "Accept": "application/json",
            "Connection": "close",
            **headers,
        }

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        access_token: str | None = None,
    ) -> dict[str, Any]:
        """The answer's object ({} for 204); raises ApiError, or OSError when nobody answers."""
        headers = dict(self._headers)
        data = b""
        if body is not None:
            data = json.dumps(body).encode("utf-8")
            headers["Content-Type"] = "application/json"
        if body is not None or method != "GET":
            headers["Content-Length"] = str(len(data))
        if access_token is not None:
            headers["Authorization"] = f"Bearer {access_token}"
        request = request_head(method, self._prefix + path, headers) + data
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                received = await self._exchange(request)
        except TimeoutError:
            raise TimeoutError(f"no answer within {TIMEOUT_SECONDS:.0f} s") from None
        return meaning(parse_answer(method, received))

    async def _exchange(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        try:
            writer.write(request)
            # A server that refuses early may close before it has read everything.
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            received = bytearray()
            while chunk := await reader.read(65_536):
                received += chunk
                if len(received) > MAX_ANSWER_BYTES:
                    raise ConnectionError("the answer is longer than any of Gatehouse's")
            return bytes(received)
        finally:
            writer.transport.abort()  # everything that matters has been read


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


def request_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """RFC 9112, section 3; what would break out of its line is a ValueError."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {headers[name]}" for name in headers)]
    for line in lines:
        if any(character < " " or character == "\x7f" for character in line):
            raise ValueError("a header must not contain control characters")
    return "\r\n".join([*lines, "", ""]).encode("utf-8")


def parse_answer(method: str, received: bytes) -> Answer:
    """What a connection brought until its end; raises ConnectionError when that is not all."""
    # http.client reads from whatever has makefile(): chunks and interim answers are its business.
    response = http.client.HTTPResponse(cast(socket.socket, _Received(received)), method=method)
    try:
        response.begin()
        return Answer(response.status, response.read())
    except (http.client.HTTPException, ValueError) as error:
        raise ConnectionError(f"no complete HTTP answer ({type(error).__name__})") from error


def meaning(answer: Answer) -> dict[str, Any]:
    """The object of a good answer; raises ApiError for the others."""
    try:
        value = json.loads(answer.body) if answer.body else {}
    except ValueError:
        value = None
    if answer.status < 300 and isinstance(value, dict):
        return value
    shown = value.get("error") if isinstance(value, dict) else None
    if not isinstance(shown, dict) or not isinstance(shown.get("code"), str):
        raise ApiError(
            answer.status,
            UNEXPECTED_ANSWER,
            f"HTTP {answer.status} and no answer of Gatehouse's.",
            {},
        )
    details = shown.get("details")
    raise ApiError(
        answer.status,
        shown["code"],
        str(shown.get("message")),
        details if isinstance(details, dict) else {},
    )


@dataclass(frozen=True, slots=True)
class _Received:
    data: bytes

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.data)
