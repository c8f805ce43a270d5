"""One-time tickets for the socket: issued by the API, spent by a gateway."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import AsyncConnection, Connection
from psycopg.rows import dict_row

from db import queries
from rules import opaque_tokens
from rules.client_address import Address

_SQL = queries.load("tickets")
_INSERT = _SQL["insert_ticket"]
_REDEEM = _SQL["redeem_tickets"]
_FIND_KNOWN = _SQL["find_known_tickets"]


@dataclass(frozen=True, slots=True)
class Admission:
    """A ticket was good: whose session it opens a socket for. `position` counts from 1."""

    position: int
    connection_id: int
    session_id: int
    user_id: int
    display_name: str
    is_admin: bool
    request_id: str
    client_version: str | None
    client_content_version: str | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Outdated:
    """A ticket was good, but its client is served no more; it is spent and opens nothing."""

    request_id: str


@dataclass(frozen=True, slots=True)
class PresentedTicket:
    """What a handshake brings."""

    ticket: str
    ip: Address | None


def issue_ticket(
    connection: Connection,
    *,
    session_id: int,
    ttl_seconds: int,
    request_id: str,
    client_version: str | None,
    client_content_version: str | None,
) -> tuple[str, datetime]:
    """The ticket, which is stored as a hash only, and when it expires."""
    ticket = opaque_tokens.new_token()
    values = {
        "ticket_hash": opaque_tokens.hash_token(ticket),
        "session_id": session_id,
        "ttl_seconds": ttl_seconds,
        "request_id": request_id,
        "client_version": client_version,
        "client_content_version": client_content_version,
    }
    row = connection.execute(_INSERT, values).fetchone()
    assert row is not None  # noqa: S101 - INSERT ... RETURNING without a condition
    return ticket, row[0]


async def redeem_tickets(
    connection: AsyncConnection,
    presented: Sequence[PresentedTicket],
    *,
    instance_id: str,
    max_per_account: int,
) -> Sequence[Admission | Outdated | None]:
    """One answer a ticket, in order; None for one that is unknown, used, expired or too late.

    The connections that the good ones open are written down for `instance_id`, which must have
    reported itself (db/presence.py); an account's oldest sockets beyond the maximum are replaced.
    """
    values = {
        "ticket_hashes": [opaque_tokens.hash_token(one.ticket) for one in presented],
        "ips": [one.ip for one in presented],
        "instance_id": instance_id,
        "max_per_account": max_per_account,
    }
    answers: dict[int, Admission | Outdated] = {}
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_REDEEM, values)
        for row in await cursor.fetchall():
            outdated = row.pop("update_required")
            answers[row["position"]] = Outdated(row["request_id"]) if outdated else Admission(**row)
    return [answers.get(position) for position in range(1, len(presented) + 1)]


async def find_known_tickets(
    connection: AsyncConnection, tickets: Collection[str]
) -> Collection[str]:
    """Those that were issued at some time; the others were made up."""
    by_hash = {opaque_tokens.hash_token(ticket): ticket for ticket in tickets}
    cursor = await connection.execute(_FIND_KNOWN, (list(by_hash),))
    return {by_hash[row[0]] for row in await cursor.fetchall()}
