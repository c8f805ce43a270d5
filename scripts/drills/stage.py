"""Where an incident plays: the made people, the operator, and what the drill was allowed to do."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from gatehouse_client.errors import ApiError
from scripts.drills.cast import Cast, Seat, until_closed
from scripts.drills.operator import REASON, Operator
from scripts.drills.report import DrillFailed, Report, WouldDisturb


@dataclass(frozen=True, slots=True)
class Permissions:
    disturb_others: bool = False
    restart_gateway: str | None = None
    restart_database: str | None = None
    rotate_jwt: str | None = None
    grace_seconds: int = 5
    # A session's sockets end within 5 s even when the notification was lost.
    closing_seconds: float = 7.0


@dataclass(frozen=True, slots=True)
class Stage:
    operator: Operator
    cast: Cast
    permissions: Permissions

    async def shown_session(self, session_id: int, user_id: int) -> dict[str, Any]:
        """A session as operators see it."""
        for session in await self._sessions(user_id=user_id):
            if session["session_id"] == session_id:
                return session
        raise DrillFailed(f"session {session_id} is not among the live ones")

    async def spare_others(
        self, what: str, is_hit: Callable[[dict[str, Any]], bool], ip: str | None = None
    ) -> None:
        """Raises WouldDisturb when a session of somebody else's would end, unless that is allowed.

        Between this look and the act somebody may log in: only --disturb-others is for a stack
        where people are.
        """
        if self.permissions.disturb_others:
            return
        before_id: int | None = None
        while page := await self._sessions(before_id=before_id, ip=ip):
            others = [
                session
                for session in page
                if session["user_id"] not in self.cast.user_ids and is_hit(session)
            ]
            if others:
                raise WouldDisturb(
                    f"{what} would end sessions of others, session {others[0]['session_id']} of"
                    f" user {others[0]['user_id']} for one; --disturb-others allows it"
                )
            before_id = page[-1]["session_id"]

    async def revoke(
        self, report: Report, selector: dict[str, Any], psql: str, ends: Sequence[Seat]
    ) -> None:
        """Counts, ends the sessions, waits for the last socket, and checks all three."""
        body = {**selector, "reason": REASON}
        path = "/ops/sessions/revoke"
        counted = await self.operator.do(report, "POST", path, {**body, "dry_run": True})
        report.saw(f"the dry run counts {counted['matched']} sessions")
        alive = [await seat.is_alive() for seat in ends]
        report.check(all(alive), "the dry run ends no socket", f"{alive.count(False)} ended")
        report.advice(f"the same in psql: psql -v actor=YOU -v reason='{REASON}' {psql}")
        since = time.perf_counter()
        done = await self.operator.do(report, "POST", path, body, action="sessions.revoke")
        report.saw(f"matched {done['matched']}, revoked {done['revoked']}")
        (name,) = selector
        figure = f"from the call to the last socket's end, by {name}"
        await self.expect_closed(report, since, ends, 4501, figure)

    async def expect_closed(
        self,
        report: Report,
        since: float,
        ends: Sequence[Seat],
        code: int,
        figure: str,
    ) -> None:
        """`since` is the moment that the promise counts from; it may lie ahead."""
        ahead = max(0.0, since - time.perf_counter())
        left = await until_closed(ends, ahead + self.permissions.closing_seconds)
        if not report.check(not left, f"all {len(ends)} sockets end", f"{len(left)} live on"):
            return
        report.figure(figure, max(seat.closed_at or since for seat in ends) - since)
        codes = sorted({str(seat.code) for seat in ends})
        report.check(codes == [str(code)], f"each ends with {code}", ", ".join(codes))

    async def _sessions(self, **query: Any) -> list[dict[str, Any]]:
        given = {name: value for name, value in query.items() if value is not None}
        answer = await self.operator.call(
            "GET", f"/ops/sessions?{urlencode({**given, 'limit': 200})}"
        )
        return list(answer["sessions"])


async def refusal_of(work: Awaitable[object]) -> str:
    """The error code that a call is refused with, or "accepted"."""
    try:
        await work
    except ApiError as error:
        return f"{error.status} {error.code}"
    return "accepted"
