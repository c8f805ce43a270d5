"""Drains over HTTP: what operators do, what clients are answered, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from db.sessions import ClientInfo
from tests.api.conftest import PASSWORD, StartApi, new_email
from tests.support.databases import Database
from tests.support.http_calls import Answer, Http
from tests.support.processes import wait_until
from tests.support.services import OPS_TOKEN, People

OPS = {"X-Ops-Token": OPS_TOKEN}
OLD, NEW = {"X-Client-Version": "1.0"}, {"X-Client-Version": "2.0"}
NOBODY = ClientInfo(None, None, None, None)


class Desk:
    """An operator, and a service and a database of the test's own."""

    def __init__(self, http: Http, people: People) -> None:
        self.http, self.people = http, people

    def register(self, headers: dict[str, str] = OLD) -> dict[str, Any]:
        body = {"email": new_email(), "password": PASSWORD, "display_name": "Ada"}
        answer = self.http.post("/auth/register", body, headers=headers)
        assert answer.status == 201
        session: dict[str, Any] = answer.json
        return session

    def start(self, **members: Any) -> Answer:
        return self.http.post("/ops/drains", {"reason": "2.0 is out", **members}, headers=OPS)

    def started_for(self, minimum: str, grace: int) -> int:
        """As the activation of a release does it."""
        drain_id: int = self.people.one(
            "SELECT drain_id FROM start_drain('2.0', 'outdated', %s, 7, 'olga', NULL, %s)",
            *(grace, minimum),
        )
        return drain_id

    def finish(self) -> None:
        """What a gateway does."""

        def finished() -> bool:
            row = self.people.owner.execute("SELECT drain_id FROM finish_drain('test', 0)")
            return row.fetchone() is not None

        wait_until(finished, "the drain is over")

    def refresh(self, session: dict[str, Any], headers: dict[str, str] = NEW) -> Answer:
        body = {"refresh_token": session["refresh_token"]}
        return self.http.post("/auth/refresh", body, headers=headers)

    def me(self, session: dict[str, Any], headers: dict[str, str] = NEW) -> Answer:
        return self.http.get("/auth/me", token=session["access_token"], headers=headers)


@pytest.fixture
def desk(database: Database, start_api: StartApi) -> Iterator[Desk]:
    _, http = start_api(database)
    with People(database) as people:
        yield Desk(http, people)


class TestOperators:
    def test_a_drain_is_begun_shown_cancelled_and_audited(self, desk: Desk) -> None:
        session = desk.register()
        begun = desk.start(grace_seconds=60)
        assert begun.status == 201
        drain = begun.json
        assert drain == {
            "id": drain["id"],
            "status": "draining",
            "reason": "2.0 is out",
            "release_id": None,
            "scope": "all",
            "started_at": drain["started_at"],
            "deadline": drain["deadline"],
            "grace_seconds": 60,
            "enrolled": 1,
            "acked": 0,
            "closed": 0,
            "unreachable": 0,
            "revoked": 0,
        }
        assert desk.start().error["code"] == "drain_in_progress"
        assert desk.http.get("/ops/drains", headers=OPS).json["drains"] == [drain]
        place = f"/ops/drains/{drain['id']}"
        shown = desk.http.get(place, headers=OPS).json
        assert [one["session_id"] for one in shown["receipts"]] == [session["session_id"]]
        after = f"{place}?after_id={session['session_id']}"
        assert desk.http.get(after, headers=OPS).json["receipts"] == []
        cancelled = desk.http.post(f"{place}/cancel", {"reason": "a bug"}, headers=OPS)
        assert (cancelled.status, cancelled.json["status"]) == (200, "cancelled")
        again = desk.http.post(f"{place}/cancel", {}, headers=OPS)
        assert again.error["code"] == "conflict"
        unknown = desk.http.post(f"/ops/drains/{2**40}/cancel", {}, headers=OPS)
        assert unknown.error["code"] == "not_found"
        assert desk.me(session).status == 200
        rows = desk.people.owner.execute(
            "SELECT action, actor, reason FROM admin_action_audit ORDER BY id"
        ).fetchall()
        assert rows == [
            ("drain.start", "olga", "2.0 is out"),
            ("drain.read", "olga", None),
            ("drain.read", "olga", None),
            ("drain.cancel", "olga", "a bug"),
        ]

    def test_of_two_starts_at_once_one_gets_it(self, desk: Desk) -> None:
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: desk.start(), range(4)))
        assert sorted(answer.status for answer in answers) == [201, 409, 409, 409]

    def test_after_the_deadline_nothing_is_cancelled(self, desk: Desk) -> None:
        session = desk.register()
        drain = desk.start(grace_seconds=0).json
        answer = desk.http.post(f"/ops/drains/{drain['id']}/cancel", headers=OPS)
        assert answer.error["code"] == "conflict"
        assert desk.me(session).error["code"] == "drained"

    @pytest.mark.parametrize(
        "body",
        [{}, {"reason": " "}, {"reason": "x", "scope": "some"}, {"reason": "x", "when": 1}],
        ids=["none", "blank", "scope", "unknown"],
    )
    def test_what_does_not_fit_begins_nothing(self, desk: Desk, body: dict[str, Any]) -> None:
        answer = desk.http.post("/ops/drains", body, headers=OPS)
        assert answer.error["code"] == "validation_failed"


