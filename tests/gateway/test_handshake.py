"""The HTTP side of the gateway: what is refused before the upgrade, and the probes."""

from __future__ import annotations

import base64
import re
import socket

import pytest

from tests.gateway.conftest import House, StartGateway
from tests.support.databases import Database
from tests.support.http_calls import Answer, Http, read_answer
from tests.support.processes import wait_until
from tests.support.services import People
from tests.support.sockets import Sockets

KEY = base64.b64encode(b"0123456789abcdef").decode()
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@pytest.fixture
def http(house: House) -> Http:
    return Http(house.ports[0])


def assert_refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.error["code"]) == (status, code)
    assert_decent(answer)


def assert_decent(answer: Answer) -> None:
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers[name] == value
    assert answer.headers["Permissions-Policy"]
    assert re.fullmatch(r"[A-Za-z0-9._-]{8,64}", answer.headers["X-Request-ID"])
    assert "Server" not in answer.headers
    assert "Strict-Transport-Security" not in answer.headers
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/", "/ws/", "/WS", "/wss", "//ws", "/ws%2f", "/health", "/health/live/", "/x?/ws"]
)
def test_another_path_is_not_found(http: Http, path: str) -> None:
    assert_refused(http.get(path, headers=UPGRADE), 404, "not_found")


@pytest.mark.parametrize("path", ["/ws", "/health/live", "/health/ready"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_another_method_is_not_allowed(http: Http, method: str, path: str) -> None:
    answer = http.call(method, path, headers=UPGRADE)
    assert_refused(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET"


def test_the_answer_that_opens_a_socket_has_the_headers_of_every_other(http: Http) -> None:
    answer = http.get("/ws", headers={**UPGRADE, "X-Request-ID": "handshake-000004"})
    assert answer.status == 101
    assert_decent(answer)
    assert answer.headers.get_all("X-Request-ID") == ["handshake-000004"]


def test_plain_http_finds_no_page(http: Http) -> None:
    assert_refused(http.get("/ws"), 400, "invalid_request")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Sec-WebSocket-Key", "short"),
        ("Sec-WebSocket-Key", KEY + "AAAA"),
        ("Sec-WebSocket-Version", "8"),
    ],
)
def test_a_handshake_with_something_wrong_is_refused(http: Http, name: str, value: str) -> None:
    headers = {**UPGRADE, name: value, "X-Request-ID": "handshake-000002"}
    answer = http.get("/ws", headers=headers)
    assert_refused(answer, 400, "invalid_request")
    assert answer.headers["X-Request-ID"] == "handshake-000002"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET /ws HTTP/1.0\r\n\r\n",
        b"GET /ws HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /ws HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /ws HTTP/1.1\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
        b"GET /ws HTTP/1.1\r\nA: " + b"b" * 100_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
    ids=[
        *("nothing", "nonsense", "http 1.0", "http 2.0", "no colon", "nul", "a body", "chunks"),
        *("a long path", "many headers", "a long header", "tls"),
    ],
)
def test_bytes_that_are_no_request_end_that_connection_alone(
    house: House, http: Http, request_bytes: bytes, sockets: Sockets
) -> None:
    with socket.create_connection(("127.0.0.1", http.port), timeout=15) as connection:
        try:
            connection.sendall(request_bytes)
            answered = b""
            while piece := connection.recv(65536):
                answered += piece
        except ConnectionError:
            answered = b""  # it may hang up while we are still sending
    assert not answered.startswith(b"HTTP/1.1 101")
    assert b"Traceback" not in answered
    if answered:
        assert re.match(rb"HTTP/1\.1 4\d\d |HTTP/1\.1 505 ", answered)
    sockets.admitted(http.port, house.people.ticket(house.people.person()))


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n",
        b"GET /ws HTTP/1.1\r\n" + b"A: b\r\n" * 200,
        b"GET /ws HTTP/1.1\r\nA: " + b"b" * 9000 + b"\r\n",
    ],
    ids=["a long path", "many headers", "a long header"],
)
def test_a_head_that_is_too_large_is_refused_like_everything_else(http: Http, head: bytes) -> None:
    assert_refused(http.raw(head + b"\r\n"), 431, "headers_too_large")


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (b"POST /ws HTTP/1.1\r\nContent-Length: 2\r\n", 405, "method_not_allowed"),
        (b"POST /ws HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", 405, "method_not_allowed"),
        (b"PUT /health/live HTTP/1.1\r\nContent-Length: 2\r\n", 405, "method_not_allowed"),
        (b"PUT /nope HTTP/1.1\r\nContent-Length: 2\r\n", 404, "not_found"),
        (b"GET /nope HTTP/1.1\r\nContent-Length: 2\r\n", 404, "not_found"),
        (b"GET /ws HTTP/1.1\r\nContent-Length: 2\r\n", 400, "invalid_request"),
        (b"POST /ws HTTP/1.1\nHost: x\n", 400, "invalid_request"),
        (b"POST /ws HTTP/1.1\r\nno colon\r\n", 400, "invalid_request"),
        (b"POST /ws HTTP/1.1\r\nA : b\r\n", 400, "invalid_request"),
        (b"POST /ws HTTP/1.1\r\nA: \x00\r\nContent-Length: 2\r\n", 400, "invalid_request"),
        (b"GET /caf\xc3\xa9 HTTP/1.1\r\n", 400, "invalid_request"),
        (b"PRI * HTTP/2.0\r\n", 400, "invalid_request"),
        (b"nonsense\r\n", 400, "invalid_request"),
        (b"", 400, "invalid_request"),
    ],
)
def test_a_request_that_cannot_be_a_handshake_is_answered_all_the_same(
    http: Http, head: bytes, status: int, code: str
) -> None:
    answer = http.raw(head + b"\r\n{}")
    assert_refused(answer, status, code)
    assert answer.headers.get("Allow") == ("GET" if status == 405 else None)


