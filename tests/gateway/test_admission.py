"""Who gets in: a ticket opens one socket, once, for somebody whose session lives."""

from __future__ import annotations

import http.client
import socket
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from rules.opaque_tokens import new_token
from tests.gateway.conftest import House, StartGateway
from tests.support.databases import Database
from tests.support.services import People
from tests.support.sockets import Sockets, TestSocket

INVALID = (4401, "ticket_invalid")


def assert_turned_away(opened: TestSocket) -> None:
    frame = opened.receive("error")
    assert frame["code"] == "ticket_invalid"
    assert opened.closed() == INVALID
    assert opened.unread == []


def test_a_ticket_in_the_subprotocol_opens_a_socket(house: House, sockets: Sockets) -> None:
    ada = house.people.person("Ada")
    opened = sockets.open(house.ports[0], house.people.ticket(ada))
    frame = opened.receive("connected")
    assert set(frame) == {
        *("type", "user_id", "session_id", "display_name", "instance", "server_time"),
        *("ping_seconds", "max_lifetime_seconds", "version_status", "drain"),
    }
    assert (frame["user_id"], frame["session_id"]) == (ada.user_id, ada.session_id)
    assert frame["display_name"] == "Ada"
    assert (frame["ping_seconds"], frame["max_lifetime_seconds"]) == (25, 3300)
    assert frame["drain"] is None
    assert frame["version_status"]["update_required"] is False


def test_the_ticket_is_not_said_back(house: House, sockets: Sockets) -> None:
    ticket = house.people.ticket(house.people.person())
    opened = sockets.admitted(house.ports[0], ticket)
    assert opened.connection.subprotocol == "gatehouse.v1"
    assert opened.connection.response is not None
    assert all(ticket not in value for value in opened.connection.response.headers.values())


def test_a_ticket_in_the_query_opens_a_socket_without_any_subprotocol(
    house: House, sockets: Sockets
) -> None:
    ticket = house.people.ticket(house.people.person())
    opened = sockets.admitted(house.ports[0], "", query=f"?ticket={ticket}", subprotocols=[])
    assert opened.connection.subprotocol is None
    assert opened.is_alive()


