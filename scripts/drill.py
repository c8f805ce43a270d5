"""The incidents of the runbook, end to end, against a running stack with live sockets.

    scripts/drill API_URL WS_URL --ops-token-file F [--only INCIDENT ...]

Each incident makes what it needs (accounts and sockets of its own), does what docs/runbook.md
says, and checks from the outside that it came true: sockets that end, tokens that are dead, rows
in the audit trail. It prints the commands, what it saw, how long it took, and a verdict; `$` marks
what was carried out, `#` what belongs to the incident and was not.

Where sessions of others would be hit, an incident is refused, unless --disturb-others is given:
what it rehearses is real. --dry-run gives the commands and counts whom they would hit. Exit codes:
0 every incident that could be rehearsed has passed; 1 one has failed or was refused, or one that
was asked for by name was not checked; 64 the command line is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatehouse_client.errors import ApiError
from gatehouse_client.socket_link import LinkClosed, LinkRefused
from scripts.drills import compromise, leak, outage, release, spam
from scripts.drills.cast import Cast
from scripts.drills.operator import Operator
from scripts.drills.report import (
    DrillFailed,
    NotChecked,
    Report,
    Verdict,
    WouldDisturb,
    as_markdown,
)
from scripts.drills.stage import Permissions, Stage

EX_USAGE = 64  # of sysexits.h
Play = Callable[[Stage, Report], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Incident:
    title: str
    rehearse: Play
    preview: Play


# The wave of guesses comes last: where the limits are tighter than usual it locks out this address.
INCIDENTS = {
    "leak": Incident(leak.TITLE, leak.rehearse, leak.preview),
    "spam": Incident(spam.TITLE, spam.rehearse, spam.preview),
    "release": Incident(release.TITLE, release.rehearse, release.preview),
    "gateway": Incident(outage.GATEWAY_TITLE, outage.lose_gateway, outage.preview_gateway),
    "database": Incident(outage.DATABASE_TITLE, outage.restart_database, outage.preview_database),
    "compromise": Incident(compromise.TITLE, compromise.rehearse, compromise.preview),
}


def main(arguments: list[str]) -> int:
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as exit_:
        return EX_USAGE if exit_.code else 0
    try:
        token = options.ops_token_file.read_text("utf-8").split()[0].rpartition(":")[2]
        stage = Stage(
            Operator(options.api_url, token),
            Cast(options.api_url, options.ws_url),
            Permissions(
                disturb_others=options.disturb_others,
                restart_gateway=options.restart_gateway,
                restart_database=options.restart_database,
                rotate_jwt=options.rotate_jwt,
                grace_seconds=options.grace_seconds,
                closing_seconds=options.closing_seconds,
            ),
        )
        asyncio.run(stage.operator.call("GET", "/ops/audit/verify"))
    except (OSError, UnicodeDecodeError, IndexError, ValueError, ApiError) as error:
        what = "no token in it" if isinstance(error, IndexError) else error
        print(f"drill: {options.ops_token_file} with {options.api_url}: {what}", file=sys.stderr)
        return EX_USAGE
    # Whoever stops a drill is left with nothing to clean up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began_at = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
    chosen = options.only or list(INCIDENTS)
    try:
        reports = asyncio.run(_run(stage, chosen, preview=options.dry_run))
    except KeyboardInterrupt:
        return 130
    code = _exit_code(reports, strict=bool(options.only))
    if options.json:
        found = [report.as_object() for report in reports]
        contents = {"api_url": options.api_url, "began_at": began_at, "passed": code == 0}
        text = json.dumps({**contents, "incidents": found}, indent=2)
        options.json.write_text(text + "\n", "utf-8")
    if options.markdown:
        options.markdown.write_text(as_markdown(options.api_url, began_at, reports), "utf-8")
    return code


async def _run(stage: Stage, chosen: list[str], *, preview: bool) -> list[Report]:
    reports = []
    try:
        for name, incident in INCIDENTS.items():
            if name in chosen:
                play = incident.preview if preview else incident.rehearse
                report = Report(name, incident.title, _say)
                await _play(play, stage, report)
                if preview and report.verdict is Verdict.PASSED:
                    report.verdict = Verdict.PREVIEWED
                reports.append(report)
    finally:
        await stage.cast.leave()
    return reports


async def _play(play: Play, stage: Stage, report: Report) -> None:
    _say(f"== {report.incident}: {report.title}")
    try:
        await play(stage, report)
    except NotChecked as why:
        report.end(Verdict.NOT_CHECKED, str(why))
    except WouldDisturb as why:
        report.end(Verdict.REFUSED, str(why))
    except (DrillFailed, ApiError, LinkClosed, LinkRefused, OSError) as error:
        report.end(Verdict.FAILED, str(error) or type(error).__name__)
    except (KeyError, TypeError, ValueError) as error:
        report.end(Verdict.FAILED, f"the answer is not Gatehouse's: {error!r}")
    else:
        report.end()


def _exit_code(reports: list[Report], *, strict: bool) -> int:
    bad = {Verdict.FAILED, Verdict.REFUSED} | ({Verdict.NOT_CHECKED} if strict else set())
    return 1 if any(report.verdict in bad for report in reports) else 0


def _say(line: str) -> None:
    print(line, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/drill",
        description="Rehearses the incidents of docs/runbook.md against a running stack.",
    )
    parser.add_argument("api_url", metavar="API_URL")
    parser.add_argument("ws_url", metavar="WS_URL")
    add: Any = parser.add_argument
    add("--ops-token-file", type=Path, required=True, metavar="F", help="a good ops token")
    add("--only", nargs="+", choices=list(INCIDENTS), metavar="INCIDENT", help=", ".join(INCIDENTS))
    add("--json", type=Path, metavar="F", help="the report as JSON")
    add("--markdown", type=Path, metavar="F", help="the report to read")
    add("--dry-run", action="store_true", help="the commands, and whom they would hit")
    add("--disturb-others", action="store_true", help="real people may be thrown out")
    add("--restart-gateway", metavar="CMD", help="kills and restarts a gateway")
    add("--restart-database", metavar="CMD", help="restarts Postgres")
    add("--rotate-jwt", metavar="CMD", help="deploys another signing key alone")
    add("--grace-seconds", type=int, default=5, metavar="N", help="of the drained release (5)")
    add(
        "--closing-seconds",
        type=float,
        default=7.0,
        metavar="N",
        help="how long sockets may take to end (7)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
