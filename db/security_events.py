"""Security events, in the words of the OWASP logging vocabulary.

Each is written in the table, for whoever asks later, and as a log line, for whoever watches now.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from db import queries
from rules import log_lines
from rules.client_address import Address
from rules.times import rfc3339

_SQL = queries.load("security_events")
_INSERT = _SQL["insert_security_event"]
_LIST = _SQL["list_security_events"]

logger = logging.getLogger("gatehouse.security")


class Event(StrEnum):
    LOGIN_SUCCESS = "authn_login_success"
    LOGIN_FAIL = "authn_login_fail"
    LOGIN_LOCK = "authn_login_lock"
    PASSWORD_CHANGE = "authn_password_change"  # noqa: S105 - a name
    PASSWORD_CHANGE_FAIL = "authn_password_change_fail"  # noqa: S105 - a name
    TOKEN_REUSE = "authn_token_reuse"  # noqa: S105 - a name
    SESSION_CREATED = "session_created"
    SESSION_ENDED = "session_expired"  # by logout, by its user
    USER_CREATED = "user_created"
    RATE_LIMITED = "excess_rate_limit_exceeded"
    ACCESS_REFUSED = "authz_fail"
    INPUT_REFUSED = "input_validation_fail"
    STRANGE_ORIGIN = "malicious_cors"
    SERVICE_STARTED = "sys_startup"


@dataclass(frozen=True, slots=True)
class EventFilter:
    """What is asked for; None asks for nothing."""

    before_id: int | None = None
    request_id: str | None = None
    event: str | None = None
    user_id: int | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    id: int
    created_at: datetime
    event: str
    request_id: str | None
    user_id: int | None
    session_id: int | None
    ip: str | None
    details: dict[str, Any]

    def as_object(self) -> dict[str, Any]:
        return {**asdict(self), "created_at": rfc3339(self.created_at)}


def list_events(connection: Connection, wanted: EventFilter, limit: int) -> list[StoredEvent]:
    """Newest first; the next page begins before the last id of this one."""
    with connection.cursor(row_factory=class_row(StoredEvent)) as cursor:
        # Planned anew each time, for the conditions that are given.
        cursor.execute(_LIST, {**asdict(wanted), "limit": limit}, prepare=False)
        return cursor.fetchall()


def record(
    connection: Connection,
    event: Event,
    *,
    ip: Address | None,
    user_id: int | None = None,
    session_id: int | None = None,
    **details: Any,
) -> None:
    """Commits with the caller's transaction; the request id is that of the log lines."""
    connection.execute(_INSERT, told(event, ip, user_id, session_id, **details))


async def record_all(connection: AsyncConnection, rows: Iterable[dict[str, Any]]) -> None:
    """Writes down what told() made, in order."""
    for row in rows:
        await connection.execute(_INSERT, row)


def told(
    event: Event,
    ip: Address | None,
    user_id: int | None = None,
    session_id: int | None = None,
    **details: Any,
) -> dict[str, Any]:
    """Writes the log line, at once, and returns the row, under the same request id."""
    fields = {
        "event": event,
        "user_id": user_id,
        "session_id": session_id,
        "ip": None if ip is None else str(ip),
        **details,
    }
    logger.info("security event: %s", event, extra={"fields": fields})
    return {
        "event": event,
        "request_id": log_lines.request_id.get(),
        "user_id": user_id,
        "session_id": session_id,
        "ip": ip,
        "details": Jsonb(details),
    }
