"""A release with drain: those with an old client are warned, drained and let in again once updated.

First a drain that is called off. Afterwards the policy of before is in force again.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from scripts.drills.cast import Seat, Session
from scripts.drills.operator import REASON
from scripts.drills.report import DrillFailed, Report
from scripts.drills.stage import Stage, refusal_of

TITLE = "A release with drain"
# The receipts are complete soon after the closes.
FREEZING_SECONDS = 15.0
CANCELLED_GRACE_SECONDS = 120


async def preview(stage: Stage, report: Report) -> None:
    status = await stage.operator.do(report, "GET", "/ops/release/status")
    old, new = versions_around(_policy(status))
    counted = await stage.operator.do(
        report, "POST", "/ops/release/activate", {**_activation(stage, new), "dry_run": True}
    )
    report.saw(f"from {old} to {new}: would enrol {counted['enrolled']} sessions")


async def rehearse(stage: Stage, report: Report) -> None:
    cast, operator = stage.cast, stage.operator
    policy = _policy(await operator.do(report, "GET", "/ops/release/status"))
    old, new = versions_around(policy)
    report.saw(f"in force: latest {policy.get('latest_version')}; the drill releases {new}")
    outdated, updated = await cast.people(2)
    old_session = await cast.login(outdated, old)
    new_session = await cast.login(updated, new)
    seats = [await cast.sit(session) for session in (old_session, new_session)]

    activation = _activation(stage, new)
    await stage.spare_others("activating a release", lambda _: True)
    counted = await operator.do(
        report, "POST", "/ops/release/activate", {**activation, "dry_run": True}
    )
    report.saw(f"the dry run counts {counted['enrolled']} sessions to enrol")

    await _expect_cancelled(stage, report, seats[0])

    deadline = time.perf_counter() + stage.permissions.grace_seconds  # at the earliest
    done = await operator.do(
        report, "POST", "/ops/release/activate", activation, action="release.activate"
    )
    report.saw(f"drain {done['drain_id']} enrols {done['enrolled']} sessions")
    # Looked at first: a rollback of what never came into force would take back another release.
    now = _policy(await operator.call("GET", "/ops/release/status"))
    if now.get("latest_version") != new:
        raise DrillFailed(f"{new} is not in force, but {now.get('latest_version')}")
    try:
        drained = int(done["drain_id"]), old_session.id
        await _expect_drain(stage, report, drained, seats, deadline)
        await _expect_gate(stage, report, old_session, new_session, new)
        shown = (await operator.call("GET", "/ops/release/metrics"))["release_policy"]
        report.check(shown["latest_version"] == new, "the metrics show the new policy", shown)
    finally:
        await operator.do(
            report, "POST", "/ops/release/rollback", {"reason": REASON}, action="release.rollback"
        )
    after = _policy(await operator.call("GET", "/ops/release/status"))
    same = after.get("min_supported_version") == policy.get("min_supported_version")
    report.check(same, "undone: the policy of before is in force", after)
    await operator.expect_audited(report)


async def _expect_cancelled(stage: Stage, report: Report, seat: Seat) -> None:
    body = {"reason": REASON, "grace_seconds": CANCELLED_GRACE_SECONDS, "scope": "all"}
    drain = await stage.operator.do(report, "POST", "/ops/drains", body, action="drain.")
    drain_id = int(drain["id"])
    try:
        await seat.until(
            lambda frame: frame["type"] == "drain_started",
            "drain_started",
            stage.permissions.closing_seconds,
        )
    finally:
        path = f"/ops/drains/{drain_id}/cancel"
        await stage.operator.do(report, "POST", path, {"reason": REASON}, action="drain.cancel")
    await seat.until(lambda frame: frame["type"] == "drain_cancelled", "drain_cancelled")
    report.check(await seat.is_alive(), "a drain that is called off in time ends nobody")


async def _expect_drain(
    stage: Stage, report: Report, drained: tuple[int, int], seats: list[Seat], deadline: float
) -> None:
    drain_id, session_id = drained
    old_seat, new_seat = seats
    started = await old_seat.until(
        lambda frame: frame["type"] == "drain_started" and frame["event_id"] == drain_id,
        "drain_started",
    )
    report.saw(f"the outdated client is told: {started['seconds_remaining']} s remain")
    await old_seat.send({"type": "drain_ack", "event_id": drain_id})
    await old_seat.until(lambda frame: frame["type"] == "drain_acked", "drain_acked")
    report.check(old_seat.closed_at is None, "before the deadline it lives on")
    await stage.expect_closed(
        report, deadline, [old_seat], 4510, "from the deadline to the last socket's end"
    )
    report.check(await new_seat.is_alive(), "whoever is up to date lives on")
    told = [frame["type"] for frame in new_seat.frames]
    report.check(told.count("drain_started") <= 1, "and is not told of the release's drain", told)
    drain = await _finished(stage, drain_id)
    report.check(drain["status"] == "completed", "the drain completes", drain["status"])
    report.saw(
        f"enrolled {drain['enrolled']}, acked {drain['acked']}, closed {drain['closed']},"
        f" unreachable {drain['unreachable']}"
    )
    receipts = (await stage.operator.do(report, "GET", f"/ops/drains/{drain_id}"))["receipts"]
    ours = [receipt for receipt in receipts if receipt["session_id"] == session_id]
    report.check(
        [receipt["outcome"] for receipt in ours] == ["acked"],
        "the receipt of its session says that it had acknowledged",
        ours,
    )


async def _expect_gate(
    stage: Stage, report: Report, old_session: Session, new_session: Session, new: str
) -> None:
    cast = stage.cast
    refusal = await refusal_of(cast.call_as(old_session, "GET", "/auth/me"))
    report.check(refusal in ("401 drained", "426 update_required"), "its token is dead", refusal)
    refusal = await refusal_of(cast.login(old_session.person, old_session.version))
    report.check(refusal == "426 update_required", "an old client cannot log in", refusal)
    again = await cast.refresh(old_session, new)
    report.check(
        again.id != old_session.id, "once updated it comes back without a password", again.id
    )
    report.check(await (await cast.sit(again)).is_alive(), "and talks again")
    await cast.call_as(new_session, "GET", "/auth/me")


async def _finished(stage: Stage, drain_id: int) -> dict[str, Any]:
    """From the list, whose reading is not audited: receipts are about people, this is not."""
    deadline = time.perf_counter() + FREEZING_SECONDS
    while True:
        drains = (await stage.operator.call("GET", "/ops/drains"))["drains"]
        found = [drain for drain in drains if drain["id"] == drain_id]
        if not found:
            raise DrillFailed(f"drain {drain_id} is not in the list")
        drain: dict[str, Any] = found[0]
        if drain["status"] != "draining" or time.perf_counter() > deadline:
            return drain
        await asyncio.sleep(0.1)


def versions_around(policy: dict[str, Any]) -> tuple[str, str]:
    """The version that is the latest now, and the next one after it."""
    old = policy.get("latest_version") or "0"
    *head, last = [int(part) for part in old.split(".")]
    return old, ".".join(str(part) for part in (*head, last + 1))


def _activation(stage: Stage, new: str) -> dict[str, Any]:
    return {
        "latest_version": new,
        "min_supported_version": new,
        "notes": REASON,
        "grace_seconds": stage.permissions.grace_seconds,
        "drain": "outdated",
    }


def _policy(status: dict[str, Any]) -> dict[str, Any]:
    return dict(status.get("release_policy") or status)
