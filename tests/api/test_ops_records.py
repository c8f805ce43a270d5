"""The audit trail and the security events as operators read them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import SharedApi, StartApi, new_email
from tests.support.databases import Database
from tests.support.http_calls import Http
from tests.support.services import OPS_TOKEN


@pytest.fixture
def http(database: Database, start_api: StartApi) -> Http:
    return start_api(database)[1]


def read(http: Http, path: str) -> list[dict[str, Any]]:
    answer = http.get(path, ops_token=OPS_TOKEN)
    assert answer.status == 200, answer.body
    (rows,) = answer.json.values()
    return list(rows)


def register(http: Http, request_id: str) -> int:
    body = {"email": new_email(), "password": "correct horse", "display_name": "Ada"}
    answer = http.post("/auth/register", body, headers={"X-Request-ID": request_id})
    user_id: int = answer.json["user"]["id"]
    return user_id


class TestSecurityEvents:
    def test_they_are_found_by_each_of_their_marks(self, http: Http) -> None:
        first, second = register(http, "first-request"), register(http, "second-request")
        path = "/ops/security-events"
        assert [event["event"] for event in read(http, f"{path}?request_id=first-request")] == [
            "session_created",
            "user_created",
        ]
        assert {event["user_id"] for event in read(http, f"{path}?user_id={second}")} == {second}
        created = read(http, f"{path}?event=user_created")
        assert [event["user_id"] for event in created] == [second, first]
        since = created[0]["created_at"]
        assert len(read(http, f"{path}?event=user_created&since={since}")) == 1
        assert read(http, f"{path}?request_id=nothing-has-it") == []

    def test_pages_are_stable_while_more_is_written(self, http: Http) -> None:
        for number in range(4):
            register(http, f"request-{number}")
        path = "/ops/security-events?event=user_created&limit=2"
        newest = read(http, path)
        register(http, "in-between")
        older = read(http, f"{path}&before_id={newest[-1]['id']}")
        assert [event["request_id"] for event in newest + older] == [
            f"request-{number}" for number in (3, 2, 1, 0)
        ]

    @pytest.mark.parametrize(
        "query",
        [
            "before_id=0",
            "limit=0",
            "limit=201",
            "user_id=x",
            "since=yesterday",
            "since=2026-11-24",
            "since=2026-11-24T08:00:00",
            "since=9999-12-31T23:59:59-23:00",
            "event=",
            "event=%00",
            "actor=x",
            "event=a&event=b",
        ],
    )
    def test_a_question_that_is_none_is_refused(self, shared: SharedApi, query: str) -> None:
        answer = shared.http.get(f"/ops/security-events?{query}", ops_token=OPS_TOKEN)
        assert answer.status in (400, 422), answer.body


class TestAudit:
    def test_reading_personal_data_is_an_act_and_verifying_is_none(self, http: Http) -> None:
        register(http, "some-request")
        read(http, "/ops/security-events?user_id=1")
        http.get("/ops/audit/verify", ops_token=OPS_TOKEN)
        (row,) = read(http, "/ops/audit")
        assert (row["action"], row["details"]) == (
            "security_events.read",
            {"rows": 2, "filters": {"user_id": "1"}},
        )
        assert read(http, "/ops/audit?action=audit.read&actor=olga")[0]["details"]["rows"] == 1
        assert read(http, "/ops/audit?actor=somebody") == []

    def test_the_head_is_in_the_log_and_in_the_verification(
        self, database: Database, start_api: StartApi
    ) -> None:
        service, http = start_api(database)
        for _ in range(3):
            read(http, "/ops/audit")
        found = http.get("/ops/audit/verify", ops_token=OPS_TOKEN).json
        assert (found["intact"], found["rows"], found["to_id"], found["head_id"]) == (True, 3, 3, 3)
        line = service.wait_for_line("audit head 3")
        assert found["head_hash"] in line

    def test_a_broken_row_is_named(self, http: Http, database: Database) -> None:
        for _ in range(3):
            read(http, "/ops/audit")
        with database.connect() as owner:
            owner.execute("ALTER TABLE admin_action_audit DISABLE TRIGGER ALL")
            owner.execute("UPDATE admin_action_audit SET actor = 'somebody' WHERE id = 2")
        found = http.get("/ops/audit/verify", ops_token=OPS_TOKEN).json
        assert (found["intact"], found["first_broken_id"]) == (False, 2)
        beyond = http.get("/ops/audit/verify?after_id=2", ops_token=OPS_TOKEN).json
        assert (beyond["intact"], beyond["rows"]) == (True, 1)
