"""The hands of the person on call: calls with the ops token, each under a request id of its own.

What is done is also said as the curl command that does the same; the token stands in it as a shell
variable. `expect_audited` follows the request ids into the audit trail at the end.
"""

from __future__ import annotations

import json
import secrets
import shlex
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from gatehouse_client.rest import Rest
from scripts.drills.report import Report

REASON = "drill"


@dataclass(frozen=True, slots=True)
class _Act:
    request_id: str
    action: str
    rows: int


@dataclass
class Operator:
    api_url: str
    token: str = field(repr=False)
    _acts: list[_Act] = field(default_factory=list)

    async def do(
        self,
        report: Report,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        action: str | None = None,
    ) -> dict[str, Any]:
        """One act. `action` is what the audit trail must call it; None where nothing is changed.

        "drain." stands for any act of that noun.
        """
        request_id = new_request_id()
        report.command(curl(method, path, body, request_id))
        if action is not None:
            self.expect(report, request_id, action)
        return await self.call(method, path, body, request_id)

    async def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        request_id: str | None = None,
    ) -> dict[str, Any]:
        headers = {
            "User-Agent": "gatehouse-drill",
            "X-Ops-Token": self.token,
            "X-Request-ID": request_id or new_request_id(),
        }
        return await Rest(self.api_url, headers).call(method, path, body)

    def expect(self, report: Report, request_id: str, action: str, rows: int = 1) -> None:
        report.request_ids.append(request_id)
        self._acts.append(_Act(request_id, action, rows))

    async def expect_audited(self, report: Report) -> None:
        """Every act since the last time has its rows, with our reason, in a chain that is whole."""
        acts, self._acts = self._acts, []
        for act in acts:
            rows = await self.audit_rows(act.request_id)
            found = [
                row
                for row in rows
                if _fits(row["action"], act.action) and row["reason"] in (REASON, None)
            ]
            report.check(
                len(found) == act.rows,
                f"audit: {act.request_id} leads to {act.action}"
                + (f", {act.rows} rows" if act.rows > 1 else ""),
                f"{len(found)} such rows, of {[row['action'] for row in rows]}",
            )
        verified = await self.call("GET", "/ops/audit/verify")
        report.check(
            verified["intact"] is True,
            f"audit: the chain is intact up to row {verified['head_id']}",
            f"the first broken row is {verified['first_broken_id']}",
        )

    async def audit_rows(self, request_id: str) -> list[dict[str, Any]]:
        path = f"/ops/audit?request_id={quote(request_id)}&limit=200"
        return list((await self.call("GET", path))["audit"])


def _fits(action: str, wanted: str) -> bool:
    return action.startswith(wanted) if wanted.endswith(".") else action == wanted


def new_request_id() -> str:
    return f"drill-{secrets.token_hex(8)}"


def curl(method: str, path: str, body: dict[str, Any] | None, request_id: str) -> str:
    words = [
        f'curl -sS -X {method} "$API_URL"{shlex.quote(path)}',
        '-H "X-Ops-Token: $OPS_API_TOKEN"',
        f"-H 'X-Request-ID: {request_id}'",
    ]
    if body is not None:
        words.append(f"-H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}")
    return " ".join(words)
