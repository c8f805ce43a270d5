"""Each service has the rights that its statements need, and no other: by table, column, function.

The statements are those that the service's code can reach (tests/support/used_queries.py). For
each right that the catalogue shows, the right is taken away in a transaction and the statements are
planned again as the role: where none of them fails, the right is used by nothing. Postgres checks
rights when a plan is made ready to run, so EXPLAIN is enough and nothing is carried out. What a
function needs inside is its owner's business; of one that runs with its caller's rights, what its
text names counts as used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from db import queries
from tests.support.cluster import Cluster
from tests.support.databases import ROLES, Database, Who
from tests.support.processes import wait_until
from tests.support.used_queries import (
    Name,
    all_queries,
    queries_reached_from,
    with_numbered_parameters,
)

Connection = psycopg.Connection[tuple[Any, ...]]
PACKAGES: dict[Who, str] = {"api": "api", "gateway": "wsgateway"}
PREPARABLE = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "MERGE", "VALUES")
BY_COLUMN = ("SELECT", "INSERT", "UPDATE", "REFERENCES")
# Subjects that only the owner runs: migrations, and what a person runs in a shell.
OWNERS = {"migrations", "role_passwords", "deployment"}

# Statements that a person runs with a service's role, because that one may only read.
BORROWED: dict[str, set[Name]] = {"gatehouse_api": {("audit", "export_audit_after")}}

TABLE_RIGHTS = """
    SELECT c.oid::regclass::text, c.relkind = 'S', a.privilege_type
    FROM pg_class c, aclexplode(c.relacl) a
    WHERE c.relnamespace = 'public'::regnamespace AND a.grantee = %s::regrole
    ORDER BY 1, 3
"""
COLUMN_RIGHTS = """
    SELECT t.attrelid::regclass::text, a.privilege_type, quote_ident(t.attname)
    FROM pg_attribute t, aclexplode(t.attacl) a
    WHERE a.grantee = %s::regrole
    ORDER BY t.attrelid, 2, t.attnum
"""
COLUMNS = """
    SELECT quote_ident(attname) FROM pg_attribute
    WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
"""
FUNCTION_RIGHTS = """
    SELECT p.oid::regprocedure::text
    FROM pg_proc p, aclexplode(p.proacl) a
    WHERE p.pronamespace = 'public'::regnamespace AND a.grantee = %s::regrole
    ORDER BY 1
"""

CALLERS_FUNCTIONS = """
    SELECT p.oid::regprocedure::text, p.prosrc
    FROM pg_proc p, aclexplode(p.proacl) a
    WHERE p.pronamespace = 'public'::regnamespace AND NOT p.prosecdef
      AND a.grantee = %s::regrole
    UNION
    SELECT p.oid::regprocedure::text, p.prosrc
    FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace AND NOT p.prosecdef
      AND p.prorettype = 'trigger'::regtype
