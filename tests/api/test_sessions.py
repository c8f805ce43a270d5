"""Registering, logging in, renewing and ending sessions: the answers to the letter."""

from __future__ import annotations

import base64
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Barrier
from typing import Any

import jwt
import pytest

from tests.api.conftest import PASSWORD, SharedApi, StartApi, new_email
from tests.support.databases import Database
from tests.support.http_calls import Answer, Http
from tests.support.processes import wait_until
from tests.support.services import JWT_SECRET

TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
VERSION_STATUS = {
    "client_version": None,
    "latest_version": None,
    "min_supported_version": None,
    "client_content_version": None,
    "latest_content_version": None,
    "min_supported_content_version": None,
    "enforce_after": None,
    "update_available": False,
    "update_required": False,
    "update_url": None,
}


def register(http: Http, email: str, /, **changes: Any) -> Answer:
    body = {"email": email, "password": PASSWORD, "display_name": "Ada Lovelace"}
    return http.post("/auth/register", {**body, **changes})


def login(http: Http, email: str, password: str = PASSWORD, **options: Any) -> Answer:
    return http.post("/auth/login", {"email": email, "password": password}, **options)


def refresh(http: Http, token: str, **options: Any) -> Answer:
    return http.post("/auth/refresh", {"refresh_token": token}, **options)


def assert_is_session(session: dict[str, Any], email: str, name: str = "Ada Lovelace") -> None:
    assert set(session) == {
        *("access_token", "token_type", "expires_in", "refresh_token", "session_id"),
        *("session_expires_at", "user", "version_status"),
    }
    assert session["token_type"] == "Bearer"
    assert session["expires_in"] == 900
    assert TOKEN.fullmatch(session["refresh_token"])
    assert isinstance(session["session_id"], int)
    assert RFC3339.fullmatch(session["session_expires_at"])
    left = datetime.fromisoformat(session["session_expires_at"]) - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < left <= timedelta(days=30, minutes=1)
    user = dict(session["user"])
    assert isinstance(user.pop("id"), int)
    assert user == {"email": email, "display_name": name, "is_admin": False}
    assert session["version_status"] == VERSION_STATUS


class TestRegistering:
    def test_it_answers_201_and_a_session(self, http: Http) -> None:
        email = new_email()
        answer = register(http, email)
        assert answer.status == 201
        assert_is_session(answer.json, email)

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("{n}@example.org", "{n}@example.org"),
            ("{n}@example.org", "{n}@EXAMPLE.org"),
            ("straße{n}@example.org", "STRASSE{n}@example.org"),
            ("\uff41{n}@example.org", "a{n}@example.org"),
        ],
        ids=["the same", "another case", "case folding", "full width"],
    )
    def test_an_address_is_taken_in_whatever_spelling(
        self, http: Http, first: str, second: str
    ) -> None:
        number = time.monotonic_ns()
        assert register(http, first.format(n=number)).status == 201
        answer = register(http, second.format(n=number))
        assert (answer.status, answer.error["code"]) == (409, "email_taken")

    def test_of_twenty_at_once_one_gets_the_address(self, http: Http, shared: SharedApi) -> None:
        email, start = new_email(), Barrier(20)

        def race(_: int) -> int:
            start.wait(10)
            return register(http, email).status

        with ThreadPoolExecutor(20) as threads:
            statuses = sorted(threads.map(race, range(20)))
        assert statuses == [201] + [409] * 19
        assert shared.people.one("SELECT count(*) FROM users WHERE email = %s", email) == 1

    def test_the_password_is_taken_as_it_was_sent(self, http: Http) -> None:
        email, password = new_email(), " \u1e9b\u0323 pass word\t\U0001f600"
        assert register(http, email, password=password).status == 201
        assert login(http, email, password).status == 200
        assert login(http, email, password.strip()).status == 401

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("email", "no-at-sign"),
            ("email", "@example.org"),
            ("email", "somebody@"),
            ("email", "a b@example.org"),
            ("email", "a@b@c.example"),
            ("email", "a\n@example.org"),
            ("email", "a" * 250 + "@example.org"),
            ("email", 7),
            ("email", None),
            ("email", ["a@example.org"]),
            ("password", "seven77"),
            ("password", "x" * 129),
            ("password", "password"),
            ("password", "PassWord1"),
            ("password", 12345678),
            ("display_name", ""),
            ("display_name", "   "),
            ("display_name", "x" * 41),
            ("display_name", "a\u0000b"),
            ("display_name", "a\nb"),
            ("display_name", "a\u2028b"),
            ("display_name", {}),
            ("is_admin", True),
        ],
        ids=lambda value: repr(value)[:30],
    )
    def test_what_is_wrong_is_named(self, http: Http, field: str, value: Any) -> None:
        answer = register(http, new_email(), **{field: value})
        assert (answer.status, answer.error["code"]) == (422, "validation_failed")
        assert answer.error["details"]["field"] == field

    @pytest.mark.parametrize("field", ["email", "password", "display_name"])
    def test_what_is_missing_is_named(self, http: Http, field: str) -> None:
        body = {"email": new_email(), "password": PASSWORD, "display_name": "Ada"}
        del body[field]
        answer = http.post("/auth/register", body)
        assert (answer.status, answer.error["details"]["field"]) == (422, field)


