"""Token leakage: all that was handed out is dead at once, and everybody logs in again."""

from __future__ import annotations

from scripts.drills.cast import Session
from scripts.drills.operator import REASON
from scripts.drills.report import Report
from scripts.drills.restart import run_command
from scripts.drills.stage import Stage, refusal_of
from scripts.rotation_plan import Place, Reference, plan

TITLE = "Token leakage"
PEOPLE = 3


async def preview(stage: Stage, report: Report) -> None:
    _say_rotation(report)
    body = {"all": True, "reason": REASON, "dry_run": True}
    counted = await stage.operator.do(report, "POST", "/ops/sessions/revoke", body)
    report.saw(f"would end {counted['matched']} sessions")


async def rehearse(stage: Stage, report: Report) -> None:
    cast = stage.cast
    people = await cast.people(PEOPLE)
    sessions = [await cast.login(person) for person in people]
    seats = [await cast.sit(session) for session in sessions]
    tickets = [await cast.ticket(session) for session in sessions]  # unspent

    _say_rotation(report)
    if stage.permissions.rotate_jwt is None:
        report.not_checked(
            "the new signing key itself: --rotate-jwt COMMAND says how to deploy one"
        )
    else:
        sessions = await _rotate(stage, report, stage.permissions.rotate_jwt, sessions)
        for seat in seats:
            report.check(await seat.is_alive(), "a live socket does not hang on the key")

    await stage.spare_others("revoking everything", lambda _: True)
    await stage.revoke(report, {"all": True}, "-f db/sql/ops/revoke_all.sql", seats)

    for session in sessions:
        refusal = await refusal_of(cast.call_as(session, "GET", "/auth/me"))
        report.check(refusal == "401 session_revoked", "an old access token is dead", refusal)
        refusal = await refusal_of(cast.refresh(session))
        report.check(refusal.startswith("401 "), "an old refresh token is dead", refusal)
    # Tickets that were issued do not count against the address, other than made-up ones.
    for ticket in tickets:
        end = await cast.end_of(ticket)
        report.check(end in ("4401", "4501"), "an unspent ticket is dead", end)
    for person in people:
        session = await cast.login(person)
        report.check(
            await (await cast.sit(session)).is_alive(), "everybody logs in again, and talks"
        )
    report.advice(
        "force update and login gate: POST /ops/release/activate, as the release drill does"
    )
    await stage.operator.expect_audited(report)


async def _rotate(
    stage: Stage, report: Report, command: str, sessions: list[Session]
) -> list[Session]:
    """The operator's own way to a new key; afterwards old tokens are refused, and refresh helps."""
    cast = stage.cast
    await run_command(report, command)
    await cast.until_it_answers()
    renewed = []
    for session in sessions:
        refusal = await refusal_of(cast.call_as(session, "GET", "/auth/me"))
        report.check(refusal == "401 unauthorized", "a token of the old key is refused", refusal)
        renewed.append(await cast.refresh(session))
        await cast.call_as(renewed[-1], "GET", "/auth/me")
    report.check(True, "a refresh brings a token of the new key")
    return renewed


def _say_rotation(report: Report) -> None:
    place = Place("europe-west1", "gatehouse-api", "gatehouse-gateway")
    report.advice("rotate both secrets; with your names, scripts/rotate-secret plan prints this:")
    for variable, secret in (("JWT_SECRET", "jwt"), ("OPS_API_TOKEN", "ops")):
        old = Reference("P", secret, "N")
        steps = plan(variable, old, place, leaked=True, role="gatehouse_api")
        for line in steps.splitlines():
            if line:
                report.advice(f"  {line}")
