"""scripts/run: up with one command, down with one key, one clear line when it cannot be.

Where a test is about starting and stopping, services that are only a health page stand in for the
real ones; the tests at the end run the whole system.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from scripts.process_table import descendants, running
from tests.support.cluster import clean_environment
from tests.support.databases import Database
from tests.support.ports import free_port, is_listening
from tests.support.processes import ROOT, Processes, ServiceProcess, wait_until

pytestmark = pytest.mark.skipif(
    not (ROOT / ".venv" / "complete-for").exists(),
    reason="scripts/run would first make .venv; run the tests through scripts/test",
)
STAND_IN = "python -m tests.support.stand_in_service"
UP = "Ctrl-C stops everything"


@dataclass
class Checkout:
    """A copy of the repository, with ports and data of its own."""

    root: Path
    processes: Processes
    api_port: int
    ws_port: int

    @property
    def data(self) -> Path:
        return self.root / ".data"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "GATEHOUSE_API_PORT": str(self.api_port),
            "GATEHOUSE_WS_PORT": str(self.ws_port),
        }

    def use_stand_ins(self) -> None:
        (self.root / "Procfile").write_text(f"web: {STAND_IN}\ngateway: {STAND_IN}\n")

    def run(self, **variables: str) -> ServiceProcess:
        environment = {**self.environment, **variables}
        return self.processes.start(["scripts/run"], environment, cwd=self.root)

    def up(self, **variables: str) -> ServiceProcess:
        process = self.run(**variables)
        process.wait_for_line(UP, 60)
        return process

    def refused(self, **variables: str) -> str:
        """Runs what cannot start: the one line that says why."""
        process = self.run(**variables)
        assert process.wait() == 1
        errors = [line for line in process.lines if line.startswith("run: ")]
        assert len(errors) == 1, process.output
        return errors[0]

    def assert_nothing_listens(self) -> None:
        assert not is_listening(self.api_port)
        assert not is_listening(self.ws_port)


@pytest.fixture
def checkout(tmp_path: Path, processes: Processes) -> Iterator[Checkout]:
    root = tmp_path / "checkout"
    root.mkdir()
    for name in ("api", "db", "rules", "scripts", "tests", "wsgateway", ".venv"):
        (root / name).symlink_to(ROOT / name)
    for name in ("Procfile", "requirements-dev.txt"):
        shutil.copy(ROOT / name, root / name)
    made = Checkout(root, processes, free_port(), free_port())
    yield made
    processes.close()  # before the data goes
    pointer = made.data / "postgres-location"
    if pointer.exists():
        shutil.rmtree(pointer.read_text().strip())


def read_dev_env(file: Path) -> dict[str, str]:
    """What a shell that reads the file has more than one that does not."""
    command = f"set -a; . {file}; env -0"
    done = subprocess.run(
        ["/bin/sh", "-c", command], env={}, capture_output=True, text=True, check=True
    )
    pairs = (entry.split("=", 1) for entry in done.stdout.split("\0") if entry)
    return {name: value for name, value in pairs if name not in ("PWD", "OLDPWD", "SHLVL", "_")}


def conninfo(dev_env: Mapping[str, str]) -> str:
    return psycopg.conninfo.make_conninfo(
        host=dev_env["PGHOST"],
        port=dev_env["PGPORT"],
        dbname=dev_env["PGDATABASE"],
        user=dev_env["PGUSER"],
        password=dev_env["PGPASSWORD"],
        sslmode=dev_env["PGSSLMODE"],
    )


class TestWithItsOwnPostgres:
    def test_dev_env_holds_what_was_chosen_and_a_second_start_keeps_it_and_the_data(
        self, checkout: Checkout
    ) -> None:
        checkout.use_stand_ins()
        first = checkout.up()
        file = checkout.data / "dev.env"
        assert file.stat().st_mode & 0o777 == 0o600
        dev_env = read_dev_env(file)
        assert dev_env["DB_USER"] == "gatehouse"
        assert dev_env["APP_ENV"] == "development"
        assert dev_env["GATEHOUSE_API_URL"] == f"http://127.0.0.1:{checkout.api_port}"
        assert dev_env["GATEHOUSE_WS_URL"] == f"ws://127.0.0.1:{checkout.ws_port}/ws"
        assert len(dev_env["OPS_API_TOKEN"]) >= 24
        assert len(dev_env["JWT_SECRET"]) >= 32
        with psycopg.connect(conninfo(dev_env), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS id")

        first.send_signal(signal.SIGINT)
        assert first.wait() == 0

        # In a terminal that has read dev.env, as people will.
        second = checkout.up(**dev_env)
        again = read_dev_env(file)
        assert again == dev_env
        with psycopg.connect(conninfo(again)) as connection:
            assert connection.execute("SELECT id FROM kept").fetchone() == (1,)
        assert second.stop() == 0

    def test_services_connect_as_roles_of_their_own(self, checkout: Checkout) -> None:
        checkout.use_stand_ins()
        stack = checkout.up()
        roles = {line.split()[1] for line in stack.lines if line.startswith("service ")}
        assert roles == {"gatehouse_api", "gatehouse_gateway"}
        assert stack.stop() == 0

    def test_ctrl_c_in_a_terminal_leaves_no_process_and_no_port(self, checkout: Checkout) -> None:
        checkout.use_stand_ins()
        stack = checkout.up()
        started = descendants(stack.pid)
        assert len(started) > 5  # the services, Postgres and its helpers
        # A terminal sends the signal to the whole foreground group, and people press twice.
        os.killpg(stack.pid, signal.SIGINT)
        os.killpg(stack.pid, signal.SIGINT)
        assert stack.wait() == 0
        assert running(started) == set()
        checkout.assert_nothing_listens()

    @pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
    def test_a_killed_launcher_leaves_nothing_and_the_next_start_works(
        self, checkout: Checkout
    ) -> None:
        checkout.use_stand_ins()
        stack = checkout.up()
        started = descendants(stack.pid)
        stack.kill()
        wait_until(lambda: not running(started), "everything it started is gone")
        checkout.assert_nothing_listens()
        assert checkout.up().stop() == 0

    def test_a_killed_postgres_ends_everything(self, checkout: Checkout) -> None:
        checkout.use_stand_ins()
        stack = checkout.up()
        started = descendants(stack.pid)
        location = checkout.data / "postgres-location"
        home = (
            Path(location.read_text().strip()) if location.exists() else checkout.data / "postgres"
        )
        postmaster = int((home / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        assert stack.wait() == 1
        stack.wait_for_line("run: Postgres ended")
        wait_until(lambda: not running(started), "everything it started is gone")

    def test_a_second_run_on_the_same_data_is_refused_and_the_first_goes_on(
        self, checkout: Checkout
    ) -> None:
        checkout.use_stand_ins()
        stack = checkout.up()
        line = checkout.refused(
            GATEHOUSE_API_PORT=str(free_port()), GATEHOUSE_WS_PORT=str(free_port())
        )
        assert f"in use by another scripts/run (process {stack.pid})" in line
        assert is_listening(checkout.api_port)
        assert stack.stop() == 0


class TestOnADatabaseThatIsGiven:
    def test_it_is_migrated_and_no_postgres_is_started(
        self, checkout: Checkout, empty_database: Database
    ) -> None:
        checkout.use_stand_ins()
        stack = checkout.up(**empty_database.environment())
        assert not list(checkout.data.glob("postgres*"))
        with empty_database.connect() as connection:
            assert connection.execute("SELECT count(*) > 0 FROM schema_migrations").fetchone() == (
                True,
            )
        assert read_dev_env(checkout.data / "dev.env")["DB_NAME"] == empty_database.name
        assert stack.stop() == 0

    def test_a_service_that_dies_ends_everything(
        self, checkout: Checkout, database: Database
    ) -> None:
        checkout.use_stand_ins()
        stack = checkout.up(**database.environment())
        started = descendants(stack.pid)
        service = next(line for line in stack.lines if line.startswith("service "))
        os.kill(int(service.split()[2]), signal.SIGKILL)
        assert stack.wait() == 1
        assert "was killed by SIGKILL; stopping everything" in stack.output
        assert running(started) == set()
        checkout.assert_nothing_listens()

    def test_a_service_that_cannot_start_is_named(
        self, checkout: Checkout, database: Database
    ) -> None:
        (checkout.root / "Procfile").write_text(f"web: {STAND_IN}\ngateway: sh -c 'exit 3'\n")
        line = checkout.refused(**database.environment())
        assert line == "run: gateway ended with exit code 3; stopping everything"
        checkout.assert_nothing_listens()

    def test_a_service_that_does_not_stop_is_killed_and_that_is_said(
        self, checkout: Checkout, database: Database
    ) -> None:
        (checkout.root / "Procfile").write_text(
            f"web: {STAND_IN}\ngateway: env STAND_IN_DEAF=1 {STAND_IN}\n"
        )
        # Less patient than scripts/run, and otherwise the same.
        program = "from scripts import stack; stack.STOP_SECONDS = 0.5; exit(stack.main())"
        stack = checkout.processes.start(
            [".venv/bin/python", "-c", program],
            {**checkout.environment, **database.environment()},
            cwd=checkout.root,
        )
        stack.wait_for_line(UP)
        started = descendants(stack.pid)
        assert stack.stop() == 0
        stopped = [line for line in stack.lines if line.startswith("run: ")]
        assert stopped == ["run: gateway did not stop within 0.5 s and was killed"]
        assert running(started) == set()

    @pytest.mark.parametrize(("argument", "code"), [("--help", 0), ("start", 2)])
    def test_an_argument_starts_nothing(self, checkout: Checkout, argument: str, code: int) -> None:
        done = checkout.processes.start(["scripts/run", argument], {}, cwd=checkout.root)
        assert done.wait() == code
        assert "usage: scripts/run" in done.output
        assert not checkout.data.exists()

    def test_sigterm_while_it_is_starting_stops_it(
        self, checkout: Checkout, database: Database
    ) -> None:
        (checkout.root / "Procfile").write_text("web: exec sleep 60\ngateway: exec sleep 60\n")
        stack = checkout.run(**database.environment())
        stack.wait_for_line("migrate: ")
        wait_until(lambda: len(descendants(stack.pid)) == 2, "both services are started")
        started = descendants(stack.pid)
        assert stack.stop() == 0
        assert running(started) == set()


class TestOneClearLine:
    @pytest.mark.parametrize("name", ["GATEHOUSE_API_PORT", "GATEHOUSE_WS_PORT"])
    def test_a_port_in_use(self, checkout: Checkout, name: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            line = checkout.refused(**{name: str(port)})
        assert f"cannot listen on 127.0.0.1:{port}" in line
        assert name in line
        assert not (checkout.data / "dev.env").exists()

    def test_a_port_that_is_no_number(self, checkout: Checkout) -> None:
        line = checkout.refused(GATEHOUSE_API_PORT="http")
        assert line == "run: GATEHOUSE_API_PORT must be a port number from 1 to 65535, not 'http'"

    def test_a_data_folder_that_cannot_be_one(self, checkout: Checkout) -> None:
        line = checkout.refused(GATEHOUSE_DATA="Procfile")
        assert "cannot use" in line
        assert "GATEHOUSE_DATA" in line

    def test_a_procfile_that_names_something_else(self, checkout: Checkout) -> None:
        (checkout.root / "Procfile").write_text("web: x\nworker: y\n")
        assert "must name the processes web and gateway" in checkout.refused()

    def test_programs_that_are_not_there(self, checkout: Checkout, tmp_path: Path) -> None:
        line = checkout.refused(GATEHOUSE_PG_BIN=str(tmp_path))
        assert "holds no working postgres" in line

    def test_a_database_that_is_not_there(self, checkout: Checkout) -> None:
        line = checkout.refused(
            DB_HOST="127.0.0.1", DB_PORT=str(free_port()), DB_PASSWORD="x", DB_SSLMODE="disable"
        )
        assert line == "run: the migration ended with exit code 1"


class TestTheWholeSystem:
    def test_it_comes_up_and_goes_down(self, checkout: Checkout) -> None:
        stack = checkout.up()
        started = descendants(stack.pid)
        os.killpg(stack.pid, signal.SIGINT)
        assert stack.wait(20) == 0
        assert "was killed" not in stack.output
        assert running(started) == set()
        checkout.assert_nothing_listens()

    @pytest.mark.skipif(os.geteuid() != 0, reason="the other tests are that already")
    @pytest.mark.timeout(400)  # it installs everything once more
    def test_an_ordinary_user_can_run_it(self, checkout: Checkout, tmp_path: Path) -> None:
        nobody = pwd.getpwnam("nobody")
        python = python_for(nobody.pw_uid)
        # A folder of that user's own, below /tmp: pytest's are closed to others.
        home = Path(f"/tmp/gatehouse-ordinary-{os.getpid()}")  # noqa: S108
        try:
            shutil.copytree(
                checkout.root, home, symlinks=True, ignore=shutil.ignore_patterns(".data", ".venv")
            )
            for path in (home, *home.rglob("*")):
                os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
            stack = subprocess.Popen(
                ["scripts/run"],
                cwd=home,
                env={
                    **clean_environment(),
                    **checkout.environment,
                    "HOME": str(home),
                    "PYTHON": python,
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                user=nobody.pw_uid,
                group=nobody.pw_gid,
                extra_groups=[],
                start_new_session=True,
            )
            assert stack.stdout is not None
            with stack.stdout as output:
                seen = []
                for line in output:
                    seen.append(line)
                    if UP in line:
                        break
                assert UP in seen[-1], "".join(seen)
                started = descendants(stack.pid)
                assert (home / ".data" / "postgres" / "data").is_dir()
                stack.terminate()
                output.read()
            assert stack.wait(20) == 0
            assert running(started) == set()
        finally:
            shutil.rmtree(home, ignore_errors=True)


def python_for(user_id: int) -> str:
    """A Python that this user can run and make a .venv with; ours may lie in a private folder."""
    places = [Path(sys.base_prefix) / "bin", Path("/usr/bin"), Path("/usr/local/bin")]
    for python in (place / f"python3{minor}" for place in places for minor in ("", ".13", ".11")):
        try:
            subprocess.run(
                [python, "-c", "import ensurepip, sys, venv; assert sys.version_info >= (3, 11)"],
                check=True,
                user=user_id,
                cwd="/",
                capture_output=True,
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return str(python)
    pytest.fail("no Python that an ordinary user can run: install python3 and python3-venv")