class TestLoggingIn:
    def test_it_answers_200_and_a_session(self, http: Http) -> None:
        email = new_email()
        first = register(http, email).json
        answer = login(http, email)
        assert answer.status == 200
        assert_is_session(answer.json, email)
        assert answer.json["session_id"] > first["session_id"]

    def test_a_wrong_password_an_unknown_and_a_disabled_account_get_the_same_answer(
        self, http: Http, shared: SharedApi
    ) -> None:
        known, disabled = new_email(), new_email()
        register(http, known)
        register(http, disabled)
        shared.people.owner.execute(
            "UPDATE users SET disabled_at = now() WHERE email = %s", (disabled,)
        )
        headers = {"X-Request-ID": "the-same-for-all"}
        answers = [
            login(http, known, "a wrong password", headers=headers),
            login(http, new_email(), headers=headers),
            login(http, disabled, headers=headers),
        ]
        for answer in answers:
            assert (answer.status, answer.error["code"]) == (401, "invalid_credentials")
            assert answer.body == answers[0].body
            assert sorted(answer.headers.keys()) == sorted(answers[0].headers.keys())

    def test_the_version_headers_come_back_and_are_stored(
        self, http: Http, shared: SharedApi
    ) -> None:
        email = new_email()
        register(http, email)
        headers = {"X-Client-Version": "1.4.2", "X-Client-Content-Version": "7"}
        session = login(http, email, headers=headers).json
        assert session["version_status"]["client_version"] == "1.4.2"
        assert session["version_status"]["client_content_version"] == "7"
        stored = shared.people.owner.execute(
            "SELECT client_version, client_content_version FROM user_sessions WHERE id = %s",
            (session["session_id"],),
        ).fetchone()
        assert stored == ("1.4.2", "7")

    def test_the_oldest_session_makes_room(self, database: Database, start_api: StartApi) -> None:
        _, http = start_api(database, AUTH_MAX_SESSIONS_PER_ACCOUNT="3")
        email = new_email()
        tokens = [register(http, email).json["access_token"]]
        tokens += [login(http, email).json["access_token"] for _ in range(3)]
        statuses = [http.get("/auth/me", token=token).status for token in tokens]
        assert statuses == [401, 200, 200, 200]


