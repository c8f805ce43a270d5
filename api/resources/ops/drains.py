"""Drains: everybody out in good order, without a release; how far it is; and calling it off."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from api.context import Request, Response
from api.ops_acts import DEFAULT_PAGE, LARGEST_PAGE, act, operator, record
from api.request_input import Query, read_body, read_optional_body
from api.resources.ops.sessions import optional_time
from api.services import Services
from db import audit
from db.connections import in_transaction
from db.drains import (
    Drain,
    Receipt,
    cancel_drain,
    find_drain,
    list_drains,
    list_receipts,
    start_drain,
)
from rules import fields
from rules.errors import Refusal
from rules.times import rfc3339

DRAIN_RETRY_SECONDS = 60  # by then one that was nearly due has finished


class Drains:
    """POST /ops/drains {reason, scope?, grace_seconds?} -> 201 a drain; GET: all of them."""

    for_operators = True

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: Request, resp: Response) -> None:
        body = read_body(req)
        reason = body.required("reason", fields.reason)
        scope = body.optional("scope", fields.drain_scope) or "all"
        grace_seconds = body.optional("grace_seconds", fields.grace_seconds)
        if grace_seconds is None:
            grace_seconds = self._services.settings.drain.grace_seconds
        body.end()

        def start(connection: Connection) -> tuple[Drain, audit.Head]:
            drain_id = start_drain(
                connection, operator(req), reason, scope=scope, grace_seconds=grace_seconds
            )
            drain = None if drain_id is None else find_drain(connection, drain_id)
            if drain is None:
                raise Refusal("drain_in_progress", retry_after_seconds=DRAIN_RETRY_SECONDS)
            return drain, record(
                connection,
                req,
                "drain.start",
                reason=reason,
                drain_id=drain.id,
                scope=scope,
                grace_seconds=grace_seconds,
                deadline=rfc3339(drain.deadline),
                enrolled=drain.enrolled,
            )

        drain, _ = act(self._services.pool, start)
        resp.send_json(201, drain_object(drain))

    def on_get(self, req: Request, resp: Response) -> None:
        query = Query(req, "before_id", "limit")
        before_id = query.integer("before_id", fields.row_id)
        limit = query.page(DEFAULT_PAGE, LARGEST_PAGE)
        with self._services.pool.connection() as connection:
            drains = list_drains(connection, before_id=before_id, limit=limit)
        resp.send_json(200, {"drains": [drain_object(drain) for drain in drains]})


class OneDrain:
    """GET /ops/drains/{id} ?after_id ?limit -> the drain, with `receipts` by session."""

    for_operators = True

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: Request, resp: Response, drain_id: int) -> None:
        query = Query(req, "after_id", "limit")
        after = query.integer("after_id", fields.sequence_number) or 0
        limit = query.page(DEFAULT_PAGE, LARGEST_PAGE)

        def read(connection: Connection) -> tuple[tuple[Drain, list[Receipt]], audit.Head]:
            drain = find_drain(connection, drain_id)
            if drain is None:
                raise Refusal("not_found")
            receipts = list_receipts(connection, drain_id, after_session_id=after, limit=limit)
            return (drain, receipts), record(
                connection, req, "drain.read", drain_id=drain_id, rows=len(receipts)
            )

        (drain, receipts), _ = act(self._services.pool, read)
        shown = [_receipt_object(receipt) for receipt in receipts]
        resp.send_json(200, drain_object(drain) | {"receipts": shown})


class CancelDrain:
    """POST /ops/drains/{id}/cancel {reason?} -> the drain; before its deadline only."""

    for_operators = True

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: Request, resp: Response, drain_id: int) -> None:
        body = read_optional_body(req)
        reason = body.optional("reason", fields.reason)
        body.end()

        def cancel(connection: Connection) -> tuple[Drain, audit.Head]:
            verdict, head = cancel_drain(connection, operator(req), reason, drain_id)
            if verdict == "unknown":
                raise Refusal("not_found")
            if head is None:
                raise Refusal("conflict", "The drain's deadline has passed, or it has ended.")
            drain = find_drain(connection, drain_id)
            assert drain is not None  # noqa: S101 - it is there: no drain is ever deleted
            return drain, head

        drain, head = in_transaction(self._services.pool, cancel)
        audit.announce(head)
        resp.send_json(200, drain_object(drain))


def drain_object(drain: Drain) -> dict[str, Any]:
    return {
        "id": drain.id,
        "status": drain.status,
        "reason": drain.reason,
        "release_id": drain.release_id,
        "scope": drain.scope,
        "started_at": rfc3339(drain.started_at),
        "deadline": rfc3339(drain.deadline),
        "grace_seconds": drain.grace_seconds,
        "enrolled": drain.enrolled,
        "acked": drain.acked,
        "closed": drain.closed,
        "unreachable": drain.unreachable,
        "revoked": drain.revoked,
    }


def _receipt_object(receipt: Receipt) -> dict[str, Any]:
    return {
        "session_id": receipt.session_id,
        "user_id": receipt.user_id,
        "client_version": receipt.client_version,
        "client_content_version": receipt.client_content_version,
        "enrolled_at": rfc3339(receipt.enrolled_at),
        "notified_at": optional_time(receipt.notified_at),
        "acked_at": optional_time(receipt.acked_at),
        "closed_at": optional_time(receipt.closed_at),
        "revoked_at": optional_time(receipt.revoked_at),
        "outcome": receipt.outcome,
    }
