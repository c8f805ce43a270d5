"""The numbers that operators watch, read from the tables.

What they cost: the sessions are counted one by one, everything else is found through an index or
lies in a small table. api/fleet_metrics.py keeps what is expensive for a while.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row

from db import queries

_SQL = queries.load("metrics")
_SESSIONS = _SQL["count_live_sessions"]
_EVENTS = _SQL["count_security_events"]
_LOCKOUTS = _SQL["count_lockouts"]
_TICKETS = _SQL["count_tickets"]
_MESSAGES = _SQL["count_messages"]
_GATEWAYS = _SQL["list_gateways"]
_CLOCK = _SQL["read_clock"]


@dataclass(frozen=True, slots=True)
class SessionsOfVersion:
    """`version` is None for what no version could be read from."""

    version: str | None
    live: int
    draining: int


@dataclass(frozen=True, slots=True)
class EventCount:
    event: str
    of_5m: int
    of_1h: int


@dataclass(frozen=True, slots=True)
class Activity:
    """Of the last five minutes; lockouts are those that hold now."""

    events: Mapping[str, EventCount]
    auth_lockouts: int
    chat_lockouts: int
    tickets_issued: int
    tickets_consumed: int
    messages: int


@dataclass(frozen=True, slots=True)
class Gateway:
    """`stats` is what the process said of itself with its last heartbeat."""

    instance: str
    heartbeat_age_seconds: float
    stats: Mapping[str, Any]


def count_live_sessions(connection: Connection) -> list[SessionsOfVersion]:
    """By client version, the commonest first."""
    with connection.cursor(row_factory=class_row(SessionsOfVersion)) as cursor:
        return cursor.execute(_SESSIONS).fetchall()


def read_activity(connection: Connection) -> Activity:
    with connection.cursor(row_factory=class_row(EventCount)) as cursor:
        events = cursor.execute(_EVENTS).fetchall()
    auth_lockouts, chat_lockouts = _row(connection, _LOCKOUTS)
    issued, consumed = _row(connection, _TICKETS)
    return Activity(
        events={count.event: count for count in events},
        auth_lockouts=auth_lockouts,
        chat_lockouts=chat_lockouts,
        tickets_issued=issued,
        tickets_consumed=consumed,
        messages=_row(connection, _MESSAGES)[0],
    )


def list_gateways(connection: Connection) -> list[Gateway]:
    with connection.cursor(row_factory=class_row(Gateway)) as cursor:
        return cursor.execute(_GATEWAYS).fetchall()


def read_clock(connection: Connection) -> datetime:
    now: datetime = _row(connection, _CLOCK)[0]
    return now


def _row(connection: Connection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None  # noqa: S101 - aggregates return one row
    return row
