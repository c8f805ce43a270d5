"""Migrations: run once each, in order, by whoever comes; and who may start on which schema."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from db.migrations import Migration, SchemaError, check_schema, migrate, read_migrations
from tests.support.cluster import clean_environment
from tests.support.databases import Database

ROOT = Path(__file__).resolve().parents[2]
OURS = read_migrations()
NAMES = [migration.name for migration in OURS]
NEXT = Migration(len(OURS) + 1, "9999_next", "CREATE TABLE next_thing (id integer)")
BREAKING = replace(NEXT, sql="-- incompatible: a column is gone\n" + NEXT.sql)

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def empty(empty_database: Database) -> Iterator[Connection]:
    with empty_database.connect() as connection:
        yield connection


@pytest.fixture
def owner(database: Database) -> Iterator[Connection]:
    with database.connect() as connection:
        yield connection


def tables(connection: Connection) -> set[str]:
    rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {row[0] for row in rows.fetchall()}


def run_command(database: Database, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "db.migrate"],
        cwd=ROOT,
        env={**clean_environment(), **database.environment(), **changes},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


class TestRunning:
    def test_an_empty_database_gets_everything_and_a_second_run_finds_nothing_to_do(
        self, empty: Connection, empty_database: Database
    ) -> None:
        assert migrate(empty, OURS) == NAMES
        channel = empty.execute("SELECT id, kind, name FROM chat_channels").fetchall()
        assert channel == [(1, "global", "Global")]
        with empty_database.connect() as again:
            empty.close()  # the first runner holds the lock for as long as it is connected
            assert migrate(again, OURS) == []
            assert again.execute("SELECT count(*) FROM chat_channels").fetchone() == (1,)

    def test_what_is_missing_is_added(self, owner: Connection) -> None:
        assert migrate(owner, [*OURS, NEXT]) == ["9999_next"]
        assert "next_thing" in tables(owner)
        row = owner.execute(
            "SELECT version, name, checksum, incompatible FROM schema_migrations"
            " ORDER BY version DESC LIMIT 1"
        ).fetchone()
        assert row == (NEXT.version, "9999_next", NEXT.checksum, False)

    def test_one_that_fails_leaves_nothing_behind_and_can_be_mended(
        self, owner: Connection
    ) -> None:
        broken = replace(NEXT, sql=NEXT.sql + "; SELECT 1 / 0")
        with pytest.raises(psycopg.errors.DivisionByZero):
            migrate(owner, [*OURS, broken])
        assert "next_thing" not in tables(owner)
        assert migrate(owner, [*OURS, NEXT]) == ["9999_next"]

    def test_two_runners_at_once_apply_each_migration_once(self, empty_database: Database) -> None:
        gate = threading.Barrier(3)

        def run(_: int) -> list[str]:
            with empty_database.connect() as connection:
                gate.wait()
                return migrate(connection, OURS)

        with ThreadPoolExecutor(3) as threads:
            done = sorted(threads.map(run, range(3)), key=len)
        assert done == [[], [], NAMES]

    def test_a_changed_file_is_an_error_that_says_what_to_do(self, owner: Connection) -> None:
        changed = [replace(OURS[0], sql=OURS[0].sql + "\n-- harmless"), *OURS[1:]]
        for use in (migrate, check_schema):
            with pytest.raises(SchemaError, match="A migration is never edited") as caught:
                use(owner, changed)
            assert str(caught.value).startswith(f"{NAMES[0]} differs from the {NAMES[0]}")

    def test_a_file_that_took_anothers_number_is_an_error(self, owner: Connection) -> None:
        other = Migration(1, "0001_something_else", "SELECT 1")
        with pytest.raises(SchemaError, match="0001_something_else differs from the 0001_found"):
            migrate(owner, [other, *OURS[1:]])

    def test_an_older_program_leaves_a_newer_schema_and_its_rights_alone(
        self, owner: Connection
    ) -> None:
        migrate(owner, [*OURS, NEXT])
        owner.execute("GRANT SELECT ON next_thing TO gatehouse_api")
        assert migrate(owner, OURS) == []
        granted = "SELECT has_table_privilege('gatehouse_api', 'next_thing', 'SELECT')"
        assert owner.execute(granted).fetchone() == (True,)


class TestTheCommand:
    def test_it_says_what_it_did_and_then_that_nothing_is_to_do(
        self, empty_database: Database
    ) -> None:
        first = run_command(empty_database)
        assert (first.returncode, first.stderr) == (0, "")
        assert first.stdout == f"migrate: applied {', '.join(NAMES)}\n"
        second = run_command(empty_database)
        assert (second.returncode, second.stdout) == (0, "migrate: nothing to do\n")

    def test_a_wrong_configuration_is_78_and_every_problem_a_line(self, database: Database) -> None:
        done = run_command(database, DB_PORT="no port", DB_HOTS="x")
        assert done.returncode == 78
        assert len(done.stderr.splitlines()) == 2
        assert all(text.startswith("migrate: DB_") for text in done.stderr.splitlines())

    @pytest.mark.parametrize(
        "changes", [{"DB_PASSWORD": "not the password"}, {"DB_NAME": "no_such_database"}]
    )
    def test_a_database_that_does_not_let_it_in_is_1_without_a_traceback(
        self, database: Database, changes: dict[str, str]
    ) -> None:
        done = run_command(database, **changes)
        assert done.returncode == 1
        assert done.stderr.startswith("migrate: ")
        assert "Traceback" not in done.stderr
        assert "not the password" not in done.stderr

    def test_a_service_role_is_told_that_it_may_not(self, empty_database: Database) -> None:
        run_command(empty_database)
        done = run_command(empty_database, **empty_database.environment("api"))
        assert done.returncode == 1
        assert "permission denied" in done.stderr
        assert "Traceback" not in done.stderr

    def test_where_public_may_create_it_is_red_and_says_how_to_mend_that(
        self, database: Database, owner: Connection
    ) -> None:
        owner.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
        owner.close()
        done = run_command(database)
        assert done.returncode == 1
        assert "REVOKE CREATE ON SCHEMA public FROM PUBLIC" in done.stderr


class TestWhoMayStart:
    def test_on_its_own_schema_every_service(self, database: Database) -> None:
        for who in ("api", "gateway"):
            with database.connect(who) as connection:
                check_schema(connection, OURS)

    def test_on_an_empty_database_nobody(self, empty_database: Database, empty: Connection) -> None:
        with pytest.raises(SchemaError, match=f"{NAMES[0]} has not run. Run scripts/migrate"):
            check_schema(empty, OURS)
        assert tables(empty) == set()

    def test_on_an_older_schema_nobody(self, database: Database) -> None:
        with (
            database.connect("api") as connection,
            pytest.raises(SchemaError, match="9999_next has not run"),
        ):
            check_schema(connection, [*OURS, NEXT])

    def test_on_a_newer_schema_that_is_compatible_the_old_program_goes_on(
        self, owner: Connection, database: Database
    ) -> None:
        migrate(owner, [*OURS, NEXT])
        with database.connect("gateway") as connection:
            check_schema(connection, OURS)

    def test_on_a_newer_schema_that_is_not_the_old_program_stops(
        self, owner: Connection, database: Database
    ) -> None:
        migrate(owner, [*OURS, BREAKING])
        with (
            database.connect("api") as connection,
            pytest.raises(SchemaError, match="9999_next is marked incompatible"),
        ):
            check_schema(connection, OURS)

    def test_an_incompatible_one_stops_the_old_migration_too(self, owner: Connection) -> None:
        migrate(owner, [*OURS, BREAKING])
        with pytest.raises(SchemaError, match="9999_next is marked incompatible"):
            migrate(owner, OURS)


class TestReadingTheFiles:
    def files(self, folder: Path, *names: str) -> Path:
        for name in names:
            (folder / name).write_text("SELECT 1;\n")
        return folder

    def test_they_come_in_order_with_their_numbers(self, tmp_path: Path) -> None:
        self.files(tmp_path, "0002_b.sql", "0001_a.sql")
        found = read_migrations(tmp_path)
        assert [(one.version, one.name) for one in found] == [(1, "0001_a"), (2, "0002_b")]

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (["0002_a.sql"], "0002_a.sql: expected a name like 0001_what_it_does.sql"),
            (["0001_a.sql", "0003_c.sql"], "0003_c.sql: expected a name like 0002_"),
            (["0001_a.sql", "0001_b.sql"], "0001_b.sql: expected a name like 0002_"),
            (["0001_A.sql"], "0001_A.sql: expected"),
            (["1_a.sql"], "1_a.sql: expected"),
            (["0001-a.sql"], "0001-a.sql: expected"),
        ],
    )
    def test_a_gap_a_double_and_another_name_are_errors(
        self, tmp_path: Path, names: list[str], message: str
    ) -> None:
        with pytest.raises(SchemaError, match=message):
            read_migrations(self.files(tmp_path, *names))

    def test_the_mark_of_an_incompatible_one_stands_at_the_start_of_a_line(self) -> None:
        assert BREAKING.incompatible
        assert not NEXT.incompatible
        assert not replace(NEXT, sql="SELECT '-- incompatible: no'").incompatible

    def test_checksums_do_not_depend_on_where_they_are_read(self) -> None:
        environ = {**os.environ, "PYTHONUTF8": "0", "LC_ALL": "C"}
        code = "from db.migrations import read_migrations as r; print([m.checksum for m in r()])"
        elsewhere = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        assert elsewhere.stdout.strip() == str([migration.checksum for migration in OURS])