class TestClients:
    def test_at_the_deadline_every_call_is_answered_drained(self, desk: Desk) -> None:
        session = desk.register()
        desk.start(grace_seconds=0)
        token = session["access_token"]
        for answer in (
            desk.me(session),
            desk.http.post("/auth/ws-ticket", token=token),
            desk.http.get("/chat/channels", token=token),
        ):
            assert (answer.status, answer.error["code"]) == (401, "drained")
        desk.finish()
        assert desk.me(session).error["code"] == "drained"

    def test_who_updates_in_time_stays(self, desk: Desk) -> None:
        by_refresh, by_ticket, stays_old = (desk.register() for _ in range(3))
        drain_id = desk.started_for("2.0", grace=60)
        renewed = desk.refresh(by_refresh)
        assert renewed.status == 200
        ticket = desk.http.post("/auth/ws-ticket", token=by_ticket["access_token"], headers=NEW)
        assert ticket.status == 201
        assert desk.refresh(stays_old, OLD).status == 200
        shown = desk.http.get(f"/ops/drains/{drain_id}", headers=OPS).json
        assert [one["outcome"] for one in shown["receipts"]] == ["cancelled", "cancelled", None]

    @pytest.mark.parametrize("silent", [{}, {"X-Client-Version": ""}], ids=["left out", "empty"])
    def test_a_ticket_that_names_no_version_makes_nobody_outdated(
        self, desk: Desk, silent: dict[str, str]
    ) -> None:
        session = desk.register(NEW)
        ticket = desk.http.post("/auth/ws-ticket", token=session["access_token"], headers=silent)
        assert ticket.status == 201
        assert desk.people.one("SELECT client_version FROM user_sessions") == "2.0"
        # The socket has what its own ticket named.
        assert desk.people.one("SELECT client_version FROM ws_tickets") is None
        drain_id = desk.started_for("2.0", grace=60)
        assert desk.http.get(f"/ops/drains/{drain_id}", headers=OPS).json["enrolled"] == 0

    def test_a_call_that_names_no_version_is_no_update(self, desk: Desk) -> None:
        session = desk.register(OLD)
        drain_id = desk.started_for("2.0", grace=60)
        assert desk.refresh(session, {}).status == 200
        shown = desk.http.get(f"/ops/drains/{drain_id}", headers=OPS).json
        assert [one["outcome"] for one in shown["receipts"]] == [None]

    def test_an_outdated_client_that_logs_in_too_late_must_update(self, desk: Desk) -> None:
        desk.started_for("2.0", grace=0)
        body = {"email": new_email(), "password": PASSWORD, "display_name": "Ada"}
        refused = desk.http.post("/auth/register", body, headers=OLD)
        assert (refused.status, refused.error["code"]) == (426, "update_required")
        # And nothing of it is left.
        assert desk.http.post("/auth/register", body, headers=NEW).status == 201

    def test_nor_is_it_let_in_when_the_drain_has_finished_before_the_gate_closes(
        self, desk: Desk
    ) -> None:
        release = {"latest_version": "2.0", "min_supported_version": "2.0", "grace_seconds": 3600}
        activated = desk.http.post(
            "/ops/release/activate", {**release, "drain": "none"}, headers=OPS
        )
        assert activated.status == 200
        assert desk.start(scope="outdated", grace_seconds=0).status == 201
        desk.finish()
        body = {"email": new_email(), "password": PASSWORD, "display_name": "Ada"}
        refused = desk.http.post("/auth/register", body, headers=OLD)
        assert (refused.status, refused.error["code"]) == (426, "update_required")
        assert desk.people.one("SELECT count(*) FROM publish_drain_session_audit") == 0
        rolled_back = desk.http.post("/ops/release/rollback", {"reason": "a bug"}, headers=OPS)
        assert rolled_back.status == 200
        assert desk.http.post("/auth/register", body, headers=OLD).status == 201