def test_a_ticket_in_the_query_is_none_where_that_is_switched_off(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    _, port = start_gateway(database, WS_ALLOW_TICKET_IN_QUERY="false")
    ticket = people.ticket(people.person())
    assert_turned_away(sockets.open(port, query=f"?ticket={ticket}"))
    sockets.admitted(port, ticket)  # and it was not spent by that


@pytest.mark.parametrize(
    "subprotocols",
    [
        [],
        ["gatehouse.v1"],
        ["gatehouse.v1", "ticket."],
        ["gatehouse.v1", "ticket.too-short"],
        ["gatehouse.v1", "ticket." + "A" * 4000],
        ["gatehouse.v1", "ticket." + new_token()],
    ],
    ids=["nothing", "no ticket", "an empty ticket", "a short one", "a long one", "a made-up one"],
)
def test_what_is_no_ticket_is_turned_away(
    house: House, sockets: Sockets, subprotocols: list[str]
) -> None:
    assert_turned_away(sockets.open(house.ports[0], subprotocols=subprotocols))


def test_a_ticket_opens_no_second_socket_on_any_gateway(house: House, sockets: Sockets) -> None:
    ticket = house.people.ticket(house.people.person())
    first = sockets.admitted(house.ports[0], ticket)
    for port in house.ports:
        assert_turned_away(sockets.open(port, ticket))
    assert first.is_alive()


def test_two_tickets_at_once_are_none_and_neither_is_spent(house: House, sockets: Sockets) -> None:
    ada = house.people.person()
    one, other = house.people.ticket(ada), house.people.ticket(ada)
    both = ["gatehouse.v1", f"ticket.{one}", f"ticket.{other}"]
    assert_turned_away(sockets.open(house.ports[0], subprotocols=both))
    assert_turned_away(sockets.open(house.ports[0], one, query=f"?ticket={other}"))
    for ticket in (one, other):
        sockets.admitted(house.ports[0], ticket)


def test_an_expired_ticket_is_turned_away(house: House, sockets: Sockets) -> None:
    ticket = house.people.ticket(house.people.person(), seconds=60)
    house.people.owner.execute(
        "UPDATE ws_tickets SET expires_at = clock_timestamp() WHERE ticket_hash = sha256(%s)",
        (ticket.encode("ascii"),),
    )
    assert_turned_away(sockets.open(house.ports[0], ticket))


@pytest.mark.parametrize(
    "ending",
    [
        "UPDATE user_sessions SET revoked_at = clock_timestamp() WHERE id = %(session)s",
        "UPDATE user_sessions SET expires_at = clock_timestamp() WHERE id = %(session)s",
        "UPDATE user_sessions SET idle_expires_at = clock_timestamp() WHERE id = %(session)s",
        "UPDATE user_sessions SET drain_deadline_at = clock_timestamp() WHERE id = %(session)s",
        "UPDATE users SET disabled_at = clock_timestamp() WHERE id = %(user)s",
        "DELETE FROM user_sessions WHERE id = %(session)s",
    ],
    ids=["revoked", "expired", "idle", "drained", "disabled", "deleted"],
)
def test_the_ticket_of_a_dead_session_is_turned_away(
    house: House, sockets: Sockets, ending: str
) -> None:
    ada = house.people.person()
    ticket = house.people.ticket(ada)
    house.people.owner.execute(ending.encode(), {"session": ada.session_id, "user": ada.user_id})
    assert_turned_away(sockets.open(house.ports[0], ticket))


def test_of_fifty_racing_connections_on_two_gateways_one_spends_the_ticket(
    house: House, sockets: Sockets
) -> None:
    ticket = house.people.ticket(house.people.person())
    start = Barrier(50)

    def race(number: int) -> TestSocket:
        port = house.ports[number % 2]
        with socket.create_connection(("127.0.0.1", port)) as connection:
            start.wait(10)
            return sockets.open(port, ticket, sock=connection.dup())

    with ThreadPoolExecutor(50) as threads:
        opened = list(threads.map(race, range(50)))
    firsts = [each.receive_any() for each in opened]
    assert sorted(frame["type"] for frame in firsts) == ["connected"] + ["error"] * 49
    for each, frame in zip(opened, firsts, strict=True):
        if frame["type"] == "error":
            assert frame["code"] == "ticket_invalid"
            assert each.closed() == INVALID
        else:
            assert each.is_alive()


def test_fifty_people_who_come_at_once_all_get_in_as_themselves(
    house: House, sockets: Sockets
) -> None:
    everybody = [house.people.person() for _ in range(50)]
    tickets = [house.people.ticket(person) for person in everybody]
    start = Barrier(50)

    def come(number: int) -> int:
        start.wait(10)
        opened = sockets.open(house.ports[number % 2], tickets[number])
        return int(opened.receive("connected")["user_id"])

    with ThreadPoolExecutor(50) as threads:
        admitted = list(threads.map(come, range(50)))
    assert admitted == [person.user_id for person in everybody]


def test_no_ticket_is_ever_in_the_log(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    gateway, port = start_gateway(database)
    ada = people.person()
    good, made_up = people.ticket(ada), new_token()
    sockets.admitted(port, good)
    assert_turned_away(sockets.open(port, good))
    assert_turned_away(sockets.open(port, made_up, query=f"?ticket={made_up}"))
    assert_turned_away(sockets.open(port, query=f"?ticket={made_up}"))
    gateway.stop()
    assert "admission refused: ticket_invalid" in gateway.output
    for ticket in (good, made_up):
        assert ticket not in gateway.output


def test_the_request_id_of_the_ticket_is_in_the_lines_of_the_socket(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    gateway, port = start_gateway(database, GOOGLE_CLOUD_PROJECT="castle")
    ticket = people.ticket(people.person(), request_id="ticket-call-0001")
    trace = "0123456789abcdef0123456789abcdef"
    headers = {"X-Request-ID": "handshake-000001", "X-Cloud-Trace-Context": f"{trace}/1;o=1"}
    opened = sockets.admitted(port, ticket, headers=headers)
    assert opened.connection.response is not None
    assert opened.connection.response.headers["X-Request-ID"] == "handshake-000001"
    opened.connection.close()
    gateway.wait_for_line("socket closed")
    assert [(line["message"], line["request_id"]) for line in gateway.log if "request_id" in line][
        -3:
    ] == [
        ("GET /ws 101", "handshake-000001"),
        ("socket open", "ticket-call-0001"),
        ("socket closed: by the client", "ticket-call-0001"),
    ]
    assert {line["logging.googleapis.com/trace"] for line in gateway.log[-3:]} == {
        f"projects/castle/traces/{trace}"
    }


def test_every_request_has_a_line(database: Database, start_gateway: StartGateway) -> None:
    gateway, port = start_gateway(database)
    for method, path in (("GET", "/health/live"), ("GET", "/ws"), ("BREW", "/tea?pot=secret")):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request(method, path, headers={"X-Request-ID": f"line-of-{path[1:3]}"})
        connection.getresponse().read()
        connection.close()
    gateway.wait_for_line("(other) (none) 404")
    told = [line for line in gateway.log if line.get("request_id", "").startswith("line-of")]
    assert [(line["message"], line.get("code")) for line in told] == [
        ("GET /health/live 200", None),
        ("GET /ws 400", "invalid_request"),
        ("(other) (none) 404", "not_found"),
    ]
