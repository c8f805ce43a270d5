"""What keeps the service from starting is told in clear lines, with the exit code for it."""

from __future__ import annotations

import socket

from tests.api.conftest import StartApi
from tests.support.databases import Database
from tests.support.ports import free_port
from tests.support.processes import Processes, ServiceProcess
from tests.support.services import People, api_environment


def start(processes: Processes, environment: dict[str, str], *arguments: str) -> ServiceProcess:
    place = {"HOST": "127.0.0.1", "PORT": str(free_port())}
    return processes.start_module("api", {**place, **environment}, *arguments)


def assert_one_line(process: ServiceProcess, *parts: str) -> None:
    lines = [line for line in process.output.splitlines() if not line.startswith('{"severity')]
    assert len(lines) == 1, process.output
    for part in parts:
        assert part in lines[0]


class TestThePort:
    def test_one_that_is_taken_is_one_line_and_exit_code_1(
        self, database: Database, processes: Processes
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            refused = start(processes, {**api_environment(database), "PORT": port})
            assert refused.wait() == 1
        assert_one_line(refused, "api: cannot start:", "ddress already in use")

    def test_a_second_service_does_not_share_it(
        self, database: Database, processes: Processes, start_api: StartApi
    ) -> None:
        _, http = start_api(database)
        refused = start(processes, {**api_environment(database), "PORT": str(http.port)})
        assert refused.wait() == 1
        assert_one_line(refused, "api: cannot start:", "ddress already in use")
        assert http.get("/health/ready").status == 200


class TestTheDatabase:
    def test_one_that_cannot_be_reached_is_one_line_and_exit_code_1(
        self, database: Database, processes: Processes
    ) -> None:
        environment = api_environment(database, DB_CONNECT_TIMEOUT="2")
        refused = start(processes, {**environment, "DB_PORT": str(free_port())})
        assert refused.wait() == 1
        assert_one_line(refused, "api: cannot start:")

    def test_a_wrong_password_is_not_shown(self, database: Database, processes: Processes) -> None:
        environment = api_environment(database, DB_CONNECT_TIMEOUT="2")
        refused = start(processes, {**environment, "DB_PASSWORD": "a-wrong-password"})
        assert refused.wait() == 1
        assert "a-wrong-password" not in refused.output
        assert_one_line(refused, "api: cannot start:")

    def test_one_without_a_schema_is_one_line_and_exit_code_1(
        self, empty_database: Database, processes: Processes
    ) -> None:
        refused = start(processes, api_environment(empty_database))
        assert refused.wait() == 1
        assert_one_line(refused, "api: cannot start:", "scripts/migrate")

    def test_an_older_schema_names_what_has_not_run(
        self, database: Database, processes: Processes
    ) -> None:
        with People(database) as people:
            newest = people.one("SELECT name FROM schema_migrations ORDER BY version DESC LIMIT 1")
            people.owner.execute("DELETE FROM schema_migrations WHERE name = %s", (newest,))
        refused = start(processes, api_environment(database))
        assert refused.wait() == 1
        assert_one_line(refused, "api: cannot start:", newest, "scripts/migrate")

    def test_a_newer_schema_is_refused_only_when_it_is_marked_incompatible(
        self, database: Database, processes: Processes, start_api: StartApi
    ) -> None:
        with People(database) as people:
            people.owner.execute(
                "INSERT INTO schema_migrations (version, name, checksum, incompatible)"
                " VALUES (900, '0900_later', 'x', false)"
            )
            start_api(database)
            people.owner.execute(
                "UPDATE schema_migrations SET incompatible = true WHERE version = 900"
            )
        refused = start(processes, api_environment(database))
        assert refused.wait() == 1
        assert_one_line(refused, "api: cannot start:", "0900_later")


class TestTheConfiguration:
    def test_every_error_is_named_at_once_and_no_secret_is_shown(
        self, database: Database, processes: Processes
    ) -> None:
        environment = {
            **api_environment(database),
            "PORT": "65536",
            "API_THREADS": "0",
            "JWT_SECRT": "secret-in-a-mistyped-name",
            "AUTH_RATE_LIMIT_LOCKOUT_SECONDS": "1h",
            "DB_SSLMODE": "off",
        }
        refused = start(processes, environment)
        assert refused.wait() == 78
        lines = refused.output.splitlines()
        assert len(lines) == 5, refused.output
        assert all(line.startswith("api: ") for line in lines)
        for part in (
            *("PORT must", "API_THREADS must", "JWT_SECRT is not", "nearest is JWT_SECRET"),
            *("AUTH_RATE_LIMIT_LOCKOUT_SECONDS must", "DB_SSLMODE must"),
        ):
            assert part in refused.output
        assert "secret-in-a-mistyped-name" not in refused.output

    def test_a_weak_key_is_refused_without_being_shown(
        self, database: Database, processes: Processes
    ) -> None:
        refused = start(processes, api_environment(database, JWT_SECRET="too-weak-a-key"))
        assert refused.wait() == 78
        assert_one_line(refused, "JWT_SECRET")
        assert "too-weak-a-key" not in refused.output

    def test_production_refuses_everything_that_is_only_for_a_laptop(
        self, database: Database, processes: Processes
    ) -> None:
        refused = start(processes, api_environment(database, APP_ENV="production"))
        assert refused.wait() == 78
        only_for_a_laptop = (
            *("JWT_SECRET", "OPS_API_TOKEN", "DB_PASSWORD"),
            *("DB_SSLMODE", "AUTH_SCRYPT_LOG2_N"),
        )
        for name in only_for_a_laptop:
            assert f"api: {name} must" in refused.output
        assert "PUBLIC_WS_URL must" in refused.output

    def test_the_check_says_good_without_a_database_and_without_a_port(
        self, database: Database, processes: Processes
    ) -> None:
        environment = {**api_environment(database), "DB_PORT": str(free_port())}
        checked = start(processes, environment, "--check-config")
        assert checked.wait() == 0
        assert checked.output == "api: the configuration is good"

    def test_the_check_says_what_is_wrong(self, database: Database, processes: Processes) -> None:
        checked = start(processes, api_environment(database, API_THREADS="x"), "--check-config")
        assert checked.wait() == 78
        assert_one_line(checked, "API_THREADS")

    def test_an_unknown_argument_is_refused(self, database: Database, processes: Processes) -> None:
        refused = start(processes, api_environment(database), "--chek-config")
        assert refused.wait() == 64
        assert_one_line(refused, "--chek-config")
