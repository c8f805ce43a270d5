"""Refusals of every kind: one envelope, one id, and nothing that should not be told."""

from __future__ import annotations

import json
import re

import pytest

from tests.api.conftest import SharedApi, new_email
from tests.support.http_calls import Answer, Http
from tests.support.processes import wait_until

MADE = re.compile(r"[A-Za-z0-9._-]{8,64}")
LOGIN = {"email": "a@example.org", "password": "whatever it is"}


def assert_refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.error["code"]) == (status, code)
    assert MADE.fullmatch(answer.headers["X-Request-ID"])
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Server" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/", "/auth", "/auth/login/", "/AUTH/LOGIN", "/auth/sessions/0", "/x?/health/live"]
)
def test_an_unknown_path_is_404(http: Http, path: str) -> None:
    assert_refused(http.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/auth/login", {"POST"}),
        ("PUT", "/auth/me", {"GET", "PATCH"}),
        ("POST", "/health/live", {"GET"}),
        ("DELETE", "/chat/channels", {"GET", "POST"}),
        ("TRACE", "/auth/me", {"GET", "PATCH"}),
    ],
)
def test_another_method_is_405_with_what_is_allowed(
    http: Http, method: str, path: str, allowed: set[str]
) -> None:
    answer = http.call(method, path)
    assert_refused(answer, 405, "method_not_allowed")
    named = set(answer.headers["Allow"].split(", "))
    assert allowed <= named <= allowed | {"OPTIONS", "HEAD"}


@pytest.mark.parametrize(
    "declared",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "application/jsonp",
        "application/json, text/plain",
        "",
    ],
)
def test_another_content_type_is_415(http: Http, declared: str | None) -> None:
    headers = {} if declared is None else {"Content-Type": declared}
    answer = http.post("/auth/login", data=json.dumps(LOGIN).encode(), headers=headers)
    assert_refused(answer, 415, "unsupported_media_type")


def test_path_and_method_are_looked_at_before_the_body(http: Http) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for method, path, status, code in (
        ("POST", "/nothing", 404, "not_found"),
        ("PUT", "/auth/login", 405, "method_not_allowed"),
        ("POST", "/auth/logout", 415, "unsupported_media_type"),
    ):
        assert_refused(http.call(method, path, data=b"a=b", headers=form), status, code)


@pytest.mark.parametrize(
    "declared", ["application/json", "application/json; charset=utf-8", "Application/JSON"]
)
def test_json_is_taken_however_it_is_declared(http: Http, declared: str) -> None:
    headers = {"Content-Type": declared}
    answer = http.post("/auth/login", data=json.dumps(LOGIN).encode(), headers=headers)
    assert_refused(answer, 401, "invalid_credentials")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_json"),
        (b"null", 400, "malformed_json"),
        (b"[]", 400, "malformed_json"),
        (b'"text"', 400, "malformed_json"),
        (b"{", 400, "malformed_json"),
        (b"{}{}", 400, "malformed_json"),
        (b"\xef\xbb\xbf{}", 400, "malformed_json"),
        (b'{"email":"\xff"}', 400, "malformed_json"),
        (b'{"email":NaN}', 400, "malformed_json"),
        (b'{"email":-Infinity}', 400, "malformed_json"),
        (b'{"email":"a","email":"b"}', 400, "malformed_json"),
        (b"[" * 60_000, 400, "malformed_json"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 400, "malformed_json"),
        (b'{"email":' + b"9" * 5000 + b"}", 422, "validation_failed"),
        (b'{"email":1e999}', 422, "validation_failed"),
        (b'{"email":"\\ud800"}', 422, "validation_failed"),
        (b'{"email":"\\u0000"}', 422, "validation_failed"),
        (b'{"\\ud800":1}', 422, "validation_failed"),
        (b"{}", 422, "validation_failed"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_body_that_is_not_as_it_should_be(
    http: Http, body: bytes, status: int, code: str
) -> None:
    answer = http.post("/auth/login", data=body, headers={"Content-Type": "application/json"})
    assert_refused(answer, status, code)


def test_unknown_fields_are_refused_by_name(http: Http, shared: SharedApi) -> None:
    token = shared.account()["access_token"]
    for method, path, body in (
        ("POST", "/auth/login", LOGIN),
        ("POST", "/auth/refresh", {"refresh_token": "x"}),
        ("POST", "/auth/logout", {}),
        ("POST", "/auth/ws-ticket", {}),
        ("PATCH", "/auth/me", {"display_name": "Ada"}),
    ):
        answer = http.call(method, path, {**body, "surprise": 1}, token=token)
        assert_refused(answer, 422, "validation_failed")
        assert answer.error["details"] == {"field": "surprise"}


def test_a_body_of_the_largest_size_is_read_and_one_byte_more_is_413(http: Http) -> None:
    headers = {"Content-Type": "application/json"}
    body = json.dumps(LOGIN).encode()
    largest = http.post("/auth/login", data=body.ljust(65_536), headers=headers)
    assert_refused(largest, 401, "invalid_credentials")
    assert_refused(
        http.post("/auth/login", data=body.ljust(65_537), headers=headers),
        413,
        "payload_too_large",
    )


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "invalid_request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400, "invalid_request"),
        (
            b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
            413,
            "payload_too_large",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 300_000 + b"\r\n\r\n",
            431,
            "headers_too_large",
        ),
    ],
    ids=["no request", "no header", "too large a body", "too large a head"],
)
def test_what_never_reaches_the_app_is_refused_like_everything_else(
    http: Http, request_bytes: bytes, status: int, code: str
) -> None:
    assert_refused(http.raw(request_bytes), status, code)


def test_the_clients_request_id_is_kept_when_it_is_well_formed(http: Http) -> None:
    for path, sent in (("/health/live", "12345678"), ("/nowhere", "A.b_c-" + "9" * 58)):
        assert http.get(path, headers={"X-Request-ID": sent}).headers["X-Request-ID"] == sent


@pytest.mark.parametrize("sent", ["", "1234567", "x" * 65, "with space", "a,b,c,d,e", "\u00e9" * 9])
def test_any_other_request_id_is_replaced(http: Http, sent: str) -> None:
    made = http.get("/health/live", headers={"X-Request-ID": sent}).headers["X-Request-ID"]
    assert made != sent
    assert MADE.fullmatch(made)


def test_the_request_id_is_in_the_access_line_and_what_was_sent_is_not(
    http: Http, shared: SharedApi
) -> None:
    email, password = new_email(), "a password nobody may read"
    headers = {"X-Request-ID": f"find-me-{email[:10]}"}
    http.post("/auth/login?secret=query", {"email": email, "password": password}, headers=headers)
    access: list[tuple[str, int]] = []

    def is_logged() -> bool:
        access[:] = [
            (line["route"], line["status"])
            for line in shared.process.log
            if line.get("request_id") == headers["X-Request-ID"]
            and line["logger"] == "gatehouse.api.access"
        ]
        return bool(access)

    wait_until(is_logged, "the access line is written")
    assert access == [("/auth/login", 401)]
    for secret in (email, password, "secret=query"):
        assert secret not in shared.process.output


def test_health(http: Http) -> None:
    for path in ("/health/live", "/health/ready"):
        answer = http.get(path)
        assert (answer.status, answer.json) == (200, {"status": "ok"})
