"""/openapi.json, held against a live service in both directions.

Every answer below must be described, and every described answer must be given by one of these
calls, but for the few in UNPROVOKED.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from rules.access_tokens import AccessTokens
from tests.support.databases import Database
from tests.support.described import Described, Given
from tests.support.fitting_bodies import BODIES, EMPTY, PASSWORD
from tests.support.http_calls import Answer, Http
from tests.support.log_entries import add_one_of_each_kind
from tests.support.processes import Processes, answers_ready, wait_until
from tests.support.services import OPS_TOKEN

SECRET = "the-signing-key-of-a-test-with-enough-bytes"
# One thing at a time is tested here, not how much of it.
WIDE = {
    "AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_IP": "100000",
    "AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_ACCOUNT": "100000",
    "AUTH_REGISTRATIONS_PER_IP_PER_HOUR": "100000",
    "AUTH_TICKETS_PER_SESSION_PER_MINUTE": "100000",
    "AUTH_REFRESHES_PER_SESSION_PER_MINUTE": "100000",
    "CHAT_WRITE_RATE_LIMIT_MAX_PER_ACCOUNT": "100000",
}
# Failures of the address count over both services, so the account alone is held back.
NARROW = {name: WIDE[name] if name.endswith("PER_IP") else "1" for name in WIDE}

JSON = {"Content-Type": "application/json"}
WITHOUT_DATABASE = ("GET /health/live", "GET /openapi.json", "GET /asyncapi.json")

# Described, but not to be had from outside without breaking the process itself.
UNPROVOKED = {
    Given(name, 500, "internal_error"): "it asks for nothing that could fail in another way"
    for name in (*WITHOUT_DATABASE, "GET /health/ready")
}


@dataclass(frozen=True, slots=True)
class Api:
    """A service whose every answer must be described."""

    http: Http
    described: Described

    def call(self, method: str, target: str, *body: object, **more: Any) -> Answer:
        if target.startswith("/ops/"):
            more = {"ops_token": OPS_TOKEN, **more}
        answer = self.http.call(method, target, *body, **more)
        self.described.http.check(method, target, answer)
        return answer

    def refusal(self, method: str, target: str, *body: object, **more: Any) -> str:
        """The error code."""
        return str(self.call(method, target, *body, **more).error["code"])

    def refusal_of_bytes(self, method: str, target: str, request: str) -> str:
        answer = self.http.raw(request.encode("ascii"))
        self.described.http.check(method, target, answer)
        return str(answer.error["code"])

    def register(self, email: str) -> dict[str, Any]:
        body = {"email": email, "password": PASSWORD, "display_name": "Ann"}
        answer = self.call("POST", "/auth/register", body)
        assert answer.status == 201
        return dict(answer.json)

    def operations(self) -> Iterator[tuple[str, str, str]]:
        """(operation, method, a path of it)"""
        for operation in self.described.http.operations():
            method, _, template = operation.partition(" ")
            yield operation, method, re.sub(r"\{[a-z_]+\}", "1", template)


@pytest.fixture
def environment(database: Database) -> dict[str, str]:
    return {
        **database.environment("api"),
        "JWT_SECRET": SECRET,
        "OPS_API_TOKEN": OPS_TOKEN,
        "AUTH_SCRYPT_LOG2_N": "4",
        "DB_POOL_TIMEOUT_MS": "300",
    }


def test_every_answer_is_described_and_every_described_answer_is_given(
    database: Database,
    processes: Processes,
    environment: dict[str, str],
    admin_connection: psycopg.Connection[Any],
) -> None:
    _, port = processes.start_service("api", {**environment, **WIDE})
    _, narrow_port = processes.start_service("api", {**environment, **NARROW})
    described = Described.by(port)
    api, narrow = Api(Http(port), described), Api(Http(narrow_port), described)

    ann = api.register("a@example.org")
    refused_as_bytes(api)
    refused_as_bodies(api, ann["access_token"])
    refused_as_strangers(api, database)
    sessions(api, ann)
    refreshes(api)
    channels(api, database)
    groups(api, database)
    people(api)
    operators(api)
    drains(api)
    too_late_for_a_drain(api, database)
    releases(api)
    a_password_changed_meanwhile(api, database)
    limits(narrow)
    operators_who_are_none(processes, environment, described)
    without_a_database(api, database, admin_connection)
    without_rights(api, database)

    http = described.http
    assert http.given() - http.seen - set(UNPROVOKED) == set()
    assert set(UNPROVOKED) & http.seen == set(), "the list of what cannot be provoked is too long"


def test_what_is_not_described_is_not_there(
    processes: Processes, environment: dict[str, str]
) -> None:
    _, port = processes.start_service("api", {**environment, **WIDE})
    api = Api(Http(port), Described.by(port))
    token = api.register("a@example.org")["access_token"]
    for path in (
        "/",
        "/auth",
        "/auth/sessions/0",
        "/auth/sessions/x",
        "/chat/channels/01/messages",
    ):
        assert api.refusal("GET", path, token=token) == "not_found"
    there: dict[str, set[str]] = {}
    for _, method, path in api.operations():
        there.setdefault(path, set()).add(method)
    for path, methods in there.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - methods:
            answer = api.call(method, path, token=token)
            assert answer.error["code"] == "method_not_allowed"
            # HEAD goes with GET, and OPTIONS with everything.
            allowed = set(answer.headers["Allow"].split(", "))
            assert allowed - {"HEAD", "OPTIONS"} == methods, path


def body_for(operation: str) -> list[dict[str, Any]]:
    """None or one, as call takes it."""
    return [BODIES[operation]] if operation in BODIES else []


def refused_as_bytes(api: Api) -> None:
    """What the server below the app refuses, and the guard before routing; the same everywhere."""
    for _, method, path in api.operations():
        start = f"{method} {path} HTTP/1.1\r\nHost: x\r\n"
        malformed = api.refusal_of_bytes(method, path, f"{start}no colon\r\n\r\n")
        assert malformed == "invalid_request"
        too_much = api.refusal_of_bytes(method, path, f"{start}X-Padding: {'x' * 20_000}\r\n\r\n")
        assert too_much == "headers_too_large"
        length = "Content-Type: application/json\r\nContent-Length: 10000000\r\n"
        assert api.refusal_of_bytes(method, path, f"{start}{length}\r\n") == "payload_too_large"
        other = api.refusal(method, path, data=b"{}", headers={"Content-Type": "text/plain"})
        assert other == "unsupported_media_type"


def refused_as_bodies(api: Api, token: str) -> None:
    for operation in (*BODIES, *EMPTY):
        method, _, template = operation.partition(" ")
        path = re.sub(r"\{[a-z_]+\}", "1", template)
        assert api.refusal(method, path, data=b"{", headers=JSON, token=token) == "malformed_json"
        unknown = api.call(method, path, {**BODIES.get(operation, {}), "more": 1}, token=token)
        assert unknown.error["code"] == "validation_failed"
        assert unknown.error["details"] == {"field": "more"}
    for number in ("9007199254740992", "1e999"):
        answer = api.call(
            "PATCH",
            "/auth/me",
            data=f'{{"display_name":{number}}}'.encode(),
            headers=JSON,
            token=token,
        )
        assert answer.error["details"] == {"field": "display_name"}
    path = "/chat/channels/1/messages?limit=0"
    assert api.refusal("GET", path, token=token) == "validation_failed"


def refused_as_strangers(api: Api, database: Database) -> None:
    gone = api.register("gone@example.org")
    assert api.call("POST", "/auth/logout", {}, token=gone["access_token"]).status == 204
    signer = AccessTokens([SECRET.encode()], "gatehouse", "gatehouse-client", 900)
    fresh = api.register("late@example.org")
    expired = signer.issue(
        user_id=fresh["user"]["id"], session_id=fresh["session_id"], now=time.time() - 3600
    )
    drained = api.register("drained@example.org")
    with database.connect() as owner:
        owner.execute(
            "UPDATE user_sessions SET drained_at = now() WHERE id = %s", [drained["session_id"]]
        )
    described = api.described.http.operations()
    for operation, method, path in api.operations():
        if described[operation].get("security") is not None:
            continue  # nobody's, or an operator's
        body = body_for(operation)
        assert api.refusal(method, path, *body) == "unauthorized"
        assert api.refusal(method, path, *body, token=expired) == "token_expired"
        assert api.refusal(method, path, *body, token=gone["access_token"]) == "session_revoked"
        assert api.refusal(method, path, *body, token=drained["access_token"]) == "drained"


def sessions(api: Api, ann: dict[str, Any]) -> None:
    for operation in ("GET /health/live", "GET /health/ready", "GET /openapi.json"):
        assert api.call(*operation.split(" ")).status == 200
    assert api.call("GET", "/asyncapi.json").status == 200
    registration = {"email": "A@example.org", "password": PASSWORD, "display_name": "Ann"}
    assert api.refusal("POST", "/auth/register", registration) == "email_taken"
    versions = {"X-Client-Version": "1.4.2", "X-Client-Content-Version": "new"}
    login = BODIES["POST /auth/login"]
    other = api.call("POST", "/auth/login", login, headers=versions)
    assert other.status == 200
    wrong = {**login, "password": "no"}
    assert api.refusal("POST", "/auth/login", wrong) == "invalid_credentials"

    token = ann["access_token"]
    assert api.call("GET", "/auth/me", token=token, headers=versions).status == 200
    renamed = api.call("PATCH", "/auth/me", {"display_name": "Ann II"}, token=token)
    assert renamed.json["user"]["display_name"] == "Ann II"
    listed = api.call("GET", "/auth/sessions", token=token).json["sessions"]
    assert [session["current"] for session in listed] == [False, True]
    path = f"/auth/sessions/{other.json['session_id']}"
    assert api.call("DELETE", path, token=token).status == 204
    assert api.refusal("DELETE", path, token=token) == "not_found"
    assert api.call("DELETE", "/auth/sessions", token=token).status == 204
    assert api.call("POST", "/auth/ws-ticket", token=token).status == 201

    change = {"current_password": "not this", "new_password": PASSWORD + "!"}
    assert api.refusal("POST", "/auth/password", change, token=token) == "invalid_credentials"
    change["current_password"] = PASSWORD
    assert api.call("POST", "/auth/password", change, token=token).status == 204


def refreshes(api: Api) -> None:
    session = api.register("r@example.org")
    old = {"refresh_token": session["refresh_token"]}
    new = api.call("POST", "/auth/refresh", old)
    assert new.status == 200
    newest = api.call("POST", "/auth/refresh", {"refresh_token": new.json["refresh_token"]})
    assert newest.status == 200
    assert api.refusal("POST", "/auth/refresh", old) == "refresh_token_reused"
    assert api.refusal("POST", "/auth/refresh", old) == "session_revoked"
    unknown = BODIES["POST /auth/refresh"]
    assert api.refusal("POST", "/auth/refresh", unknown) == "refresh_token_invalid"


def channels(api: Api, database: Database) -> None:
    session = api.register("c@example.org")
    token = session["access_token"]
    assert len(api.call("GET", "/chat/channels", token=token).json["channels"]) == 1
    path = "/chat/channels/1/messages"
    message = BODIES["POST /chat/channels/{channel_id}/messages"]
    assert api.call("POST", path, message, token=token).status == 201
    assert api.call("POST", path, message, token=token).status == 200
    other = {**message, "content": "ho"}
    assert api.refusal("POST", path, other, token=token) == "conflict"
    add_one_of_each_kind(database, 1, session["user"]["id"])
    entries = api.call("GET", f"{path}?after_seq=0&limit=200", token=token).json["entries"]
    assert {entry["type"] for entry in entries} == {"message", "deleted", "joined", "left"}
    assert api.refusal("GET", "/chat/channels/9/messages", token=token) == "not_found"
    assert api.refusal("POST", "/chat/channels/9/messages", message, token=token) == "not_found"
    with database.connect() as owner:
        owner.execute(
            "UPDATE users SET muted_until = clock_timestamp() + interval '1 hour' WHERE id = %s",
            [session["user"]["id"]],
        )
    unsaid = {**message, "client_msg_id": str(uuid.uuid4())}
    assert api.refusal("POST", path, unsaid, token=token) == "muted"


def groups(api: Api, database: Database) -> None:
    ann, bob, cid = (api.register(f"group-{name}@example.org") for name in ("ann", "bob", "cid"))
    token, strange = ann["access_token"], cid["access_token"]
    group = api.call("POST", "/chat/channels", {"name": "Friends"}, token=token)
    assert group.status == 201
    path = f"/chat/channels/{group.json['id']}"
    bobs = {"user_id": bob["user"]["id"]}
    assert [api.call("POST", f"{path}/members", bobs, token=token).status for _ in range(2)] == [
        201,
        200,
    ]
    assert len(api.call("GET", f"{path}/members", token=token).json["members"]) == 2
    assert api.refusal("GET", f"{path}/members", token=strange) == "not_found"
    assert api.refusal("POST", f"{path}/members", bobs, token=strange) == "not_found"
    bobs_token = bob["access_token"]
    assert api.refusal("POST", f"{path}/members", bobs, token=bobs_token) == "forbidden"
    anns_place = f"{path}/members/{ann['user']['id']}"
    assert api.refusal("DELETE", anns_place, token=strange) == "not_found"
    assert api.refusal("DELETE", anns_place, token=bobs_token) == "forbidden"

    message = BODIES["POST /chat/channels/{channel_id}/messages"]
    seq = api.call("POST", f"{path}/messages", message, token=token).json["seq"]
    erase = f"{path}/messages/{seq}"
    assert api.refusal("DELETE", erase, token=strange) == "not_found"
    assert api.refusal("DELETE", erase, token=bobs_token) == "forbidden"
    assert api.call("DELETE", erase, token=token).status == 204
    assert api.call("DELETE", anns_place, token=token).status == 204

    with database.connect() as owner:
        owner.execute(
            "WITH more AS ("
            "  INSERT INTO users (email, email_key, password_hash, display_name)"
            "  SELECT n || '@m', n || '@m', 'x', 'M' FROM generate_series(1, 1000) n RETURNING id"
            ") INSERT INTO chat_members (channel_id, user_id) SELECT %s, id FROM more",
            [group.json["id"]],
        )
    cids = {"user_id": cid["user"]["id"]}
    assert api.refusal("POST", f"{path}/members", cids, token=bobs_token) == "conflict"

    assert [
        api.call("POST", "/chat/channels/direct", cids, token=token).status for _ in range(2)
    ] == [201, 200]
    nobody = {"user_id": 2**50}
    assert api.refusal("POST", "/chat/channels/direct", nobody, token=token) == "not_found"
    with database.connect() as owner:
        owner.execute(
            "UPDATE rate_limits SET reserved[11] = 300 WHERE key LIKE 'channel:account:%'"
        )
    assert api.refusal("POST", "/chat/channels/direct", bobs, token=token) == "rate_limited"
    assert api.refusal("POST", "/chat/channels", {"name": "One more"}, token=token) == (
        "rate_limited"
    )


def people(api: Api) -> None:
    session = api.register("somebody@example.org")
    token, user_id = session["access_token"], session["user"]["id"]
    assert api.call("GET", f"/users/{user_id}", token=token).status == 200
    assert api.refusal("GET", f"/users/{2**50}", token=token) == "not_found"
    named = api.call("GET", "/users?display_name=Ann", token=token)
    assert len(named.json["users"]) > 1
    assert api.refusal("GET", "/users", token=token) == "validation_failed"
    for _ in range(120):
        found = api.call("GET", f"/users/{user_id}", token=token)
    assert found.error["code"] == "rate_limited"
    assert api.refusal("GET", "/users?display_name=Ann", token=token) == "rate_limited"


def operators(api: Api) -> None:
    for path in ("/ops/audit", "/ops/security-events"):
        assert api.call("GET", f"{path}?limit=1&since=2026-01-01T00:00:00Z").status == 200
        assert api.refusal("GET", f"{path}?since=yesterday") == "validation_failed"
    user = api.register("subject@example.org")
    user_id, place = user["user"]["id"], f"/ops/users/{user['user']['id']}"
    assert len(api.call("GET", "/ops/users?email=subject@example.org").json["users"]) == 1
    assert api.call("GET", "/ops/users?ip=198.51.100.0/24").json["lockouts"] == []
    assert api.refusal("GET", "/ops/users") == "validation_failed"
    assert api.call("GET", f"/ops/sessions?user_id={user_id}").status == 200
    assert api.refusal("GET", "/ops/sessions?ip=x") == "validation_failed"
    reset = api.call("POST", f"{place}/password-reset", {"reason": "forgotten"})
    spend = {"reset_token": reset.json["reset_token"], "new_password": PASSWORD + "!!"}
    assert api.call("POST", "/auth/password-reset", spend).status == 204
    assert api.refusal("POST", "/auth/password-reset", spend) == "invalid_credentials"
    for act in ("disable", "enable", "unlock", "mute"):
        body = BODIES[f"POST /ops/users/{{user_id}}/{act}"]
        assert api.call("POST", f"{place}/{act}", body).status == 200
    revocation = {"user_id": user_id, "reason": "incident 42"}
    assert api.call("POST", "/ops/sessions/revoke", revocation).status == 200
    erased = api.call("DELETE", "/ops/channels/1/messages/1?reason=incident%2042")
    assert erased.status == 204
    assert api.refusal("DELETE", "/ops/channels/1/messages/1?reason=%20") == "validation_failed"
    for path in ("/ops/release/metrics", "/ops/metrics"):
        assert api.call("GET", path).status == 200
    assert api.call("GET", "/ops/audit/verify").json["intact"] is True
    assert api.refusal("GET", "/ops/audit/verify?after_id=x") == "validation_failed"


def drains(api: Api) -> None:
    """One that sends nobody out."""
    start = BODIES["POST /ops/drains"]
    begun = api.call("POST", "/ops/drains", start)
    assert begun.status == 201
    assert api.refusal("POST", "/ops/drains", start) == "drain_in_progress"
    assert api.call("GET", "/ops/drains").json["drains"] == [begun.json]
    assert api.refusal("GET", "/ops/drains?limit=x") == "validation_failed"
    place = f"/ops/drains/{begun.json['id']}"
    assert api.call("GET", place).status == 200
    assert api.refusal("GET", f"{place}?after_id=x") == "validation_failed"
    assert api.refusal("GET", f"/ops/drains/{2**50}") == "not_found"
    assert api.call("POST", f"{place}/cancel").json["status"] == "cancelled"
    assert api.refusal("POST", f"{place}/cancel") == "conflict"


def too_late_for_a_drain(api: Api, database: Database) -> None:
    """Whom a drain has sent out, with the client that it was for."""
    session = api.register("too-late@example.org")
    with database.connect() as owner:
        owner.execute("SELECT start_drain('2.0', 'outdated', 0, NULL, 'olga', NULL, '2.0')")
        late = {"refresh_token": session["refresh_token"]}
        assert api.refusal("POST", "/auth/refresh", late) == "drained"
        owner.execute(
            "UPDATE publish_drain_events"
            " SET status = 'cancelled', finished_at = clock_timestamp(), receipts_digest = ''"
            " WHERE status = 'draining'"
        )


def releases(api: Api) -> None:
    """A release that serves nobody here, and back."""
    session = api.register("outdated@example.org")
    versions = {"X-Client-Version": "1.4.2"}
    assert api.call("GET", "/release/summary", headers=versions).status == 200
    rollback = {"reason": "incident 42"}
    assert api.refusal("POST", "/ops/release/rollback") == "conflict"
    release = {
        "latest_version": "2.0",
        "min_supported_version": "2.0",
        "update_url": "https://example.org/update?from=1.0&to=2.0#now",
        "notes": "Faster.",
        "grace_seconds": 0,
        "drain": "none",
    }
    assert api.call("POST", "/ops/release/activate", release | {"dry_run": True}).status == 200
    assert api.call("POST", "/ops/release/activate", release).status == 200
    older = {"latest_version": "1.9", "min_supported_version": "1.0", "drain": "none"}
    assert api.refusal("POST", "/ops/release/activate", older) == "conflict"
    bad = release | {"update_url": "javascript:alert(1)"}
    assert api.refusal("POST", "/ops/release/activate", bad) == "validation_failed"
    described = api.described.http.operations()
    own = {
        "POST /auth/register": {
            "email": "x@example.org",
            "password": PASSWORD,
            "display_name": "X",
        },
        "POST /auth/login": {"email": "outdated@example.org", "password": PASSWORD},
        "POST /auth/refresh": {"refresh_token": session["refresh_token"]},
    }
    for operation, method, path in api.operations():
        if "426" in described[operation]["responses"]:
            body = [own[operation]] if operation in own else body_for(operation)
            answer = api.call(method, path, *body, token=session["access_token"], headers=versions)
            assert answer.error["code"] == "update_required", operation
            assert answer.error["details"]["version_status"]["latest_version"] == "2.0"
    assert api.call("GET", "/ops/release/status").json["outdated"]["sessions"] > 0
    assert api.call("POST", "/ops/release/rollback", rollback).status == 200
    # Nobody runs below 0: this drain sends nobody out, but a second one has to wait for it.
    harmless = {"latest_version": "2.0", "min_supported_version": "0", "drain": "outdated"}
    assert api.call("POST", "/ops/release/activate", harmless).json["enrolled"] == 0
    assert api.refusal("POST", "/ops/release/activate", harmless) == "drain_in_progress"
    assert api.call("POST", "/ops/release/rollback", rollback).status == 200


def operators_who_are_none(
    processes: Processes, environment: dict[str, str], described: Described
) -> None:
    """Each from an address of its own: wrong tokens, and an address that tried too often."""
    _, port = processes.start_service(
        "api",
        {
            **environment,
            **WIDE,
            "TRUSTED_PROXY_HOPS": "1",
            "AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_IP": "1",
            "OPS_ALLOWED_NETWORKS": "198.51.100.0/24",
        },
    )
    api = Api(Http(port), described)
    http = described.http.operations()
    for number, (operation, method, path) in enumerate(api.operations(), 1):
        if "opsToken" not in str(http[operation].get("security")):
            continue
        body = body_for(operation)
        allowed = {"X-Forwarded-For": f"198.51.100.{number}"}
        strange = {"X-Forwarded-For": "203.0.113.1"}
        assert api.refusal(method, path, *body, headers=strange) == "not_found"
        wrong = {"headers": allowed, "ops_token": "no"}
        assert api.refusal(method, path, *body, **wrong) == "unauthorized"
        assert api.refusal(method, path, *body, **wrong) == "rate_limited"
    guess = ("POST", "/auth/password-reset", BODIES["POST /auth/password-reset"])
    for code in ("invalid_credentials", "rate_limited"):
        assert api.refusal(*guess, headers={"X-Forwarded-For": "198.51.100.250"}) == code


def a_password_changed_meanwhile(api: Api, database: Database) -> None:
    """The new hash comes between the check of the old password and its replacement."""
    session = api.register("meanwhile@example.org")
    user_id, answers = session["user"]["id"], list[Answer]()

    def change() -> None:
        body = BODIES["POST /auth/password"]
        answers.append(api.call("POST", "/auth/password", body, token=session["access_token"]))

    thread = threading.Thread(target=change)
    with database.connect() as owner, database.connect() as observer:
        with owner.transaction():
            owner.execute("SELECT FROM users WHERE id = %s FOR UPDATE", [user_id])
            thread.start()
            wait_until(lambda: _is_waiting(observer), "the change waits for the user's row")
            owner.execute(
                "UPDATE users SET password_hash = password_hash || 'x' WHERE id = %s", [user_id]
            )
        thread.join(10)
    assert answers[0].error["code"] == "conflict"


def _is_waiting(observer: psycopg.Connection[Any]) -> bool:
    row = observer.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchone()
    assert row is not None
    return bool(row[0])


def limits(narrow: Api) -> None:
    """One of everything is allowed here, and the address has just registered far more."""
    late = {"email": "l@example.org", "password": PASSWORD, "display_name": "Lou"}
    assert narrow.refusal("POST", "/auth/register", late) == "rate_limited"
    login = {"email": "r@example.org", "password": PASSWORD}
    session = narrow.call("POST", "/auth/login", login).json
    token = session["access_token"]
    assert narrow.call("POST", "/auth/ws-ticket", token=token).status == 201
    assert narrow.refusal("POST", "/auth/ws-ticket", token=token) == "rate_limited"
    renewed = narrow.call("POST", "/auth/refresh", {"refresh_token": session["refresh_token"]})
    again = {"refresh_token": renewed.json["refresh_token"]}
    assert narrow.refusal("POST", "/auth/refresh", again) == "rate_limited"
    path = "/chat/channels/1/messages"
    first, second = ({"content": "hi", "client_msg_id": str(uuid.uuid4())} for _ in range(2))
    assert narrow.call("POST", path, first, token=token).status == 201
    assert narrow.refusal("POST", path, second, token=token) == "rate_limited"
    narrow.call("POST", "/auth/login", {**login, "password": "no"})
    assert narrow.refusal("POST", "/auth/login", login) == "rate_limited"
    change = BODIES["POST /auth/password"]
    assert narrow.refusal("POST", "/auth/password", change, token=token) == "rate_limited"


def without_a_database(
    api: Api, database: Database, admin_connection: psycopg.Connection[Any]
) -> None:
    token = api.register("offline@example.org")["access_token"]
    name = sql.Identifier(database.name)
    allow = sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}")
    admin_connection.execute(allow.format(name, sql.SQL("false")))
    try:
        with psycopg.connect(database.cluster.conninfo("postgres"), autocommit=True) as superuser:
            superuser.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [database.name],
            )
        for operation, method, path in api.operations():
            answer = api.call(method, path, *body_for(operation), token=token)
            expected = 200 if operation in WITHOUT_DATABASE else 503
            assert answer.status == expected, operation
    finally:
        admin_connection.execute(allow.format(name, sql.SQL("true")))
    wait_until(lambda: answers_ready(api.http.port), "the way back", 30)


def without_rights(api: Api, database: Database) -> None:
    """A mistake of ours, made by an operator: the service may do nothing any more."""
    token = api.register("last@example.org")["access_token"]
    with database.connect() as owner:
        for what in ("TABLES", "FUNCTIONS"):
            owner.execute(f"REVOKE ALL ON ALL {what} IN SCHEMA public FROM gatehouse_api")
    for operation, method, path in api.operations():
        answer = api.call(method, path, *body_for(operation), token=token)
        healthy = operation in (*WITHOUT_DATABASE, "GET /health/ready")
        assert answer.status == (200 if healthy else 500), operation
