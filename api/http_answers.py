"""How the server answers on its own, and what it adds to the app's answers.

A request that never reaches the app, or on which the app fails in a way that it cannot answer
itself, gets the same envelope, the same headers and the same access line as any other refusal.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from typing import Any

import falcon
from waitress.channel import ClientDisconnected
from waitress.task import ErrorTask, WSGITask

from api.middleware.access_log import logger as access_logger
from api.middleware.cors import origin_headers
from rules import log_lines
from rules.client_address import came_by_https, client_address
from rules.errors import KINDS, envelope
from rules.request_id import choose_request_id
from rules.security_headers import security_headers

logger = logging.getLogger("gatehouse.api")

_CODES = {413: "payload_too_large", 431: "headers_too_large", 500: "internal_error"}


@dataclass(frozen=True, slots=True)
class AnswerTerms:
    """What the server must know of the settings to answer as the app does."""

    trusted_proxy_hops: int = 0
    cors_allowed_origins: frozenset[str] = frozenset()
    cloud_project: str | None = None


class RefusalTask(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """The answer to a request with which the server can go no further."""

    def execute(self) -> None:
        log_lines.request_id.set(None)  # the last request's of this thread
        _answer(self, self.request.error.code, self.request.error.body)


class AppTask(WSGITask):  # type: ignore[misc]
    """A request for the app."""

    def execute(self) -> None:
        log_lines.request_id.set(None)
        try:
            super().execute()
        except ClientDisconnected:
            raise
        except BaseException as error:
            # BaseException: waitress would leave the connection open and without an answer for
            # ever if, say, a SystemExit came out of a handler.
            logger.error("the app failed beyond its error handler", exc_info=error)
            if self.wrote_header:
                self.set_close_on_finish()  # a cut answer must not look like a whole one
            else:
                _answer(self, 500, "an error beyond the app's error handler")

    def build_response_header(self) -> bytes:
        if self.channel.is_draining():
            self.request.headers["CONNECTION"] = "close"  # as if the client had asked for it
        header: bytes = super().build_response_header()
        return header


def _answer(task: Any, status: int, cause: str) -> None:
    request, terms = task.request, task.channel.terms
    fields: dict[str, str] = request.headers
    request_id = choose_request_id(log_lines.request_id.get() or fields.get("X_REQUEST_ID"))
    log_lines.request_id.set(request_id)
    log_lines.trace.set(
        log_lines.trace_name(fields.get("X_CLOUD_TRACE_CONTEXT"), terms.cloud_project)
    )
    kind = KINDS[_CODES.get(status, "invalid_request")]
    body = json.dumps(envelope(kind.code, kind.message, request_id)).encode("utf-8")
    secure = came_by_https(fields.get("X_FORWARDED_PROTO"), terms.trusted_proxy_hops)
    task.version = "1.1"  # RFC 9110, 2.5: our own version, whatever the request's was
    task.complete = True
    task.status = falcon.code_to_http_status(status)
    task.response_headers = [
        *security_headers(secure=secure),
        *origin_headers(fields.get("ORIGIN"), terms.cors_allowed_origins),
        ("X-Request-ID", request_id),
        ("Content-Type", falcon.MEDIA_JSON),
    ]
    task.content_length = len(body)
    task.set_close_on_finish()
    task.channel.will_linger = True
    log_access(task.channel, request, status, cause)
    # RFC 9110, 9.3.2: the headers of the answer to a HEAD, and nothing behind them.
    task.write(b"" if request.command == "HEAD" else body)


def log_access(channel: Any, request: Any, status: int, cause: str) -> None:
    """The line of a request that has none from the app."""
    forwarded_for = request.headers.get("X_FORWARDED_FOR")
    address = client_address(channel.addr[0], forwarded_for, channel.terms.trusted_proxy_hops)
    fields = {
        "method": log_lines.shown_method(request.command),
        "route": "(none)",
        "status": status,
        "duration_ms": round((time.monotonic() - request.started) * 1000, 1),
        "remote_ip": None if address is None else str(address),
        "user_id": None,
        "cause": cause,
    }
    access_logger.info("%s (none) %s", fields["method"], status, extra={"fields": fields})
