"""Findings that somebody accepted: security-accepted.toml, each with a reason, an owner, an end.

What is past its end, or accepts what no longer exists, is a finding itself.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from scripts.security.gate import Finding

FILE = "security-accepted.toml"
LONGEST = timedelta(days=366)
KEYS = {"gate": str, "rule": str, "path": str, "reason": str, "owner": str, "until": date}


@dataclass(frozen=True, slots=True)
class Accepted:
    gate: str
    rule: str
    path: str
    reason: str
    owner: str
    until: date

    def covers(self, finding: Finding) -> bool:
        return (self.gate, self.rule, self.path) == (finding.gate, finding.rule, finding.path)


def read_accepted(root: Path, today: date) -> tuple[list[Accepted], list[Finding]]:
    """Those that hold today, and what is wrong with the rest."""
    path = root / FILE
    if not path.exists():
        return [], []
    try:
        entries = tomllib.loads(path.read_text("utf-8")).get("accepted", [])
    except tomllib.TOMLDecodeError as error:
        return [], [_wrong(f"not TOML: {error}")]
    accepted, wrong = [], []
    for entry in entries:
        if set(entry) != set(KEYS) or not all(type(entry[k]) is kind for k, kind in KEYS.items()):
            wrong.append(_wrong(f"an entry needs exactly {', '.join(KEYS)}: {entry}"))
            continue
        one = Accepted(**entry)
        if not today <= one.until <= today + LONGEST:
            text = f"{one.rule} in {one.path} is accepted until {one.until}"
            wrong.append(_wrong(f"{text}: look again, a year at most"))
        else:
            accepted.append(one)
    return accepted, wrong


def sort_out(
    findings: Iterable[Finding], accepted: list[Accepted], gates_run: set[str]
) -> tuple[list[Finding], list[Finding], list[Finding]]:
    """(open, accepted, entries that accept nothing any more)."""
    remaining: list[Finding] = []
    covered: list[Finding] = []
    used: set[Accepted] = set()
    for finding in findings:
        matching = [one for one in accepted if one.covers(finding)]
        used.update(matching)
        (covered if matching else remaining).append(finding)
    stale = [
        _wrong(f"{one.rule} in {one.path} is accepted, but there is no such finding: take it out")
        for one in accepted
        if one not in used and one.gate in gates_run
    ]
    return remaining, covered, stale


def _wrong(text: str) -> Finding:
    return Finding("accepted", "accepted", FILE, 1, text)
