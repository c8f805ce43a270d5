"""The items of the runbook's Security Readiness Checklist, each looked at anew.

An item is green, red, or could not be checked, which counts as red: a checklist that is ticked
without looking is worse than none.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from scripts.pentest_probes.http_wire import Budget, Wire
from scripts.pentest_probes.probe import NotChecked
from scripts.security import __main__ as security_scan
from scripts.security.accepted import read_accepted, sort_out
from scripts.security.gate import CannotLook, Report

# Where known holes in what is deployed would show.
VULNERABILITY_GATES = ("dependencies", "image")
SECRETS = ("JWT_SECRET", "OPS_API_TOKEN", "DB_PASSWORD")
PENTEST_AREAS = ("auth", "websocket", "rate-limit", "replay", "leakage")
INCIDENTS = ("compromise", "leak", "spam")
RELEASE_INCIDENT = "release"
_AHEAD = timedelta(minutes=5)  # of a clock that is not ours


class State(StrEnum):
    GREEN = "green"
    RED = "red"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Item:
    """`words` are the runbook's; `came` says what was seen."""

    words: str
    state: State
    came: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of the security scan: open findings by gate, and why a gate could not look."""

    findings: Mapping[str, Sequence[str]]
    not_run: Mapping[str, str]

    def of(self, gates: Sequence[str]) -> tuple[State, str]:
        found = [f"{gate}: {len(self.findings[gate])}" for gate in gates if self.findings.get(gate)]
        blind = [f"{gate}: {self.not_run[gate]}" for gate in gates if gate in self.not_run]
        if found:
            return State.RED, f"findings: {', '.join(found)}"
        if blind:
            return State.NOT_CHECKED, "; ".join(blind)
        return State.GREEN, f"{len(gates)} gates passed"


def look(words: str, check: Callable[[], tuple[State, str]]) -> Item:
    try:
        state, came = check()
    except (NotChecked, CannotLook, OSError) as error:
        state, came = State.NOT_CHECKED, str(error)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        state, came = State.NOT_CHECKED, f"not in a form that can be read: {error!r}"
    return Item(words, state, came)


# The tree.


def scan(root: Path) -> Outcome:
    """Every gate of scripts/security-scan, with what somebody has accepted left out."""
    accepted, wrong = read_accepted(root, datetime.now(UTC).date())
    reports: dict[str, Report] = {}
    for name, (gate, _) in security_scan.GATES.items():
        try:
            reports[name] = gate(root)
        except CannotLook as error:
            reports[name] = Report(not_run=str(error))
    looked = {name for name, report in reports.items() if report.not_run is None}
    found = [finding for report in reports.values() for finding in report.findings]
    remaining, _, stale = sort_out(found, accepted, looked)
    by_gate: dict[str, list[str]] = {}
    for finding in (*wrong, *remaining, *stale):
        by_gate.setdefault(finding.gate, []).append(str(finding))
    blind = {n: report.not_run for n, report in reports.items() if report.not_run is not None}
    return Outcome(by_gate, blind)


def whole_scan(outcome: Outcome, root: Path) -> tuple[State, str]:
    """Of a commit: what was scanned and not committed is not what main holds."""
    state, came = outcome.of((*security_scan.GATES, "accepted"))
    commit = _git(root, "rev-parse", "--short", "HEAD")
    if state is State.GREEN and _git(root, "status", "--porcelain", "--untracked-files=no"):
        return State.RED, f"{came}, but with changes that {commit} does not have"
    return state, f"{came}; commit {commit}"


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=False, timeout=30
    )
    if done.returncode:
        raise NotChecked(f"git: {done.stderr.strip()[:200]}")
    return done.stdout.strip()


# The configuration.


def secret_references(environments: Mapping[str, Mapping[str, str]]) -> tuple[State, str]:
    """`environments` by service: whether what runs there takes its secrets by reference alone."""
    if not environments:
        raise NotChecked("needs --env-file for each service")
    wrong = []
    for service, values in environments.items():
        if values.get("APP_ENV", "production") != "production":
            wrong.append(f"{service}: APP_ENV is {values['APP_ENV']}")
        for name in SECRETS:
            reference = values.get(f"{name}_SECRET_REF", "")
            if values.get(name):
                wrong.append(f"{service}: {name} stands there in plain text")
            if not reference and not (name != "DB_PASSWORD" and _is_gateway(values)):
                wrong.append(f"{service}: {name}_SECRET_REF is not set")
            if any(part.strip().endswith("/latest") for part in reference.split(",")):
                wrong.append(f"{service}: {name}_SECRET_REF names the version latest")
    if wrong:
        return State.RED, "; ".join(wrong)
    return State.GREEN, f"{', '.join(environments)}: by reference, none in plain text"


def _is_gateway(values: Mapping[str, str]) -> bool:
    """The gateway signs nothing and has no operators' endpoints."""
    return values.get("DB_USER") == "gatehouse_gateway"


