"""Guessing passwords over HTTP: who is held back, who is not, and what is remembered of it."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.databases import Database
from tests.support.processes import Processes

PASSWORD = "a horse of another colour"
HOME, AWAY = "198.51.100.7", "203.0.113.9"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def code(self) -> str:
        return str(self.body["error"]["code"])


@dataclass(frozen=True, slots=True)
class Api:
    """Calls from any address: the service trusts one proxy, which is us."""

    port: int

    def post(self, path: str, body: dict[str, Any], *, ip: str = HOME, token: str = "") -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": "application/json", "X-Forwarded-For": ip}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def register(self, email: str, ip: str = HOME) -> Answer:
        body = {"email": email, "password": PASSWORD, "display_name": "Ann"}
        return self.post("/auth/register", body, ip=ip)

    def login(self, email: str, password: str = PASSWORD, ip: str = HOME) -> Answer:
        return self.post("/auth/login", {"email": email, "password": password}, ip=ip)


Start = Callable[..., Api]


@pytest.fixture
def start(database: Database, processes: Processes) -> Start:
    def start_api(**settings: str) -> Api:
        environment = {
            **database.environment("api"),
            "JWT_SECRET": "0123456789abcdefghijklmnopqrstuvwxyz",
            "AUTH_SCRYPT_LOG2_N": "4",
            "TRUSTED_PROXY_HOPS": "1",
            **settings,
        }
        _, port = processes.start_service("api", environment)
        return Api(port)

    return start_api


@pytest.fixture
def api(start: Start) -> Api:
    return start()


def events(database: Database, event: str) -> int:
    with database.connect() as owner:
        row = owner.execute(
            "SELECT count(*) FROM security_events WHERE event = %s", (event,)
        ).fetchone()
        assert row is not None
        return int(row[0])


class TestOneAccount:
    def test_of_fifty_parallel_guesses_eight_are_tried(
        self, start: Start, database: Database
    ) -> None:
        api = start(AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_IP="1000")
        api.register("ann@example.org")

        def guess(number: int) -> str:
            # Each from an address of its own, all in one network.
            return api.login("ann@example.org", f"wrong {number}", ip=f"198.51.100.{number}").code

        with ThreadPoolExecutor(50) as threads:
            codes = Counter(threads.map(guess, range(50)))
        tried = codes["invalid_credentials"]
        assert tried <= 8
        assert set(codes) <= {"invalid_credentials", "rate_limited", "unavailable"}
        assert events(database, "authn_login_fail") == tried

    def test_eight_wrong_guesses_lock_out_the_right_password_too(
        self, api: Api, database: Database
    ) -> None:
        api.register("ann@example.org")
        for number in range(8):
            assert api.login("ann@example.org", f"wrong {number}").status == 401
        refused = api.login("ann@example.org")
        assert (refused.status, refused.code) == (429, "rate_limited")
        seconds = refused.body["error"]["details"]["retry_after_seconds"]
        assert seconds in (59, 60)
        assert refused.headers["Retry-After"] == str(seconds)
        assert events(database, "authn_login_lock") == 1

    def test_an_account_that_does_not_exist_is_locked_the_same_way(self, api: Api) -> None:
        api.register("ann@example.org")

        def shape(email: str, ip: str) -> list[tuple[int, str, str]]:
            answers = [api.login(email, "wrong", ip=ip) for _ in range(9)]
            return [(one.status, one.code, one.body["error"]["message"]) for one in answers]

        assert shape("ann@example.org", HOME) == shape("nobody@example.org", AWAY)

    def test_the_spelling_of_an_address_gives_no_further_guesses(self, api: Api) -> None:
        api.register("ann@example.org")
        for email in ("ann@example.org", "ANN@example.org", "ann@EXAMPLE.org", "Ann@Example.Org"):
            api.login(email, "wrong")
            api.login(email, "wrong")
        assert api.login("aNN@example.org").status == 429

    def test_a_success_clears_the_failures_of_that_network(self, api: Api) -> None:
        api.register("ann@example.org")
        for _ in range(2):
            for _ in range(7):
                assert api.login("ann@example.org", "wrong").status == 401
            assert api.login("ann@example.org").status == 200

    def test_a_stranger_elsewhere_cannot_lock_a_player_out_at_home(self, start: Start) -> None:
        api = start(
            AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_ACCOUNT="1", AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_IP="99"
        )
        api.register("ann@example.org", ip=HOME)
        for number in range(10):  # ten times one: the account is locked everywhere else
            api.login("ann@example.org", "wrong", ip=f"203.0.{number}.1")
        assert api.login("ann@example.org", ip="192.0.2.77").status == 429
        assert api.login("ann@example.org", ip=HOME).status == 200

    def test_changing_the_password_is_bounded_like_logging_in(self, api: Api) -> None:
        token = api.register("ann@example.org").body["access_token"]
        change = {"current_password": "wrong", "new_password": "another fine password"}
        codes = [api.post("/auth/password", change, token=token).code for _ in range(9)]
        assert codes == ["invalid_credentials"] * 8 + ["rate_limited"]


class TestOneAddress:
    def test_twenty_wrong_guesses_on_many_accounts_lock_the_address(self, api: Api) -> None:
        for number in range(20):
            assert api.login(f"user{number}@example.org", "wrong").status == 401
        assert api.login("somebody@example.org", "wrong").status == 429
        assert api.login("somebody@example.org", "wrong", ip=AWAY).status == 401

    def test_an_ipv6_client_cannot_walk_through_its_64(self, api: Api) -> None:
        for number in range(20):
            api.login(f"user{number}@example.org", "wrong", ip=f"2001:db8:1:1::{number + 1:x}")
        assert api.login("a@example.org", "wrong", ip="2001:db8:1:1:ffff::1").status == 429
        assert api.login("a@example.org", "wrong", ip="2001:db8:1:2::1").status == 401

    def test_a_success_does_not_clear_the_address(self, api: Api) -> None:
        api.register("ann@example.org")
        for number in range(20):
            if number == 10:
                assert api.login("ann@example.org").status == 200
            api.login(f"user{number}@example.org", "wrong")
        assert api.login("ann@example.org").status == 429

    def test_a_forged_forwarded_for_changes_nothing(self, api: Api) -> None:
        for number in range(20):
            api.login(f"user{number}@example.org", "wrong", ip=f"1.2.3.{number}, {HOME}")
        assert api.login("a@example.org", "wrong", ip=f"9.9.9.9, {HOME}").status == 429

    def test_registrations_are_bounded_and_taken_addresses_count(self, start: Start) -> None:
        api = start(AUTH_REGISTRATIONS_PER_IP_PER_HOUR="3")
        assert api.register("ann@example.org").status == 201
        assert [api.register("ann@example.org").status for _ in range(2)] == [409, 409]
        refused = api.register("bob@example.org")
        assert refused.status == 429
        assert int(refused.headers["Retry-After"]) > 3000
        assert api.register("bob@example.org", ip=AWAY).status == 201


class TestOneSession:
    def test_tickets_are_bounded(self, start: Start) -> None:
        api = start(AUTH_TICKETS_PER_SESSION_PER_MINUTE="2")
        token = api.register("ann@example.org").body["access_token"]
        statuses = [api.post("/auth/ws-ticket", {}, token=token).status for _ in range(3)]
        assert statuses == [201, 201, 429]

    def test_a_refused_refresh_spends_nothing(self, start: Start, database: Database) -> None:
        api = start(AUTH_REFRESHES_PER_SESSION_PER_MINUTE="1")
        first = api.register("ann@example.org").body["refresh_token"]
        second = api.post("/auth/refresh", {"refresh_token": first}).body["refresh_token"]
        assert api.post("/auth/refresh", {"refresh_token": second}).status == 429
        with database.connect() as owner:
            owner.execute("DELETE FROM rate_limits")
        assert api.post("/auth/refresh", {"refresh_token": second}).status == 200


class TestWhatIsTold:
    def test_unknown_wrong_and_disabled_are_the_same_bytes(
        self, api: Api, database: Database
    ) -> None:
        api.register("ann@example.org")
        api.register("off@example.org")
        with database.connect() as owner:
            owner.execute("UPDATE users SET disabled_at = now() WHERE email = 'off@example.org'")
        answers = [
            api.login("nobody@example.org"),
            api.login("ann@example.org", "wrong"),
            api.login("off@example.org"),
            api.login("off@example.org", "wrong"),
        ]
        seen = {
            (
                answer.status,
                answer.raw.replace(answer.headers["X-Request-Id"].encode(), b""),
                tuple(sorted(set(answer.headers) - {"X-Request-Id", "Date"})),
            )
            for answer in answers
        }
        assert len(seen) == 1

    def test_the_commonest_passwords_are_refused_however_capitalised(self, api: Api) -> None:
        for password in ("password1", "PASSWORD1", "Iloveyou1", "12345678"):
            body = {"email": "a@example.org", "password": password, "display_name": "Ann"}
            refused = api.post("/auth/register", body)
            assert (refused.status, refused.code) == (422, "validation_failed")
            assert refused.body["error"]["details"]["field"] == "password"


class TestSessionsOfAUser:
    def test_a_changed_password_ends_the_other_sessions_and_keeps_this_one(
        self, api: Api, database: Database
    ) -> None:
        here = api.register("ann@example.org").body["access_token"]
        there = api.login("ann@example.org").body["access_token"]
        change = {"current_password": PASSWORD, "new_password": "another fine password"}
        assert api.post("/auth/password", change, token=here).status == 204
        assert api.post("/auth/ws-ticket", {}, token=there).code == "session_revoked"
        assert api.post("/auth/ws-ticket", {}, token=here).status == 201
        assert api.login("ann@example.org").status == 401
        assert api.login("ann@example.org", "another fine password").status == 200
        with database.connect() as owner:
            rows = owner.execute(
                "SELECT revoked_reason FROM user_sessions WHERE revoked_at IS NOT NULL"
            ).fetchall()
        assert rows == [("password_changed",)]
