"""Numbered SQL files, run once each, in order, in a transaction, recorded with their checksum.

A file that changed after it ran is an error. A service starts on exactly its own schema or on a
newer one, unless a newer migration carries the line `-- incompatible: <why>`: so old and new code
overlap in a deployment (expand first, contract later).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg import Connection
from psycopg.rows import class_row

from db import queries

FOLDER = Path(__file__).parent / "sql" / "migrations"
ROLES_FILE = Path(__file__).parent / "sql" / "roles.sql"

_SQL = queries.load("migrations")
_WAIT_FOR_LOCKS = _SQL["wait_for_locks"]
_LOCK_MIGRATIONS = _SQL["lock_migrations"]
_CREATE_TABLE = _SQL["create_migrations_table"]
_TABLE_EXISTS = _SQL["find_migrations_table"]
_LIST = _SQL["list_migrations"]
_INSERT = _SQL["insert_migration"]
_PUBLIC_MAY_CREATE = _SQL["public_may_create"]

_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_INCOMPATIBLE = re.compile(r"^-- incompatible: ", re.MULTILINE)


class SchemaError(Exception):
    """The database's schema and this code do not fit; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode("utf-8")).hexdigest()

    @property
    def incompatible(self) -> bool:
        return _INCOMPATIBLE.search(self.sql) is not None


@dataclass(frozen=True, slots=True)
class AppliedMigration:
    version: int
    name: str
    checksum: str
    incompatible: bool


def read_migrations(folder: Path = FOLDER) -> list[Migration]:
    """The files in order; numbers start at 1 and have no gaps, so that two branches collide."""
    migrations = []
    for number, path in enumerate(sorted(folder.glob("*.sql")), 1):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None or int(match[1]) != number:
            raise SchemaError(f"{path.name}: expected a name like {number:04}_what_it_does.sql")
        migrations.append(Migration(number, path.stem, path.read_text("utf-8")))
    return migrations


def migrate(connection: Connection, migrations: Sequence[Migration]) -> list[str]:
    """Applies what is missing and then the rights; returns the names of what was applied."""
    connection.execute(_WAIT_FOR_LOCKS)
    connection.execute(
        _LOCK_MIGRATIONS
    )  # until the connection ends: others wait, then find it done
    connection.execute(_CREATE_TABLE)
    applied = _applied(connection)
    _check_history(applied, migrations)
    _check_newer(applied, migrations)
    if len(applied) > len(migrations):
        return []  # a newer program's rights: ours would take some of them away
    done = []
    for migration in migrations[len(applied) :]:
        with connection.transaction():
            connection.execute(migration.sql)
            connection.execute(
                _INSERT,
                (
                    migration.version,
                    migration.name,
                    migration.checksum,
                    migration.incompatible,
                ),
            )
        done.append(migration.name)
    with connection.transaction():
        connection.execute(ROLES_FILE.read_text("utf-8"))
    if _scalar(connection, _PUBLIC_MAY_CREATE):
        raise SchemaError(
            "PUBLIC may create objects in schema public; as a superuser run"
            " REVOKE CREATE ON SCHEMA public FROM PUBLIC"
        )
    return done


def check_schema(connection: Connection, migrations: Sequence[Migration]) -> None:
    """Raises SchemaError when a service must not run on this database."""
    applied = _applied(connection) if _scalar(connection, _TABLE_EXISTS) else []
    _check_history(applied, migrations)
    if len(applied) < len(migrations):
        missing = migrations[len(applied)].name
        raise SchemaError(
            f"the database's schema is older than this program: {missing} has not run."
            " Run scripts/migrate (or python -m db.migrate) as the owner"
        )
    _check_newer(applied, migrations)


def _check_history(applied: Sequence[AppliedMigration], migrations: Sequence[Migration]) -> None:
    for was, migration in zip(applied, migrations, strict=False):
        if (was.version, was.checksum) != (migration.version, migration.checksum):
            raise SchemaError(
                f"{migration.name} differs from the {was.name} that was applied to this database."
                " A migration is never edited after it ran: undo the change and add a new file"
            )


def _check_newer(applied: Sequence[AppliedMigration], migrations: Sequence[Migration]) -> None:
    for newer in applied[len(migrations) :]:
        if newer.incompatible:
            raise SchemaError(
                f"the database's schema is newer than this program, and {newer.name} is marked"
                " incompatible. Deploy the newer version of Gatehouse"
            )


def _applied(connection: Connection) -> list[AppliedMigration]:
    with connection.cursor(row_factory=class_row(AppliedMigration)) as cursor:
        return cursor.execute(_LIST).fetchall()


def _scalar(connection: Connection, query: str) -> bool:
    row = connection.execute(query).fetchone()
    return bool(row and row[0])
