"""What an incident's drill says: commands, observations, checks, request ids, a verdict.

A drill has failed as soon as one check has; what could not be looked at is said, and is no success.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    REFUSED = "refused"  # others would have been disturbed
    NOT_CHECKED = "not checked"  # nobody said how
    PREVIEWED = "previewed"  # a dry run


class DrillFailed(Exception):
    """The incident cannot go on: one line, what was expected and what came."""


class WouldDisturb(Exception):
    """Sessions that are not the drill's would be hit: one line, which."""


class NotChecked(Exception):
    """One line: what would be needed."""


@dataclass(frozen=True, slots=True)
class Line:
    """`kind` is command, advice, saw, ok, failed or not_checked."""

    kind: str
    text: str


_MARKS = {
    "command": "$",
    "advice": "#",
    "saw": "  ",
    "ok": "ok  ",
    "failed": "FAILED",
    "not_checked": "not checked:",
}


@dataclass
class Report:
    incident: str
    title: str
    say: Callable[[str], None]
    lines: list[Line] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    # What was measured: from the operator's call to the last socket's end, in milliseconds.
    figures_ms: dict[str, float] = field(default_factory=dict)
    verdict: Verdict = Verdict.PASSED
    seconds: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def command(self, text: str) -> None:
        """What was carried out, as somebody would type it."""
        self._add("command", text)

    def advice(self, text: str) -> None:
        """What belongs to the incident and was not carried out."""
        self._add("advice", text)

    def saw(self, text: str) -> None:
        self._add("saw", text)

    def check(self, holds: bool, expected: str, came: object = None) -> bool:
        """A promise, in the words of what has to be; `came` is what was there instead."""
        if holds:
            self._add("ok", expected)
        else:
            self._add("failed", expected if came is None else f"{expected}; but: {came}")
            self.verdict = Verdict.FAILED
        return holds

    def not_checked(self, what: str) -> None:
        self._add("not_checked", what)

    def figure(self, name: str, seconds: float) -> None:
        self.figures_ms[name] = round(seconds * 1000, 1)
        self.saw(f"{name}: {seconds * 1000:.0f} ms")

    def end(self, verdict: Verdict | None = None, why: str | None = None) -> None:
        if verdict is not None and self.verdict is not Verdict.FAILED:
            self.verdict = verdict
        if why is not None:
            self._add("failed" if verdict is Verdict.FAILED else "not_checked", why)
        self.seconds = time.perf_counter() - self.started
        self.say(f"== {self.incident}: {self.verdict.upper()} in {self.seconds:.1f} s")

    def as_object(self) -> dict[str, Any]:
        return {
            "incident": self.incident,
            "title": self.title,
            "verdict": str(self.verdict),
            "seconds": round(self.seconds, 2),
            "figures_ms": self.figures_ms,
            "request_ids": self.request_ids,
            "lines": [{"kind": line.kind, "text": line.text} for line in self.lines],
        }

    def _add(self, kind: str, text: str) -> None:
        self.lines.append(Line(kind, text))
        self.say(f"   {_MARKS[kind]} {text}")


def as_markdown(api_url: str, began_at: str, reports: Sequence[Report]) -> str:
    lines = [f"# Drill of {began_at}", "", f"Against {api_url}.", ""]
    lines += ["| incident | verdict | seconds | measured |", "|---|---|---|---|"]
    for report in reports:
        figures = ", ".join(f"{name} {ms:.0f} ms" for name, ms in report.figures_ms.items())
        lines.append(
            f"| {report.title} | {report.verdict} | {report.seconds:.1f} | {figures or '-'} |"
        )
    for report in reports:
        lines += ["", f"## {report.title}: {report.verdict}", "", "```"]
        lines += [f"{_MARKS[line.kind]} {line.text}" for line in report.lines]
        lines.append("```")
        if report.request_ids:
            lines += ["", "Request ids in the audit trail: " + ", ".join(report.request_ids) + "."]
    return "\n".join(lines) + "\n"
