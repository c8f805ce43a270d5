"""One request, from its first byte to its last.

waitress's parser still fills in the attributes that the environ is built from, but only of heads
that the stricter grammar has let through; what is received, and how much, is decided here.
"""

from __future__ import annotations

import logging
import re
import time
from typing import Any

from waitress.buffers import OverflowableBuffer
from waitress.parser import HTTPRequestParser, ParsingError, TransferEncodingNotImplemented
from waitress.utilities import Error

from api.http_chunks import ChunkedBody
from api.http_grammar import RefusedHead, check_head, has_stray_control

logger = logging.getLogger("gatehouse.api")

_END = b"\r\n\r\n"
# Of a head that could not be read: what its answer and its access line are made from.
_KEPT_FIELDS = re.compile(
    rb"(?im)^(x-request-id|x-forwarded-for|x-forwarded-proto|x-cloud-trace-context|origin):"
    rb"[ \t]*([!-~]+(?:[ \t]+[!-~]+)*)[ \t]*\r$"
)
_METHOD = re.compile(rb"([A-Z]{1,32}) ")


class RequestError(Error):  # type: ignore[misc]  # waitress has no types
    """Why a request gets no further than here; `body` is the cause, for the log."""

    def __init__(self, status: int, cause: str) -> None:
        super().__init__(cause)
        self.code = status


class StrictParser(HTTPRequestParser):  # type: ignore[misc]
    """`completed` with an `error` means: answer it, close, and read nothing more as a request."""

    # waitress's own attributes, typed.
    headers: dict[str, str]
    header_plus: bytes
    content_length: int
    body_rcv: Any
    chunked: bool
    error: Error | None
    completed: bool

    command = "(none)"
    path = "(none)"  # for waitress's own log lines

    def __init__(self, adj: Any) -> None:
        super().__init__(adj)
        self.started = time.monotonic()
        self._seen = b""  # of the head, whether or not it can be read

    def received(self, data: bytes) -> int:
        """Takes what belongs to this request; returns how much that was."""
        try:
            if self.body_rcv is not None:
                return self._receive_body(data)
            return self._receive_head(data)
        except RefusedHead as refused:
            self.refuse(refused.status, refused.cause)
        except Exception:
            # This runs in the loop that serves everybody: a mistake here must cost one request.
            logger.exception("unexpected error in the parser")
            self.refuse(400, "an unexpected error in the parser")
        return len(data)

    def _receive_head(self, data: bytes) -> int:
        known = len(self.header_plus)
        block = self.header_plus + data
        # RFC 9112, 2.2: some clients send an empty line after a body.
        while block.startswith(b"\r\n"):
            block, known = block[2:], max(0, known - 2)
        self._seen = block
        if not block:
            self.empty = self.completed = True
            return len(data)
        found = block.find(_END, max(0, known - len(_END)))
        head = block if found < 0 else block[: found + len(_END)]
        if has_stray_control(head, known):
            raise RefusedHead(400, "a control character or a bare CR or LF")
        limit = self.adj.max_request_header_size
        # A head without an end is read for a little longer, for what its refusal is made from: the
        # fields that a proxy adds come last.
        if len(head) > (limit if found >= 0 else 2 * limit):
            raise RefusedHead(431, "a head beyond the limit")
        self.header_plus = head
        if found < 0:
            return len(data)
        self._finish_head(head)
        return len(data) - (len(block) - len(head))

    def _finish_head(self, head: bytes) -> None:
        check_head(head)
        try:
            self.parse_header(head)
        except (ParsingError, TransferEncodingNotImplemented, ValueError):
            raise RefusedHead(400, "a head that only the stricter grammar let through") from None
        self.headers_finished = True
        if self.content_length > self.adj.max_request_body_size:
            raise RefusedHead(413, "a Content-Length beyond the body limit")
        if self.chunked:
            buffer = OverflowableBuffer(self.adj.inbuf_overflow)
            self.body_rcv = ChunkedBody(buffer, self.adj.max_request_body_size)
        if self.body_rcv is None:
            self.completed = True

    def _receive_body(self, data: bytes) -> int:
        consumed: int = self.body_rcv.received(data)
        if self.body_rcv.completed:
            self.completed = True
            if self.chunked:  # to the app, a body like any other
                self.headers["CONTENT_LENGTH"] = str(len(self.body_rcv))
        return consumed

    def refuse(self, status: int, cause: str) -> None:
        """Ends it here."""
        if not self.headers_finished:
            self._keep_what_can_be_read()
        self.error = RequestError(status, cause)
        self.completed = True

    def _keep_what_can_be_read(self) -> None:
        method = _METHOD.match(self._seen)
        if method is not None:
            self.command = method[1].decode("ascii")
        head, end, _ = self._seen.partition(_END)
        self.headers = {}
        for name, value in _KEPT_FIELDS.findall(head + end[:2]):
            key = name.decode("ascii").upper().replace("-", "_")
            joined = [self.headers[key]] if key in self.headers else []
            self.headers[key] = ", ".join([*joined, value.decode("ascii")])
