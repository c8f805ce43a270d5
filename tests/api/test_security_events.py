"""What is written down for whoever asks later: in the words of the OWASP logging vocabulary."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.embedded_postgres import EmbeddedPostgres
from tests.api.conftest import PASSWORD, StartApi, new_email
from tests.support.databases import Database
from tests.support.http_calls import Answer, Http
from tests.support.own_database import migrated
from tests.support.services import SomeDatabase

ORIGIN = "https://app.example.org"


def events(database: SomeDatabase, *names: str) -> list[tuple[str, Any]]:
    """(event, details) in their order, of the named kinds or of all but the start's."""
    with database.connect() as owner:
        return owner.execute(
            "SELECT event, details FROM security_events"
            " WHERE event = ANY (%(names)s) OR (%(names)s = '{}' AND event <> 'sys_startup')"
            " ORDER BY id",
            {"names": list(names)},
        ).fetchall()


def found(database: SomeDatabase) -> list[tuple[str, str]]:
    """(event, request id) of all but the start's, in their order."""
    with database.connect() as owner:
        return owner.execute(
            "SELECT event, request_id FROM security_events WHERE event <> 'sys_startup' ORDER BY id"
        ).fetchall()


def delete(http: Http, path: str, token: str) -> Answer:
    return http.call("DELETE", path, token=token)


def register(http: Http) -> dict[str, Any]:
    body = {"email": new_email(), "password": PASSWORD, "display_name": "Ada"}
    session: dict[str, Any] = http.post("/auth/register", body).json
    return session


def test_a_service_that_starts_says_so(database: Database, start_api: StartApi) -> None:
    start_api(database)
    assert events(database, "sys_startup") == [("sys_startup", {"service": "api"})]


class TestSessions:
    @pytest.fixture
    def http(self, database: Database, start_api: StartApi) -> Http:
        return start_api(database)[1]

    def test_the_life_of_a_session_is_told(self, database: Database, http: Http) -> None:
        session = register(http)
        login = {"email": session["user"]["email"], "password": PASSWORD}
        other, third = (http.post("/auth/login", login).json for _ in range(2))
        token = session["access_token"]
        delete(http, f"/auth/sessions/{other['session_id']}", token=token)
        delete(http, "/auth/sessions", token=token)
        http.post("/auth/logout", token=token)
        assert third["session_id"]
        assert events(database) == [
            ("user_created", {}),
            ("session_created", {}),
            ("session_created", {}),
            ("authn_login_success", {}),
            ("session_created", {}),
            ("authn_login_success", {}),
            ("session_expired", {"reason": "ended_by_user"}),
            ("session_expired", {"reason": "ended_by_user", "sessions": 1}),
            ("session_expired", {"reason": "logout"}),
        ]

    def test_what_ends_nothing_is_no_event(self, database: Database, http: Http) -> None:
        token = register(http)["access_token"]
        assert delete(http, "/auth/sessions/999999", token=token).status == 404
        assert delete(http, "/auth/sessions", token=token).status == 204
        assert events(database, "session_expired") == []


def test_a_quota_that_refuses_tells_whose_it_was(database: Database, start_api: StartApi) -> None:
    _, http = start_api(
        database,
        AUTH_TICKETS_PER_SESSION_PER_MINUTE="1",
        AUTH_REFRESHES_PER_SESSION_PER_MINUTE="1",
    )
    session = register(http)
    token = session["access_token"]
    for _ in range(2):
        http.post("/auth/ws-ticket", token=token)
        refresh = {"refresh_token": session["refresh_token"]}
        session = {**session, **http.post("/auth/refresh", refresh).json}
    http.get("/users/1", token=token)
    http.post("/chat/channels", {"name": "One"}, token=token)
    with database.connect() as owner:
        owner.execute(
            "UPDATE rate_limits SET reserved[11] = 1000"
            " WHERE key LIKE 'people:%' OR key LIKE 'channel:%'"
        )
    http.get("/users/1", token=token)
    http.post("/chat/channels", {"name": "Two"}, token=token)
    with database.connect() as owner:
        told = owner.execute(
            "SELECT details ->> 'what', user_id, session_id FROM security_events"
            " WHERE event = 'excess_rate_limit_exceeded'"
        ).fetchall()
    whose = session["user"]["id"], session["session_id"]
    assert sorted(told) == [(what, *whose) for what in ("channel", "people", "refresh", "ticket")]


class TestRefusedRequests:
    @pytest.mark.parametrize(
        ("request_", "code"),
        [
            ({"data": b"{"}, "malformed_json"),
            ({"data": b'{"email": 1}'}, "validation_failed"),
            ({"data": b"[]", "headers": {"Content-Type": "text/plain"}}, "unsupported_media_type"),
        ],
    )
    def test_bad_input_is_told(
        self, database: Database, start_api: StartApi, request_: dict[str, Any], code: str
    ) -> None:
        _, http = start_api(database)
        request_ = {"headers": {"Content-Type": "application/json"}, **request_}
        assert http.post("/auth/login", **request_).error["code"] == code
        ((event, details),) = events(database)
        assert (event, details["code"]) == ("input_validation_fail", code)

    def test_of_an_address_twenty_of_a_kind_are_told_in_a_minute(
        self, database: Database, start_api: StartApi
    ) -> None:
        _, http = start_api(database, TRUSTED_PROXY_HOPS="1", CORS_ALLOWED_ORIGINS=ORIGIN)

        def refused(number: int, address: str, origin: str = ORIGIN) -> str:
            request_id = f"refused-{number:04}"
            answer = http.post(
                "/auth/login",
                {},
                headers={
                    "X-Request-ID": request_id,
                    "X-Forwarded-For": address,
                    "Origin": origin,
                },
            )
            assert answer.status == 422
            return request_id

        # An IPv6 client owns a whole /64.
        ids = [refused(n, f"2001:db8::{n + 1:x}") for n in range(25)]
        assert found(database) == [("input_validation_fail", one) for one in ids[:20]]
        other_kind = refused(100, "2001:db8::1", "https://evil.example")
        other_address = refused(101, "2001:db8:0:1::1")
        assert found(database)[20:] == [
            ("malicious_cors", other_kind),
            ("input_validation_fail", other_address),
        ]

    def test_a_strange_origin_is_told(self, database: Database, start_api: StartApi) -> None:
        _, http = start_api(database, CORS_ALLOWED_ORIGINS=ORIGIN)
        for origin in (ORIGIN, "https://evil.example", "null", ORIGIN):
            http.get("/health/live", headers={"Origin": origin})
        assert events(database) == [("malicious_cors", {"route": "/health/live"})] * 2

    def test_the_event_has_the_id_of_the_request(
        self, database: Database, start_api: StartApi
    ) -> None:
        _, http = start_api(database)
        http.post("/auth/login", {}, headers={"X-Request-ID": "looked-for-1"})
        with database.connect() as owner:
            row = owner.execute(
                "SELECT event, host(ip) FROM security_events WHERE request_id = 'looked-for-1'"
            ).fetchone()
        assert row == ("input_validation_fail", "127.0.0.1")

    def test_a_refusal_stands_while_the_database_is_gone(
        self, own_postgres: EmbeddedPostgres, start_api: StartApi
    ) -> None:
        service, http = start_api(migrated(own_postgres), DB_POOL_TIMEOUT_MS="300")
        own_postgres.kill()
        assert http.post("/auth/login", {}).status == 422
        service.wait_for_line("an event could not be stored")
