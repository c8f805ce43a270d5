"""Live sessions, to look at and to end."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import Connection

from api.context import Request, Response
from api.ops_acts import DEFAULT_PAGE, LARGEST_PAGE, act, operator, record
from api.request_input import Query, read_body
from api.services import Services
from db import audit
from db.connections import in_transaction
from db.operators import Revocation, Selector, SessionSeen, list_sessions, revoke_sessions
from db.users import find_user_by_email
from rules import fields
from rules.errors import invalid_field
from rules.times import rfc3339


class OpsSessions:
    """GET /ops/sessions ?user_id ?ip ?before_id ?limit: the live ones, newest first."""

    for_operators = True

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: Request, resp: Response) -> None:
        query = Query(req, "user_id", "ip", "before_id", "limit")
        user_id = query.integer("user_id", fields.row_id)
        network = query.read("ip", fields.network)
        before_id = query.integer("before_id", fields.row_id)
        limit = query.page(DEFAULT_PAGE, LARGEST_PAGE)

        def read(connection: Connection) -> tuple[list[SessionSeen], audit.Head]:
            sessions = list_sessions(
                connection, user_id=user_id, network=network, before_id=before_id, limit=limit
            )
            return sessions, record(
                connection, req, "sessions.read", rows=len(sessions), filters=query.given
            )

        sessions, _ = act(self._services.pool, read)
        resp.send_json(200, {"sessions": [shown_session(session) for session in sessions]})


class Revoke:
    """POST /ops/sessions/revoke {one selector, reason, dry_run?} -> {matched, revoked, audit_id}"""

    for_operators = True

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: Request, resp: Response) -> None:
        body = read_body(req)
        email = body.optional("email", fields.email)
        chosen: dict[str, Any] = {
            "user_id": body.optional("user_id", fields.row_id),
            "session_id": body.optional("session_id", fields.row_id),
            "network": body.optional("ip", fields.network),
            "version_below": body.optional("client_version_below", fields.version),
            "created_before": body.optional("created_before", fields.time),
            "all": body.optional("all", fields.true),
        }
        reason = body.required("reason", fields.reason)
        dry_run = body.optional("dry_run", fields.boolean) or False
        body.end()
        given = [name for name, value in {"email": email, **chosen}.items() if value is not None]
        if len(given) != 1:
            raise invalid_field(
                given[-1] if given else "user_id",
                "must be alone: exactly one of user_id, session_id, email, ip,"
                " client_version_below, created_before and all selects the sessions",
            )

        def revoke(connection: Connection) -> Revocation:
            if email is not None:
                user = find_user_by_email(connection, email)
                if user is None and dry_run:
                    return Revocation(0, 0, None)
                if user is None:
                    found = {"matched": 0, "revoked": 0}
                    head = record(connection, req, "sessions.revoke", reason=reason, **found)
                    return Revocation(0, 0, head)
                chosen["user_id"] = user.id
            return revoke_sessions(
                connection, operator(req), reason, Selector(**chosen), dry_run=dry_run
            )

        done = in_transaction(self._services.pool, revoke)
        if done.head is not None:
            audit.announce(done.head)
        answer = {
            "matched": done.matched,
            "revoked": done.revoked,
            "audit_id": done.head.id if done.head else None,
        }
        resp.send_json(200, answer)


def shown_session(session: SessionSeen) -> dict[str, Any]:
    return {
        "session_id": session.session_id,
        "user_id": session.user_id,
        "email": session.email,
        "display_name": session.display_name,
        "created_at": rfc3339(session.created_at),
        "last_seen_at": rfc3339(session.last_seen_at),
        "expires_at": rfc3339(session.expires_at),
        "ip": session.ip,
        "user_agent": session.user_agent,
        "client_version": session.client_version,
        "client_content_version": session.client_content_version,
        "drain_event_id": session.drain_event_id,
    }


def optional_time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