class TestAccessTokens:
    def test_pyjwt_reads_one(self, http: Http, shared: SharedApi) -> None:
        session = shared.account()
        token = session["access_token"]
        claims = jwt.decode(
            token,
            JWT_SECRET,
            algorithms=["HS256"],
            audience="gatehouse-client",
            issuer="gatehouse",
            options={"require": ["iss", "aud", "sub", "sid", "iat", "exp", "jti"]},
        )
        assert set(claims) == {"iss", "aud", "sub", "sid", "iat", "exp", "jti"}
        assert claims["sub"] == str(session["user"]["id"])
        assert claims["sid"] == str(session["session_id"])
        assert claims["exp"] - claims["iat"] == 900
        header = jwt.get_unverified_header(token)
        assert {header["alg"], header["typ"]} == {"HS256", "JWT"}
        assert set(header) == {"alg", "typ", "kid"}

    @pytest.mark.parametrize("kind", ["none", "HS512", "other key", "other audience", "no sid"])
    def test_what_somebody_else_made_is_unauthorized(
        self, http: Http, shared: SharedApi, kind: str
    ) -> None:
        token = shared.account()["access_token"]
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(token, options={"verify_signature": False})
        key, algorithm = JWT_SECRET, "HS256"
        if kind == "none":
            key, algorithm = "", "none"
        elif kind == "HS512":
            key, algorithm = JWT_SECRET * 2, "HS512"
        elif kind == "other key":
            key = "another key that is longer than thirty-two bytes"
        elif kind == "other audience":
            claims["aud"] = "somebody-else"
        else:
            del claims["sid"]
        forged = jwt.encode(claims, key, algorithm, headers={"kid": header["kid"]})
        answer = http.get("/auth/me", token=forged)
        assert (answer.status, answer.error["code"]) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"

    @pytest.mark.parametrize("change", ["sub", "sid"])
    def test_a_changed_claim_breaks_the_signature(
        self, http: Http, shared: SharedApi, change: str
    ) -> None:
        head, body, signature = shared.account()["access_token"].split(".")
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        claims[change] = "1"
        changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        assert http.get("/auth/me", token=f"{head}.{changed}.{signature}").status == 401

    @pytest.mark.parametrize(
        "value",
        [
            None,
            "",
            "Bearer",
            "Bearer ",
            "Basic dXNlcjpwYXNz",
            "Bearer a.b.c",
            "Bearer " + "a" * 5000,
            "Bearer a.b.c d.e.f",
            "Bearer \u00ff.\u00ff.\u00ff",
        ],
        ids=lambda value: repr(value)[:30],
    )
    def test_what_is_no_token_is_unauthorized(self, http: Http, value: str | None) -> None:
        headers = {} if value is None else {"Authorization": value}
        answer = http.get("/auth/me", headers=headers)
        assert (answer.status, answer.error["code"]) == (401, "unauthorized")

    def test_one_that_has_expired_says_so_while_its_session_lives(
        self, database: Database, start_api: StartApi
    ) -> None:
        _, http = start_api(database, JWT_ACCESS_TTL_SECONDS="1")
        session = register(http, new_email()).json
        assert session["expires_in"] == 1
        me = partial(http.get, "/auth/me", token=session["access_token"])
        wait_until(lambda: me().status != 200, "the token has expired")
        assert (me().status, me().error["code"]) == (401, "token_expired")
        renewed = refresh(http, session["refresh_token"]).json
        assert http.get("/auth/me", token=renewed["access_token"]).status == 200

    @pytest.mark.parametrize(
        "ending",
        [
            "UPDATE user_sessions SET revoked_at = now() WHERE id = %(s)s",
            "UPDATE user_sessions SET expires_at = now() WHERE id = %(s)s",
            "UPDATE user_sessions SET idle_expires_at = now() WHERE id = %(s)s",
            "DELETE FROM user_sessions WHERE id = %(s)s",
            "UPDATE users SET disabled_at = now() WHERE id = %(u)s",
        ],
        ids=["revoked", "expired", "idle", "deleted", "disabled"],
    )
    def test_it_dies_with_its_session_at_once(
        self, http: Http, shared: SharedApi, ending: str
    ) -> None:
        session = shared.account()
        values = {"s": session["session_id"], "u": session["user"]["id"]}
        assert http.get("/auth/me", token=session["access_token"]).status == 200
        shared.people.owner.execute(ending.encode(), values)
        for method, path in (
            ("GET", "/auth/me"),
            ("POST", "/auth/ws-ticket"),
            ("GET", "/chat/channels"),
            ("GET", "/chat/channels/1/messages"),
            ("POST", "/auth/logout"),
        ):
            answer = http.call(method, path, token=session["access_token"])
            assert (answer.status, answer.error["code"]) == (401, "session_revoked")
        assert refresh(http, session["refresh_token"]).status == 401


