"""Who may call the operators' endpoints, and what becomes of those who may not."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from scripts.embedded_postgres import EmbeddedPostgres
from tests.api.conftest import SharedApi, StartApi
from tests.support.databases import Database
from tests.support.http_calls import Answer, Http
from tests.support.own_database import migrated
from tests.support.services import OPERATOR, OPS_TOKEN

PATH = "/ops/audit"
ORIGIN = "https://app.example.org"
OUTSIDE = {"X-Forwarded-For": "203.0.113.1"}
FROM_OFFICE = {"X-Forwarded-For": "198.51.100.7"}


def audit(database: Database) -> list[tuple[Any, ...]]:
    with database.connect() as owner:
        return owner.execute(
            "SELECT actor, action, host(ip), request_id FROM admin_action_audit ORDER BY id"
        ).fetchall()


def events(database: Database) -> dict[str, int]:
    with database.connect() as owner:
        return dict(
            owner.execute(
                "SELECT event, count(*) FROM security_events"
                " WHERE event <> 'sys_startup' GROUP BY event"
            ).fetchall()
        )


def as_seen(answer: Answer) -> tuple[Any, ...]:
    """All that a client sees of it but the time."""
    headers = sorted((name, value) for name, value in answer.headers.items() if name != "Date")
    return answer.status, headers, answer.body


class TestTokens:
    @pytest.fixture
    def http(self, database: Database, start_api: StartApi) -> Http:
        return start_api(database)[1]

    @pytest.mark.parametrize(
        "token",
        [
            "",
            " ",
            OPS_TOKEN[:-1],
            OPS_TOKEN + "x",
            OPS_TOKEN.upper(),
            f"{OPERATOR}:{OPS_TOKEN}",
            f"Bearer {OPS_TOKEN}",
            OPS_TOKEN.replace("a", "\u00e4"),
            "x" * 4000,
        ],
    )
    def test_what_is_not_the_token_opens_nothing(self, shared: SharedApi, token: str) -> None:
        answer = shared.http.get(PATH, ops_token=token)
        assert (answer.status, answer.error["code"]) == (401, "unauthorized")

    def test_a_bearer_token_is_none(self, http: Http) -> None:
        body = {"email": "a@example.org", "password": "correct horse", "display_name": "Ada"}
        token = http.post("/auth/register", body).json["access_token"]
        assert http.get(PATH, token=token).status == 401
        assert http.get(PATH, token=OPS_TOKEN).status == 401
        assert http.get("/auth/me", ops_token=OPS_TOKEN).status == 401

    def test_the_name_of_the_token_is_the_actor(self, http: Http, database: Database) -> None:
        assert http.get(
            PATH,
            ops_token=OPS_TOKEN,
            headers={"X-Request-ID": "of-the-operator", "X-Ops-Actor": "somebody-else"},
        ).json == {"audit": []}
        assert audit(database) == [(OPERATOR, "audit.read", "127.0.0.1", "of-the-operator")]

    def test_two_tokens_of_one_name_serve_while_they_rotate(
        self, database: Database, start_api: StartApi
    ) -> None:
        _, http = start_api(database, OPS_API_TOKEN="ann:first-token,ann:second-token,bob:third")
        for token in ("first-token", "second-token", "third"):
            assert http.get(PATH, ops_token=token).status == 200
        assert [actor for actor, *_ in audit(database)] == ["ann", "ann", "bob"]

    def test_without_a_configured_token_nobody_gets_in(
        self, database: Database, start_api: StartApi
    ) -> None:
        environment = {"OPS_API_TOKEN": "lone-token-of-ops"}
        _, http = start_api(database, **environment)
        assert http.get(PATH, ops_token="").status == 401
        assert http.get(PATH, ops_token="lone-token-of-ops").status == 200
        assert [actor for actor, *_ in audit(database)] == ["ops"]


class TestRefusedCalls:
    @pytest.fixture
    def http(self, database: Database, start_api: StartApi) -> Http:
        return start_api(database, TRUSTED_PROXY_HOPS="1", AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_IP="5")[
            1
        ]

    def test_they_are_events_and_lock_their_address_but_never_reach_the_audit_trail(
        self, http: Http, database: Database
    ) -> None:
        codes = [
            http.get(PATH, ops_token="wrong", headers=FROM_OFFICE).error["code"] for _ in range(12)
        ]
        assert codes == ["unauthorized"] * 5 + ["rate_limited"] * 7
        # Of the refusals after the lockout one a minute is written down.
        assert events(database) == {
            "authz_fail": 5,
            "authn_login_lock": 1,
            "excess_rate_limit_exceeded": 1,
        }
        assert audit(database) == []
        # It is the address's count: guessing passwords goes with it.
        login = {"email": "a@example.org", "password": "x"}
        assert http.post("/auth/login", login, headers=FROM_OFFICE).status == 429

    def test_a_right_token_works_from_an_address_that_is_locked_out(self, http: Http) -> None:
        for _ in range(6):
            http.get(PATH, ops_token="wrong", headers=FROM_OFFICE)
        assert http.get(PATH, ops_token=OPS_TOKEN, headers=FROM_OFFICE).status == 200


class TestNetworks:
    @pytest.fixture
    def http(self, database: Database, start_api: StartApi) -> Http:
        return start_api(
            database,
            TRUSTED_PROXY_HOPS="1",
            OPS_ALLOWED_NETWORKS="198.51.100.0/24, 2001:db8::/32",
            CORS_ALLOWED_ORIGINS=ORIGIN,
        )[1]

    def test_elsewhere_there_is_no_such_path(self, http: Http) -> None:
        for address, status in (
            ("198.51.100.255", 200),
            ("2001:db8:ffff::1", 200),
            ("198.51.101.1", 404),
            ("2001:db9::1", 404),
            ("127.0.0.1", 404),
            ("::ffff:198.51.100.1", 200),
            ("198.51.100.1, 203.0.113.1", 404),
            ("203.0.113.1, 198.51.100.1", 200),
        ):
            answer = http.get(PATH, ops_token=OPS_TOKEN, headers={"X-Forwarded-For": address})
            assert answer.status == status, address

    def test_elsewhere_every_method_answers_as_for_a_path_that_nobody_has(self, http: Http) -> None:
        methods = ("GET", "HEAD", "POST", "OPTIONS", "DELETE", "TRACE", "BREW")
        preflight = {"Access-Control-Request-Method": "GET"}
        for method, origin, more in itertools.product(
            methods, (None, ORIGIN, "https://evil.example"), ({}, preflight)
        ):
            headers = {**OUTSIDE, **more, "X-Request-ID": "the-same-for-both"}
            if origin is not None:
                headers["Origin"] = origin
            ours, nobodys = (
                as_seen(http.call(method, path, ops_token=OPS_TOKEN, headers=headers))
                for path in (PATH, "/ops/nothing")
            )
            assert ours == nobodys, (method, origin, more)

    def test_elsewhere_every_call_is_an_event_and_counts_against_its_address(
        self, database: Database, start_api: StartApi
    ) -> None:
        _, http = start_api(
            database,
            TRUSTED_PROXY_HOPS="1",
            OPS_ALLOWED_NETWORKS="198.51.100.0/24",
            AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_IP="5",
        )
        for method in ("GET", "OPTIONS", "POST", "GET"):
            assert http.call(method, PATH, ops_token=OPS_TOKEN, headers=OUTSIDE).status == 404
            assert http.call(method, "/ops/nothing", headers=OUTSIDE).status == 404
        assert events(database) == {"authz_fail": 4}
        # Locked out, it still sees an unknown path, and what it does is told now and then.
        headers = {**OUTSIDE, "X-Request-ID": "the-same-for-both"}
        for _ in range(8):
            ours, nobodys = (
                as_seen(http.get(path, headers=headers)) for path in (PATH, "/ops/nothing")
            )
            assert ours == nobodys
        assert events(database) == {
            "authz_fail": 5,
            "authn_login_lock": 1,
            "excess_rate_limit_exceeded": 1,
        }
        assert audit(database) == []
        login = {"email": "a@example.org", "password": "x"}
        assert http.post("/auth/login", login, headers=OUTSIDE).status == 429

    def test_elsewhere_there_is_no_such_path_without_a_database_either(
        self, own_postgres: EmbeddedPostgres, start_api: StartApi
    ) -> None:
        service, http = start_api(
            migrated(own_postgres),
            DB_POOL_TIMEOUT_MS="300",
            OPS_ALLOWED_NETWORKS="198.51.100.0/24",
        )
        own_postgres.kill()
        assert http.get(PATH, ops_token=OPS_TOKEN).status == 404
        service.wait_for_line("an outsider could not be counted")

    def test_inside_a_wrong_method_is_told(self, http: Http) -> None:
        headers = {"X-Forwarded-For": "198.51.100.1"}
        assert http.post(PATH, {}, headers=headers, ops_token=OPS_TOKEN).status == 405
        assert http.call("OPTIONS", PATH, headers=headers).status == 200


def test_a_caller_that_runs_wild_is_held_back(database: Database, start_api: StartApi) -> None:
    _, http = start_api(database)
    with database.connect() as owner:
        assert http.get(PATH, ops_token=OPS_TOKEN).status == 200
        owner.execute("UPDATE rate_limits SET reserved[11] = 600 WHERE key LIKE 'ops:actor:%'")
    answer = http.get(PATH, ops_token=OPS_TOKEN)
    assert answer.error["code"] == "rate_limited"
    assert int(answer.headers["Retry-After"]) > 0