# The running service.


def audit_trail(api_url: str, ops_token: str | None) -> tuple[State, str]:
    """Reachable with a token, closed without one, and intact from the first row to the last."""
    if ops_token is None:
        raise NotChecked("needs --ops-token-file")
    wire = Wire(api_url, Budget(requests=10_000, seconds=300.0), lambda answer: None)
    closed = wire.call("GET", "/ops/audit", {}, b"")
    if closed.status not in (401, 404, 429):
        return State.RED, f"without a token it is answered with {closed}"
    headers = {"X-Ops-Token": ops_token}
    rows, after_id = 0, 0
    if (listed := wire.call("GET", "/ops/audit?limit=1", headers, b"")).status != 200:
        raise NotChecked(f"GET /ops/audit was answered with {listed}")
    while True:
        answer = wire.call("GET", f"/ops/audit/verify?after_id={after_id}", headers, b"")
        if answer.status != 200:
            raise NotChecked(f"GET /ops/audit/verify was answered with {answer}")
        verified = answer.json
        rows += verified["rows"]
        if verified["intact"] is not True:
            return State.RED, f"broken at row {verified['first_broken_id']}"
        if verified["to_id"] >= verified["head_id"]:
            return State.GREEN, f"{rows} rows, intact; head {str(verified['head_hash'])[:16]}"
        if verified["to_id"] <= after_id:
            raise NotChecked("the verification does not go on")
        after_id = verified["to_id"]  # a long chain is verified in ranges


# Reports of other programs.


def penetration_test(
    file: Path | None, api_url: str, now: datetime, age: timedelta
) -> tuple[State, str]:
    report = _read(file, "--pentest")
    if report.get("kind") != "gatehouse penetration test":
        raise NotChecked(f"{file} is not a report of scripts/pentest --json")
    stale = _stale(report["started_at"], report["api_url"], api_url, now, age)
    counted = dict.fromkeys(PENTEST_AREAS, 0)
    for probe in report["probes"]:
        if probe["verdict"] == "passed":
            counted[probe["area"]] = counted.get(probe["area"], 0) + 1
    missing = [area for area in PENTEST_AREAS if not counted[area]]
    if report["verdict"] != "passed":
        return State.RED, f"{report['verdict']}: {report['counts']}"
    if missing:
        return State.RED, f"nothing was tried in: {', '.join(missing)}"
    if stale:
        return State.RED, stale
    return State.GREEN, f"{sum(counted.values())} probes passed, {report['started_at'][:16]}"


def drill(
    file: Path | None, incidents: Sequence[str], api_url: str, now: datetime, age: timedelta
) -> tuple[State, str]:
    report = _read(file, "--drill")
    verdicts = {found["incident"]: found["verdict"] for found in report["incidents"]}
    wrong = [f"{name}: {verdicts.get(name, 'not rehearsed')}" for name in incidents
             if verdicts.get(name) != "passed"]  # fmt: skip
    if wrong:
        return State.RED, "; ".join(wrong)
    if stale := _stale(report["began_at"], report["api_url"], api_url, now, age):
        return State.RED, stale
    return State.GREEN, f"{', '.join(incidents)} passed, {report['began_at'][:16]}"


def _read(file: Path | None, option: str) -> dict[str, Any]:
    if file is None:
        raise NotChecked(f"needs {option}, the report as JSON")
    report = json.loads(file.read_text("utf-8"))
    if not isinstance(report, dict):
        raise NotChecked(f"{file} is not a report")
    return report


def _stale(at: str, of: str, api_url: str, now: datetime, age: timedelta) -> str:
    """Why a report does not count: another service's, old, from the future. Empty if it does."""
    if of.rstrip("/") != api_url.rstrip("/"):
        return f"it is about {of}"
    then = datetime.fromisoformat(at)
    if then > now + _AHEAD:
        return f"it is dated {at[:16]}, which is yet to come"
    if now - then > age:
        return f"it is of {at[:16]}, more than {age.days} days old"
    return ""