class TestRefreshing:
    def test_it_rotates_the_token_within_the_session(self, http: Http, shared: SharedApi) -> None:
        first = shared.account()
        answer = refresh(http, first["refresh_token"])
        assert answer.status == 200
        second = answer.json
        assert_is_session(second, first["user"]["email"], "Ada")
        assert second["session_id"] == first["session_id"]
        assert second["session_expires_at"] == first["session_expires_at"]
        assert second["refresh_token"] != first["refresh_token"]
        third = refresh(http, second["refresh_token"])
        assert third.status == 200

    def test_a_repeat_within_the_grace_gets_the_same_successor(
        self, http: Http, shared: SharedApi
    ) -> None:
        token = shared.account()["refresh_token"]
        successors = {refresh(http, token).json["refresh_token"] for _ in range(3)}
        assert len(successors) == 1
        assert refresh(http, successors.pop()).status == 200

    def test_twenty_at_once_get_the_same_successor(self, http: Http, shared: SharedApi) -> None:
        token, start = shared.account()["refresh_token"], Barrier(20)

        def race(_: int) -> str:
            start.wait(10)
            return str(refresh(http, token).json["refresh_token"])

        with ThreadPoolExecutor(20) as threads:
            assert len(set(threads.map(race, range(20)))) == 1

    def test_a_spent_token_whose_successor_is_used_is_theft_and_ends_the_session(
        self, http: Http, shared: SharedApi
    ) -> None:
        first = shared.account()
        second = refresh(http, first["refresh_token"]).json
        third = refresh(http, second["refresh_token"]).json
        stolen = refresh(http, first["refresh_token"])
        assert (stolen.status, stolen.error["code"]) == (401, "refresh_token_reused")
        for token in (first["refresh_token"], second["refresh_token"], third["refresh_token"]):
            answer = refresh(http, token)
            assert (answer.status, answer.error["code"]) == (401, "session_revoked")
        assert http.get("/auth/me", token=third["access_token"]).status == 401
        reason = shared.people.one(
            "SELECT revoked_reason FROM user_sessions WHERE id = %s", first["session_id"]
        )
        assert reason == "refresh_token_reused"

    def test_after_the_grace_a_spent_token_is_theft(self, http: Http, shared: SharedApi) -> None:
        first = shared.account()
        refresh(http, first["refresh_token"])
        shared.people.owner.execute(
            "UPDATE refresh_tokens SET spent_at = now() - interval '61 seconds'"
            " WHERE session_id = %s AND spent_at IS NOT NULL",
            (first["session_id"],),
        )
        answer = refresh(http, first["refresh_token"])
        assert (answer.status, answer.error["code"]) == (401, "refresh_token_reused")

    @pytest.mark.parametrize("token", ["", "x", "A" * 43, "A" * 44, "\U0001f600" * 43, "A" * 9000])
    def test_what_was_never_issued_is_invalid(self, http: Http, token: str) -> None:
        answer = refresh(http, token)
        assert (answer.status, answer.error["code"]) == (401, "refresh_token_invalid")

    def test_an_access_token_is_no_refresh_token(self, http: Http, shared: SharedApi) -> None:
        answer = refresh(http, shared.account()["access_token"])
        assert (answer.status, answer.error["code"]) == (401, "refresh_token_invalid")

    def test_only_hashes_are_stored(self, http: Http, shared: SharedApi) -> None:
        session = shared.account()
        ticket = http.post("/auth/ws-ticket", token=session["access_token"]).json["ticket"]
        refresh(http, session["refresh_token"])
        for table in ("users", "user_sessions", "refresh_tokens", "ws_tickets", "security_events"):
            rows = shared.people.owner.execute(f"SELECT t::text FROM {table} t".encode()).fetchall()
            dump = "\n".join(row[0] for row in rows)
            for secret in (PASSWORD, session["refresh_token"], session["access_token"], ticket):
                assert secret not in dump
                assert secret.encode().hex() not in dump


class TestEnding:
    def test_logout_answers_204_and_ends_this_session_alone(self, http: Http) -> None:
        email = new_email()
        first, second = register(http, email).json, login(http, email).json
        answer = http.post("/auth/logout", token=first["access_token"])
        assert (answer.status, answer.body) == (204, b"")
        again = http.post("/auth/logout", token=first["access_token"])
        assert (again.status, again.error["code"]) == (401, "session_revoked")
        assert http.get("/auth/me", token=second["access_token"]).status == 200

    def test_logout_takes_the_empty_object_that_many_clients_send(
        self, http: Http, shared: SharedApi
    ) -> None:
        token = shared.account()["access_token"]
        assert http.post("/auth/logout", {"everywhere": True}, token=token).status == 422
        assert http.post("/auth/logout", {}, token=token).status == 204

    def test_the_sessions_are_listed_newest_first_and_ended_one_or_all_others(
        self, http: Http
    ) -> None:
        email = new_email()
        sessions = [register(http, email).json, *(login(http, email).json for _ in range(3))]
        token = sessions[0]["access_token"]
        listed = http.get("/auth/sessions", token=token).json["sessions"]
        assert [one["id"] for one in listed] == [s["session_id"] for s in reversed(sessions)]
        assert [one["current"] for one in listed] == [False, False, False, True]
        one = f"/auth/sessions/{sessions[1]['session_id']}"
        assert http.call("DELETE", one, token=token).status == 204
        assert http.call("DELETE", one, token=token).error["code"] == "not_found"
        assert http.get("/auth/me", token=sessions[1]["access_token"]).status == 401
        assert http.call("DELETE", "/auth/sessions", token=token).status == 204
        alive = [http.get("/auth/me", token=s["access_token"]).status for s in sessions]
        assert alive == [200, 401, 401, 401]

    def test_a_session_of_somebody_else_is_not_found(self, http: Http, shared: SharedApi) -> None:
        mine, theirs = shared.account(), shared.account()
        path = f"/auth/sessions/{theirs['session_id']}"
        answer = http.call("DELETE", path, token=mine["access_token"])
        assert (answer.status, answer.error["code"]) == (404, "not_found")
        assert http.get("/auth/me", token=theirs["access_token"]).status == 200

    def test_a_changed_password_ends_the_other_sessions(self, http: Http) -> None:
        email = new_email()
        here, there = register(http, email).json, login(http, email).json
        body = {"current_password": PASSWORD, "new_password": "another horse entirely"}
        wrong = http.post(
            "/auth/password",
            {**body, "current_password": "not it"},
            token=here["access_token"],
        )
        assert (wrong.status, wrong.error["code"]) == (401, "invalid_credentials")
        assert http.post("/auth/password", body, token=here["access_token"]).status == 204
        assert http.get("/auth/me", token=here["access_token"]).status == 200
        assert http.get("/auth/me", token=there["access_token"]).status == 401
        assert refresh(http, there["refresh_token"]).status == 401
        assert login(http, email).status == 401
        assert login(http, email, "another horse entirely").status == 200


