"""Releases: what is in force, the next one, and back to the one before."""

from __future__ import annotations

from typing import Any

from api.context import Request, Response
from api.ops_acts import operator
from api.request_input import read_body, read_optional_body
from api.resources.ops.drains import DRAIN_RETRY_SECONDS
from api.services import Services
from db import audit
from db.connections import in_transaction
from db.releases import (
    DrainScope,
    NewRelease,
    Outcome,
    Release,
    ReleaseRecord,
    activate_release,
    find_release,
    list_releases,
    roll_back_release,
)
from rules import fields
from rules.errors import Refusal
from rules.times import rfc3339

RECORDS_SHOWN = 20
# A drain that is in its way may take longer; whoever waits for it looks at GET /ops/drains.

_REFUSED = {
    "regression": "latest_version is below the one in force. allow_regression lets it pass.",
    "minimum_above_latest": "A minimum must not be above the latest version.",
    "nothing_before": "There is no release to go back from.",
}


class Status:
    """GET /ops/release/status -> {release_policy, outdated, releases}"""

    for_operators = True

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: Request, resp: Response) -> None:
        with self._services.pool.connection() as connection, connection.transaction():
            release, outdated = find_release(connection)
            records = list_releases(connection, RECORDS_SHOWN)
        answer = {
            "release_policy": _policy_object(release),
            "outdated": outdated,
            "releases": [_record_object(record) for record in records],
        }
        resp.send_json(200, answer)


class Activate:
    """POST /ops/release/activate {latest_version, ...} -> {release_policy, drain_id, ...}

    One transaction: the policy, its record, the drain with its receipts, the audit rows, the
    notification. With `dry_run` nothing changes, and the answer says what would.
    """

    for_operators = True

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: Request, resp: Response) -> None:
        body = read_body(req)
        grace_seconds = body.optional("grace_seconds", fields.grace_seconds)
        if grace_seconds is None:
            grace_seconds = self._services.settings.drain.grace_seconds
        new = NewRelease(
            latest_version=body.required("latest_version", fields.version),
            min_supported_version=body.optional("min_supported_version", fields.version),
            latest_content_version=body.optional("latest_content_version", fields.version),
            min_supported_content_version=body.optional(
                "min_supported_content_version", fields.version
            ),
            update_url=body.optional("update_url", fields.web_address),
            notes=body.optional("notes", fields.notes),
            grace_seconds=grace_seconds,
            drain=body.required("drain", fields.one_of(DrainScope)),
            allow_regression=body.optional("allow_regression", fields.boolean) or False,
        )
        dry_run = body.optional("dry_run", fields.boolean) or False
        body.end()
        outcome = in_transaction(
            self._services.pool,
            lambda connection: activate_release(connection, operator(req), new, dry_run=dry_run),
        )
        resp.send_json(200, _answer(outcome))


class Rollback:
    """POST /ops/release/rollback {reason?, dry_run?}: the policy that was in force before."""

    for_operators = True

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: Request, resp: Response) -> None:
        body = read_optional_body(req)
        reason = body.optional("reason", fields.reason)
        dry_run = body.optional("dry_run", fields.boolean) or False
        body.end()
        outcome = in_transaction(
            self._services.pool,
            lambda connection: roll_back_release(
                connection, operator(req), reason, dry_run=dry_run
            ),
        )
        resp.send_json(200, _answer(outcome))


def _answer(outcome: Outcome) -> dict[str, Any]:
    if outcome.verdict == "drain_in_progress":
        raise Refusal("drain_in_progress", retry_after_seconds=DRAIN_RETRY_SECONDS)
    if outcome.verdict in _REFUSED:
        raise Refusal("conflict", _REFUSED[outcome.verdict])
    if outcome.head is not None:
        audit.announce(outcome.head)
    return {
        "release_policy": _policy_object(outcome.release),
        "drain_id": outcome.drain_id,
        "enrolled": outcome.enrolled,
        "outdated": outcome.outdated,
        "audit_id": outcome.audit_id,
    }


def _policy_object(release: Release) -> dict[str, Any]:
    return {
        "release_id": release.release_id,
        "latest_version": release.latest_version,
        "min_supported_version": release.min_supported_version,
        "latest_content_version": release.latest_content_version,
        "min_supported_content_version": release.min_supported_content_version,
        "enforce_after": rfc3339(release.enforce_after) if release.enforce_after else None,
        "update_url": release.update_url,
        "notes": release.notes,
        "activated_at": rfc3339(release.activated_at) if release.activated_at else None,
    }


def _record_object(record: ReleaseRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "created_at": rfc3339(record.created_at),
        "action": record.action,
        "actor": record.actor,
        "reason": record.reason,
        "request_id": record.request_id,
        "previous_id": record.previous_id,
        "restored_id": record.restored_id,
        "drain_id": record.drain_id,
        "latest_version": record.latest_version,
        "min_supported_version": record.min_supported_version,
        "latest_content_version": record.latest_content_version,
        "min_supported_content_version": record.min_supported_content_version,
        "enforce_after": rfc3339(record.enforce_after) if record.enforce_after else None,
        "notes": record.notes,
    }
