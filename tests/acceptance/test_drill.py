"""scripts/drill: green on a healthy stack, red where the step under test does nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scripts.embedded_postgres import EmbeddedPostgres
from tests.support.cluster import Cluster, clean_environment
from tests.support.databases import Database, cloned_database
from tests.support.own_database import migrated
from tests.support.processes import ROOT, Processes
from tests.support.services import OPERATOR, OPS_TOKEN
from tests.support.stack import PASSWORD, Gateway, Stack
from tests.support.swallowing_proxy import SwallowingProxy

OPS = {"OPS_API_TOKEN": f"{OPERATOR}:{OPS_TOKEN}"}


@dataclass(frozen=True, slots=True)
class Drilled:
    code: int
    output: str
    incidents: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def verdicts(self) -> dict[str, str]:
        return {name: incident["verdict"] for name, incident in self.incidents.items()}

    def failures(self, incident: str) -> list[str]:
        lines = self.incidents[incident]["lines"]
        return [line["text"] for line in lines if line["kind"] == "failed"]


class Ground:
    """A stack with an operator, and the drill as a person runs it."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self.api = stack.start_api(**OPS)
        self.gateway: Gateway = stack.start_gateway()
        (folder / "token").write_text(f"{OPERATOR}:{OPS_TOKEN}\n", "utf-8")

    def drill(self, *options: str, api_url: str | None = None) -> Drilled:
        report = self.folder / "report.json"
        report.unlink(missing_ok=True)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "scripts.drill"),
                *(api_url or self.stack.api_url, self.gateway.url),
                *("--ops-token-file", str(self.folder / "token"), "--json", str(report)),
                *options,
            ],
            cwd=ROOT,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        found = json.loads(report.read_text("utf-8"))["incidents"] if report.exists() else []
        incidents = {incident["incident"]: incident for incident in found}
        return Drilled(done.returncode, done.stdout + done.stderr, incidents)

    def one(self, query: str, *values: object) -> Any:
        with self.stack.database.connect() as owner:
            row = owner.execute(query, values).fetchone()
        assert row is not None
        return row[0]

    def live_sessions(self) -> int:
        return int(self.one("SELECT count(*) FROM live_sessions"))

    @contextlib.contextmanager
    def on_demand(self, name: str, work: Callable[[], object]) -> Iterator[str]:
        """A command that has `work` done here, and ends when it is done."""
        asked, done = self.folder / f"{name}-asked", self.folder / f"{name}-done"
        over = threading.Event()

        def serve() -> None:
            while not over.wait(0.02):
                if asked.exists():
                    asked.unlink()
                    work()
                    done.touch()
            # Not before: what a thread has started ends with it.

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"touch {asked}; until test -e {done}; do sleep 0.05; done"
        finally:
            over.set()
            thread.join()

    def replace_gateway(self) -> None:
        self.gateway.process.kill()
        self.gateway = self.stack.start_gateway(self.gateway.port)

    def replace_api(self, **settings: str) -> None:
        self.api.stop()
        self.api = self.stack.start_api(**OPS, **settings)


