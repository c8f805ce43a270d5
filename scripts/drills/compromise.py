"""A wave of account compromise: guesses at several accounts, and sessions under suspicion.

The guessing goes on until every account is locked out from this network, which takes eight wrong
passwords each with the limits as they come; two accounts stay below what locks an address.
"""

from __future__ import annotations

import asyncio
import secrets
import time

from gatehouse_client.errors import ApiError
from scripts.drills.cast import Person
from scripts.drills.operator import REASON, curl, new_request_id
from scripts.drills.report import Report
from scripts.drills.stage import Stage, refusal_of

TITLE = "A wave of account compromise"
# No sensible limit is wider; a drill must end.
MOST_GUESSES_AN_ACCOUNT = 40
METRICS_SECONDS = 15.0

_TIGHTEN = (
    "tighten, checked first: AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_IP=10"
    " AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_ACCOUNT=4 AUTH_RATE_LIMIT_LOCKOUT_SECONDS=600"
    " python -m api --check-config",
    "then: gcloud run services update gatehouse-api --region=REGION --update-env-vars="
    "AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_IP=10,AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_ACCOUNT=4,"
    "AUTH_RATE_LIMIT_LOCKOUT_SECONDS=600",
)


async def preview(stage: Stage, report: Report) -> None:
    for line in _TIGHTEN:
        report.advice(line)
    sessions = (await stage.operator.call("GET", "/ops/sessions?limit=1"))["sessions"]
    if not sessions:
        report.saw("nobody is logged in")
        return
    newest = sessions[0]
    for selector in ({"ip": newest["ip"]}, {"created_before": newest["created_at"]}):
        body = {**selector, "reason": REASON, "dry_run": True}
        counted = await stage.operator.do(report, "POST", "/ops/sessions/revoke", body)
        report.saw(f"would end {counted['matched']} sessions")


async def rehearse(stage: Stage, report: Report) -> None:
    cast, operator = stage.cast, stage.operator
    victims = await cast.people(2)
    sessions = [await cast.login(person) for person in victims]
    seats = [await cast.sit(session) for session in sessions]
    shown = await stage.shown_session(sessions[0].id, victims[0].user_id)

    for line in _TIGHTEN:
        report.advice(line)
    guesses = await _guess(stage, report, victims)
    alive = [await seat.is_alive() for seat in seats]
    report.check(all(alive), "those who are in stay in: no live socket minds the lockout")
    await _expect_events(stage, report, victims, shown["created_at"])
    await _expect_metrics(stage, report, len(victims), guesses)

    address = shown["ip"]
    if address is None:
        report.not_checked("revocation by address: the service sees none (a unix socket)")
    else:
        await stage.spare_others(f"revoking {address}", lambda _: True, address)
        psql = f"-v network={address} -f db/sql/ops/revoke_network.sql"
        await stage.revoke(report, {"ip": address}, psql, seats)
        for session in sessions:
            refusal = await refusal_of(cast.call_as(session, "GET", "/auth/me"))
            report.check(refusal == "401 session_revoked", "its access token is dead", refusal)

    for person in victims:
        path = f"/ops/users/{person.user_id}/unlock"
        await operator.do(report, "POST", path, {"reason": REASON}, action="user.unlock")
    await _expect_created_before(stage, report, victims)
    await operator.expect_audited(report)


async def _guess(stage: Stage, report: Report, victims: list[Person]) -> int:
    """Wrong passwords for each in turn, until each is refused; returns how many were looked at."""
    report.saw(f"guessing: wrong passwords for {len(victims)} accounts in turn")
    looked_at = dict.fromkeys((person.user_id for person in victims), 0)
    open_ones = list(victims)
    for _ in range(MOST_GUESSES_AN_ACCOUNT):
        for person in list(open_ones):
            try:
                await stage.cast.login(person, password=secrets.token_urlsafe(12))
            except ApiError as error:
                if error.status == 429:
                    seconds = error.retry_after_seconds
                    report.saw(f"{person.email} is refused for {seconds:.0f} s" if seconds else "")
                    open_ones.remove(person)
                elif error.code != "invalid_credentials":
                    raise
                else:
                    looked_at[person.user_id] += 1
        if not open_ones:
            break
    report.check(
        not open_ones,
        f"every account is locked out, after {list(looked_at.values())} guesses",
        f"{len(open_ones)} take more than {MOST_GUESSES_AN_ACCOUNT}",
    )
    refusal = await refusal_of(stage.cast.login(victims[0]))
    report.check(
        refusal == "429 rate_limited", "the right password does not get in from there", refusal
    )
    return sum(looked_at.values())


async def _expect_events(stage: Stage, report: Report, victims: list[Person], since: str) -> None:
    path = f"/ops/security-events?event=authn_login_lock&since={since}&limit=200"
    events = (await stage.operator.call("GET", path))["security_events"]
    told = {event["user_id"] for event in events}
    missing = [person.user_id for person in victims if person.user_id not in told]
    report.check(not missing, "security events tell authn_login_lock of each", f"not of {missing}")


async def _expect_metrics(stage: Stage, report: Report, locked: int, guesses: int) -> None:
    """They are counted anew every few seconds."""
    path = "/ops/release/metrics"
    report.command(curl("GET", path, None, new_request_id()))
    deadline = time.perf_counter() + METRICS_SECONDS
    while True:
        auth = (await stage.operator.call("GET", path))["auth"]
        shown = auth["login_failure_5m"] >= guesses and auth["lockouts_active"] >= locked
        if shown or time.perf_counter() > deadline:
            break
        await asyncio.sleep(0.2)
    report.check(shown, f"the metrics show {guesses} failures and {locked} lockouts", auth)


async def _expect_created_before(stage: Stage, report: Report, people: list[Person]) -> None:
    """Sessions from before a moment end, the ones that began with it or later live on."""
    older, newer = [await stage.cast.login(person) for person in people]
    seats = [await stage.cast.sit(session) for session in (older, newer)]
    moment = (await stage.shown_session(newer.id, newer.person.user_id))["created_at"]
    await stage.spare_others(
        f"revoking what began before {moment}", lambda session: session["created_at"] < moment
    )
    psql = f"-v before='{moment}' -f db/sql/ops/revoke_created_before.sql"
    await stage.revoke(report, {"created_before": moment}, psql, seats[:1])
    report.check(await seats[1].is_alive(), "the session that began at that moment lives on")
