"""What every answer of the running service carries, whoever wrote it, and what no log line does."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests.support.cluster import Cluster
from tests.support.databases import cloned_database
from tests.support.processes import Processes, ServiceProcess, wait_until
from tests.support.raw_http import Answer, Connection

ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
HSTS = "max-age=31536000; includeSubDomains"

# Answers of the server below, of routing, of middleware and of resources.
CALLS = {
    "200": ("GET /health/live HTTP/1.1", 200),
    "HEAD": ("HEAD /health/live HTTP/1.1", 200),
    "OPTIONS": ("OPTIONS /health/live HTTP/1.1", 200),
    "400 of the server": ("GET //health/live HTTP/1.1", 400),
    "401": ("GET /auth/me HTTP/1.1", 401),
    "404": ("GET /nothing HTTP/1.1", 404),
    "405": ("POST /health/live HTTP/1.1", 405),
    "413": ("POST /auth/login HTTP/1.1\r\nContent-Length: 65537", 413),
    "400 of a resource": ("POST /auth/login HTTP/1.1\r\nContent-Length: 0", 400),
    "431": ("GET /health/live HTTP/1.1\r\nA: " + "b" * 17_000, 431),
    "400 of the framing": ("POST /auth/login HTTP/1.1\r\nTransfer-Encoding: gzip", 400),
}


@dataclass(frozen=True, slots=True)
class Service:
    process: ServiceProcess
    port: int

    def call(self, line: str, *fields: str) -> Answer:
        with Connection(self.port) as connection:
            head = "\r\n".join([line, "Host: a", *fields, "", ""])
            connection.send(head.encode("utf-8"))
            return connection.next_answer(to_head=line.startswith("HEAD "))

    def log_of(self, request_id: str) -> list[dict[str, Any]]:
        """Up to the access line, which comes last."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.process.log if line.get("request_id") == request_id]

        def is_whole() -> bool:
            return any(line["logger"] == "gatehouse.api.access" for line in found())

        wait_until(is_whole, f"an access line with {request_id}")
        return found()


@pytest.fixture(scope="module")
def service(cluster: Cluster, admin_connection: psycopg.Connection[Any]) -> Iterator[Service]:
    """Behind one proxy."""
    with cloned_database(cluster, admin_connection) as database, Processes() as processes:
        process, port = processes.start_service(
            "api",
            {
                **database.environment("api"),
                "AUTH_SCRYPT_LOG2_N": "4",
                "JWT_SECRET": "a" * 40,
                "TRUSTED_PROXY_HOPS": "1",
            },
        )
        yield Service(process, port)


@pytest.fixture(scope="module")
def open_service(cluster: Cluster, admin_connection: psycopg.Connection[Any]) -> Iterator[Service]:
    """Without a proxy in front."""
    with cloned_database(cluster, admin_connection) as database, Processes() as processes:
        process, port = processes.start_service(
            "api",
            {
                **database.environment("api"),
                "AUTH_SCRYPT_LOG2_N": "4",
                "JWT_SECRET": "a" * 40,
            },
        )
        yield Service(process, port)


@pytest.mark.parametrize(("line", "status"), CALLS.values(), ids=CALLS)
class TestEveryAnswer:
    def test_carries_the_security_headers_and_nothing_about_us(
        self, service: Service, line: str, status: int
    ) -> None:
        answer = service.call(line)
        assert answer.status == status
        assert answer.headers.items() >= ALWAYS.items()
        assert not {"server", "via", "x-powered-by", "vary"} & set(answer.headers)
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        whole = repr(answer).lower()
        assert not re.search("waitress|falcon|python|gatehouse|traceback|psycopg", whole)

    def test_carries_a_request_id(self, service: Service, line: str, status: int) -> None:
        answer = service.call(line, f"X-Request-ID: mine.{status}_id-")
        assert answer.headers["x-request-id"] == f"mine.{status}_id-"
        if answer.body and status >= 400:
            assert set(answer.json) == {"error"}
            assert set(answer.json["error"]) == {"code", "message", "request_id", "details"}
            assert answer.json["error"]["request_id"] == f"mine.{status}_id-"

    def test_has_its_access_line(self, service: Service, line: str, status: int) -> None:
        method = line.split(maxsplit=1)[0]
        request_id = f"access-{uuid.uuid4().hex}"
        service.call(line, f"X-Request-ID: {request_id}", "X-Forwarded-For: 1.1.1.1, 198.51.100.7")
        [entry] = [
            entry
            for entry in service.log_of(request_id)
            if entry["logger"] == "gatehouse.api.access"
        ]
        assert (entry["method"], entry["status"]) == (method, status)
        assert entry["remote_ip"] == "198.51.100.7"
        assert entry["duration_ms"] >= 0
        assert entry["message"] == f"{method} {entry['route']} {status}"

    @pytest.mark.parametrize("proto", ["https", "HTTPS", "https, https"])
    def test_asks_for_https_where_it_came_by_it(
        self, service: Service, line: str, status: int, proto: str
    ) -> None:
        answer = service.call(line, f"X-Forwarded-Proto: {proto}")
        assert answer.headers["strict-transport-security"] == HSTS

    @pytest.mark.parametrize("proto", ["http", "https, http", "httpsx", ""])
    def test_does_not_where_it_came_otherwise(
        self, service: Service, line: str, status: int, proto: str
    ) -> None:
        answer = service.call(line, f"X-Forwarded-Proto: {proto}")
        assert "strict-transport-security" not in answer.headers

    def test_believes_nobody_where_no_proxy_is_trusted(
        self, open_service: Service, line: str, status: int
    ) -> None:
        request_id = f"spoofed-{line.split(maxsplit=1)[0]}-{status}"
        answer = open_service.call(
            line,
            f"X-Request-ID: {request_id}",
            "X-Forwarded-Proto: https",
            "X-Forwarded-For: 198.51.100.7",
            "Forwarded: for=198.51.100.7;proto=https",
        )
        assert "strict-transport-security" not in answer.headers
        # The access line, and the event's line where the refusal is one.
        told = {line.get("remote_ip") or line["ip"] for line in open_service.log_of(request_id)}
        assert told == {"127.0.0.1"}


