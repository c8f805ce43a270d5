"""A database of its own for a test: a clone of the migrated template, dropped afterwards."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg import sql

from scripts.embedded_postgres import Role
from tests.support.cluster import TEMPLATE, Cluster

Who = Literal["owner", "api", "gateway"]
ROLES: dict[Who, Role] = {
    "owner": "gatehouse",
    "api": "gatehouse_api",
    "gateway": "gatehouse_gateway",
}
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Database:
    """One test's database and the ways into it."""

    cluster: Cluster
    name: str

    def environment(self, who: Who = "owner") -> dict[str, str]:
        """DB_* (and APP_ENV=test) for a process that connects as `who`."""
        return self.cluster.environment(ROLES[who], self.name)

    def conninfo(self, who: Who = "owner") -> str:
        return self.cluster.conninfo(ROLES[who], self.name)

    def connect(self, who: Who = "owner") -> psycopg.Connection[tuple[Any, ...]]:
        """A connection in autocommit; close it, or use it as a context manager."""
        return psycopg.connect(self.conninfo(who), autocommit=True)

    def psql_environment(self, who: Who = "owner") -> dict[str, str]:
        """PG* with which psql (`cluster.psql`) and the other client programs connect."""
        return {
            "PGHOST": self.cluster.host,
            "PGPORT": str(self.cluster.port),
            "PGDATABASE": self.name,
            "PGUSER": ROLES[who],
            "PGPASSWORD": self.cluster.passwords[ROLES[who]],
            "PGSSLMODE": "disable",
        }


@contextlib.contextmanager
def cloned_database(
    cluster: Cluster, admin: psycopg.Connection[Any], template: str = TEMPLATE
) -> Iterator[Database]:
    """Clones `template` as the owner; `template="template0"` gives an empty database."""
    # The process number keeps the workers of one run apart.
    name = f"test_{os.getpid()}_{next(_numbers)}"
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
    admin.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield Database(cluster, name)
    finally:
        # FORCE: a service that the test started may still be connected.
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
