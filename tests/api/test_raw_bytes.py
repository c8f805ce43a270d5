"""What the server makes of every kind of request that is not quite one: raw bytes to a socket."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator

import pytest

from rules.errors import KINDS
from tests.support.raw_http import MAX_BODY_BYTES, RawServer, statuses

GET = b"GET /after HTTP/1.1\r\nHost: a\r\n\r\n"
HOST = b"Host: a\r\n"


def request(line: bytes = b"GET / HTTP/1.1", *fields: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([line, b"Host: a", *fields, b"", body])


def post(*fields: bytes, body: bytes = b"") -> bytes:
    return request(b"POST / HTTP/1.1", *fields, body=body)


def chunked(body: bytes, *fields: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", *fields, body=body)


@pytest.fixture(scope="module")
def shared() -> Iterator[RawServer]:
    with RawServer() as running:
        yield running


@pytest.fixture
def server(shared: RawServer) -> RawServer:
    shared.app.requests.clear()
    return shared


# What never reaches the app, by the status of its one answer; a request is sent behind each.
REFUSED = {
    # Where does the body end?
    "length and chunked": (400, chunked(b"0\r\n\r\n", b"Content-Length: 5")),
    "chunked and length": (
        400,
        post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    ),
    "length and chunked, 1.0": (
        400,
        b"POST / HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "chunked in 1.0": (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "two lengths": (400, post(b"Content-Length: 1", b"Content-Length: 2", body=b"ab")),
    "the same length twice": (400, post(b"Content-Length: 1", b"Content-Length: 1", body=b"a")),
    "a list of lengths": (400, post(b"Content-Length: 1, 1", body=b"a")),
    "no length": (400, post(b"Content-Length:")),
    "a signed length": (400, post(b"Content-Length: +1", body=b"a")),
    "a negative length": (400, post(b"Content-Length: -1", body=b"a")),
    "a hexadecimal length": (400, post(b"Content-Length: 0x1", body=b"a")),
    "a length with a space": (400, post(b"Content-Length: 1 1", body=b"a")),
    "a length of 5000 digits": (413, post(b"Content-Length: " + b"9" * 5000)),
    "a length above the limit": (413, post(b"Content-Length: 1001", body=b"a" * 1001)),
    "gzip": (400, post(b"Transfer-Encoding: gzip", body=b"0\r\n\r\n")),
    "gzip, chunked": (400, post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")),
    "identity": (400, post(b"Transfer-Encoding: identity", body=b"0\r\n\r\n")),
    "xchunked": (400, post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n")),
    "chunked, identity": (400, post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n")),
    "chunked twice": (400, post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n")),
    "two Transfer-Encodings": (400, chunked(b"0\r\n\r\n", b"Transfer-Encoding: chunked")),
    "an empty Transfer-Encoding": (
        400,
        post(b"Transfer-Encoding:", b"Content-Length: 5", body=b"0\r\n\r\n"),
    ),
    "chunked and a comma": (400, post(b"Transfer-Encoding: chunked,", body=b"0\r\n\r\n")),
    "chunked with a parameter": (400, post(b"Transfer-Encoding: chunked;q=1", body=b"0\r\n\r\n")),
    "chunked in quotes": (400, post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n")),
    "a vertical tab before chunked": (400, post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n")),
    "a space before the colon": (400, post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n")),
    # Chunks.
    "a chunk size of no digits": (400, chunked(b"\r\na\r\n0\r\n\r\n")),
    "a negative chunk size": (400, chunked(b"-1\r\na\r\n0\r\n\r\n")),
    "a chunk size with 0x": (400, chunked(b"0x1\r\na\r\n0\r\n\r\n")),
    "a chunk size with a space": (400, chunked(b"1 \r\na\r\n0\r\n\r\n")),
    "a chunk size with an underscore": (400, chunked(b"0_1\r\na\r\n0\r\n\r\n")),
    "an endless chunk size": (400, chunked(b"0" * 2000)),
    "a chunk longer than its size": (400, chunked(b"1\r\nab\r\n0\r\n\r\n")),
    "an empty line between chunks": (400, chunked(b"1\r\na\r\n\r\n0\r\n\r\n")),
    "a chunk ended by a bare LF": (400, chunked(b"1\r\na\n0\r\n\r\n")),
    "a chunk size ended by a bare LF": (400, chunked(b"1\na\r\n0\r\n\r\n")),
    "an extension that is none": (400, chunked(b"1;\x00\r\na\r\n0\r\n\r\n")),
    "an extension with a bare CR": (400, chunked(b"1;a\rb\r\na\r\n0\r\n\r\n")),
    "an endless extension": (400, chunked(b"1;a=" + b"b" * 2000 + b"\r\na\r\n0\r\n\r\n")),
    "a trailer that is none": (400, chunked(b"0\r\nno colon\r\n\r\n")),
    "an endless trailer": (400, chunked(b"0\r\n" + b"A: b\r\n" * 2000 + b"\r\n")),
    "a chunk above the limit": (413, chunked(b"3e9\r\n")),
    "a chunk beyond all measure": (413, chunked(b"ffffffffffffffff\r\n")),
    # Lines.
    "a folded line": (400, request(b"GET / HTTP/1.1", b"A: b", b" c")),
    "a folded first header": (400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    "a bare LF in a header": (400, request(b"GET / HTTP/1.1", b"A: b\nC: d")),
    "a bare CR in a header": (400, request(b"GET / HTTP/1.1", b"A: b\rC: d")),
    "bare LFs all over": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "a bare LF behind the request line": (400, b"GET / HTTP/1.1\n\r\nHost: a\r\n\r\n"),
    "NUL in a value": (400, request(b"GET / HTTP/1.1", b"A: b\x00c")),
    "NUL in a name": (400, request(b"GET / HTTP/1.1", b"A\x00: b")),
    "a space in a name": (400, request(b"GET / HTTP/1.1", b"A b: c")),
    "no name": (400, request(b"GET / HTTP/1.1", b": c")),
    "no colon": (400, request(b"GET / HTTP/1.1", b"abc")),
    "a name outside ASCII": (400, request(b"GET / HTTP/1.1", b"\xc3\xa9: c")),
    "a space before the request line": (400, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "two spaces": (400, request(b"GET  / HTTP/1.1")),
    "a tab": (400, request(b"GET\t/ HTTP/1.1")),
    "a space at the end": (400, request(b"GET / HTTP/1.1 ")),
    "a head beyond the limit": (431, request(b"GET / HTTP/1.1", b"A: " + b"b" * 17_000)),
    "a path beyond the limit": (431, request(b"GET /" + b"b" * 17_000 + b" HTTP/1.1")),
    # Methods and versions.
    "a method in lower case": (400, request(b"get / HTTP/1.1")),
    "a method that is no token": (400, request(b"G(T / HTTP/1.1")),
    "a method of 40 letters": (400, request(b"A" * 40 + b" / HTTP/1.1")),
    "falcon's own method": (400, request(b"WEBSOCKET / HTTP/1.1")),
    "HTTP/0.9": (400, b"GET /\r\n\r\n"),
    "HTTP/1.2": (400, request(b"GET / HTTP/1.2")),
    "HTTP/2.0": (400, request(b"GET / HTTP/2.0")),
    "HTTP/11": (400, request(b"GET / HTTP/11")),
    "the preface of HTTP/2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "the start of TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 50),
    "garbage": (400, b"\xde\xad\xbe\xef" * 100),
    "garbage in lines": (400, b"what is\r\nthis\r\n\r\n"),
    # Targets.
    "no slash": (400, request(b"GET a HTTP/1.1")),
    "an asterisk": (400, request(b"OPTIONS * HTTP/1.1")),
    "authority-form": (400, request(b"CONNECT a.example:443 HTTP/1.1")),
    "a fragment": (400, request(b"GET /a#b HTTP/1.1")),
    "a second slash": (400, request(b"GET //a/b HTTP/1.1")),
    "a second slash in absolute-form": (400, request(b"GET http://a//b HTTP/1.1")),
    "absolute-form of another scheme": (400, request(b"GET ftp://a/b HTTP/1.1")),
    "absolute-form with a user": (400, request(b"GET http://u:p@a/b HTTP/1.1")),
    "absolute-form with a broken host": (400, request(b"GET http://[/ HTTP/1.1")),
    "absolute-form with a false address": (400, request(b"GET http://[:::]/ HTTP/1.1")),
    "a path outside ASCII": (400, request(b"GET /\xc3\xa9 HTTP/1.1")),
    "an encoded slash": (400, request(b"GET /a%2Fb HTTP/1.1")),
    "an encoded slash, lower case": (400, request(b"GET /a%2fb HTTP/1.1")),
    "an encoded backslash": (400, request(b"GET /a%5Cb HTTP/1.1")),
    "an encoded NUL": (400, request(b"GET /a%00b HTTP/1.1")),
    "an encoded CRLF": (400, request(b"GET /a%0d%0ab HTTP/1.1")),
    "an escape that is none": (400, request(b"GET /a%zz HTTP/1.1")),
    "an escape cut short": (400, request(b"GET /a%2 HTTP/1.1")),
    # Host.
    "no Host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, request(b"GET / HTTP/1.1", b"Host: b")),
    "the same Host twice": (400, request(b"GET / HTTP/1.1", b"Host: a")),
    "a Host with a path": (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "a Host with a user": (400, b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    "a list of Hosts": (400, b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
}


@pytest.mark.parametrize(("status", "data"), REFUSED.values(), ids=REFUSED)
def test_a_request_that_may_be_misread_gets_one_refusal_and_the_connection_closes(
    server: RawServer, status: int, data: bytes
) -> None:
    with server.connect() as connection:
        connection.send(data + GET)
        answers = connection.answers_until_closed()
    assert statuses(answers) == [status]
    assert answers[0].headers["connection"] == "close"
    error = answers[0].json["error"]
    assert KINDS[error["code"]].status == status
    assert error["request_id"] == answers[0].headers["x-request-id"]
    assert server.app.requests == []


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\nHost: a\n\n", b"GET / HTTP/1.1\rHost: a", b"\x16\x03\x01\x02\x00\x01"],
    ids=["bare LFs", "a bare CR", "TLS"],
)
def test_a_head_that_cannot_get_better_is_refused_before_its_end(
    server: RawServer, data: bytes
) -> None:
    with server.connect() as connection:
        connection.send(data)
        assert statuses(connection.answers_until_closed()) == [400]


ACCEPTED = {
    "the simplest": (request(), {"path": "/", "body": ""}),
    "empty lines before it": (b"\r\n\r\n" + request(), {"path": "/"}),
    "HTTP/1.0 without Host": (b"GET / HTTP/1.0\r\n\r\n", {"path": "/"}),
    "an empty Host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", {"path": "/"}),
    "a Host with a port": (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", {"path": "/"}),
    "absolute-form": (request(b"GET http://b:80/c?d HTTP/1.1"), {"path": "/c", "query": "d"}),
    "a body": (post(b"Content-Length: 3", body=b"abc"), {"body": "abc", "content_length": "3"}),
    "chunks": (
        chunked(b"1\r\na\r\n002\r\nbc\r\n0\r\n\r\n"),
        {"body": "abc", "content_length": "3"},
    ),
    "CHUNKED behind a tab": (
        post(b"Transfer-Encoding:\tCHUNKED\t", body=b"3\r\nabc\r\n0\r\n\r\n"),
        {"body": "abc"},
    ),
    "no chunk but the last": (chunked(b"0\r\n\r\n"), {"body": "", "content_length": "0"}),
    "extensions and trailers": (
        chunked(b'3;a;b=c;d="e f"\r\nabc\r\n0;x\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n'),
        {"body": "abc", "headers": ["HTTP_HOST"]},
    ),
    "a name with an underscore": (
        request(b"GET / HTTP/1.1", b"X_Request_ID: a", b"Content_Length: 5"),
        {"headers": ["HTTP_HOST"], "content_length": None},
    ),
    "an encoded letter": (request(b"GET /%61 HTTP/1.1"), {"path": "/a"}),
    "dots": (request(b"GET /a/../b/%2e%2e/c HTTP/1.1"), {"path": "/a/../b/../c"}),
    "a question mark alone": (request(b"GET /? HTTP/1.1"), {"query": ""}),
    "a query with escapes that are none": (request(b"GET /?a=%zz HTTP/1.1"), {"query": "a=%zz"}),
    "an unknown expectation": (
        post(b"Expect: the-unexpected", b"Content-Length: 1", body=b"a"),
        {"body": "a"},
    ),
    "Expect in HTTP/1.0": (
        b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
        {"body": "a"},
    ),
}


@pytest.mark.parametrize(("data", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_what_is_unusual_but_clear_is_served(
    server: RawServer, data: bytes, expected: dict[str, object]
) -> None:
    answer = server.one(data)
    assert answer.status == 200
    assert expected.items() <= answer.json.items()


# Those that are long only to pass a limit are left out.
SHORT = {name: data for name, (_, data) in REFUSED.items() if len(data) <= 500}


@pytest.mark.parametrize("data", SHORT.values(), ids=SHORT)
def test_bytes_that_come_one_by_one_are_read_no_differently(server: RawServer, data: bytes) -> None:
    whole = statuses(server.exchange(data))
    with server.connect() as connection:
        for number in range(len(data)):
            try:
                connection.send(data[number : number + 1])
            except OSError:
                break  # refused already
        connection.finish()
        assert statuses(connection.answers_until_closed()) == whole


class TestExpectation:
    def test_without_a_body_it_asks_for_nothing(self, server: RawServer) -> None:
        first = request(b"GET /one HTTP/1.1", b"Expect: 100-continue", b"X-Secret: 1")
        with server.connect() as connection:
            connection.send(first)
            one = connection.next_answer()
            connection.send(request(b"GET /two HTTP/1.1"))
            two = connection.next_answer()
        assert (one.status, one.json["path"]) == (200, "/one")
        assert (two.status, two.json["path"]) == (200, "/two")
        assert two.json["headers"] == ["HTTP_HOST"]

    def test_with_an_empty_body_it_asks_for_nothing(self, server: RawServer) -> None:
        answers = server.exchange(post(b"Expect: 100-continue", b"Content-Length: 0") + GET)
        assert statuses(answers) == [200, 200]

    def test_a_body_is_asked_for(self, server: RawServer) -> None:
        with server.connect() as connection:
            connection.send(post(b"Expect: 100-Continue", b"Content-Length: 3"))
            assert connection.next_answer().status == 100
            connection.send(b"abc")
            assert connection.next_answer().json["body"] == "abc"

    @pytest.mark.parametrize("length", [b"1001", b"99999999999999999999"])
    def test_a_body_above_the_limit_is_refused_without_being_asked_for(
        self, server: RawServer, length: bytes
    ) -> None:
        with server.connect() as connection:
            connection.send(post(b"Expect: 100-continue", b"Content-Length: " + length))
            assert statuses(connection.answers_until_closed()) == [413]


class TestBodyLimit:
    def test_a_length_of_exactly_the_limit_is_accepted(self, server: RawServer) -> None:
        answer = server.one(post(b"Content-Length: 1000", body=b"a" * MAX_BODY_BYTES))
        assert len(answer.json["body"]) == MAX_BODY_BYTES

    @pytest.mark.parametrize("size", [1, 7, 1000])
    def test_chunks_of_exactly_the_limit_are_accepted(self, server: RawServer, size: int) -> None:
        answer = server.one(chunked(in_chunks(MAX_BODY_BYTES, size)))
        assert len(answer.json["body"]) == MAX_BODY_BYTES

    @pytest.mark.parametrize("size", [1, 7, 1001])
    def test_chunks_of_one_byte_more_are_refused(self, server: RawServer, size: int) -> None:
        assert server.one(chunked(in_chunks(MAX_BODY_BYTES + 1, size))).status == 413

    def test_a_client_that_goes_on_sending_still_reads_why(self, server: RawServer) -> None:
        with server.connect() as connection:
            connection.send(post(b"Content-Length: 500000", body=b"a" * 1000))
            connection.wait_for_bytes()
            for _ in range(100):
                connection.send(b"a" * 1000)  # a reset would make this fail
                time.sleep(0.005)  # and it has to have the time to come
            connection.finish()
            [answer] = connection.answers_until_closed()
        assert answer.status == 413
        assert answer.json["error"]["code"] == "payload_too_large"

    def test_a_body_shorter_than_its_length_is_no_request(self, server: RawServer) -> None:
        assert server.exchange(post(b"Content-Length: 10", body=b"abc")) == []
        assert server.app.requests == []


def in_chunks(total: int, size: int) -> bytes:
    sizes = [size] * (total // size) + ([total % size] if total % size else [])
    return b"".join(b"%x\r\n%s\r\n" % (each, b"a" * each) for each in sizes) + b"0\r\n\r\n"


class TestPipelining:
    def test_answers_come_in_the_order_of_the_requests(self, server: RawServer) -> None:
        data = b"".join(request(b"GET /%d HTTP/1.1" % number) for number in range(200))
        answers = server.exchange(data)
        assert [answer.json["path"] for answer in answers] == [f"/{n}" for n in range(200)]

    def test_a_refusal_waits_for_its_turn_and_is_the_last_answer(self, server: RawServer) -> None:
        answers = server.exchange(GET + request(b"GET a HTTP/1.1") + GET)
        assert statuses(answers) == [200, 400]

    def test_a_head_request_shifts_no_answer(self, server: RawServer) -> None:
        with server.connect() as connection:
            connection.send(request(b"HEAD /one HTTP/1.1") + GET)
            head = connection.next_answer(to_head=True)
            assert int(head.headers["content-length"]) > 0
            assert connection.next_answer().json["path"] == "/after"

    def test_a_refused_head_request_has_no_body_in_its_answer(self, server: RawServer) -> None:
        with server.connect() as connection:
            connection.send(request(b"HEAD / HTTP/1.1", b"A : b"))
            assert connection.read_until_closed().endswith(b"\r\n\r\n")


class TestOwnAnswers:
    def test_they_look_like_the_apps(self, server: RawServer) -> None:
        refused = [server.one(data + GET) for _, data in list(REFUSED.values())[::12]]
        failed = [server.one(request(b"GET /fail HTTP/1.1"))]
        for answer in refused + failed:
            assert answer.headers["content-type"] == "application/json"
            assert set(answer.json["error"]) == {"code", "message", "request_id", "details"}
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert not {"server", "via", "strict-transport-security"} & set(answer.headers)
            assert not re.search(rb"waitress|falcon|python|secret detail|Traceback", answer.body)

    @pytest.mark.parametrize(
        "data",
        [
            request(b"GET / HTTP/1.1", b"X-Request-ID: kept-12345", b"A : b"),
            request(b"GET / HTTP/1.1", b"x-request-id:kept-12345", b"A: " + b"b" * 17_000),
            post(b"X-Request-ID: kept-12345", b"Content-Length: 1001"),
            chunked(b"3e9\r\n", b"X-Request-ID: kept-12345"),
            post(b"Transfer-Encoding: gzip", b"X-Request-ID: kept-12345"),
            request(b"GET /fail HTTP/1.1", b"X-Request-ID: kept-12345"),
            request(b"GET /exit HTTP/1.1", b"X-Request-ID: kept-12345"),
            request(b"GET /split HTTP/1.1", b"X-Request-ID: kept-12345"),
        ],
    )
    def test_a_valid_request_id_is_kept(self, server: RawServer, data: bytes) -> None:
        assert server.one(data).headers["x-request-id"] == "kept-12345"

    @pytest.mark.parametrize(
        "fields", [(b"X-Request-ID: short",), (b"X-Request-ID: kept-12345",) * 2]
    )
    def test_any_other_is_replaced(self, server: RawServer, fields: tuple[bytes, ...]) -> None:
        answer = server.one(request(b"GET / HTTP/1.1", *fields, b"A : b"))
        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])

    @pytest.mark.parametrize("path", [b"/fail", b"/exit", b"/split"])
    def test_an_app_that_fails_is_a_500_and_the_log_has_it(
        self, server: RawServer, caplog: pytest.LogCaptureFixture, path: bytes
    ) -> None:
        caplog.set_level(logging.INFO)
        answer = server.one(request(b"GET " + path + b" HTTP/1.1"))
        assert (answer.status, answer.json["error"]["code"]) == (500, "internal_error")
        assert [record for record in caplog.records if record.exc_info]

    def test_each_has_an_access_line_that_quotes_nothing(
        self, server: RawServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        server.one(request(b"GET /x HTTP/1.1", b"Authorization : Bearer stolen"))
        [line] = [record for record in caplog.records if record.name == "gatehouse.api.access"]
        fields = line.__dict__["fields"]
        assert fields.pop("duration_ms") >= 0
        assert fields == {
            "method": "GET",
            "route": "(none)",
            "status": 400,
            "remote_ip": "127.0.0.1",
            "user_id": None,
            "cause": "a malformed header line",
        }
        assert "stolen" not in caplog.text
