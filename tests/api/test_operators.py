"""What operators do: ending sessions, and acts on one user. Each leaves its audit row."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import ANY

import pytest

from tests.api.conftest import PASSWORD, StartApi, new_email
from tests.support.databases import Database
from tests.support.http_calls import Answer, Http
from tests.support.services import OPS_TOKEN, People

NEW_PASSWORD = "another horse"


class Office:
    """A service of its own, its people, and an operator."""

    def __init__(self, http: Http, people: People) -> None:
        self.http = http
        self.people = people

    def register(self, *, ip: str = "198.51.100.1", version: str = "1.0") -> dict[str, Any]:
        body = {"email": new_email(), "password": PASSWORD, "display_name": "Ada"}
        headers = {"X-Forwarded-For": ip, "X-Client-Version": version}
        answer = self.http.post("/auth/register", body, headers=headers)
        assert answer.status == 201
        return dict(answer.json)

    def login(self, session: dict[str, Any], password: str = PASSWORD) -> Answer:
        body = {"email": session["user"]["email"], "password": password}
        return self.http.post("/auth/login", body)

    def lives(self, session: dict[str, Any]) -> bool:
        return self.http.get("/auth/me", token=session["access_token"]).status == 200

    def post(self, path: str, body: dict[str, Any]) -> Answer:
        headers = {"X-Request-ID": "of-the-operator"}
        return self.http.post(path, body, ops_token=OPS_TOKEN, headers=headers)

    def get(self, path: str) -> Answer:
        return self.http.get(path, ops_token=OPS_TOKEN)

    def revoke(self, **body: Any) -> Answer:
        return self.post("/ops/sessions/revoke", {"reason": "incident 42", **body})

    def act(self, session: dict[str, Any], act: str, **body: Any) -> Answer:
        user_id = session["user"]["id"]
        return self.post(f"/ops/users/{user_id}/{act}", {"reason": "incident 42", **body})

    def audit(self) -> list[tuple[Any, ...]]:
        """(actor, action, user, reason, request) of what was done, not of what was read."""
        return self.people.owner.execute(
            "SELECT actor, action, user_id, reason, request_id FROM admin_action_audit"
            " WHERE action NOT LIKE '%.read' AND actor NOT LIKE 'psql:%' ORDER BY id"
        ).fetchall()


@pytest.fixture
def office(database: Database, start_api: StartApi) -> Iterator[Office]:
    with People(database) as people:
        yield Office(start_api(database, TRUSTED_PROXY_HOPS="1")[1], people)


class TestRevoking:
    def test_each_selector_ends_what_it_names_and_nothing_else(self, office: Office) -> None:
        for selector in (
            lambda one: {"user_id": one["user"]["id"]},
            lambda one: {"session_id": one["session_id"]},
            lambda one: {"email": one["user"]["email"].upper()},
            lambda one: {"ip": "203.0.113.9"},
            lambda one: {"ip": "203.0.113.0/24"},
            lambda one: {"client_version_below": "1.0"},
        ):
            other = office.register()
            one = office.register(ip="203.0.113.9", version="0.9.9")
            answer = office.revoke(**selector(one))
            assert (answer.json["matched"], answer.json["revoked"]) == (1, 1), answer.json
            assert (office.lives(one), office.lives(other)) == (False, True)

    def test_created_before_and_all(self, office: Office) -> None:
        old = office.register()
        moment = office.people.one("SELECT clock_timestamp()").isoformat()
        new = office.register()
        assert office.revoke(created_before=moment).json["revoked"] == 1
        assert (office.lives(old), office.lives(new)) == (False, True)
        assert office.revoke(all=True).json["revoked"] == 1
        assert not office.lives(new)

    def test_a_dry_run_counts_and_changes_nothing(self, office: Office) -> None:
        one = office.register()
        answer = office.revoke(all=True, dry_run=True)
        assert answer.json == {"matched": 1, "revoked": 0, "audit_id": None}
        assert office.lives(one)
        assert office.audit() == []

    def test_an_address_that_nobody_has_matches_nothing(self, office: Office) -> None:
        asked = office.revoke(email="nobody-has-it@example.org", dry_run=True)
        assert asked.json == {"matched": 0, "revoked": 0, "audit_id": None}
        assert office.audit() == []
        answer = office.revoke(email="nobody-has-it@example.org")
        assert (answer.json["matched"], answer.json["revoked"]) == (0, 0)
        assert office.audit() == [("olga", "sessions.revoke", None, "incident 42", ANY)]
        assert answer.json["audit_id"] is not None

    def test_what_was_done_is_in_the_audit_trail(self, office: Office) -> None:
        one = office.register()
        user_id = one["user"]["id"]
        answer = office.revoke(user_id=user_id)
        assert office.audit() == [
            ("olga", "sessions.revoke", user_id, "incident 42", "of-the-operator")
        ]
        (row,) = office.get("/ops/audit?action=sessions.revoke").json["audit"]
        assert row["id"] == answer.json["audit_id"]
        assert row["details"] == {"matched": 1, "revoked": 1}

    def test_the_operators_reason_is_not_told_to_the_user(self, office: Office) -> None:
        one = office.register()
        office.revoke(user_id=one["user"]["id"])
        reason = office.people.one("SELECT revoked_reason FROM user_sessions")
        assert reason == "revoked_by_operator"

    def test_a_selector_that_is_none_ends_nothing(self, office: Office) -> None:
        one = office.register()
        bodies: tuple[dict[str, Any], ...] = (
            {},
            {"user_id": 1, "all": True},
            {"all": False},
            {"all": "yes"},
            {"user_id": 0},
            {"ip": "x"},
            {"ip": "198.51.100.7/24"},
            {"client_version_below": "latest"},
            {"created_before": "yesterday"},
            {"all": True, "reason": ""},
            {"all": True, "reason": " "},
            {"all": True, "reason": None},
            {"all": True, "dry_run": "false"},
            {"all": True, "more": 1},
        )
        for body in bodies:
            assert office.revoke(**body).status in (400, 422), body
        assert office.lives(one)
        assert office.audit() == []

    def test_versions_are_compared_part_by_part(self, office: Office) -> None:
        for version, below, ends in (
            ("1.2", "1.10", True),
            ("1.10", "1.2", False),
            ("1.2.0", "1.2", False),
            ("1.2", "1.2.0", False),
            ("1.2", "1.2.0.1", True),
            ("beta", "0.0.1", True),
            ("0", "0.0", False),
            ("10", "1.0", False),
            ("100.0", "99", False),
        ):
            one = office.register(version=version)
            office.revoke(client_version_below=below)
            assert office.lives(one) is not ends, (version, below)


class TestFinding:
    def test_a_user_is_shown_with_everything_that_matters(self, office: Office) -> None:
        one = office.register(ip="203.0.113.9")
        for _ in range(9):
            office.login(one, "wrong")
        (user,) = office.get(f"/ops/users?email={one['user']['email'].upper()}").json["users"]
        assert user["id"] == one["user"]["id"]
        assert [session["session_id"] for session in user["sessions"]] == [one["session_id"]]
        assert user["sessions"][0]["ip"] == "203.0.113.9"
        assert len(user["lockouts"]) == 1
        assert user["events"][0]["event"] == "authn_login_lock"
        assert "password" not in str(user)

    def test_by_address_and_by_network(self, office: Office) -> None:
        one, two = office.register(ip="203.0.113.9"), office.register(ip="203.0.113.200")
        office.register(ip="198.51.100.1")
        ids = [one["user"]["id"], two["user"]["id"]]
        path = "/ops/users?ip=203.0.113"
        assert [user["id"] for user in office.get(f"{path}.9").json["users"]] == ids[:1]
        assert [user["id"] for user in office.get(f"{path}.0/24").json["users"]] == ids[::-1]
        sessions = office.get("/ops/sessions?ip=203.0.113.0/24").json["sessions"]
        assert [session["user_id"] for session in sessions] == ids[::-1]

    def test_a_lockout_of_the_address_shows_although_nobody_came_from_there(
        self, office: Office
    ) -> None:
        with office.people.owner.transaction():
            for n, source in enumerate(("203.0.113.9", "203.0.114.1", "2001:db8::/64", "local")):
                office.people.owner.execute(
                    "INSERT INTO rate_limits (key, window_seconds, slice, reserved, failures,"
                    " locked_until, lockouts, touched_at) VALUES (%s, 60, 0, '{}', '{}',"
                    " now() + interval '1 hour', %s, now())",
                    (f"login:ip:{source}", n + 1),
                )
            office.people.owner.execute(
                "INSERT INTO rate_limits SELECT 'login:ip:203.0.113.10', window_seconds, slice,"
                " reserved, failures, now(), locked_at, lockouts, noted_at, touched_at"
                " FROM rate_limits WHERE key = 'login:ip:local'"
            )

        def locked(ip: str) -> dict[str, int]:
            answer = office.get(f"/ops/users?ip={ip}").json
            assert answer["users"] == []
            return {one["subject"]: one["lockouts"] for one in answer["lockouts"]}

        nine = {"login:ip:203.0.113.9": 1}
        assert locked("203.0.113.9") == locked("203.0.113.0/24") == nine
        assert locked("203.0.112.0/22") == {**nine, "login:ip:203.0.114.1": 2}
        assert locked("203.0.113.10") == locked("198.51.100.0/24") == {}
        assert locked("2001:db8::77") == locked("2001:db8::/32") == {"login:ip:2001:db8::/64": 3}
        email = office.register()["user"]["email"]
        assert "lockouts" not in office.get(f"/ops/users?email={email}").json

    def test_reading_of_people_is_audited(self, office: Office) -> None:
        one = office.register()
        office.get(f"/ops/users?email={one['user']['email']}")
        office.get("/ops/sessions")
        rows = office.get("/ops/audit").json["audit"]
        assert [row["action"] for row in rows] == ["sessions.read", "users.read"]
        assert rows[1]["user_id"] == one["user"]["id"]


class TestUsers:
    def test_a_disabled_user_is_out_until_enabled_and_old_sessions_stay_ended(
        self, office: Office
    ) -> None:
        one = office.register()
        assert office.act(one, "disable").status == 200
        assert not office.lives(one)
        assert office.login(one).error["code"] == "invalid_credentials"
        assert office.act(one, "enable").status == 200
        assert not office.lives(one)
        assert office.login(one).status == 200
        assert [action for _, action, *_ in office.audit()] == ["user.disable", "user.enable"]

    def test_enabling_somebody_who_was_not_disabled_ends_nothing(self, office: Office) -> None:
        one = office.register()
        assert office.act(one, "enable").status == 200
        assert office.lives(one)

    def test_unlocking_lets_a_locked_out_user_in(self, office: Office) -> None:
        one, other = office.register(), office.register()
        for session in (one, other):
            for _ in range(9):
                office.login(session, "wrong")
            assert office.login(session).error["code"] == "rate_limited"
        assert office.act(one, "unlock").status == 200
        assert office.login(one).status == 200
        assert office.login(other).error["code"] == "rate_limited"

    def test_a_muted_user_writes_nothing_until_it_is_over(self, office: Office) -> None:
        one = office.register()

        def say() -> Answer:
            body = {"client_msg_id": str(uuid.uuid4()), "content": "hi"}
            return office.http.post("/chat/channels/1/messages", body, token=one["access_token"])

        muted = office.act(one, "mute", seconds=60)
        assert muted.json["muted_until"] is not None
        assert say().error["code"] == "muted"
        assert office.act(one, "mute", seconds=0).json["muted_until"] is None
        assert say().status == 201

    def test_a_time_that_is_none_mutes_nobody(self, office: Office) -> None:
        one = office.register()
        for seconds in (-1, 31_622_401, 1.5, "60", True, None, 2**70):
            assert office.act(one, "mute", seconds=seconds).status in (400, 422), seconds
        assert office.people.one("SELECT count(muted_until) FROM users") == 0

    def test_nothing_is_done_to_nobody_or_without_a_reason(self, office: Office) -> None:
        one = office.register()
        nobody = {"user": {"id": 2**40}}
        for act in ("disable", "enable", "unlock", "mute", "password-reset"):
            assert office.act(nobody, act).error["code"] == "not_found", act
            assert office.act(one, act, reason=" ").error["code"] == "validation_failed", act
        assert office.audit() == []


class TestPasswordReset:
    def spend(self, office: Office, token: str, password: str = NEW_PASSWORD) -> Answer:
        body = {"reset_token": token, "new_password": password}
        return office.http.post("/auth/password-reset", body)

    def test_the_old_password_is_dead_at_once_and_the_token_sets_a_new_one(
        self, office: Office
    ) -> None:
        one = office.register()
        token = office.act(one, "password-reset").json["reset_token"]
        assert office.login(one).error["code"] == "invalid_credentials"
        assert self.spend(office, token).status == 204
        assert not office.lives(one)
        assert office.login(one, NEW_PASSWORD).status == 200
        assert token not in str(office.get("/ops/audit").json)

    def test_of_twenty_who_have_the_token_one_sets_the_password(self, office: Office) -> None:
        one = office.register()
        token = office.act(one, "password-reset").json["reset_token"]

        def spend(number: int) -> int:
            return self.spend(office, token, f"password number {number}").status

        with ThreadPoolExecutor(6) as threads:
            statuses = list(threads.map(spend, range(20)))
        assert statuses.count(204) == 1
        assert set(statuses) <= {204, 401, 503}

    def test_a_token_is_good_once_for_a_day_and_only_the_newest(self, office: Office) -> None:
        one = office.register()
        first, second = (office.act(one, "password-reset").json["reset_token"] for _ in range(2))
        assert self.spend(office, first).error["code"] == "invalid_credentials"
        assert self.spend(office, second).status == 204
        assert self.spend(office, second).error["code"] == "invalid_credentials"
        third = office.act(one, "password-reset").json["reset_token"]
        office.people.owner.execute("UPDATE password_resets SET expires_at = clock_timestamp()")
        assert self.spend(office, third).error["code"] == "invalid_credentials"

    def test_a_disabled_user_stays_out(self, office: Office) -> None:
        one = office.register()
        token = office.act(one, "password-reset").json["reset_token"]
        office.act(one, "disable")
        assert self.spend(office, token).error["code"] == "invalid_credentials"

    def test_guessing_counts_against_the_address(
        self, database: Database, start_api: StartApi
    ) -> None:
        _, http = start_api(database, AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_IP="3")
        body = {"reset_token": "A" * 43, "new_password": NEW_PASSWORD}
        codes = [http.post("/auth/password-reset", body).error["code"] for _ in range(5)]
        assert codes == ["invalid_credentials"] * 3 + ["rate_limited"] * 2

    @pytest.mark.parametrize("password", ["short", "password1", "x" * 129])
    def test_a_bad_new_password_spends_nothing(self, office: Office, password: str) -> None:
        one = office.register()
        token = office.act(one, "password-reset").json["reset_token"]
        assert self.spend(office, token, password).error["code"] == "validation_failed"
        assert self.spend(office, token).status == 204


class TestErasing:
    def test_an_operator_erases_in_any_channel_and_the_log_names_nobody(
        self, office: Office
    ) -> None:
        ada = office.people.person()
        group = office.people.channel(ada)
        office.people.fill(ada, group, 1, "vile")
        path = f"/ops/channels/{group}/messages/1"
        for _ in range(2):
            answer = office.http.call("DELETE", f"{path}?reason=vile", ops_token=OPS_TOKEN)
            assert answer.status == 204
        token = office.people.access_token(ada)
        history = office.http.get(f"/chat/channels/{group}/messages", token=token).json
        assert history["entries"][0]["content"] is None
        assert history["entries"][1]["by_user_id"] is None
        assert len(history["entries"]) == 2
        assert [row[1] for row in office.audit()] == ["message.erase"]
        refused = office.http.call("DELETE", f"{path}?reason=a%00b", ops_token=OPS_TOKEN)
        assert refused.error["details"] == {"field": "reason"}
        nothing = office.http.call(
            "DELETE", f"/ops/channels/{group}/messages/9", ops_token=OPS_TOKEN
        )
        assert nothing.error["code"] == "not_found"
