"""Security events, in the words of the OWASP logging vocabulary.

Each is written in the table, for whoever asks later, and as a log line, for whoever watches now.
"""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import Any

from psycopg import Connection
from psycopg.types.json import Jsonb

from db import queries
from rules import log_lines
from rules.limit_subjects import Address

_SQL = queries.load("security_events")
_INSERT = _SQL["insert_security_event"]

logger = logging.getLogger("gatehouse.security")


class Event(StrEnum):
    LOGIN_SUCCESS = "authn_login_success"
    LOGIN_FAIL = "authn_login_fail"
    LOGIN_LOCK = "authn_login_lock"
    PASSWORD_CHANGE = "authn_password_change"  # noqa: S105 - a name
    PASSWORD_CHANGE_FAIL = "authn_password_change_fail"  # noqa: S105
    TOKEN_REUSE = "authn_token_reuse"  # noqa: S105
    SESSION_CREATED = "session_created"
    SESSION_REVOKED = "session_revoked"
    USER_CREATED = "user_created"
    RATE_LIMITED = "excess_rate_limit_exceeded"


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
    values = {
        "event": event,
        "request_id": log_lines.request_id.get(),
        "user_id": user_id,
        "session_id": session_id,
        "ip": ip,
        "details": Jsonb(details),
    }
    connection.execute(_INSERT, values)
    fields = {
        "event": event,
        "user_id": user_id,
        "session_id": session_id,
        "ip": str(ip),
        **details,
    }
    logger.info("security event: %s", event, extra={"fields": fields})
