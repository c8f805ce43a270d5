"""Which pages may read our answers: those of the allowed origins, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.support.cluster import Cluster
from tests.support.databases import cloned_database
from tests.support.processes import Processes
from tests.support.raw_http import Answer, Connection

ALLOWED = ["https://app.example.org", "http://127.0.0.1:5173", "capacitor://localhost"]
OTHERS = [
    "null",
    "*",
    "",
    "https://app.example.org.evil.example",
    "https://evil-app.example.org",
    "https://evil.example/https://app.example.org",
    "https://sub.app.example.org",
    "https://example.org",
    "https://app.example.or",
    "https://app.example.org:443",
    "https://app.example.org:8443",
    "https://app.example.org/",
    "http://app.example.org",
    "HTTPS://APP.EXAMPLE.ORG",
    "https://App.example.org",
    "http://127.0.0.1",
    "http://localhost",
    "ionic://localhost",
    "capacitor://localhost:8080",
    "capacitor://localhost/",
    "https://app.example.org, https://app.example.org",
    "https://app.example.org https://evil.example",
]
# One of a resource, one of routing, one of the authentication, two of the server below.
LINES = [
    ("GET /health/live HTTP/1.1", 200),
    ("GET /nothing HTTP/1.1", 404),
    ("GET /auth/me HTTP/1.1", 401),
    ("POST /auth/login HTTP/1.1\r\nContent-Length: 99999", 413),
    ("GET //health/live HTTP/1.1", 400),
]
PREFLIGHT = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization")


def start(cluster: Cluster, admin: psycopg.Connection[Any], origins: list[str]) -> Iterator[int]:
    with cloned_database(cluster, admin) as database, Processes() as processes:
        _, port = processes.start_service(
            "api",
            {
                **database.environment("api"),
                "AUTH_SCRYPT_LOG2_N": "4",
                "JWT_SECRET": "a" * 40,
                "CORS_ALLOWED_ORIGINS": ", ".join(origins),
            },
        )
        yield port


@pytest.fixture(scope="module")
def port(cluster: Cluster, admin_connection: psycopg.Connection[Any]) -> Iterator[int]:
    yield from start(cluster, admin_connection, ALLOWED)


@pytest.fixture(scope="module")
def closed_port(cluster: Cluster, admin_connection: psycopg.Connection[Any]) -> Iterator[int]:
    """Of a service without allowed origins."""
    yield from start(cluster, admin_connection, [])


def call(port: int, line: str, *fields: str) -> Answer:
    with Connection(port) as connection:
        connection.send("\r\n".join([line, "Host: a", *fields, "", ""]).encode())
        return connection.next_answer()


def cors_headers(answer: Answer) -> dict[str, str]:
    return {
        name: value
        for name, value in answer.headers.items()
        if name.startswith("access-control-") or name == "vary"
    }


@pytest.mark.parametrize(("line", "status"), LINES)
class TestAnswers:
    @pytest.mark.parametrize("origin", ALLOWED)
    def test_an_allowed_origin_may_read_them(
        self, port: int, line: str, status: int, origin: str
    ) -> None:
        answer = call(port, line, f"Origin: {origin}")
        assert answer.status == status
        assert cors_headers(answer) == {
            "vary": "Origin",
            "access-control-allow-origin": origin,
            "access-control-expose-headers": "X-Request-ID, Retry-After",
        }

    @pytest.mark.parametrize("origin", OTHERS)
    def test_no_other_may(self, port: int, line: str, status: int, origin: str) -> None:
        answer = call(port, line, f"Origin: {origin}")
        assert answer.status == status
        assert cors_headers(answer) == {"vary": "Origin"}

    def test_without_an_origin_they_still_say_what_they_depend_on(
        self, port: int, line: str, status: int
    ) -> None:
        assert cors_headers(call(port, line)) == {"vary": "Origin"}

    @pytest.mark.parametrize("origin", [*ALLOWED, "null", "https://evil.example"])
    def test_without_allowed_origins_there_is_no_word_of_them(
        self, closed_port: int, line: str, status: int, origin: str
    ) -> None:
        assert cors_headers(call(closed_port, line, f"Origin: {origin}")) == {}


class TestPreflight:
    @pytest.mark.parametrize("origin", ALLOWED)
    @pytest.mark.parametrize("path", ["/auth/login", "/auth/me", "/chat/channels", "/nothing"])
    def test_it_needs_no_token(self, port: int, origin: str, path: str) -> None:
        answer = call(port, f"OPTIONS {path} HTTP/1.1", f"Origin: {origin}", *PREFLIGHT)
        assert (answer.status, answer.body) == (204, b"")
        assert cors_headers(answer) == {
            "vary": "Origin",
            "access-control-allow-origin": origin,
            "access-control-allow-methods": "GET, POST, PATCH, DELETE",
            "access-control-allow-headers": (
                "Authorization, Content-Type, X-Request-ID, X-Client-Version, "
                "X-Client-Content-Version"
            ),
            "access-control-expose-headers": "X-Request-ID, Retry-After",
            "access-control-max-age": "600",
        }
        assert answer.headers["x-content-type-options"] == "nosniff"

    @pytest.mark.parametrize("origin", OTHERS)
    def test_no_other_origin_gets_one(self, port: int, origin: str) -> None:
        answer = call(port, "OPTIONS /auth/login HTTP/1.1", f"Origin: {origin}", *PREFLIGHT)
        assert (answer.status, answer.headers["allow"]) == (200, "POST")
        assert cors_headers(answer) == {"vary": "Origin"}

    def test_without_allowed_origins_there_is_none(self, closed_port: int) -> None:
        line, origin = "OPTIONS /auth/login HTTP/1.1", f"Origin: {ALLOWED[0]}"
        assert cors_headers(call(closed_port, line, origin, *PREFLIGHT)) == {}

    def test_options_that_asks_for_no_method_is_none(self, port: int) -> None:
        answer = call(port, "OPTIONS /auth/login HTTP/1.1", f"Origin: {ALLOWED[0]}")
        assert answer.status == 200
        assert "access-control-allow-methods" not in answer.headers