class TestTheWayBack:
    @pytest.mark.parametrize("finished", [False, True], ids=["at the deadline", "completed"])
    def test_an_updated_client_comes_back_once_without_a_password(
        self, desk: Desk, finished: bool
    ) -> None:
        session = desk.register()
        desk.started_for("2.0", grace=0)
        if finished:
            desk.finish()
        assert desk.refresh(session, OLD).error["code"] == "drained"
        back = desk.refresh(session)
        assert back.status == 200
        new = back.json
        assert new["session_id"] != session["session_id"]
        assert new["session_expires_at"] == session["session_expires_at"]
        assert desk.me(new).status == 200
        # A lost answer is repeated; once the new token was used, the old one is theft.
        assert desk.refresh(session).json["refresh_token"] == new["refresh_token"]
        assert desk.people.one("SELECT count(*) FROM user_sessions") == 2
        assert desk.refresh(new).status == 200
        assert desk.refresh(session).error["code"] == "refresh_token_reused"
        assert desk.me(new).error["code"] == "session_revoked"

    def test_of_many_at_once_all_get_the_same_session(self, desk: Desk) -> None:
        session = desk.register()
        desk.started_for("2.0", grace=0)
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: desk.refresh(session), range(6)))
        assert {answer.status for answer in answers} == {200}
        assert len({answer.json["refresh_token"] for answer in answers}) == 1
        assert desk.people.one("SELECT count(*) FROM live_sessions") == 1

    def test_whoever_comes_back_and_names_no_version_runs_what_it_ran(self, desk: Desk) -> None:
        session = desk.register(NEW)
        desk.start(grace_seconds=0)
        back = desk.refresh(session, {}).json
        shown = desk.http.get("/auth/me", token=back["access_token"]).json
        assert shown["session"]["client_version"] == "2.0"

    def test_a_spent_token_ends_the_way_back(self, database: Database, desk: Desk) -> None:
        session = desk.register()
        newer = desk.refresh(session, OLD).json
        newest = desk.refresh(newer, OLD).json
        desk.started_for("2.0", grace=0)
        assert desk.refresh(session).error["code"] == "refresh_token_reused"
        assert desk.refresh(newest).error["code"] == "session_revoked"

    def test_the_way_back_closes_after_a_time(
        self, database: Database, start_api: StartApi, desk: Desk
    ) -> None:
        session = desk.register()
        desk.started_for("2.0", grace=0)
        desk.people.owner.execute(
            "UPDATE user_sessions SET drain_deadline_at = now() - interval '24 hours 1 second'"
        )
        assert desk.refresh(session).error["code"] == "session_revoked"
        _, patient = start_api(database, AUTH_DRAIN_REENTRY_HOURS="25")
        assert Desk(patient, desk.people).refresh(session).status == 200

    @pytest.mark.parametrize(
        "revoke",
        [
            lambda desk, _: desk.people.owner.execute(
                "UPDATE user_sessions SET revoked_at = now() WHERE revoked_at IS NULL"
            ),
            lambda desk, _: desk.http.post(
                "/ops/sessions/revoke", {"all": True, "reason": "a leak"}, headers=OPS
            ),
            lambda desk, session: desk.http.post(
                f"/ops/users/{session['user']['id']}/disable", {"reason": "abuse"}, headers=OPS
            ),
            lambda desk, session: desk.http.post(
                "/auth/password",
                {"current_password": PASSWORD, "new_password": PASSWORD + "!"},
                token=desk.http.post(
                    "/auth/login",
                    {"email": session["user"]["email"], "password": PASSWORD},
                    headers=NEW,
                ).json["access_token"],
                headers=NEW,
            ),
        ],
        ids=["psql", "operator", "disabled", "password changed"],
    )
    def test_a_revocation_leaves_no_way_back(
        self, desk: Desk, revoke: Callable[[Desk, dict[str, Any]], Any]
    ) -> None:
        session = desk.register()
        desk.started_for("2.0", grace=0)
        desk.finish()
        answer = revoke(desk, session)
        assert getattr(answer, "status", 200) in (200, 204)
        assert desk.refresh(session).error["code"] == "session_revoked"
        assert desk.me(session).error["code"] == "session_revoked"