class TestMethods:
    @pytest.mark.parametrize("method", ["TRACE", "CONNECT", "DELETE", "PROPFIND", "BREW", "G!T"])
    @pytest.mark.parametrize(
        ("path", "allow"),
        [("/health/live", "GET, HEAD, OPTIONS"), ("/auth/login", "OPTIONS, POST")],
    )
    def test_what_a_path_does_not_have_is_405(
        self, service: Service, method: str, path: str, allow: str
    ) -> None:
        answer = service.call(f"{method} {path} HTTP/1.1")
        assert (answer.status, answer.headers["allow"]) == (405, allow)
        assert answer.json["error"]["code"] == "method_not_allowed"
        assert method not in answer.body.decode().replace("method", "")

    def test_it_is_so_before_anybody_is_asked_for_a_token(self, service: Service) -> None:
        assert service.call("TRACE /auth/me HTTP/1.1").status == 405

    def test_on_an_unknown_path_it_is_404(self, service: Service) -> None:
        assert service.call("TRACE /nothing HTTP/1.1").status == 404

    def test_head_says_what_get_would(self, service: Service) -> None:
        get = service.call("GET /health/live HTTP/1.1")
        head = service.call("HEAD /health/live HTTP/1.1")
        different = {"date", "x-request-id"}
        assert [item for item in get.headers.items() if item[0] not in different] == [
            item for item in head.headers.items() if item[0] not in different
        ]

    def test_head_asks_for_a_token_where_get_does(self, service: Service) -> None:
        assert service.call("HEAD /auth/me HTTP/1.1").status == 401

    def test_head_is_no_way_around_post(self, service: Service) -> None:
        assert service.call("HEAD /auth/login HTTP/1.1").status == 405

    def test_options_names_the_methods(self, service: Service) -> None:
        answer = service.call("OPTIONS /auth/login HTTP/1.1")
        assert (answer.status, answer.headers["allow"], answer.body) == (200, "POST", b"")


class TestWhatIsLogged:
    @pytest.mark.parametrize(
        "line",
        [
            "GET /%22%7d%7b%22severity%22:%22x HTTP/1.1",
            "GET /%e2%80%a8%c2%85line HTTP/1.1",
            "GET /%ff%fe HTTP/1.1",
            "GET /%0d%0aforged HTTP/1.1",
            'GET /health/live?forged="}{ HTTP/1.1',
            "GET /health/live?forged=%0d%0a HTTP/1.1",
            "F0RGED! /health/live HTTP/1.1",
        ],
    )
    def test_neither_path_nor_query_nor_method_reaches_the_log(
        self, service: Service, line: str
    ) -> None:
        number = abs(hash(line))
        service.call(line, f"X-Request-ID: forgery-{number}")
        for entry in service.log_of(f"forgery-{number}"):
            assert entry["method"] in ("GET", "(other)")
            assert entry["route"] in ("(none)", "/health/live")
            assert "forged" not in str(entry).lower()
        assert "F0RGED" not in service.process.output

    def test_a_request_id_that_would_forge_a_line_is_replaced(self, service: Service) -> None:
        answer = service.call("GET /health/live HTTP/1.1", 'X-Request-ID: a","severity":"x"')
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