class TestMe:
    def test_it_shows_user_session_and_version_status(self, http: Http) -> None:
        email = new_email()
        headers = {"User-Agent": "a client/1.0", "X-Client-Version": "2.0"}
        body = {"email": email, "password": PASSWORD, "display_name": "Ada"}
        session = http.post("/auth/register", body, headers=headers).json
        answer = http.get("/auth/me", token=session["access_token"], headers=headers)
        assert answer.status == 200
        shown = answer.json
        assert set(shown) == {"user", "session", "version_status"}
        assert shown["user"] == session["user"]
        assert shown["version_status"] == {**VERSION_STATUS, "client_version": "2.0"}
        stamps = {name: shown["session"].pop(name) for name in ("created_at", "last_seen_at")}
        assert all(RFC3339.fullmatch(stamp) for stamp in stamps.values())
        assert shown["session"] == {
            "id": session["session_id"],
            "expires_at": session["session_expires_at"],
            "ip": "127.0.0.1",
            "user_agent": "a client/1.0",
            "client_version": "2.0",
            "client_content_version": None,
        }

    @pytest.mark.parametrize(
        "name", ["Grace", "\u05e2\u05d3\u05d4 \U0001f469\u200d\U0001f680", "x" * 40]
    )
    def test_the_display_name_can_be_changed(
        self, http: Http, shared: SharedApi, name: str
    ) -> None:
        token = shared.account()["access_token"]
        answer = http.call("PATCH", "/auth/me", {"display_name": name}, token=token)
        assert (answer.status, answer.json["user"]["display_name"]) == (200, name)
        assert http.get("/auth/me", token=token).json["user"]["display_name"] == name


class TestTickets:
    def test_it_answers_201_and_what_the_socket_needs(self, http: Http, shared: SharedApi) -> None:
        answer = http.post("/auth/ws-ticket", token=shared.account()["access_token"])
        assert answer.status == 201
        shown = answer.json
        assert set(shown) == {"ticket", "expires_at", "websocket_url", "subprotocols"}
        assert TOKEN.fullmatch(shown["ticket"])
        assert shown["subprotocols"] == ["gatehouse.v1", "ticket." + shown["ticket"]]
        assert shown["websocket_url"] == "ws://127.0.0.1:8001/ws"
        left = datetime.fromisoformat(shown["expires_at"]) - datetime.now(UTC)
        assert timedelta(seconds=20) < left <= timedelta(seconds=31)

    def test_every_call_gives_another(self, http: Http, shared: SharedApi) -> None:
        token = shared.account()["access_token"]
        tickets = {http.post("/auth/ws-ticket", token=token).json["ticket"] for _ in range(10)}
        assert len(tickets) == 10

    def test_the_configured_address_is_told(self, database: Database, start_api: StartApi) -> None:
        _, http = start_api(
            database, PUBLIC_WS_URL="wss://live.example.org/ws", WS_TICKET_TTL_SECONDS="5"
        )
        token = register(http, new_email()).json["access_token"]
        shown = http.post("/auth/ws-ticket", token=token).json
        assert shown["websocket_url"] == "wss://live.example.org/ws"
        left = datetime.fromisoformat(shown["expires_at"]) - datetime.now(UTC)
        assert left <= timedelta(seconds=6)
