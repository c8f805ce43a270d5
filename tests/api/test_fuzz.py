"""Whatever the body is: no call makes a mistake of ours."""

from __future__ import annotations

from typing import Any

from hypothesis import given, note

from tests.support.databases import Database
from tests.support.described import Described
from tests.support.fitting_bodies import BODIES, EMPTY
from tests.support.fuzz import FEW, bodies
from tests.support.http_calls import Http
from tests.support.processes import Processes
from tests.support.services import OPS_TOKEN, api_environment

# Where a made-up body may be answered with 401: everywhere else it must reach the parser.
PASSWORDS = ("/auth/login", "/auth/refresh", "/auth/password", "/auth/password-reset")


def test_no_body_makes_a_mistake_of_ours(database: Database, processes: Processes) -> None:
    environment = api_environment(database, AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_ACCOUNT="1000000")
    service, port = processes.start_service("api", environment)
    http, described = Http(port), Described.by(port).http
    registration = BODIES["POST /auth/register"]
    session = http.post("/auth/register", {**registration, "email": "a@example.org"}).json

    def fuzz(method: str, path: str, fitting: dict[str, Any]) -> None:
        @FEW
        @given(body=bodies(fitting))
        def send(body: bytes) -> None:
            answer = http.call(
                method,
                path,
                data=body,
                headers={"Content-Type": "application/json"},
                token=session["access_token"],
                ops_token=OPS_TOKEN,
            )
            note(f"{method} {path} {answer.status} {answer.body!r}")
            assert answer.status < 500
            assert answer.status != 401 or path in PASSWORDS
            described.check(method, path, answer)
            if path == "/auth/logout" and answer.status == 204:
                owner.execute("UPDATE user_sessions SET revoked_at = NULL")

        send()

    with database.connect() as owner:
        # The operators' last: some of what they do would shut out whoever comes after.
        for operation in sorted((*BODIES, *EMPTY), key=lambda name: "/ops/" in name):
            method, _, template = operation.partition(" ")
            path = template.replace("{channel_id}", "1").replace("{user_id}", "999")
            path = path.replace("{drain_id}", "999")
            fuzz(method, path, dict(BODIES.get(operation, {})))
    assert not [line for line in service.log if line["severity"] == "ERROR"]
