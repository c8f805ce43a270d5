"""One JSON object a line on stdout, in the form that Cloud Logging reads.

Every line that a request causes carries its id (and on Cloud Run its trace); both travel in a
context variable, so that code far below does not have to hand them down. What must never be logged
(tokens, tickets, passwords, message text) is never handed to a logger in the first place.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
trace: ContextVar[str | None] = ContextVar("trace", default=None)

TRACE_FIELD = "logging.googleapis.com/trace"
# RFC 9110, 9.3, and PATCH (RFC 5789).
_HTTP_METHODS = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")
)
_TRACE_HEADER = re.compile(r"([0-9a-f]{32})(/.*)?")


class JsonFormatter(logging.Formatter):
    """Adds `extra={"fields": {...}}` of a record to its line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "severity": record.levelname,
            "message": record.getMessage(),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "logger": record.name,
        }
        if (current := request_id.get()) is not None:
            line["request_id"] = current
        if (current := trace.get()) is not None:
            line[TRACE_FIELD] = current
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # In ASCII: no text, not even a lone surrogate, can break a line or fail to be written.
        return json.dumps(line, default=str)


def configure_logging() -> None:
    """Sends everything from INFO up to stdout; a library's chatter only from WARNING up."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # At DEBUG websockets prints paths and headers, and a ticket may stand in either.
    for library in ("websockets", "waitress", "psycopg", "asyncio"):
        logging.getLogger(library).setLevel(logging.WARNING)
    # It warns of every request that waits for a thread; under load that is a line a request.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)


def shown_method(method: str) -> str:
    """A method is a word of the client's choice; only those that HTTP defines are repeated."""
    return method if method in _HTTP_METHODS else "(other)"


def trace_name(header: str | None, project: str | None) -> str | None:
    """The trace of Cloud Run's X-Cloud-Trace-Context header, as Cloud Logging wants it."""
    match = _TRACE_HEADER.fullmatch(header or "")
    if match is None or project is None:
        return None
    return f"projects/{project}/traces/{match[1]}"
