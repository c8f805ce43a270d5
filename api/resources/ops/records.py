"""The records: the audit trail and its verification, the security events. Newest first."""

from __future__ import annotations

from typing import Any

from api.context import Request, Response
from api.ops_acts import DEFAULT_PAGE, LARGEST_PAGE, act, record
from api.request_input import Query
from api.services import Services
from db import audit, security_events
from rules import fields
from rules.times import rfc3339

# In pages of ten thousand; a longer chain is verified in ranges, or by scripts/verify_audit.
MOST_VERIFIED_AT_ONCE = 1_000_000


class Audit:
    """GET /ops/audit ?before_id ?request_id ?actor ?action ?user_id ?since ?limit"""

    for_operators = True

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: Request, resp: Response) -> None:
        query = Query(
            req, "before_id", "request_id", "actor", "action", "user_id", "since", "limit"
        )
        wanted = audit.AuditFilter(
            before_id=query.integer("before_id", fields.row_id),
            request_id=query.text("request_id"),
            actor=query.text("actor"),
            action=query.text("action"),
            user_id=query.integer("user_id", fields.row_id),
            since=query.read("since", fields.time),
        )
        limit = query.page(DEFAULT_PAGE, LARGEST_PAGE)

        def read(connection: Any) -> tuple[list[audit.AuditRow], audit.Head]:
            rows = audit.list_audit(connection, wanted, limit)
            return rows, record(connection, req, "audit.read", rows=len(rows), filters=query.given)

        rows, _ = act(self._services.pool, read)
        shown = [
            {
                "id": row.id,
                "created_at": rfc3339(row.created_at),
                "actor": row.actor,
                "action": row.action,
                "request_id": row.request_id,
                "ip": row.ip,
                "user_id": row.user_id,
                "reason": row.reason,
                "details": row.details,
                "hash": row.hash.hex(),
            }
            for row in rows
        ]
        resp.send_json(200, {"audit": shown})


class AuditVerification:
    """GET /ops/audit/verify ?after_id

    -> {intact, rows, to_id, head_id, head_hash, first_broken_id}. `after_id` goes on after a row
    that was verified before; `intact` speaks of the rows up to `to_id`.
    """

    for_operators = True

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: Request, resp: Response) -> None:
        after_id = Query(req, "after_id").integer("after_id", fields.sequence_number) or 0
        with self._services.pool.connection() as connection:
            found = audit.verify(connection, after_id=after_id, most_rows=MOST_VERIFIED_AT_ONCE)
        resp.send_json(
            200,
            {
                "intact": found.intact,
                "rows": found.rows,
                "to_id": found.to_id,
                "head_id": found.head.id,
                "head_hash": found.head.hash.hex(),
                "first_broken_id": found.first_broken_id,
            },
        )


class SecurityEvents:
    """GET /ops/security-events ?before_id ?request_id ?event ?user_id ?since ?limit"""

    for_operators = True

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: Request, resp: Response) -> None:
        query = Query(req, "before_id", "request_id", "event", "user_id", "since", "limit")
        wanted = security_events.EventFilter(
            before_id=query.integer("before_id", fields.row_id),
            request_id=query.text("request_id"),
            event=query.text("event"),
            user_id=query.integer("user_id", fields.row_id),
            since=query.read("since", fields.time),
        )
        limit = query.page(DEFAULT_PAGE, LARGEST_PAGE)

        def read(connection: Any) -> tuple[list[security_events.StoredEvent], audit.Head]:
            events = security_events.list_events(connection, wanted, limit)
            head = record(
                connection, req, "security_events.read", rows=len(events), filters=query.given
            )
            return events, head

        events, _ = act(self._services.pool, read)
        resp.send_json(200, {"security_events": [event.as_object() for event in events]})
