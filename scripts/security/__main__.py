"""Runs every security gate on this tree: scripts/security-scan [GATE ...] [--list]

Exit codes: 0 passed, 1 findings, 2 incomplete: no findings, but a gate could not look (no internet,
a tool that is not installed), 64 the command line is wrong.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from scripts.security import tool_gates
from scripts.security.accepted import read_accepted, sort_out
from scripts.security.bill import WRITTEN, bill
from scripts.security.gate import CannotLook, Finding, Gate, Report
from scripts.security.secrets_gate import secrets, secrets_of_history

PASSED, FINDINGS, INCOMPLETE, EX_USAGE = 0, 1, 2, 64
GATES: dict[str, tuple[Gate, str]] = {
    "dependencies": (tool_gates.dependencies, "known holes in both locks (pip-audit)"),
    "code": (tool_gates.code, "the bandit rules (ruff)"),
    "secrets": (secrets, "secrets in the files"),
    "history": (secrets_of_history, "secrets in every commit"),
    "migrations": (tool_gates.migrations, "what would lock or break (squawk)"),
    "workflows": (tool_gates.workflows, "unpinned actions, rights, injections (zizmor)"),
    "workflow-syntax": (
        tool_gates.workflow_syntax,
        "what GitHub understands (actionlint)",
    ),
    "dockerfile": (tool_gates.dockerfile, "the Dockerfile (hadolint)"),
    "image": (tool_gates.image, "known holes in the built image (docker, grype)"),
    "bill": (bill, f"the bill of materials, {WRITTEN}"),
}


def main(arguments: list[str], root: Path) -> int:
    parser = argparse.ArgumentParser(prog="scripts/security-scan", description=__doc__)
    parser.add_argument("gates", nargs="*", metavar="GATE", help="all when none is named")
    parser.add_argument("--list", action="store_true")
    try:
        options = parser.parse_args(arguments)
    except SystemExit as exit_:
        return EX_USAGE if exit_.code else PASSED
    unknown = sorted(set(options.gates) - set(GATES))
    if unknown:
        print(f"security-scan: there is no gate {', '.join(unknown)}; see --list", file=sys.stderr)
        return EX_USAGE
    if options.list:
        for name, (_, what) in GATES.items():
            print(f"{name:<18}{what}")
        return PASSED
    return scan(root, options.gates or list(GATES))


def scan(root: Path, names: list[str]) -> int:
    accepted, wrong = read_accepted(root, datetime.now(UTC).date())
    reports = {}
    for name in names:
        reports[name] = _run(GATES[name][0], root)
        covered = sum(any(a.covers(f) for a in accepted) for f in reports[name].findings)
        print(f"{name:<18}{_verdict(reports[name], covered)}", flush=True)
    looked = {name for name, report in reports.items() if report.not_run is None}
    found = [finding for report in reports.values() for finding in report.findings]
    remaining, _, stale = sort_out(found, accepted, looked)
    return _conclude([*wrong, *remaining, *stale], [n for n in names if n not in looked])


def _run(gate: Gate, root: Path) -> Report:
    try:
        return gate(root)
    except CannotLook as error:
        return Report(not_run=str(error))


def _verdict(report: Report, covered: int) -> str:
    if report.not_run is not None:
        return f"NOT RUN: {report.not_run}"
    count = len(report.findings) - covered
    accepted = f" ({covered} accepted)" if covered else ""
    return f"{f'{count} FOUND' if count else 'passed'}{accepted}"


def _conclude(findings: list[Finding], not_run: list[str]) -> int:
    for finding in findings:
        print(finding)
    if findings:
        print(f"== {len(findings)} findings")
        return FINDINGS
    if not_run:
        print(f"== incomplete: {', '.join(not_run)} could not look")
        return INCOMPLETE
    print("== passed")
    return PASSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path.cwd()))
