"""What a service would find at the other end of its connection, looked at before it is deployed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from psycopg import Connection
from psycopg.rows import class_row

from db import queries
from db.connections import FAILED, connect
from db.migrations import SchemaError, check_schema, read_migrations
from rules.settings import DatabaseSettings

_SQL = queries.load("deployment")
_DESCRIBE_ROLE = _SQL["describe_role"]
_DESCRIBE_SERVER = _SQL["describe_server"]


class CannotConnect(Exception):
    """One line: why, and what to do."""


@dataclass(frozen=True, slots=True)
class Role:
    """`is_wanted`: has the rights of the service that connects as it."""

    name: str
    is_superuser: bool
    is_privileged: bool
    may_create: bool
    is_owner: bool
    is_wanted: bool


@dataclass(frozen=True, slots=True)
class Server:
    """`now` is its clock; `started_at` and `database_id` are the same for two connections to one
    database."""

    started_at: datetime
    database_id: int
    is_standby: bool
    now: datetime


@dataclass(frozen=True, slots=True)
class Visit:
    """What one connection saw. `schema_problem` says what to do, or is None."""

    is_encrypted: bool
    role: Role
    server: Server
    schema_problem: str | None


def visit(settings: DatabaseSettings, passwords: Sequence[str], wanted_role: str) -> Visit:
    """Connects as a service does and looks around; raises CannotConnect."""
    try:
        with closing(connect(settings, passwords, "gatehouse-check")) as connection:
            with connection.cursor(row_factory=class_row(Role)) as roles:
                [role] = roles.execute(_DESCRIBE_ROLE, {"wanted": wanted_role}).fetchall()
            with connection.cursor(row_factory=class_row(Server)) as servers:
                [server] = servers.execute(_DESCRIBE_SERVER).fetchall()
            encrypted = bool(connection.pgconn.ssl_in_use)
            return Visit(encrypted, role, server, _schema_problem(connection))
    except FAILED as error:
        raise CannotConnect(str(error).strip()) from None


def _schema_problem(connection: Connection) -> str | None:
    try:
        check_schema(connection, read_migrations())
    except SchemaError as error:
        return str(error)
    except FAILED as error:  # a role that roles.sql has given nothing
        return f"{str(error).strip()}. Run scripts/migrate as the owner: it gives the rights too"
    return None
