"""A privileged act and its audit row: one transaction, and the chain's new head in the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from psycopg import Connection

from api.context import Request
from db import audit
from db.connections import SyncPool, in_transaction
from db.operators import Operator

T = TypeVar("T")

# Rows of a list, whatever is listed.
DEFAULT_PAGE, LARGEST_PAGE = 50, 200


def act(pool: SyncPool, work: Callable[[Connection], tuple[T, audit.Head]]) -> tuple[T, audit.Head]:
    """Runs `work`, which ends with the audit row; announces the head once it has committed."""
    done, head = in_transaction(pool, work)
    audit.announce(head)
    return done, head


def operator(req: Request) -> Operator:
    return Operator(req.actor, req.context.address)


def record(
    connection: Connection,
    req: Request,
    action: str,
    *,
    user_id: int | None = None,
    reason: str | None = None,
    **details: Any,
) -> audit.Head:
    """The audit row of what this request has done or read in personal data."""
    return audit.record(
        connection,
        actor=req.actor,
        action=action,
        ip=req.context.address,
        user_id=user_id,
        reason=reason,
        **details,
    )