@pytest.mark.parametrize("broken", [b"Content-Length: 2", b"no colon", b"A: " + b"b" * 9000])
def test_its_answer_keeps_the_request_id_that_was_sent(http: Http, broken: bytes) -> None:
    head = b"GET /ws HTTP/1.1\r\nX-Request-ID: handshake-000003\r\n" + broken + b"\r\n\r\n"
    assert http.raw(head).headers["X-Request-ID"] == "handshake-000003"


def test_what_follows_a_refused_request_is_never_answered(http: Http) -> None:
    with socket.create_connection(("127.0.0.1", http.port), timeout=15) as connection:
        connection.sendall(b"POST /ws HTTP/1.1\r\nContent-Length: 2\r\n\r\n")
        assert read_answer(connection).status == 405
        connection.sendall(b"GET /nowhere HTTP/1.1\r\n\r\n" * 2)
        assert connection.recv(1) == b""


@pytest.mark.parametrize("half", [b"", b"GET /ws HTTP/1.1\r\nHost: x\r\n"], ids=["nothing", "half"])
def test_a_request_that_stops_half_way_gets_no_answer(http: Http, half: bytes) -> None:
    with socket.create_connection(("127.0.0.1", http.port), timeout=15) as connection:
        connection.sendall(half)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


def test_the_clients_request_id_is_kept_when_it_is_well_formed(http: Http) -> None:
    for path in ("/nowhere", "/health/live"):
        kept = http.get(path, headers={"X-Request-ID": "Abc.123_x-y"})
        assert kept.headers["X-Request-ID"] == "Abc.123_x-y"


@pytest.mark.parametrize("sent", ["short", "x" * 65, "with space", 'quote"s', "", "a,b,c,d,e"])
def test_any_other_request_id_is_replaced(http: Http, sent: str) -> None:
    answer = http.get("/nowhere", headers={"X-Request-ID": sent})
    assert answer.headers["X-Request-ID"] != sent
    assert_refused(answer, 404, "not_found")


class TestHealth:
    @pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/health/ready?x=1"])
    def test_it_is_well(self, http: Http, path: str) -> None:
        answer = http.get(path)
        assert (answer.status, answer.json) == (200, {"status": "ok"})
        assert_decent(answer)


ALLOWED_ORIGINS = ("https://app.example.org", "http://localhost:3000", "capacitor://localhost")