"""


class Undone(Exception):
    """Ends a savepoint whose changes shall not stay."""


@dataclass(frozen=True, slots=True)
class Right:
    """`of` is what GRANT and REVOKE call it: `SELECT (email) ON users`."""

    subject: str
    of: str


class Service:
    """A role, its statements prepared under numbers, and the superuser who plays it."""

    def __init__(self, connection: Connection, role: str, package: str) -> None:
        self.connection = connection
        self.role = role
        connection.execute("SET plan_cache_mode = force_generic_plan")
        self.statements: dict[str, str] = {}
        reached = queries_reached_from(package)
        for subject, name in {*reached, *BORROWED.get(role, set())}:
            text = queries.load(subject)[name]
            body = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
            if body.strip().upper().startswith(PREPARABLE):
                numbered, count = with_numbered_parameters(body)
                prepared = f"{subject}_{name}"
                connection.execute(f"PREPARE {prepared} AS {numbered}")
                nulls = f" ({', '.join(['NULL'] * count)})" if count else ""
                self.statements[prepared] = f"EXPLAIN EXECUTE {prepared}{nulls}"

    def refused(self, names: list[str] | None = None) -> list[str]:
        """Those of the statements that the role has no right to run."""
        found = []
        for name in self.statements if names is None else names:
            try:
                with suppress(Undone), self.connection.transaction():
                    self.connection.execute(f"SET LOCAL ROLE {self.role}")
                    self.connection.execute(self.statements[name])
                    raise Undone
            except InsufficientPrivilege:
                found.append(name)
        return found

    def by_column(self) -> None:
        """Turns rights to a whole table into rights to each of its columns."""
        for table, is_sequence, right in self._rows(TABLE_RIGHTS):
            if right in BY_COLUMN and not is_sequence:
                columns = ", ".join(row[0] for row in self.connection.execute(COLUMNS, (table,)))
                self.connection.execute(f"REVOKE {right} ON {table} FROM {self.role}")
                self.connection.execute(f"GRANT {right} ({columns}) ON {table} TO {self.role}")

    def rights(self) -> dict[str, list[Right]]:
        """Every right, by the table, sequence or function that it is a right to."""
        found = [
            Right(f"{'SEQUENCE' if is_sequence else 'TABLE'} {subject}", f"{right} ON {subject}")
            for subject, is_sequence, right in self._rows(TABLE_RIGHTS)
        ]
        found += [
            Right(f"TABLE {table}", f"{right} ({column}) ON {table}")
            for table, right, column in self._rows(COLUMN_RIGHTS)
        ]
        found += [
            Right(f"FUNCTION {function}", f"EXECUTE ON FUNCTION {function}")
            for (function,) in self._rows(FUNCTION_RIGHTS)
        ]
        result: dict[str, list[Right]] = {}
        for right in found:
            result.setdefault(right.subject, []).append(right)
        return result

    def unused(self) -> list[str]:
        """What can be taken away, one after the other, without any statement's noticing."""
        result = []
        texts = dict(self._rows(CALLERS_FUNCTIONS))
        for rights in self.rights().values():
            dependent: list[str] = []
            with suppress(Undone), self.connection.transaction():
                self._revoke([right.of for right in rights])
                dependent = self.refused()
                raise Undone
            for right in rights:
                # What was found to be unused stays away: of several that would each do, one stays.
                with suppress(Undone), self.connection.transaction():
                    self._revoke([right.of])
                    if self._is_missed(dependent):
                        raise Undone
                    result.append(right.of)
        unused = _without_what_is_named(result, texts)
        for missed in set(result) - set(unused):
            self.connection.execute(f"GRANT {missed} TO {self.role}")
        return unused

    def _is_missed(self, dependent: list[str]) -> bool:
        return any(self.refused([name]) for name in dependent)

    def _revoke(self, rights: list[str]) -> None:
        for right in rights:
            self.connection.execute(f"REVOKE {right} FROM {self.role}")

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(query, (self.role,)).fetchall()


def _without_what_is_named(unused: list[str], texts: dict[str, str]) -> list[str]:
    """`texts`: by signature, of the functions that run with their caller's rights."""
    while True:
        used = [text for name, text in texts.items() if f"EXECUTE ON FUNCTION {name}" not in unused]
        left = [right for right in unused if not any(_names(text, right) for text in used)]
        if left == unused:
            return left
        unused = left


def _names(text: str, right: str) -> bool:
    words, _, subject = right.partition(" ON ")
    column = words.partition(" (")[2].rstrip(")")
    name = subject.removeprefix("FUNCTION ").partition("(")[0]
    return all(re.search(rf"\b{re.escape(word)}\b", text) for word in (name, column) if word)


@pytest.fixture
def superuser(
    cluster: Cluster, database: Database, admin_connection: Connection
) -> Iterator[Connection]:
    """In a transaction that is rolled back."""
    with psycopg.connect(cluster.conninfo("postgres", database.name)) as connection:
        # Otherwise psycopg forgets what is prepared, ours too, whenever it rolls back.
        connection.prepare_threshold = None
        yield connection
        connection.rollback()
    # The owner, who drops the database, cannot cut off a superuser who is still on the way out.
    others = "SELECT FROM pg_stat_activity WHERE datname = %s"
    wait_until(
        lambda: admin_connection.execute(others, (database.name,)).fetchone() is None, "left"
    )


@pytest.mark.parametrize("who", ["api", "gateway"])
def test_a_service_may_run_its_statements(superuser: Connection, who: Who) -> None:
    service = Service(superuser, ROLES[who], PACKAGES[who])
    assert len(service.statements) > 10
    assert service.refused() == [], f"{service.role} lacks a right: db/sql/roles.sql"


