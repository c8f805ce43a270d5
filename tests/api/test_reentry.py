"""Whoever was drained comes back without a password: once, updated, and never past a revocation."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests.api.conftest import PASSWORD, new_email
from tests.support.cluster import Cluster
from tests.support.databases import cloned_database
from tests.support.http_calls import Answer, Http
from tests.support.processes import Processes
from tests.support.services import OPS_TOKEN, People, api_environment

OLD = {"X-Client-Version": "1.9"}
NEW = {"X-Client-Version": "2.0"}
RELEASE = {
    "latest_version": "2.0",
    "min_supported_version": "2.0",
    "grace_seconds": 3600,
    "drain": "none",
}
DRAIN = {"reason": "release 2.0", "scope": "outdated", "grace_seconds": 0}


@dataclass(frozen=True, slots=True)
class Gatehouse:
    http: Http
    people: People

    def register(self) -> dict[str, Any]:
        body = {"email": new_email(), "password": PASSWORD, "display_name": "Ada"}
        answer = self.http.post("/auth/register", body, headers=OLD)
        assert answer.status == 201
        return dict(answer.json)

    def login(self, session: dict[str, Any]) -> dict[str, Any]:
        body = {"email": session["user"]["email"], "password": PASSWORD}
        return dict(self.http.post("/auth/login", body, headers=NEW).json)

    def drain(self) -> None:
        """Everybody with the old client is out, the drain has finished, and others may log in."""
        self.ops("/ops/release/activate", RELEASE)
        self.ops("/ops/drains", DRAIN)
        assert self.people.one("SELECT count(*) FROM finish_drain('test', 0)") == 1
        self.roll_back()

    def roll_back(self) -> None:
        self.ops("/ops/release/rollback", {"reason": "others register with it"})

    def ops(self, path: str, body: dict[str, Any]) -> None:
        answer = self.http.post(path, body, ops_token=OPS_TOKEN)
        assert answer.status < 300, answer

    def refresh(self, session: dict[str, Any], headers: dict[str, str]) -> Answer:
        body = {"refresh_token": session["refresh_token"]}
        return self.http.post("/auth/refresh", body, headers=headers)

    def refusal(self, session: dict[str, Any], headers: dict[str, str] = NEW) -> str:
        return str(self.refresh(session, headers).error["code"])

    def me(self, session: dict[str, Any]) -> str:
        answer = self.http.get("/auth/me", token=session["access_token"], headers=NEW)
        return "200" if answer.status == 200 else str(answer.error["code"])

    def sessions_of(self, session: dict[str, Any]) -> int:
        count: int = self.people.one(
            "SELECT count(*) FROM user_sessions WHERE user_id = %s", session["user"]["id"]
        )
        return count


@pytest.fixture(scope="module")
def gatehouse(cluster: Cluster, admin_connection: psycopg.Connection[Any]) -> Iterator[Gatehouse]:
    """Apart from what others share: a release concerns everybody."""
    with (
        cloned_database(cluster, admin_connection) as database,
        People(database) as people,
        Processes() as processes,
    ):
        _, port = processes.start_service("api", api_environment(database))
        yield Gatehouse(Http(port), people)


def test_once_updated_the_refresh_token_opens_a_new_session(gatehouse: Gatehouse) -> None:
    old = gatehouse.register()
    gatehouse.drain()
    assert gatehouse.me(old) == "drained"
    # With the old client it is refused, though the minimum is not enforced yet, and not spent.
    assert gatehouse.refusal(old, OLD) == "drained"
    gatehouse.ops("/ops/release/activate", {**RELEASE, "grace_seconds": 0})
    assert gatehouse.refusal(old, OLD) == "update_required"
    gatehouse.roll_back()
    answer = gatehouse.refresh(old, NEW)
    assert answer.status == 200
    new = answer.json
    assert new["session_id"] != old["session_id"]
    assert new["user"] == old["user"]
    # No password was shown: it lives no longer than the old one would have.
    assert new["session_expires_at"] == old["session_expires_at"]
    assert gatehouse.me(new) == "200"
    renewed = gatehouse.refresh(new, NEW)
    assert renewed.json["session_id"] == new["session_id"]


def test_before_the_drain_has_finished_it_is_the_same(gatehouse: Gatehouse) -> None:
    old = gatehouse.register()
    gatehouse.ops("/ops/release/activate", RELEASE)
    gatehouse.ops("/ops/drains", DRAIN)
    new = gatehouse.refresh(old, NEW).json
    assert gatehouse.people.one("SELECT count(*) FROM finish_drain('test', 0)") == 1
    assert gatehouse.me(new) == "200"
    assert gatehouse.me(old) == "session_revoked"
    ended = "SELECT revoked_at IS NOT NULL FROM publish_drain_session_audit WHERE session_id = %s"
    assert gatehouse.people.one(ended, old["session_id"])
    gatehouse.roll_back()


def test_after_a_drain_of_everybody_the_gate_decides_who_comes_back(gatehouse: Gatehouse) -> None:
    old = gatehouse.register()
    gatehouse.ops("/ops/drains", {**DRAIN, "scope": "all"})
    assert gatehouse.people.one("SELECT count(*) FROM finish_drain('test', 0)") == 1
    gatehouse.ops("/ops/release/activate", {**RELEASE, "grace_seconds": 0})
    assert gatehouse.refusal(old, OLD) == "update_required"
    gatehouse.roll_back()
    assert gatehouse.refresh(old, OLD).status == 200


def test_whoever_did_not_get_the_answer_gets_the_same_one_again(gatehouse: Gatehouse) -> None:
    old = gatehouse.register()
    gatehouse.drain()
    first, again = (gatehouse.refresh(old, NEW) for _ in range(2))
    assert again.status == 200
    assert again.json["refresh_token"] == first.json["refresh_token"]
    assert again.json["session_id"] == first.json["session_id"]
    assert gatehouse.sessions_of(old) == 2


def test_a_refresh_right_before_the_drain_whose_answer_got_lost_closes_no_way_back(
    gatehouse: Gatehouse,
) -> None:
    old = gatehouse.register()
    lost = gatehouse.refresh(old, OLD).json
    gatehouse.drain()
    assert gatehouse.refusal(old, OLD) in ("drained", "update_required")
    new = gatehouse.refresh(old, NEW)
    assert new.status == 200
    again = gatehouse.refresh(lost, NEW).json
    assert again["refresh_token"] == new.json["refresh_token"]


def test_of_twenty_at_once_all_get_the_one_new_session(gatehouse: Gatehouse) -> None:
    old = gatehouse.register()
    gatehouse.drain()
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: gatehouse.refresh(old, NEW), range(20)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.json["refresh_token"] for answer in answers}) == 1
    assert gatehouse.sessions_of(old) == 2


@pytest.mark.parametrize("when", ["after the new one is used", "after the grace"])
def test_a_second_use_is_theft_and_ends_what_the_first_one_opened(
    gatehouse: Gatehouse, when: str
) -> None:
    old = gatehouse.register()
    gatehouse.drain()
    new = gatehouse.refresh(old, NEW).json
    if when == "after the grace":
        gatehouse.people.owner.execute(
            "UPDATE refresh_tokens SET spent_at = spent_at - interval '2 minutes'"
            " WHERE session_id = %s",
            (old["session_id"],),
        )
    else:
        new = gatehouse.refresh(new, NEW).json
    assert gatehouse.refusal(old) == "refresh_token_reused"
    assert gatehouse.me(new) == "session_revoked"
    assert gatehouse.refusal(new) == "session_revoked"
    assert gatehouse.refusal(old) == "session_revoked"
    reused = "SELECT count(*) FROM security_events WHERE event = 'authn_token_reuse'"
    assert gatehouse.people.one(f"{reused} AND user_id = %s", old["user"]["id"]) == 1


def test_a_token_that_was_spent_long_before_the_drain_is_theft_too(gatehouse: Gatehouse) -> None:
    old = gatehouse.register()
    newer = gatehouse.refresh(gatehouse.refresh(old, OLD).json, OLD).json
    gatehouse.drain()
    assert gatehouse.refusal(old) == "refresh_token_reused"
    assert gatehouse.refusal(newer) == "session_revoked"
    assert gatehouse.sessions_of(old) == 1


ENDINGS: dict[str, str | dict[str, Any]] = {
    "by hand": "UPDATE user_sessions SET revoked_at = now() WHERE revoked_at IS NULL",
    "a deleted session": "DELETE FROM user_sessions WHERE id = {session}",
    "a disabled account": "UPDATE users SET disabled_at = now() WHERE id = {user}",
    "a session that has expired": (
        "UPDATE user_sessions SET expires_at = now() WHERE id = {session}"
    ),
    "a day later": (
        "UPDATE user_sessions SET drain_deadline_at = now() - interval '24 hours 1 second'"
        " WHERE id = {session}"
    ),
    "an operator": {"all": True, "reason": "tokens have leaked"},
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_nobody_comes_back_past_a_revocation_or_too_late(gatehouse: Gatehouse, ending: str) -> None:
    old = gatehouse.register()
    gatehouse.drain()
    how = ENDINGS[ending]
    if isinstance(how, str):
        statement = how.format(session=old["session_id"], user=old["user"]["id"])
        gatehouse.people.owner.execute(statement.encode())
    else:
        gatehouse.ops("/ops/sessions/revoke", dict(how))
    sessions = gatehouse.sessions_of(old)
    assert gatehouse.refusal(old) in ("session_revoked", "refresh_token_invalid")
    assert gatehouse.sessions_of(old) == sessions


def test_a_changed_password_ends_the_way_back_of_the_other_sessions(gatehouse: Gatehouse) -> None:
    old = gatehouse.register()
    gatehouse.drain()
    other = gatehouse.login(old)
    change = {"current_password": PASSWORD, "new_password": PASSWORD + "!"}
    changed = gatehouse.http.post(
        "/auth/password", change, token=other["access_token"], headers=NEW
    )
    assert changed.status == 204
    assert gatehouse.refusal(old) == "session_revoked"


def test_a_revocation_that_races_with_the_way_back_leaves_no_session_alive(
    gatehouse: Gatehouse,
) -> None:
    """However the two interleave: the new session is opened before it and ends, or is not."""
    for _ in range(8):
        old = gatehouse.register()
        gatehouse.drain()
        with ThreadPoolExecutor(4) as threads:
            coming = [threads.submit(gatehouse.refresh, old, NEW) for _ in range(3)]
            ending = threads.submit(
                gatehouse.ops,
                "/ops/sessions/revoke",
                {"user_id": old["user"]["id"], "reason": "incident 42"},
            )
            answers = [future.result() for future in coming]
            ending.result()
        # Whoever got in before it was seen by it; whoever came later found nothing to come back to.
        late = gatehouse.refresh(old, NEW)
        opened = [answer.json for answer in answers if answer.status == 200]
        if late.status == 200:
            assert late.json["session_id"] in {session["session_id"] for session in opened}
        for session in opened:
            assert gatehouse.me(session) == "session_revoked"


def test_a_session_that_its_owner_ends_does_not_come_back(gatehouse: Gatehouse) -> None:
    old = gatehouse.register()
    gatehouse.drain()
    other = gatehouse.login(old)
    path = f"/auth/sessions/{old['session_id']}"
    ended = [
        gatehouse.http.call("DELETE", path, token=other["access_token"], headers=NEW).status
        for _ in range(2)
    ]
    assert ended == [204, 404]
    assert gatehouse.refusal(old) == "session_revoked"


def test_ending_the_others_ends_what_comes_back_meanwhile(gatehouse: Gatehouse) -> None:
    """Whichever is first: the new session is one of the others, or the way back is closed."""
    for _ in range(8):
        old = gatehouse.register()
        gatehouse.drain()
        other = gatehouse.login(old)
        with ThreadPoolExecutor(4) as threads:
            coming = [threads.submit(gatehouse.refresh, old, NEW) for _ in range(3)]
            ending = threads.submit(
                gatehouse.http.call,
                "DELETE",
                "/auth/sessions",
                token=other["access_token"],
                headers=NEW,
            )
            answers = [future.result() for future in coming]
            assert ending.result().status == 204
        opened = [answer.json for answer in answers if answer.status == 200]
        assert {gatehouse.me(session) for session in opened} <= {"session_revoked"}
        assert gatehouse.me(other) == "200"


def test_the_gate_is_put_to_a_repeated_return_as_well(gatehouse: Gatehouse) -> None:
    old = gatehouse.register()
    gatehouse.drain()
    new = gatehouse.refresh(old, NEW).json
    gatehouse.ops("/ops/release/activate", {**RELEASE, "grace_seconds": 0})
    assert gatehouse.refusal(old, OLD) == "update_required"
    assert gatehouse.refresh(old, NEW).json["refresh_token"] == new["refresh_token"]
    gatehouse.roll_back()


def test_whoever_comes_back_has_the_oldest_make_room(gatehouse: Gatehouse) -> None:
    old = gatehouse.register()
    gatehouse.drain()
    others = [gatehouse.login(old) for _ in range(20)]
    new = gatehouse.refresh(old, NEW).json
    standing = [gatehouse.me(session) for session in (others[0], others[1], new)]
    assert standing == ["session_revoked", "200", "200"]
    alive = "SELECT count(*) FROM live_sessions WHERE user_id = %s"
    assert gatehouse.people.one(alive, old["user"]["id"]) == 20
