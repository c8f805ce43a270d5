"""Time and room: slow clients, silent ones, too many of them, and the end of the service."""

from __future__ import annotations

import dataclasses
import logging
import signal
import socket
import threading
import time

import pytest

from api.http_limits import HttpLimits
from tests.support.databases import Database
from tests.support.processes import Processes, wait_until
from tests.support.raw_http import Connection, EchoApp, RawServer, statuses

LIMITS = HttpLimits(drain_idle_seconds=0.1)
GET = b"GET /after HTTP/1.1\r\nHost: a\r\n\r\n"
WAIT = b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n"


def limits(**changes: float) -> HttpLimits:
    return dataclasses.replace(LIMITS, **changes)  # type: ignore[arg-type]


def trickle(connection: Connection, data: bytes, pause: float, seconds: float) -> float | None:
    """Sends `data` again and again, a byte a `pause`; returns when the server closed."""
    start = time.monotonic()
    number = 0
    while time.monotonic() - start < seconds:
        try:
            connection.send(data[number % len(data) :][:1])
        except OSError:
            return time.monotonic() - start
        number += 1
        if (closed := connection.is_closed_within(pause)) is not None:
            return time.monotonic() - start - pause + closed
    return None


class TestSlowClients:
    @pytest.mark.parametrize(
        ("start", "then"),
        [
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"a"),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n", b"a"),
            (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
            (b"", b"GET / HTTP/1.1" + b"a" * 100),
        ],
        ids=["headers", "body", "chunks", "request line"],
    )
    def test_a_byte_now_and_then_buys_no_time(
        self, start: bytes, then: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        with RawServer(limits=limits(receive_seconds=0.4)) as server, server.connect() as client:
            client.send(start)
            closed_after = trickle(client, then, 0.02, 3.0)
            assert closed_after is not None
            assert 0.3 < closed_after < 1.5
            assert server.app.requests == []
        [line] = [r.__dict__["fields"] for r in caplog.records if r.name == "gatehouse.api.access"]
        assert (line["status"], line["remote_ip"]) == (408, "127.0.0.1")

    def test_a_connection_that_says_nothing_is_closed(self) -> None:
        with RawServer(limits=limits(idle_seconds=0.4)) as server, server.connect() as client:
            closed_after = client.is_closed_within(3.0)
            assert closed_after is not None
            assert closed_after > 0.3

    def test_empty_lines_do_not_keep_a_connection(self) -> None:
        with RawServer(limits=limits(idle_seconds=0.4)) as server, server.connect() as client:
            assert trickle(client, b"\r\n", 0.02, 3.0) is not None

    def test_a_kept_connection_is_closed_some_time_after_its_last_answer(self) -> None:
        with RawServer(limits=limits(idle_seconds=0.5)) as server, server.connect() as client:
            for _ in range(5):
                client.send(GET)
                assert client.next_answer().status == 200
                assert client.is_closed_within(0.2) is None
            assert client.is_closed_within(3.0) is not None

    def test_no_other_clock_closes_it_before(self) -> None:
        """waitress has one of its own, which jumps when the machine's does."""
        with RawServer(limits=limits(idle_seconds=600)) as server, server.connect() as client:
            client.send(GET)
            assert client.next_answer().status == 200
            server.server._server.maintenance(time.time() + 86_400)
            client.send(GET)
            assert client.next_answer().status == 200
            assert client.is_closed_within(0.2) is None

    def test_a_client_that_does_not_read_its_answer_is_cut(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with (
            RawServer(limits=limits(answer_seconds=0.4)) as server,
            server.connect(receive_buffer=4096) as client,
        ):
            client.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n" * 4)
            wait_until(lambda: "answer was not read" in caplog.text, "the cut", 5.0)
            # It got what the kernel had taken before, of the first answer only.
            assert len(client.read_until_closed()) < 8_000_000
            assert len(server.app.requests) == 1

    def test_clients_that_do_not_read_hold_no_worker(self) -> None:
        with RawServer(threads=1) as server:
            clients = [server.connect(receive_buffer=4096) for _ in range(5)]
            for client in clients:
                client.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n" * 5)
            for _ in range(10):
                assert server.one(GET).status == 200
            for client in clients:
                client.socket.close()

    def test_a_slow_handler_is_nobodys_fault(self) -> None:
        brief = limits(receive_seconds=0.2, answer_seconds=0.2, idle_seconds=0.2)
        with RawServer(limits=brief) as server, server.connect() as client:
            client.send(WAIT)
            assert server.app.waiting.acquire(timeout=5)
            assert client.is_closed_within(0.6) is None
            server.app.go_on.set()
            assert client.next_answer().status == 200

    def test_who_goes_on_sending_after_a_refusal_is_cut_in_the_end(self) -> None:
        with (
            RawServer(limits=limits(linger_seconds=0.4)) as server,
            server.connect() as client,
        ):
            client.send(b"G(T / HTTP/1.1\r\n\r\n")
            assert client.next_answer().status == 400
            start = time.monotonic()
            wait_until(lambda: not client.can_send(b"a"), "the cut", 5.0)
            assert time.monotonic() - start < 2.0


class TestManyClients:
    def test_a_full_house_shows_out_who_has_kept_it_waiting_longest(self) -> None:
        with RawServer(limits=limits(max_connections=5)) as server:
            busy = server.connect()
            busy.send(WAIT)
            assert server.app.waiting.acquire(timeout=5)
            half = [server.connect() for _ in range(3)]
            for client in half:
                client.send(b"GET / HTTP/1.1\r\nHost: a")
            kept = server.connect()
            kept.send(GET)
            assert kept.next_answer().status == 200
            server.wait_until_expendable(4)
            # First the idle one goes, then the oldest half request; never one at work.
            newer = [server.connect() for _ in range(2)]
            for client in newer:
                client.send(GET)
                assert client.next_answer().status == 200
            assert kept.is_closed_within(2.0) is not None
            server.app.go_on.set()
            assert busy.next_answer().status == 200
            for client in [*half, *newer, kept, busy]:
                client.socket.close()

    def test_among_those_that_have_asked_nothing_yet_the_oldest_goes(self) -> None:
        with RawServer(limits=limits(max_connections=3)) as server:
            clients = [server.connect() for _ in range(2)]
            for client in clients:
                client.send(b"GET / HTTP/1.1\r\n")
            silent = server.connect()
            clients += [server.connect() for _ in range(2)]
            silent.send(GET)
            assert silent.next_answer().status == 200
            for client in [*clients, silent]:
                client.socket.close()

    def test_a_probe_gets_through_however_many_connections_are_held(self) -> None:
        with RawServer(limits=limits(max_connections=20)) as server:
            held = []
            for _ in range(60):
                client = server.connect()
                client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
                held.append(client)
            assert statuses(server.exchange(GET)) == [200]
            assert len(server.server._server.active_channels) <= 20
            for client in held:
                client.socket.close()


class TestDrain:
    def test_an_idle_connection_is_closed_soon(self) -> None:
        with RawServer(limits=LIMITS) as server, server.connect() as client:
            client.send(GET)
            client.next_answer()
            server.server.stop()
            assert client.is_closed_within(2.0) is not None
            server.join(3.0)

    def test_a_request_at_work_is_answered_and_its_connection_closed(self) -> None:
        with RawServer(limits=LIMITS) as server, server.connect() as client:
            client.send(WAIT + GET)
            assert server.app.waiting.acquire(timeout=5)
            server.server.stop()
            wait_until(lambda: not accepts(server.port), "no new connections")
            server.app.go_on.set()
            [answer] = client.answers_until_closed()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            server.join(3.0)

    @pytest.mark.parametrize("version", [b"1.0", b"1.1"])
    def test_a_request_half_received_may_be_finished(self, version: bytes) -> None:
        with RawServer(limits=LIMITS) as server, server.connect() as client:
            client.send(b"GET / HTTP/" + version + b"\r\nConnection: keep-alive\r\nHo")
            wait_until(lambda: has_begun(server), "the request is there")
            server.server.stop()
            wait_until(lambda: not accepts(server.port), "no new connections")
            client.send(b"st: a\r\n\r\n")
            [answer] = client.answers_until_closed()
            assert (answer.status, answer.headers["connection"]) == (200, "close")

    def test_who_waits_in_the_backlog_is_answered(self) -> None:
        server = RawServer(limits=LIMITS)
        with server.connect() as client:  # nobody has accepted it yet
            client.send(GET)
            server.server.stop()
            with server:
                assert client.next_answer().status == 200

    def test_it_takes_no_longer_than_it_may(self, caplog: pytest.LogCaptureFixture) -> None:
        with RawServer(limits=limits(drain_seconds=0.5)) as server, server.connect() as client:
            client.send(WAIT)
            assert server.app.waiting.acquire(timeout=5)
            start = time.monotonic()
            server.server.stop()
            server.join(3.0)
            assert 0.4 < time.monotonic() - start < 2.0
            assert "stopped with 1 connections still busy" in caplog.text

    def test_what_a_client_asked_before_it_left_is_finished(self) -> None:
        app = FinishingApp()
        with RawServer(app, limits=LIMITS) as server:
            with server.connect() as client:
                client.send(GET)
                assert app.begun.wait(5)
            server.server.stop()
            wait_until(lambda: not accepts(server.port), "no new connections")
            app.go_on.set()
        assert app.finished

    def test_a_second_stop_changes_nothing(self) -> None:
        with RawServer(limits=LIMITS) as server:
            server.server.stop()
            server.join()
            server.server.stop()

    def test_the_service_says_that_it_is_not_ready_and_ends_with_0(
        self, database: Database, processes: Processes
    ) -> None:
        process, port = processes.start_service("api", service_environment(database))
        with Connection(port) as half, Connection(port) as live:
            half.send(b"GET /health/ready HTTP/1.1\r\nHo")
            live.send(b"GET /health/live HTTP/1.1\r\nHo")
            with Connection(port) as other:  # the loop has seen both when it has answered this
                other.send(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
                assert other.next_answer().status == 200
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: not accepts(port), "no new connections")
            half.send(b"st: a\r\n\r\n")
            live.send(b"st: a\r\n\r\n")
            answer = half.next_answer()
            assert (answer.status, answer.json["error"]["code"]) == (503, "unavailable")
            assert answer.headers["connection"] == "close"
            assert answer.headers["retry-after"] == "1"
            assert live.next_answer().status == 200
        assert process.wait() == 0


class FinishingApp(EchoApp):
    """Notes that it came to its end, as a transaction that commits would."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.finished = False

    def __call__(self, environ: object, start_response: object) -> list[bytes]:
        self.begun.set()
        self.go_on.wait(10)
        self.finished = True
        start_response("204 No Content", [])  # type: ignore[operator]
        return []


def service_environment(database: Database, **changes: str) -> dict[str, str]:
    return {
        **database.environment("api"),
        "AUTH_SCRYPT_LOG2_N": "4",
        "JWT_SECRET": "a" * 40,
        **changes,
    }


def has_begun(server: RawServer) -> bool:
    channels = list(server.server._server.active_channels.values())
    return any(channel.request is not None for channel in channels)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
