"""The readiness checklist: green only for what was looked at and is as it should be."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scripts.readiness import conclude
from scripts.readiness_items import (
    INCIDENTS,
    PENTEST_AREAS,
    Item,
    Outcome,
    State,
    audit_trail,
    drill,
    look,
    penetration_test,
    secret_references,
    whole_scan,
)
from scripts.security.__main__ import GATES
from tests.support.fake_gatehouse.app import OPS_TOKEN
from tests.support.fake_gatehouse.server import FakeGatehouse

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
AGE = timedelta(days=30)
URL = "https://api.example.org"
REFERENCE = "projects/p/secrets/s/versions/3"
GOOD = {f"{n}_SECRET_REF": REFERENCE for n in ("JWT_SECRET", "OPS_API_TOKEN", "DB_PASSWORD")}


def state(check: Any) -> State:
    return look("an item", check).state


class TestSecretReferences:
    def test_all_by_reference_is_green(self) -> None:
        gateway = {"DB_USER": "gatehouse_gateway", "DB_PASSWORD_SECRET_REF": REFERENCE}
        assert state(lambda: secret_references({"api": GOOD, "gateway": gateway})) is State.GREEN

    @pytest.mark.parametrize(
        "wrong",
        [
            {"JWT_SECRET": "plain"},
            {"JWT_SECRET_SECRET_REF": ""},
            {"DB_PASSWORD_SECRET_REF": "projects/p/secrets/s/versions/latest"},
            {"APP_ENV": "development"},
        ],
    )
    def test_plain_missing_latest_or_not_production_is_red(self, wrong: dict[str, str]) -> None:
        item = look("", lambda: secret_references({"api": {**GOOD, **wrong}}))
        assert item.state is State.RED
        assert "plain'" not in item.came

    def test_without_a_configuration_nothing_was_checked(self) -> None:
        assert state(lambda: secret_references({})) is State.NOT_CHECKED


class TestAuditTrail:
    def test_reachable_closed_and_intact_is_green(self) -> None:
        with FakeGatehouse() as fake:
            assert state(lambda: audit_trail(fake.api_url, OPS_TOKEN)) is State.GREEN

    @pytest.mark.parametrize("hole", ["audit-broken", "ops-open"])
    def test_broken_or_open_to_everybody_is_red(self, hole: str) -> None:
        with FakeGatehouse(hole) as fake:
            assert state(lambda: audit_trail(fake.api_url, OPS_TOKEN)) is State.RED

    def test_a_chain_that_is_verified_in_ranges_is_followed_to_its_head(self) -> None:
        with FakeGatehouse("audit-broken-later") as fake:
            assert state(lambda: audit_trail(fake.api_url, OPS_TOKEN)) is State.RED

    @pytest.mark.parametrize("token", [None, "another"])
    def test_without_a_good_token_nothing_was_checked(self, token: str | None) -> None:
        with FakeGatehouse() as fake:
            assert state(lambda: audit_trail(fake.api_url, token)) is State.NOT_CHECKED

    def test_where_nobody_answers_nothing_was_checked(self) -> None:
        assert state(lambda: audit_trail("http://127.0.0.1:9", OPS_TOKEN)) is State.NOT_CHECKED


class TestPenetrationTest:
    @pytest.fixture
    def report(self) -> dict[str, Any]:
        return {
            "kind": "gatehouse penetration test",
            "verdict": "passed",
            "started_at": "2026-11-20T10:00:00+00:00",
            "api_url": URL,
            "counts": {},
            "probes": [{"area": area, "verdict": "passed"} for area in PENTEST_AREAS],
        }

    def judge(self, report: Any, folder: Path) -> State:
        file = folder / "report.json"
        file.write_text(report if isinstance(report, str) else json.dumps(report), "utf-8")
        return state(lambda: penetration_test(file, URL + "/", NOW, AGE))

    def test_recent_whole_and_passed_is_green(self, report: dict[str, Any], tmp_path: Path) -> None:
        assert self.judge(report, tmp_path) is State.GREEN

    @pytest.mark.parametrize(
        "change",
        [
            {"verdict": "incomplete"},
            {"verdict": "failed"},
            {"started_at": "2026-10-01T10:00:00+00:00"},
            {"started_at": "2026-12-24T10:00:00+00:00"},
            {"api_url": "http://127.0.0.1:8000"},
            {"probes": [{"area": "auth", "verdict": "passed"}]},
        ],
    )
    def test_old_partial_or_about_something_else_is_red(
        self, report: dict[str, Any], change: dict[str, Any], tmp_path: Path
    ) -> None:
        assert self.judge({**report, **change}, tmp_path) is State.RED

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "gatehouse penetration test"}'])
    def test_what_is_no_report_was_not_checked(self, text: str, tmp_path: Path) -> None:
        assert self.judge(text, tmp_path) is State.NOT_CHECKED

    def test_without_a_report_nothing_was_checked(self, tmp_path: Path) -> None:
        for file in (None, tmp_path / "none.json"):
            assert state(lambda file=file: penetration_test(file, URL, NOW, AGE)) is (
                State.NOT_CHECKED
            )


class TestDrill:
    def judge(self, verdicts: dict[str, str], began_at: str, folder: Path) -> State:
        file = folder / "drill.json"
        found = [{"incident": name, "verdict": verdict} for name, verdict in verdicts.items()]
        document = {"api_url": URL, "began_at": began_at, "passed": True, "incidents": found}
        file.write_text(json.dumps(document), "utf-8")
        return state(lambda: drill(file, INCIDENTS, URL, NOW, AGE))

    def test_each_incident_passed_lately_is_green(self, tmp_path: Path) -> None:
        verdicts = dict.fromkeys(INCIDENTS, "passed")
        assert self.judge(verdicts, "2026-11-24 11:00:00Z", tmp_path) is State.GREEN
        assert self.judge(verdicts, "2026-01-24 11:00:00Z", tmp_path) is State.RED

    @pytest.mark.parametrize("verdict", ["failed", "refused", "not checked", "previewed", None])
    def test_one_that_did_not_pass_is_red(self, verdict: str | None, tmp_path: Path) -> None:
        verdicts = dict.fromkeys(INCIDENTS, "passed")
        del verdicts["leak"]
        if verdict is not None:
            verdicts["leak"] = verdict
        assert self.judge(verdicts, "2026-11-24 11:00:00Z", tmp_path) is State.RED


class TestScan:
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        (tmp_path / "file").write_text("one", "utf-8")
        for command in (
            ["init", "-q"],
            ["add", "file"],
            ["-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qm", "x"],
        ):
            subprocess.run(["git", *command], cwd=tmp_path, check=True, timeout=30)
        return tmp_path

    def test_a_committed_tree_that_passes_is_green(self, tree: Path) -> None:
        assert state(lambda: whole_scan(Outcome({}, {}), tree)) is State.GREEN

    def test_findings_and_changes_are_red_and_a_blind_gate_was_not_checked(
        self, tree: Path
    ) -> None:
        gate = next(iter(GATES))
        assert state(lambda: whole_scan(Outcome({gate: ["x"]}, {}), tree)) is State.RED
        assert state(lambda: whole_scan(Outcome({}, {gate: "x"}), tree)) is State.NOT_CHECKED
        (tree / "file").write_text("two", "utf-8")
        assert state(lambda: whole_scan(Outcome({}, {}), tree)) is State.RED

    def test_outside_of_git_nothing_was_checked(self, tmp_path: Path) -> None:
        assert state(lambda: whole_scan(Outcome({}, {}), tmp_path)) is State.NOT_CHECKED


class TestReport:
    @pytest.mark.parametrize(
        ("states", "ready"),
        [
            ([State.GREEN, State.GREEN], True),
            ([State.GREEN, State.NOT_CHECKED], False),
            ([State.RED, State.GREEN], False),
        ],
    )
    def test_ready_is_what_is_green_throughout(
        self, states: list[State], ready: bool, tmp_path: Path
    ) -> None:
        checklist = [Item(f"item {n}", state, "a | b") for n, state in enumerate(states)]
        files = tmp_path / "r.json", tmp_path / "r.md"
        assert conclude(URL, NOW, checklist, *files) == (0 if ready else 1)
        document = json.loads(files[0].read_text("utf-8"))
        assert document["ready"] is ready
        assert document["at"] == NOW.isoformat()
        assert files[1].read_text("utf-8").count("[x]") == states.count(State.GREEN)