@pytest.mark.parametrize("who", ["api", "gateway"])
def test_no_right_of_a_service_is_unused(superuser: Connection, who: Who) -> None:
    service = Service(superuser, ROLES[who], PACKAGES[who])
    service.by_column()
    assert service.refused() == []
    unused = service.unused()
    needed = "\n".join(f"GRANT {line} TO {service.role};" for line in grants(service))
    if unused:
        pytest.fail(
            f"No statement of {PACKAGES[who]}/ needs of {service.role}'s rights:\n"
            + "\n".join(unused)
            + f"\n\nWhat they need, for db/sql/roles.sql:\n{needed}"
        )


@pytest.mark.parametrize("who", ["api", "gateway"])
def test_a_service_is_nobody_elses_member_and_owns_nothing(superuser: Connection, who: Who) -> None:
    role = ROLES[who]
    attributes = (
        "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls"
        " FROM pg_roles WHERE rolname = %s"
    )
    assert superuser.execute(attributes, (role,)).fetchone() == (False,) * 5
    memberships = "SELECT FROM pg_auth_members WHERE member = %s::regrole"
    assert superuser.execute(memberships, (role,)).fetchone() is None
    owned = "SELECT FROM pg_shdepend WHERE refobjid = %s::regrole AND deptype = 'o'"
    assert superuser.execute(owned, (role,)).fetchone() is None


def test_a_right_too_many_is_found(superuser: Connection) -> None:
    superuser.execute("GRANT SELECT (email), UPDATE (is_admin) ON users TO gatehouse_gateway")
    superuser.execute("GRANT DELETE, TRUNCATE ON chat_messages TO gatehouse_gateway")
    superuser.execute("GRANT EXECUTE ON FUNCTION lock_limits TO gatehouse_gateway")
    superuser.execute("CREATE SEQUENCE numbers")
    superuser.execute("GRANT USAGE ON SEQUENCE numbers TO gatehouse_gateway")
    service = Service(superuser, "gatehouse_gateway", "wsgateway")
    service.by_column()
    found = set(service.unused())
    assert {
        "SELECT (email) ON users",
        "UPDATE (is_admin) ON users",
        "DELETE ON chat_messages",
        "TRUNCATE ON chat_messages",
        "EXECUTE ON FUNCTION lock_limits(text[],integer)",
        "USAGE ON numbers",
    } <= found


@pytest.mark.parametrize(
    "right",
    [
        "SELECT (channel_id) ON chat_messages",
        "UPDATE (last_seen_at) ON user_sessions",
        "INSERT (event) ON security_events",
        "DELETE ON gateway_instances",
        "EXECUTE ON FUNCTION append_messages",
    ],
)
def test_a_right_too_few_is_found(superuser: Connection, right: str) -> None:
    service = Service(superuser, "gatehouse_gateway", "wsgateway")
    service.by_column()
    superuser.execute(f"REVOKE {right} FROM gatehouse_gateway")
    assert service.refused() != []


def test_every_statement_is_reached_by_a_service_or_belongs_to_the_owner() -> None:
    """Otherwise its rights would be nobody's, or the search has missed how it is reached."""
    packages = [*PACKAGES.values(), "scripts"]
    reached = {name for package in packages for name in queries_reached_from(package)}
    reached |= {name for names in BORROWED.values() for name in names}
    lost = {name for name in all_queries() - reached if name[0] not in OWNERS}
    assert lost == set()


def grants(service: Service) -> list[str]:
    """The rights that are left, as one would write them: columns of a table together."""
    lines: list[str] = []
    columns: dict[tuple[str, str], list[str]] = {}
    for rights in service.rights().values():
        for right in rights:
            words, _, table = right.of.partition(" ON ")
            verb, _, column = words.partition(" (")
            if column:
                columns.setdefault((verb, table), []).append(column.rstrip(")"))
            else:
                lines.append(right.of)
    lines += [f"{verb} ({', '.join(names)}) ON {table}" for (verb, table), names in columns.items()]
    return sorted(lines, key=lambda line: line.partition(" ON ")[2])
