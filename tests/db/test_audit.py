"""The audit trail in Postgres: one chain whoever writes at once, and no quiet change."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any

import psycopg
import pytest

from db import audit
from rules.audit_chain import check
from tests.support.databases import Database

Connection = psycopg.Connection[tuple[Any, ...]]
ALL = 1_000_000


@pytest.fixture
def api(database: Database) -> Iterator[Connection]:
    with database.connect("api") as connection:
        yield connection


@pytest.fixture
def owner(database: Database) -> Iterator[Connection]:
    with database.connect() as connection:
        yield connection


def write(connection: Connection, count: int) -> list[audit.Head]:
    return [
        audit.record(
            connection,
            actor="olga",
            action="user.disable",
            ip=ip_address("2001:db8::1"),
            user_id=number,
            reason="a reason with ünïcode and 'quotes'",
            number=1.50,
            text="\u2028 \\",
        )
        for number in range(1, count + 1)
    ]


def verify(connection: Connection, after_id: int = 0) -> tuple[bool, int | None]:
    found = audit.verify(connection, after_id=after_id, most_rows=ALL)
    return found.intact, found.first_broken_id


class TestTheChain:
    def test_it_is_intact_and_ends_with_the_head(self, api: Connection) -> None:
        heads = write(api, 20)
        found = audit.verify(api, most_rows=ALL)
        assert (found.intact, found.rows, found.to_id, found.first_broken_id) == (
            True,
            20,
            20,
            None,
        )
        assert found.head == heads[-1] == audit.find_head(api)
        exported = check(audit.export_audit(api))
        assert (exported.rows, exported.head, exported.first_broken_id) == (
            20,
            heads[-1].hash,
            None,
        )

    def test_an_empty_one_is_intact(self, api: Connection) -> None:
        assert verify(api) == (True, None)

    def test_fifty_writers_at_once_make_one_chain(
        self, database: Database, api: Connection
    ) -> None:
        def write_two(_: int) -> None:
            with database.connect("api") as connection, connection.transaction():
                write(connection, 2)

        with ThreadPoolExecutor(50) as threads:
            list(threads.map(write_two, range(50)))
        assert audit.verify(api, most_rows=ALL).rows == 100
        assert verify(api) == (True, None)

    def test_it_is_intact_while_others_append_to_it(
        self, database: Database, api: Connection
    ) -> None:
        stop = threading.Event()

        def append() -> None:
            with database.connect("api") as connection:
                while not stop.is_set():
                    write(connection, 1)

        with ThreadPoolExecutor(3) as threads:
            writing = [threads.submit(append) for _ in range(3)]
            try:
                # From the newest row on: the end is where they meet.
                found = [verify(api, audit.find_head(api).id) for _ in range(100)]
            finally:
                stop.set()
        assert found == [(True, None)] * 100
        for each in writing:
            each.result()

    def test_what_was_rolled_back_leaves_no_gap(self, api: Connection) -> None:
        write(api, 2)
        with api.transaction(force_rollback=True):
            write(api, 1)
        write(api, 1)
        assert audit.find_head(api).id == 3
        assert verify(api) == (True, None)

    def test_time_zones_and_formats_of_a_session_do_not_matter(self, owner: Connection) -> None:
        owner.execute("SET timezone = 'Asia/Kathmandu'")
        owner.execute("SET datestyle = 'German'")
        write(owner, 2)
        owner.execute("SET timezone = 'America/St_Johns'")
        owner.execute("SET extra_float_digits = -15")
        assert verify(owner) == (True, None)

    def test_it_is_verified_in_ranges(self, api: Connection) -> None:
        write(api, 10)
        first = audit.verify(api, most_rows=4)
        assert (first.intact, first.rows, first.to_id) == (True, 4, 4)
        rest = audit.verify(api, after_id=first.to_id, most_rows=ALL)
        assert (rest.intact, rest.rows, rest.to_id) == (True, 6, 10)
        beyond = audit.verify(api, after_id=99, most_rows=ALL)
        assert (beyond.intact, beyond.first_broken_id) == (False, 99)


class TestItIsOnlyAppendedTo:
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE admin_action_audit SET actor = 'nobody'",
            "DELETE FROM admin_action_audit",
            "TRUNCATE admin_action_audit",
            "DELETE FROM admin_action_audit_head",
            "TRUNCATE admin_action_audit_head",
        ],
    )
    def test_not_even_its_owner_changes_it_in_passing(
        self, owner: Connection, statement: str
    ) -> None:
        write(owner, 2)
        with pytest.raises(psycopg.errors.RaiseException, match="only ever appended"):
            owner.execute(statement)
        assert audit.find_head(owner).id == 2


# (what a person does who owns the table, the first row that shows it)
TAMPERING = [
    ("UPDATE admin_action_audit SET actor = 'nobody' WHERE id = 4", 4),
    ("UPDATE admin_action_audit SET reason = NULL WHERE id = 4", 4),
    ("UPDATE admin_action_audit SET ip = '2001:db8::2' WHERE id = 4", 4),
    ("UPDATE admin_action_audit SET details = details || '{\"more\": 1}' WHERE id = 4", 4),
    (
        "UPDATE admin_action_audit SET created_at = created_at + interval '1 microsecond'"
        " WHERE id = 4",
        4,
    ),
    ("UPDATE admin_action_audit SET canonical = replace(canonical, 'olga', 'me') WHERE id = 4", 4),
    (
        "UPDATE admin_action_audit SET actor = 'me', canonical = replace(canonical, 'olga', 'me')"
        " WHERE id = 4",
        4,
    ),
    (
        # And the hash with it: then the next one's predecessor does not fit.
        "UPDATE admin_action_audit SET actor = 'me', canonical = replace(canonical, 'olga', 'me'),"
        " hash = sha256(prev_hash || convert_to(replace(canonical, 'olga', 'me'), 'UTF8'))"
        " WHERE id = 4",
        5,
    ),
    (
        "UPDATE admin_action_audit SET canonical = '{',"
        " hash = sha256(prev_hash || convert_to('{', 'UTF8')) WHERE id = 4",
        4,
    ),
    ("DELETE FROM admin_action_audit WHERE id = 4", 4),
    ("DELETE FROM admin_action_audit WHERE id = 1", 1),
    ("DELETE FROM admin_action_audit WHERE id >= 8", 8),
    ("DELETE FROM admin_action_audit", 1),
    (
        "INSERT INTO admin_action_audit SELECT 11, created_at, actor, action, request_id, ip,"
        " user_id, reason, details, canonical, hash, hash FROM admin_action_audit WHERE id = 10",
        11,
    ),
    (
        "UPDATE admin_action_audit SET id = CASE id WHEN 4 THEN 1005 WHEN 5 THEN 4 ELSE id END"
        " WHERE id IN (4, 5);"
        "UPDATE admin_action_audit SET id = 5 WHERE id = 1005",
        4,
    ),
    ("UPDATE admin_action_audit_head SET hash = sha256('x')", 10),
    ("UPDATE admin_action_audit_head SET id = 12", 11),
    ("DELETE FROM admin_action_audit_head", 1),
]


class TestTampering:
    @pytest.mark.parametrize(("tampering", "first_broken_id"), TAMPERING)
    def test_the_first_broken_row_is_named(
        self, owner: Connection, api: Connection, tampering: str, first_broken_id: int
    ) -> None:
        write(api, 10)
        for table in ("admin_action_audit", "admin_action_audit_head"):
            owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        for statement in tampering.split(";"):
            # Psycopg takes one statement at a time; both halves belong to one deed.
            owner.execute(statement)
        assert verify(api) == (False, first_broken_id)

    def test_a_tail_that_was_cut_off_together_with_the_head_shows_against_a_head_kept_elsewhere(
        self, owner: Connection, api: Connection
    ) -> None:
        heads = write(api, 10)
        owner.execute("ALTER TABLE admin_action_audit DISABLE TRIGGER ALL")
        owner.execute("DELETE FROM admin_action_audit WHERE id > 7")
        owner.execute(
            "UPDATE admin_action_audit_head SET (id, hash) ="
            " (SELECT id, hash FROM admin_action_audit WHERE id = 7)"
        )
        assert verify(api) == (True, None)  # which is why the log has each head
        exported = check(audit.export_audit(api))
        assert (exported.head_id, exported.head) != (heads[-1].id, heads[-1].hash)
