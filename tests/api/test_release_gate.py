"""The release gate over HTTP: whom it refuses, whom it lets pass, and what a refusal costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests.api.conftest import PASSWORD, StartApi, new_email
from tests.support.cluster import Cluster
from tests.support.databases import Database, cloned_database
from tests.support.http_calls import Answer, Http
from tests.support.processes import Processes
from tests.support.services import OPERATOR, OPS_TOKEN, People, api_environment

UPDATE_URL = "https://example.org/update"
OLD = {"X-Client-Version": "1.9"}
NEW = {"X-Client-Version": "2.0"}
GATE = {
    "latest_version": "2.0",
    "min_supported_version": "2.0",
    "update_url": UPDATE_URL,
    "drain": "none",
}


@dataclass
class Gatehouse:
    """A service, its people, and an operator."""

    http: Http
    people: People

    def register(self, **headers: str) -> dict[str, Any]:
        body = {"email": new_email(), "password": PASSWORD, "display_name": "Ada"}
        answer = self.http.post("/auth/register", body, headers=headers)
        assert answer.status == 201
        return dict(answer.json)

    def login(
        self, user: dict[str, Any], headers: dict[str, str], password: str = PASSWORD
    ) -> Answer:
        body = {"email": user["user"]["email"], "password": password}
        return self.http.post("/auth/login", body, headers=headers)

    def me(self, session: dict[str, Any], headers: dict[str, str]) -> int:
        return self.http.get("/auth/me", token=session["access_token"], headers=headers).status

    def ops(self, path: str, body: dict[str, Any], request_id: str = "release-1") -> Answer:
        headers = {"X-Request-ID": request_id}
        return self.http.post(f"/ops/release/{path}", body, ops_token=OPS_TOKEN, headers=headers)

    def shut(self, request_id: str = "release-1", **changes: Any) -> Any:
        """Version 2.0 is demanded from now on."""
        body = {**GATE, "grace_seconds": 0, **changes}
        answer = self.ops("activate", body, request_id)
        assert answer.status == 200
        return answer.json


@pytest.fixture(scope="module")
def running(cluster: Cluster, admin_connection: psycopg.Connection[Any]) -> Iterator[Gatehouse]:
    """Apart from what others share: a policy concerns everybody."""
    with (
        cloned_database(cluster, admin_connection) as database,
        People(database) as people,
        Processes() as processes,
    ):
        environment = api_environment(database, AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_ACCOUNT="3")
        _, port = processes.start_service("api", environment)
        yield Gatehouse(Http(port), people)


@pytest.fixture
def gatehouse(running: Gatehouse) -> Gatehouse:
    """As on its first day: nobody there, and nothing released."""
    for statement in (
        "DELETE FROM users",
        "DELETE FROM release_policy",
        "INSERT INTO release_policy DEFAULT VALUES",
        "DELETE FROM release_records",
    ):
        running.people.owner.execute(statement)
    return running


class TestOutdatedClients:
    def test_are_told_to_update_and_where(self, gatehouse: Gatehouse) -> None:
        session = gatehouse.register()
        gatehouse.shut()
        error = gatehouse.http.get("/auth/me", token=session["access_token"], headers=OLD).error
        assert error["code"] == "update_required"
        status = error["details"]["version_status"]
        assert (status["client_version"], status["min_supported_version"]) == ("1.9", "2.0")
        assert status["update_url"] == UPDATE_URL
        assert status["update_required"] is True

    @pytest.mark.parametrize("version", ["1.9.99", "", "2,0", "v2.0", "0"])
    def test_whatever_is_no_version_counts_as_none(
        self, gatehouse: Gatehouse, version: str
    ) -> None:
        session = gatehouse.register()
        gatehouse.shut()
        assert gatehouse.me(session, {}) == 426
        assert gatehouse.me(session, {"X-Client-Version": version}) == 426
        assert gatehouse.me(session, NEW) == 200

    def test_can_still_throw_out_a_thief(self, gatehouse: Gatehouse) -> None:
        mine = gatehouse.register()
        thief, other = (gatehouse.login(mine, OLD).json for _ in range(2))
        gatehouse.shut()
        end = {"token": mine["access_token"], "headers": OLD}
        assert gatehouse.http.get("/auth/sessions", **end).status == 426
        path = f"/auth/sessions/{thief['session_id']}"
        assert gatehouse.http.call("DELETE", path, **end).status == 204
        assert gatehouse.http.call("DELETE", "/auth/sessions", **end).status == 204
        assert gatehouse.http.post("/auth/logout", {}, **end).status == 204
        for session in (mine, thief, other):
            assert gatehouse.me(session, NEW) == 401

    def test_leave_no_user_behind_and_use_up_no_registration(
        self, database: Database, start_api: StartApi
    ) -> None:
        _, http = start_api(database, AUTH_REGISTRATIONS_PER_IP_PER_HOUR="1")
        with People(database) as people:
            gatehouse = Gatehouse(http, people)
            gatehouse.shut()
            body = {"email": new_email(), "password": PASSWORD, "display_name": "Ada"}
            for _ in range(3):
                answer = http.post("/auth/register", body, headers=OLD)
                assert answer.error["code"] == "update_required"
            assert people.one("SELECT count(*) FROM users") == 0
            assert http.post("/auth/register", body, headers=NEW).status == 201

    def test_spend_no_refresh_token(self, gatehouse: Gatehouse) -> None:
        session = gatehouse.register()
        gatehouse.shut()
        body = {"refresh_token": session["refresh_token"]}
        for _ in range(3):
            answer = gatehouse.http.post("/auth/refresh", body, headers=OLD)
            assert answer.error["code"] == "update_required"
        renewed = gatehouse.http.post("/auth/refresh", body, headers=NEW)
        assert renewed.status == 200
        assert gatehouse.me(renewed.json, NEW) == 200

    def test_log_in_with_the_right_password_in_vain_and_lock_nobody_out(
        self, gatehouse: Gatehouse
    ) -> None:
        user = gatehouse.register()
        gatehouse.shut()
        assert gatehouse.login(user, OLD, "wrong").error["code"] == "invalid_credentials"
        for _ in range(5):  # three failures would lock the account
            assert gatehouse.login(user, OLD).error["code"] == "update_required"
        assert gatehouse.login(user, NEW).status == 200
        assert gatehouse.people.one("SELECT count(*) FROM user_sessions") == 2

    def test_may_go_on_until_the_grace_is_over(self, gatehouse: Gatehouse) -> None:
        session = gatehouse.register()
        answer = gatehouse.shut(grace_seconds=300)
        assert gatehouse.me(session, OLD) == 200
        status = gatehouse.http.get("/release/summary", headers=OLD).json["version_status"]
        assert status["enforce_after"] == answer["release_policy"]["enforce_after"]
        assert (status["update_available"], status["update_required"]) == (True, False)
        gatehouse.people.owner.execute("UPDATE release_policy SET enforce_after = now()")
        assert gatehouse.me(session, OLD) == 426


class TestAdmins:
    def test_pass_whatever_they_run(self, gatehouse: Gatehouse) -> None:
        admin = gatehouse.register()
        gatehouse.people.owner.execute(
            "UPDATE users SET is_admin = true WHERE id = %s", [admin["user"]["id"]]
        )
        gatehouse.shut()
        assert gatehouse.me(admin, OLD) == 200
        assert gatehouse.login(admin, {}).status == 200
        body = {"refresh_token": admin["refresh_token"]}
        assert gatehouse.http.post("/auth/refresh", body).status == 200
        ticket = gatehouse.http.post("/auth/ws-ticket", token=admin["access_token"], headers=OLD)
        assert ticket.status == 201


class TestOperators:
    def test_activation_is_recorded_under_the_operators_name_and_request(
        self, gatehouse: Gatehouse
    ) -> None:
        done = gatehouse.shut("release-42", notes="Faster.")
        status = gatehouse.http.get("/ops/release/status", ops_token=OPS_TOKEN).json
        assert status["release_policy"] == done["release_policy"]
        [record] = status["releases"]
        assert (record["actor"], record["request_id"]) == (OPERATOR, "release-42")
        audit = gatehouse.http.get("/ops/audit?request_id=release-42", ops_token=OPS_TOKEN).json
        assert [row["id"] for row in audit["audit"]] == [done["audit_id"]]
        summary = gatehouse.http.get("/release/summary", headers=NEW).json
        assert (summary["notes"], summary["update_url"]) == ("Faster.", UPDATE_URL)

    def test_a_dry_run_says_whom_it_would_hit_and_hits_nobody(self, gatehouse: Gatehouse) -> None:
        session = gatehouse.register(**OLD)
        tried = gatehouse.shut(dry_run=True)
        assert tried["audit_id"] is None
        assert tried["outdated"] == {
            "sessions": 1,
            "by_version": [
                {"client_version": "1.9", "client_content_version": None, "sessions": 1}
            ],
        }
        assert gatehouse.me(session, OLD) == 200

    def test_a_rollback_lets_in_again(self, gatehouse: Gatehouse) -> None:
        session = gatehouse.register()
        gatehouse.shut()
        assert gatehouse.me(session, OLD) == 426
        assert gatehouse.ops("rollback", {"reason": " "}).error["details"] == {"field": "reason"}
        assert gatehouse.ops("rollback", {"reason": "it crashes"}).status == 200
        assert gatehouse.me(session, OLD) == 200
        again = gatehouse.ops("rollback", {"reason": "it crashes"})
        assert again.error["code"] == "conflict"

    @pytest.mark.parametrize(
        ("body", "reason"),
        [((), None), (({},), None), (({"reason": "it crashes"},), "it crashes")],
        ids=["no body", "empty", "with a reason"],
    )
    def test_a_rollback_needs_no_reason_and_records_one(
        self, gatehouse: Gatehouse, body: tuple[dict[str, str], ...], reason: str | None
    ) -> None:
        gatehouse.shut()
        done = gatehouse.http.post("/ops/release/rollback", *body, ops_token=OPS_TOKEN)
        assert done.status == 200
        record = gatehouse.http.get("/ops/release/status", ops_token=OPS_TOKEN).json["releases"][0]
        assert (record["action"], record["reason"]) == ("rollback", reason)
        audit = gatehouse.http.get("/ops/audit?action=release.rollback", ops_token=OPS_TOKEN).json
        row = audit["audit"][0]
        assert (row["id"], row["reason"]) == (done.json["audit_id"], reason)

    def test_an_activation_that_has_to_wait_holds_up_nobody_for_longer_than_a_second(
        self, gatehouse: Gatehouse
    ) -> None:
        """Whoever logs in waits behind it."""
        with gatehouse.people.owner.transaction():
            gatehouse.people.owner.execute("SELECT hold_release_policy()")
            started = time.monotonic()
            answer = gatehouse.ops("activate", {**GATE, "grace_seconds": 0})
            waited = time.monotonic() - started
        assert (answer.status, answer.error["code"]) == (503, "unavailable")
        assert 1 <= waited < 2.5
        assert gatehouse.shut()["audit_id"] is not None

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "latest_version"),
            ({"latest_version": "two"}, "latest_version"),
            ({"latest_version": 2}, "latest_version"),
            ({"latest_version": "2", "grace_seconds": -1}, "grace_seconds"),
            ({"latest_version": "2", "grace_seconds": True}, "grace_seconds"),
            ({"latest_version": "2", "grace_seconds": 604_801}, "grace_seconds"),
            ({"latest_version": "2", "min_supported_version": None}, "min_supported_version"),
            ({"latest_version": "2", "update_url": "javascript:alert(1)"}, "update_url"),
            ({"latest_version": "2", "update_url": "https://x.org/\nX"}, "update_url"),
            ({"latest_version": "2", "update_url": 'https://x.org/"onclick'}, "update_url"),
            ({"latest_version": "2", "notes": ""}, "notes"),
            ({"latest_version": "2", "dry_run": "yes"}, "dry_run"),
            ({"latest_version": "2", "drain": "outdatet"}, "drain"),
            ({"latest_version": "2", "drain": None}, "drain"),
            ({"latest_version": "2", "min_suported_version": "1"}, "min_suported_version"),
        ],
    )
    def test_a_mistyped_release_is_refused_by_field(
        self, shared: Any, body: dict[str, Any], field: str
    ) -> None:
        whole = {"drain": "none", **body}
        answer = shared.http.post("/ops/release/activate", whole, ops_token=OPS_TOKEN)
        assert answer.status == 422
        assert answer.error["details"] == {"field": field}


def test_of_two_hundred_logins_that_race_with_an_activation_each_came_before_it_or_is_refused(
    database: Database, start_api: StartApi
) -> None:
    """Two instances, and the release comes in the middle."""
    wide = {"AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_ACCOUNT": "100000"}
    (_, one), (_, other) = (start_api(database, **wide) for _ in range(2))
    with People(database) as people, ThreadPoolExecutor(16) as pool:
        gatehouse = Gatehouse(one, people)
        users = [gatehouse.register() for _ in range(10)]
        houses = (gatehouse, Gatehouse(other, people))

        def login(number: int) -> Answer:
            if number == 100:
                gatehouse.shut()
            return houses[number % 2].login(users[number % 10], OLD)

        answers = list(pool.map(login, range(200)))
        admitted = [answer.json for answer in answers if answer.status == 200]
        refused = [answer for answer in answers if answer.status != 200]
        # Some find no place for hashing; they have not come in either.
        codes = {answer.error["code"] for answer in refused}
        assert "update_required" in codes
        assert codes <= {"update_required", "unavailable"}
        assert len(admitted) > 20
        assert len(refused) > 20
        # By the database's clock: nobody has slipped in behind the activation.
        late = "SELECT count(*) FROM user_sessions, release_policy WHERE created_at >= activated_at"
        assert people.one(late) == 0
        assert people.one("SELECT count(*) FROM user_sessions") == len(users) + len(admitted)
        assert {house.me(admitted[-1], OLD) for house in houses} == {426}
