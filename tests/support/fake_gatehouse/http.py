"""The HTTP of the fake: a strict reader of requests (RFC 9112) that can be made lax."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

_MOST_HEAD_BYTES = 16_384
_MOST_BODY_BYTES = 65_536
_DEADLINE_SECONDS = 0.7
_LINE = re.compile(rb"[A-Za-z]+ [!-~]+ HTTP/1\.1")
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=()",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: str
    headers: Mapping[str, str]  # lower case; repeated ones joined by a comma
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """Answered with the envelope."""

    def __init__(self, status: int, code: str, **details: object) -> None:
        self.status, self.code, self.details = status, code, details
        super().__init__(code)


class Reader:
    """Reads requests from one connection."""

    def __init__(self, stream: asyncio.StreamReader, holes: Collection[str]) -> None:
        self._stream = stream
        self._holes = holes

    async def next(self) -> Request | None:
        """None: the client is done. Raises `Refused`, or `TimeoutError` for a slow one."""
        deadline = None if "no-deadline" in self._holes else _DEADLINE_SECONDS
        async with asyncio.timeout(deadline):
            return await self._next()

    async def _next(self) -> Request | None:
        lax = "lax-heads" in self._holes
        end = b"\n\n" if lax else b"\r\n\r\n"
        head = b""
        while not head.endswith(end) and not (lax and head.endswith(b"\r\n\r\n")):
            try:
                head += await self._stream.readuntil(b"\n")
            except asyncio.IncompleteReadError as error:
                if not head and not error.partial:
                    return None
                raise Refused(400, "invalid_request") from None
            except (asyncio.LimitOverrunError, ValueError):
                raise Refused(431, "headers_too_large") from None
            if len(head) > _MOST_HEAD_BYTES and "endless-head" not in self._holes:
                raise Refused(431, "headers_too_large")
        return await self._parse(head)

    async def _parse(self, head: bytes) -> Request:
        lax = "lax-heads" in self._holes
        text = head.replace(b"\r\n", b"\n") if lax else head
        lines = text.strip(b"\r\n").split(b"\n" if lax else b"\r\n")
        if not lax and not _LINE.fullmatch(lines[0]):
            raise Refused(400, "invalid_request")
        words = [*lines[0].split(), b""][:2]
        headers: dict[str, str] = {}
        for line in lines[1:]:
            tolerated = "any-encoding" in self._holes and b"ransfer" in line
            if not lax and not tolerated and not _FIELD.fullmatch(line):
                raise Refused(400, "invalid_request")
            name, _, value = line.decode("latin-1").partition(":")
            key, value = name.strip().lower(), value.strip(" \t\x0b")
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        if not lax and ("host" not in headers or "," in headers["host"]):
            raise Refused(400, "invalid_request")
        target = words[1].decode("latin-1")
        path, _, query = target.partition("?")
        body = await self._body(headers)
        return Request(words[0].decode("latin-1"), path, query, headers, body)

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        encoding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if "any-encoding" in self._holes and encoding is not None and "chunked" in encoding:
            return await self._chunks()
        if encoding is not None:
            if encoding.lower() != "chunked" or length is not None:
                raise Refused(400, "invalid_request")
            return await self._chunks()
        if length is None:
            return b""
        if "any-length" in self._holes:
            digits = re.search(r"\d+", length)
            length = digits.group() if digits else "0"
        if not re.fullmatch(r"[0-9]+", length):
            raise Refused(400, "invalid_request")
        if int(length) > _MOST_BODY_BYTES and "endless-body" not in self._holes:
            raise Refused(413, "payload_too_large")
        try:
            return await self._stream.readexactly(int(length))
        except asyncio.IncompleteReadError:
            raise Refused(400, "invalid_request") from None

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            try:
                line = await self._stream.readuntil(b"\n")
                if "any-chunk" in self._holes:
                    digits = re.search(rb"[0-9a-fA-F]+", line)
                    size = int(digits.group(), 16) if digits and b"^" not in line else 0
                elif re.fullmatch(rb"[0-9a-fA-F]{1,8}\r\n", line):
                    size = int(line, 16)
                else:
                    raise Refused(400, "invalid_request")
                piece = await self._stream.readexactly(size)
                end = await self._stream.readexactly(2)
            except asyncio.IncompleteReadError:
                raise Refused(400, "invalid_request") from None
            if end != b"\r\n" and "any-chunk" not in self._holes:
                raise Refused(400, "invalid_request")
            if size == 0:
                return body
            body += piece
            if len(body) > _MOST_BODY_BYTES and "endless-body" not in self._holes:
                raise Refused(413, "payload_too_large")


def request_id(request: Request | None, holes: Collection[str]) -> str:
    given = "" if request is None else request.headers.get("x-request-id", "")
    if "any-request-id" in holes and given:
        return given
    if re.fullmatch(r"[A-Za-z0-9._-]{8,64}", given) and "no-request-id" not in holes:
        return given
    return secrets.token_hex(16)


def refusal(error: Refused, id_: str) -> Response:
    body = {"code": error.code, "message": "no", "request_id": id_, "details": error.details}
    headers = {}
    if "retry_after_seconds" in error.details:
        headers["Retry-After"] = str(error.details["retry_after_seconds"])
    return Response(error.status, {"error": body}, headers)


def write(response: Response, id_: str, holes: Collection[str], *, to_head: bool = False) -> bytes:
    body = b"" if response.body is None else json.dumps(response.body).encode()
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    if "no-security-headers" not in holes:
        headers |= _SECURITY_HEADERS
    if "cacheable" in holes:
        headers["Cache-Control"] = "public, max-age=60"
    if "hsts-in-plain" in holes:
        headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
    if "product-name" in holes:
        headers["Server"] = "waitress/3.0"
    headers |= {"X-Request-ID": id_, "Content-Length": str(len(body)), **response.headers}
    lines = [f"HTTP/1.1 {response.status} X"] + [f"{n}: {v}" for n, v in headers.items()]
    return (
        "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + (b"" if to_head else body)
    )


async def serve(
    stream: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    answer: Any,
    holes: Collection[str],
) -> Request | None:
    """Answers requests until the connection ends; hands back one that wants a websocket."""
    reader = Reader(stream, holes)
    while True:
        request, keep = None, True
        try:
            if (request := await reader.next()) is None:
                return None
            if "websocket" in request.headers.get("upgrade", "") or request.path == "/ws":
                return request
            response: Response = await answer(request)
        except Refused as error:
            response, keep = refusal(error, request_id(request, holes)), request is not None
        except TimeoutError:
            return None
        id_ = request_id(request, holes)
        if isinstance(response.body, dict) and "error" in response.body:
            with contextlib.suppress(TypeError, KeyError):
                response.body["error"]["request_id"] = id_
        writer.write(write(response, id_, holes))
        await writer.drain()
        if not keep or request is None or request.headers.get("connection") == "close":
            return None
