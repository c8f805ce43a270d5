"""The Security Readiness Checklist of the runbook, looked at item by item.

    scripts/readiness API_URL --ops-token-file F --env-file api=F --env-file gateway=F
                      --pentest F --drill F [--max-age-days N] [--json F] [--markdown F]

The scan and the dependencies are looked at here and now, in this tree; so are the audit trail and
the configuration. The penetration test and the drill count by their JSON reports, when these are
about the same service, recent, and passed. Exit code 0: everything is green; 1: something is red or
could not be checked; 2: the command line is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from scripts import readiness_items as items
from scripts.env_file import EnvFileError, read_env_file
from scripts.pentest_report import cell
from scripts.readiness_items import Item, State


def main(arguments: list[str], root: Path) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    environments = {}
    try:
        for entry in options.env_file:
            service, _, file = entry.rpartition("=")
            environments[service or file] = read_env_file(Path(file))
        token = options.ops_token_file and options.ops_token_file.read_text("utf-8").splitlines()
    except (EnvFileError, OSError) as error:
        parser.error(str(error))
    ops_token = token[0].strip().rpartition(":")[2] if token else None
    now, age = datetime.now(UTC), timedelta(days=options.max_age_days)
    api_url = options.api_url
    outcome = items.scan(root)
    checklist = [
        items.look(
            "Security scan workflow passing on `main`.", lambda: items.whole_scan(outcome, root)
        ),
        items.look(
            "No critical untriaged vulnerabilities.",
            lambda: outcome.of(items.VULNERABILITY_GATES),
        ),
        items.look(
            "Secret refs used for production runtime credentials.",
            lambda: items.secret_references(environments),
        ),
        items.look(
            "Admin audit log endpoint reachable and monitored.",
            lambda: items.audit_trail(api_url, ops_token),
        ),
        items.look(
            "Publish-drain and force-update enforcement validated on staging.",
            lambda: items.drill(options.drill, [items.RELEASE_INCIDENT], api_url, now, age),
        ),
        items.look(
            "Basic penetration-test checklist executed (auth, websocket, rate-limit, replay, "
            "error leakage).",
            lambda: items.penetration_test(options.pentest, api_url, now, age),
        ),
        items.look(
            "Incident response rehearsed (compromise, token leakage, abuse).",
            lambda: items.drill(options.drill, items.INCIDENTS, api_url, now, age),
        ),
    ]
    return conclude(api_url, now, checklist, options.json, options.markdown)


def conclude(
    api_url: str,
    now: datetime,
    checklist: list[Item],
    json_file: Path | None,
    markdown_file: Path | None,
) -> int:
    """Prints and writes what was seen; the exit code."""
    for item in checklist:
        print(f"{item.state:<12}{item.words}\n{'':<12}  {item.came}")
    ready = all(item.state is State.GREEN for item in checklist)
    print("ready" if ready else "NOT READY")
    if json_file:
        json_file.write_text(_json(api_url, now, checklist, ready), "utf-8")
    if markdown_file:
        markdown_file.write_text(_markdown(api_url, now, checklist, ready), "utf-8")
    return 0 if ready else 1


def _json(api_url: str, now: datetime, checklist: list[Item], ready: bool) -> str:
    document = {
        "kind": "gatehouse readiness",
        "at": now.isoformat(),
        "api_url": api_url,
        "ready": ready,
        "items": [{"item": i.words, "state": str(i.state), "came": i.came} for i in checklist],
    }
    return json.dumps(document, indent=2) + "\n"


def _markdown(api_url: str, now: datetime, checklist: list[Item], ready: bool) -> str:
    lines = [
        "# Security readiness",
        "",
        f"{now:%Y-%m-%d %H:%M} UTC, {api_url}: **{'ready' if ready else 'not ready'}**",
        "",
        "| | item | what was seen |",
        "|---|---|---|",
    ]
    for item in checklist:
        tick = "[x]" if item.state is State.GREEN else "[ ]"
        lines.append(f"| {tick} {item.state} | {item.words} | {cell(item.came)} |")
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/readiness", description="The runbook's Security Readiness Checklist."
    )
    parser.add_argument("api_url", metavar="API_URL")
    parser.add_argument("--ops-token-file", type=Path, metavar="F", help="a good ops token")
    parser.add_argument(
        "--env-file", action="append", default=[], metavar="SERVICE=F", help="what it runs with"
    )
    parser.add_argument("--pentest", type=Path, metavar="F", help="of scripts/pentest --json")
    parser.add_argument("--drill", type=Path, metavar="F", help="of scripts/drill --json")
    parser.add_argument("--max-age-days", type=int, default=30, metavar="N", help="of reports (30)")
    parser.add_argument("--json", type=Path, metavar="F", help="write the report as JSON")
    parser.add_argument("--markdown", type=Path, metavar="F", help="write the report to read")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path.cwd()))