@pytest.fixture(scope="module")
def ground(
    cluster: Cluster,
    admin_connection: psycopg.Connection[Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ground]:
    """One for all tests that leave it as it was: a drill ends what it has begun."""
    with cloned_database(cluster, admin_connection) as database, Processes() as processes:
        yield Ground(Stack(database, processes), tmp_path_factory.mktemp("drill"))


@pytest.fixture
def own_ground(database: Database, processes: Processes, tmp_path: Path) -> Ground:
    return Ground(Stack(database, processes), tmp_path)


class TestHealthy:
    def test_the_incidents_pass_and_leave_nobody_logged_in(self, own_ground: Ground) -> None:
        ground = own_ground
        markdown = ground.folder / "report.md"
        another_key = {"JWT_SECRET": "another key of more than thirty-two bytes"}
        with ground.on_demand("rotate", lambda: ground.replace_api(**another_key)) as rotate:
            done = ground.drill(
                *("--only", "leak", "spam", "release", "compromise", "--rotate-jwt", rotate),
                *("--grace-seconds", "3"),
                *("--markdown", str(markdown)),
            )
        assert done.code == 0, done.output
        assert set(done.verdicts.values()) == {"passed"}
        assert ground.live_sessions() == 0
        assert OPS_TOKEN not in done.output + markdown.read_text("utf-8")
        for incident in done.incidents.values():
            assert incident["figures_ms"]
            for request_id in incident["request_ids"]:
                query = "SELECT count(*) FROM admin_action_audit WHERE request_id = %s"
                assert ground.one(query, request_id) > 0
        assert "psql -v actor=YOU" in done.output
        assert "scripts/rotate-secret new JWT_SECRET" in done.output

    def test_gateway_and_database_are_lost_and_come_back(
        self, own_postgres: EmbeddedPostgres, processes: Processes, tmp_path: Path
    ) -> None:
        database = migrated(own_postgres)
        ground = Ground(Stack(database, processes), tmp_path)  # type: ignore[arg-type]

        def restart_postgres() -> None:
            own_postgres.kill()
            threading.Event().wait(1.5)
            own_postgres.start()

        with (
            ground.on_demand("gateway", ground.replace_gateway) as gateway,
            ground.on_demand("database", restart_postgres) as postgres,
        ):
            done = ground.drill(
                *("--only", "gateway", "database"),
                *("--restart-gateway", gateway, "--restart-database", postgres),
            )
            assert ground.live_sessions() == 0
        assert done.code == 0, done.output
        assert done.verdicts == {"gateway": "passed", "database": "passed"}


def swallowing(ground: Ground, call: str, answer: dict[str, Any]) -> SwallowingProxy:
    def swallow(called: str, target: str, body: dict[str, Any]) -> dict[str, Any] | None:
        fits = f"{called} {target}".startswith(call) and not body.get("dry_run")
        return answer if fits else None

    return SwallowingProxy(ground.stack.api_port, swallow)


REVOKED = {"matched": 6, "revoked": 6, "audit_id": 1}
ACTED = {"user_id": 1, "audit_id": 1}
DRAIN = {"id": 1, "status": "draining"}
ACTIVATED = {"drain_id": 1, "enrolled": 1, "audit_id": 1, "release_policy": {}}


class TestBroken:
    """The answer says done, and nothing was."""

    @pytest.mark.parametrize(
        ("incident", "call", "answer", "found"),
        [
            ("leak", "POST /ops/sessions/revoke", REVOKED, "sockets end"),
            ("spam", "POST /ops/users/", ACTED, "muted on the socket"),
            ("spam", "DELETE /ops/channels/", {}, "the listener sees each of them go"),
            ("compromise", "POST /ops/sessions/revoke", REVOKED, "sockets end"),
            ("compromise", "POST /ops/users/", ACTED, "rate_limited"),
            ("release", "POST /ops/drains", DRAIN, "no drain_started"),
            ("release", "POST /ops/release/activate", ACTIVATED, "is not in force"),
        ],
    )
    def test_a_step_that_does_nothing_is_found(
        self, ground: Ground, incident: str, call: str, answer: dict[str, Any], found: str
    ) -> None:
        with swallowing(ground, call, answer) as proxy:
            done = ground.drill(
                *("--only", incident, "--closing-seconds", "1.5"), api_url=proxy.url
            )
        assert proxy.swallowed
        assert done.code == 1
        assert done.verdicts == {incident: "failed"}
        assert any(found in line for line in done.failures(incident)), done.output
        assert ground.live_sessions() == 0

    def test_an_act_that_leaves_no_row_in_the_audit_trail_is_found(self, ground: Ground) -> None:
        with swallowing(ground, "GET /ops/audit?", {"audit": []}) as proxy:
            done = ground.drill("--only", "leak", api_url=proxy.url)
        assert (done.code, done.verdicts) == (1, {"leak": "failed"})
        (line,) = done.failures("leak")
        assert "leads to sessions.revoke" in line

    def test_a_stack_without_limits_is_found(self, own_ground: Ground) -> None:
        ground = own_ground
        ground.replace_api(AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_ACCOUNT="10000")
        ground.gateway.process.stop()
        ground.gateway = ground.stack.start_gateway(
            CHAT_WRITE_RATE_LIMIT_MAX_PER_ACCOUNT="10000",
            CHAT_WRITE_RATE_LIMIT_MAX_PER_IP="10000",
            WS_MAX_FRAMES_PER_SECOND="1000",
        )
        done = ground.drill("--only", "spam", "compromise")
        assert (done.code, set(done.verdicts.values())) == (1, {"failed"})
        assert done.failures("spam") == ["150 messages without pause, and no limit"]
        assert "every account is locked out" in done.failures("compromise")[0]

    def test_commands_that_restart_nothing_are_found(self, ground: Ground) -> None:
        done = ground.drill(
            *("--only", "gateway", "database", "leak", "--rotate-jwt", "true"),
            *("--restart-gateway", "true", "--restart-database", "true"),
        )
        assert (done.code, set(done.verdicts.values())) == (1, {"failed"})
        assert "nobody lost a socket" in done.failures("gateway")[0]
        assert "it was ready all the time" in done.failures("database")[0]
        assert "a token of the old key is refused" in done.failures("leak")[0]
        assert ground.live_sessions() == 0

    def test_a_command_that_fails_is_told(self, ground: Ground) -> None:
        done = ground.drill("--only", "gateway", "--restart-gateway", "exit 3")
        assert done.code == 1
        assert done.failures("gateway") == ["the command ended with 3"]


class TestOthers:
    def test_nobody_else_is_thrown_out_unless_that_is_allowed(self, ground: Ground) -> None:
        bystander = ground.stack.client()

        async def enter() -> None:
            await bystander.register("by@example.org", PASSWORD, "By")

        asyncio.run(enter())
        done = ground.drill("--only", "leak", "spam", "compromise")
        assert (done.code, set(done.verdicts.values())) == (1, {"refused"})
        assert "--disturb-others allows it" in done.output
        assert ground.live_sessions() == 1
        assert ground.drill("--only", "leak", "--disturb-others").code == 0
        assert ground.live_sessions() == 0

    def test_a_dry_run_counts_and_changes_nothing(self, ground: Ground) -> None:
        before = ground.one("SELECT count(*) FROM users")
        done = ground.drill("--dry-run", "--only", "leak", "spam", "gateway", "compromise")
        assert done.code == 0, done.output
        assert set(done.verdicts.values()) == {"previewed"}
        assert "would end 0 sessions" in done.output
        assert ground.one("SELECT count(*) FROM users") == before

    def test_without_a_command_an_outage_is_not_checked(self, ground: Ground) -> None:
        done = ground.drill("--only", "gateway", "database")
        assert set(done.verdicts.values()) == {"not checked"}
        assert done.code == 1  # it was asked for

    def test_a_wrong_token_is_one_line(self, ground: Ground) -> None:
        (ground.folder / "wrong").write_text("wrong\n", "utf-8")
        done = ground.drill("--ops-token-file", str(ground.folder / "wrong"))
        assert done.code == 64
        (line,) = done.output.splitlines()
        assert "unauthorized" in line