class TestOrigins:
    @pytest.fixture
    def port(self, database: Database, start_gateway: StartGateway) -> int:
        _, port = start_gateway(database, WS_ALLOWED_ORIGINS=",".join(ALLOWED_ORIGINS))
        return port

    def test_an_allowed_origin_and_a_client_without_one_get_in(
        self, people: People, port: int, sockets: Sockets
    ) -> None:
        ada = people.person()
        for origin in ALLOWED_ORIGINS:
            sockets.admitted(port, people.ticket(ada), headers={"Origin": origin})
        sockets.admitted(port, people.ticket(ada))

    def test_any_other_origin_is_refused_and_spends_no_ticket(
        self, people: People, port: int, sockets: Sockets
    ) -> None:
        ticket = people.ticket(people.person())
        offered = {"Sec-WebSocket-Protocol": f"gatehouse.v1, ticket.{ticket}"}
        for origin in (
            "https://evil.example",
            "http://app.example.org",
            "https://app.example.org:8443",
            "https://app.example.org.evil.example",
            "https://app.example.org/",
            "https://APP.example.org",
            "http://localhost",
            "ionic://localhost",
            "capacitor://localhost:8080",
            "null",
            "",
        ):
            answer = Http(port).get("/ws", headers={**UPGRADE, **offered, "Origin": origin})
            assert_refused(answer, 403, "origin_not_allowed")
        sockets.admitted(port, ticket)

    def test_without_a_list_no_browser_gets_in(self, http: Http) -> None:
        answer = http.get("/ws", headers={**UPGRADE, "Origin": "https://app.example.org"})
        assert_refused(answer, 403, "origin_not_allowed")

    def test_the_origins_of_the_api_count_where_the_gateway_has_none_of_its_own(
        self, database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
    ) -> None:
        _, port = start_gateway(database, CORS_ALLOWED_ORIGINS="https://app.example.org")
        headers = {"Origin": "https://app.example.org"}
        sockets.admitted(port, people.ticket(people.person()), headers=headers)


def test_behind_proxies_that_all_speak_https_hsts_is_sent(
    database: Database, start_gateway: StartGateway
) -> None:
    _, port = start_gateway(database, TRUSTED_PROXY_HOPS="1")
    hsts = "max-age=31536000; includeSubDomains"
    for forwarded, sent in (("https, https", hsts), ("https, http", None)):
        answer = Http(port).get("/nowhere", headers={"X-Forwarded-Proto": forwarded})
        assert answer.headers["Strict-Transport-Security"] == sent


def test_a_full_gateway_refuses_with_503_until_somebody_leaves(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    _, port = start_gateway(database, WS_MAX_CONNECTIONS="2")
    ada = people.person()
    first = sockets.admitted(port, people.ticket(ada))
    sockets.admitted(port, people.ticket(ada))
    ticket = people.ticket(ada)
    offered = {"Sec-WebSocket-Protocol": f"gatehouse.v1, ticket.{ticket}"}
    answer = Http(port).get("/ws", headers={**UPGRADE, **offered})
    assert_refused(answer, 503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    first.close()
    sockets.admitted(port, ticket)


def test_strange_origins_are_written_down_twenty_times_a_minute(
    database: Database, start_gateway: StartGateway
) -> None:
    _, port = start_gateway(database)
    ids = [f"looked-for-{number:02}" for number in range(25)]
    for request_id in ids:
        headers = UPGRADE | {"Origin": "https://evil.example", "X-Request-ID": request_id}
        assert_refused(Http(port).get("/ws", headers=headers), 403, "origin_not_allowed")
    wait_until(lambda: events(database, "malicious_cors") == ids[:20], "the events are written")


def test_a_gateway_that_starts_says_so(database: Database, start_gateway: StartGateway) -> None:
    start_gateway(database)
    wait_until(lambda: len(events(database, "sys_startup")) == 1, "the event is written")


def events(database: Database, event: str) -> list[str | None]:
    """The request ids of the events of one kind."""
    with database.connect() as owner:
        rows = owner.execute(
            "SELECT request_id FROM security_events WHERE event = %s ORDER BY id", [event]
        )
        return [request_id for (request_id,) in rows]
