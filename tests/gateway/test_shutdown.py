"""SIGTERM to a gateway: everybody is sent away in good order, and nothing is lost."""

from __future__ import annotations

import signal
import socket as network
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed

from tests.gateway.conftest import StartGateway
from tests.support.databases import Database
from tests.support.http_calls import Http
from tests.support.ports import is_listening
from tests.support.processes import wait_until
from tests.support.services import People
from tests.support.sockets import Sockets, TestSocket

RESTART = (1012, "service_restart")
CLOUD_RUN_SECONDS = 10.0  # after SIGTERM it kills


def test_every_socket_is_closed_with_1012_and_the_exit_code_is_0(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    gateway, port = start_gateway(database, WS_SHUTDOWN_SPREAD_SECONDS="1")
    ada = people.person()
    opened = [sockets.admitted(port, people.ticket(ada)) for _ in range(30)]
    opened[0].subscribe(1)
    gateway.send_signal(signal.SIGTERM)
    for each in opened:
        assert each.closed() == RESTART
        assert [frame["code"] for frame in each.unread] == ["service_restart"]
    assert gateway.wait(CLOUD_RUN_SECONDS) == 0
    assert not is_listening(port)
    assert "Traceback" not in gateway.output
    assert people.one("SELECT count(*) FROM gateway_instances") == 0
    assert people.one("SELECT count(*) FROM gateway_connections") == 0


def test_sockets_are_closed_one_after_the_other_not_all_at_once(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    gateway, port = start_gateway(database, WS_SHUTDOWN_SPREAD_SECONDS="3")
    ada = people.person()
    opened = [sockets.admitted(port, people.ticket(ada)) for _ in range(12)]
    gateway.send_signal(signal.SIGTERM)
    waiting = list(opened)
    counts = []  # how many were still open when each one's end was seen
    while waiting:
        ended = [each for each in waiting if has_ended(each)]
        waiting = [each for each in waiting if each not in ended]
        counts += [len(waiting)] if ended else []
        time.sleep(0.02)
    assert len(counts) >= 6, counts
    assert gateway.wait(CLOUD_RUN_SECONDS) == 0


def has_ended(opened: TestSocket) -> bool:
    try:
        opened.receive_any(0)
    except TimeoutError:
        return False
    except ConnectionClosed:
        return True
    return False


def test_lifetimes_end_one_after_the_other_too(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    _, port = start_gateway(database, WS_MAX_LIFETIME_SECONDS="6")
    ada = people.person()
    opened = [sockets.admitted(port, people.ticket(ada)) for _ in range(12)]
    assert all(each.is_alive() for each in opened)
    ends: list[int] = []
    waiting = list(range(12))
    while waiting:
        ended = [number for number in waiting if has_ended(opened[number])]
        waiting = [number for number in waiting if number not in ended]
        ends += ended
        time.sleep(0.02)
    assert ends != sorted(ends)  # not in the order in which they came
    for each in opened:
        assert each.connection.close_code == 4440


def test_ctrl_c_is_as_good(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    gateway, port = start_gateway(database)
    opened = sockets.admitted(port, people.ticket(people.person()))
    gateway.send_signal(signal.SIGINT)
    assert opened.closed() == RESTART
    assert gateway.wait(CLOUD_RUN_SECONDS) == 0


def test_while_sockets_are_being_closed_new_ones_and_probes_get_503(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    gateway, port = start_gateway(database, WS_SHUTDOWN_SPREAD_SECONDS="4")
    ada = people.person()
    opened = [sockets.admitted(port, people.ticket(ada)) for _ in range(4)]
    gateway.send_signal(signal.SIGTERM)
    gateway.wait_for_line("stopping")
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
    }
    for path in ("/ws", "/health/ready"):
        answer = Http(port).get(path, headers=upgrade)
        assert (answer.status, answer.error["code"]) == (503, "unavailable")
        assert answer.headers["Retry-After"] == "1"
    assert Http(port).get("/health/live").status == 200
    for each in opened:
        assert each.closed() == RESTART
    assert gateway.wait(CLOUD_RUN_SECONDS) == 0


def test_acks_that_are_due_go_out_before_the_close(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    gateway, port = start_gateway(database)
    ada = people.person()
    channel = people.channel(ada)
    opened = sockets.admitted(port, people.ticket(ada))
    idle = sockets.admitted(port, people.ticket(ada))
    with database.connect() as other, other.transaction():
        other.execute("SELECT FROM chat_channels WHERE id = %s FOR UPDATE", (channel,))
        sent = [opened.say(channel, str(number)) for number in range(5)]
        wait_until(lambda: people.waiting() == 1, "the batch waits for the channel")
        gateway.send_signal(signal.SIGTERM)
        assert idle.closed() == RESTART
    assert opened.closed() == RESTART
    acked = [frame["client_msg_id"] for frame in opened.unread if frame["type"] == "ack"]
    assert acked == sent
    assert people.stored(channel) == [(number + 1, str(number)) for number in range(5)]
    assert gateway.wait(CLOUD_RUN_SECONDS) == 0


def test_nothing_that_was_acknowledged_is_lost_in_a_storm_of_messages(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    gateway, port = start_gateway(database, WS_MAX_FRAMES_PER_SECOND="100000")
    writers = [people.person() for _ in range(4)]
    channel = people.channel(*writers)
    acked: dict[int, str] = {}
    lock = threading.Lock()

    def write(number: int) -> None:
        opened = sockets.admitted(port, people_tickets[number])
        sent: dict[str, str] = {}
        try:
            for i in range(100_000):
                content = f"{number}/{i}"
                sent[opened.say(channel, content)] = content
                if i % 20 == 19:
                    opened.unread += opened.take("ack", 10)
        except (ConnectionClosed, AssertionError):
            assert opened.closed() == RESTART
        with lock:
            for frame in opened.unread:
                if frame["type"] == "ack":
                    acked[frame["seq"]] = sent[frame["client_msg_id"]]

    people_tickets = [people.ticket(writer) for writer in writers]
    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(people.stored(channel)) > 200, "the storm has begun", 30)
    gateway.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert gateway.wait(CLOUD_RUN_SECONDS) == 0
    stored = dict(people.stored(channel))
    assert sorted(stored) == list(range(1, len(stored) + 1))
    assert len(acked) > 100
    assert acked.items() <= stored.items()


@pytest.mark.parametrize("stuck", ["does not read", "has only connected", "waits for the database"])
def test_a_stuck_client_does_not_hold_up_the_exit(
    database: Database,
    people: People,
    start_gateway: StartGateway,
    sockets: Sockets,
    stuck: str,
) -> None:
    gateway, port = start_gateway(database)
    ada = people.person()
    channel = people.channel(ada)
    narrow = network.socket()
    narrow.setsockopt(network.SOL_SOCKET, network.SO_RCVBUF, 8192)
    narrow.connect(("127.0.0.1", port))
    with narrow, database.connect() as other, other.transaction():
        if stuck == "does not read":
            opened = sockets.admitted(port, people.ticket(ada), sock=narrow, max_queue=1)
            opened.subscribe(channel)
            people.fill(ada, channel, 500, "\u0dba" * 2000)
            gateway.wait_for_line("socket open")
        elif stuck == "waits for the database":
            opened = sockets.admitted(port, people.ticket(ada), sock=narrow)
            other.execute("SELECT FROM chat_channels WHERE id = %s FOR UPDATE", (channel,))
            opened.say(channel, "never stored")
            wait_until(lambda: people.waiting() == 1, "the batch waits for the channel")
        started = time.monotonic()
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(CLOUD_RUN_SECONDS + 5) == 0
        assert time.monotonic() - started < CLOUD_RUN_SECONDS
        if stuck == "has only connected":
            assert "did not close" not in gateway.output
