"""What keeps a gateway from starting is told in one clear line each, with the exit code for it."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from scripts.process_table import children, running
from tests.gateway.conftest import StartGateway
from tests.support.databases import Database
from tests.support.ports import free_port, is_listening
from tests.support.processes import Processes, ServiceProcess, wait_until
from tests.support.services import People, gateway_environment
from tests.support.sockets import Sockets


def start(processes: Processes, environment: dict[str, str], *arguments: str) -> ServiceProcess:
    place = {"HOST": "127.0.0.1", "PORT": str(free_port())}
    return processes.start_module("wsgateway", {**place, **environment}, *arguments)


class TestThePort:
    @pytest.mark.parametrize("processes_wanted", ["1", "2"])
    def test_one_that_is_taken_is_one_line_and_exit_code_1(
        self, database: Database, processes: Processes, processes_wanted: str
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            environment = gateway_environment(database, WS_PROCESSES=processes_wanted)
            port = str(taken.getsockname()[1])
            refused = start(processes, {**environment, "PORT": port})
            assert refused.wait() == 1
        assert_one_line(refused, "gateway: cannot start:", "ddress already in use")

    def test_one_of_another_gateway_is_not_shared(
        self, database: Database, processes: Processes, start_gateway: StartGateway
    ) -> None:
        _, port = start_gateway(database, WS_PROCESSES="2")
        for wanted in ("1", "2"):
            environment = gateway_environment(database, WS_PROCESSES=wanted)
            refused = start(processes, {**environment, "PORT": str(port)})
            assert refused.wait() == 1
            assert_one_line(refused, "gateway: cannot start:", "ddress already in use")


class TestTheDatabase:
    def test_one_that_cannot_be_reached_is_one_line_and_exit_code_1(
        self, database: Database, processes: Processes
    ) -> None:
        environment = gateway_environment(database, DB_CONNECT_TIMEOUT="2")
        refused = start(processes, {**environment, "DB_PORT": str(free_port())})
        assert refused.wait() == 1
        assert_one_line(refused, "gateway: cannot start:")

    def test_a_wrong_password_is_not_shown(self, database: Database, processes: Processes) -> None:
        environment = gateway_environment(database, DB_CONNECT_TIMEOUT="2")
        refused = start(processes, {**environment, "DB_PASSWORD": "a-wrong-password"})
        assert refused.wait() == 1
        assert "a-wrong-password" not in refused.output
        assert_one_line(refused, "gateway: cannot start:")

    def test_one_without_a_schema_is_one_line_and_exit_code_1(
        self, empty_database: Database, processes: Processes
    ) -> None:
        refused = start(processes, gateway_environment(empty_database))
        assert refused.wait() == 1
        assert_one_line(refused, "gateway: cannot start:", "scripts/migrate")

    def test_another_history_is_one_line_and_exit_code_1(
        self, database: Database, people: People, processes: Processes
    ) -> None:
        people.owner.execute("UPDATE schema_migrations SET checksum = 'other' WHERE version = 1")
        refused = start(processes, gateway_environment(database))
        assert refused.wait() == 1
        assert_one_line(refused, "gateway: cannot start:", "0001_foundation")


class TestTheConfiguration:
    def test_every_error_is_named_at_once_and_no_secret_is_shown(
        self, database: Database, processes: Processes
    ) -> None:
        environment = {
            **gateway_environment(database),
            "PORT": "none",
            "WS_PING_SECONDS": "0",
            "WS_ALLOWED_ORIGIN": "https://app.example.org",
            "CHAT_MESSAGE_MAX_CHARS": "-3",
            "DB_PASSWORT": "secret-in-a-mistyped-name",
        }
        refused = start(processes, environment)
        assert refused.wait() == 78
        lines = refused.output.splitlines()
        assert all(line.startswith("gateway: ") for line in lines), refused.output
        named = ("WS_ALLOWED_ORIGIN is", "WS_ALLOWED_ORIGINS", "PORT must", "WS_PING_SECONDS must")
        for name in (*named, "CHAT_MESSAGE_MAX_CHARS must", "DB_PASSWORT is", "DB_PASSWORD"):
            assert name in refused.output
        assert len(lines) == 5
        assert "secret-in-a-mistyped-name" not in refused.output

    def test_the_check_says_good_without_a_database_and_without_a_port(
        self, database: Database, processes: Processes
    ) -> None:
        environment = {**gateway_environment(database), "DB_PORT": str(free_port())}
        checked = start(processes, environment, "--check-config")
        assert checked.wait() == 0
        assert checked.output == "gateway: the configuration is good"

    def test_the_check_says_what_is_wrong(self, database: Database, processes: Processes) -> None:
        environment = gateway_environment(database, WS_PROCESSES="many")
        checked = start(processes, environment, "--check-config")
        assert checked.wait() == 78
        assert_one_line(checked, "WS_PROCESSES")

    def test_an_unknown_argument_is_refused(self, database: Database, processes: Processes) -> None:
        refused = start(processes, gateway_environment(database), "--chek-config")
        assert refused.wait() == 64
        assert_one_line(refused, "--chek-config")


class TestSeveralProcesses:
    def test_both_take_connections_on_the_one_port(
        self, database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
    ) -> None:
        _, port = start_gateway(database, WS_PROCESSES="2")
        assert len(instances(people, port, sockets, 2)) == 2

    def test_one_that_is_killed_is_replaced_and_the_other_goes_on(
        self, database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
    ) -> None:
        gateway, port = start_gateway(database, WS_PROCESSES="2")
        wait_until(lambda: len(children(gateway.pid)) == 2, "two workers")
        before = instances(people, port, sockets, 2)
        ada = people.person()
        opened = [sockets.admitted(port, people.ticket(ada)) for _ in range(10)]
        killed, left = children(gateway.pid)
        os.kill(killed, signal.SIGKILL)
        gateway.wait_for_line(f"gateway process {killed} ended with code -9")
        wait_until(lambda: len(children(gateway.pid)) == 2, "another worker in its place")
        assert left in children(gateway.pid)
        after = instances(people, port, sockets, 2)
        assert len(before & after) == 1
        assert any(each.is_alive() for each in opened)

    def test_sigterm_stops_them_all(
        self, database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
    ) -> None:
        gateway, port = start_gateway(database, WS_PROCESSES="2")
        ada = people.person()
        opened = [sockets.admitted(port, people.ticket(ada)) for _ in range(6)]
        workers = children(gateway.pid)
        gateway.send_signal(signal.SIGTERM)
        for each in opened:
            assert each.closed() == (1012, "service_restart")
        assert gateway.wait(10) == 0
        assert running(workers) == set()
        assert not is_listening(port)

    def test_when_none_can_start_all_of_them_end(
        self, empty_database: Database, processes: Processes
    ) -> None:
        refused = start(processes, gateway_environment(empty_database, WS_PROCESSES="2"))
        assert refused.wait() == 1
        assert "scripts/migrate" in refused.output
        assert "Traceback" not in refused.output


def instances(people: People, port: int, sockets: Sockets, wanted: int) -> set[str]:
    """The processes that answer: the kernel spreads connections, so it takes some to meet all."""
    ada = people.person()
    found: set[str] = set()

    def meet() -> bool:
        opened = sockets.open(port, people.ticket(ada))
        found.add(opened.receive("connected")["instance"])
        opened.close()
        return len(found) == wanted

    wait_until(meet, f"{wanted} instances answer")
    return found


def assert_one_line(process: ServiceProcess, *parts: str) -> None:
    lines = [line for line in process.output.splitlines() if not line.startswith('{"severity')]
    assert len(lines) == 1, process.output
    for part in parts:
        assert part in lines[0]
