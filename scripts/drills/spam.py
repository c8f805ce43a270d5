"""An abuse and spam burst: locked out by the limits, muted, erased, thrown out by address."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

from scripts.drills.cast import Seat, Session
from scripts.drills.operator import REASON, curl, new_request_id
from scripts.drills.report import DrillFailed, Report
from scripts.drills.stage import Stage, refusal_of

TITLE = "An abuse and spam burst"
# No sensible limit is wider; a drill must end.
MOST_MESSAGES = 150
MUTE_SECONDS = 600

_TIGHTEN = (
    "tighten, checked first: CHAT_WRITE_RATE_LIMIT_MAX_PER_ACCOUNT=10"
    " CHAT_WRITE_RATE_LIMIT_MAX_PER_IP=40 CHAT_WRITE_RATE_LIMIT_LOCKOUT_SECONDS=120"
    " python -m wsgateway --check-config",
    "then, both services alike: gcloud run services update SERVICE --region=REGION"
    " --update-env-vars=CHAT_WRITE_RATE_LIMIT_MAX_PER_ACCOUNT=10,"
    "CHAT_WRITE_RATE_LIMIT_MAX_PER_IP=40,"
    "CHAT_WRITE_RATE_LIMIT_LOCKOUT_SECONDS=120",
    "keep the address out at the load balancer: gcloud compute security-policies rules create 900"
    " --security-policy=POLICY --src-ip-ranges=ADDRESS/32 --action=deny-403",
)


async def preview(stage: Stage, report: Report) -> None:
    for line in _TIGHTEN:
        report.advice(line)
    mute = {"reason": REASON, "seconds": MUTE_SECONDS}
    report.advice(curl("POST", "/ops/users/USER_ID/mute", mute, "drill-preview"))
    path = f"/ops/channels/CHANNEL_ID/messages/SEQ?reason={REASON}"
    report.advice(curl("DELETE", path, None, "drill-preview"))
    body = {"ip": "ADDRESS", "reason": REASON}
    report.advice(curl("POST", "/ops/sessions/revoke", body, "drill-preview"))


async def rehearse(stage: Stage, report: Report) -> None:
    cast, operator = stage.cast, stage.operator
    spammer, listener = [await cast.login(person) for person in await cast.people(2)]
    channel_id = await _room(stage, listener, spammer)
    seats = [await cast.sit(session) for session in (spammer, listener)]
    for seat in seats:
        await seat.ask({"type": "subscribe", "channel_id": channel_id})

    for line in _TIGHTEN:
        report.advice(line)
    seqs = await _spam(report, seats[0], channel_id)

    mute = f"/ops/users/{spammer.person.user_id}/mute"
    body = {"reason": REASON, "seconds": MUTE_SECONDS}
    await operator.do(report, "POST", mute, body, action="user.mute")
    try:
        await _expect_muted(stage, report, seats[0], spammer, channel_id)
        await _erase(stage, report, listener, seats[1], (channel_id, seqs))
        await _throw_out(stage, report, spammer, seats)
    finally:
        body = {"reason": REASON, "seconds": 0}
        await operator.do(report, "POST", mute, body, action="user.mute")
    again = await cast.login(spammer.person)
    seat = await cast.sit(again)
    answer = await _say(seat, channel_id)
    report.check(
        answer.get("code") != "muted", "undone: whoever is no longer muted is not told so any more"
    )
    await operator.expect_audited(report)


async def _room(stage: Stage, owner: Session, member: Session) -> int:
    """A group of the drill's own: nobody else is bothered."""
    channel = await stage.cast.call_as(owner, "POST", "/chat/channels", {"name": "Drill"})
    channel_id = int(channel["id"])
    body = {"user_id": member.person.user_id}
    await stage.cast.call_as(owner, "POST", f"/chat/channels/{channel_id}/members", body)
    return channel_id


async def _say(seat: Seat, channel_id: int) -> dict[str, Any]:
    return await seat.ask(
        {
            "type": "send",
            "channel_id": channel_id,
            "client_msg_id": str(uuid.uuid4()),
            "content": f"buy, buy, buy {uuid.uuid4()}",
        }
    )


async def _spam(report: Report, seat: Seat, channel_id: int) -> list[int]:
    """Sends without pause until it is refused; returns the seqs of what got through."""
    seqs: list[int] = []
    while len(seqs) < MOST_MESSAGES:
        if len(seqs) > 50:  # from here on within the frames that a socket may send in a second
            await asyncio.sleep(0.03)
        answer = await _say(seat, channel_id)
        if answer["type"] == "ack":
            seqs.append(int(answer["seq"]))
            continue
        refused = f"{answer.get('code')}, for {answer.get('retry_after_seconds')} s"
        expected = f"the limits stop the burst after {len(seqs)} messages"
        report.check(answer.get("code") == "rate_limited", expected, refused)
        return seqs
    raise DrillFailed(f"{len(seqs)} messages without pause, and no limit")


async def _expect_muted(
    stage: Stage, report: Report, seat: Seat, spammer: Session, channel_id: int
) -> None:
    answer = await _say(seat, channel_id)
    report.check(answer.get("code") == "muted", "muted on the socket", answer)
    path = f"/chat/channels/{channel_id}/messages"
    body = {"client_msg_id": str(uuid.uuid4()), "content": "buy"}
    refusal = await refusal_of(stage.cast.call_as(spammer, "POST", path, body))
    report.check(refusal == "403 muted", "muted over HTTP", refusal)


async def _erase(
    stage: Stage, report: Report, listener: Session, seat: Seat, messages: tuple[int, list[int]]
) -> None:
    """Every message of the burst, under one request id; the others see each go."""
    channel_id, seqs = messages
    request_id = new_request_id()
    base = f"/ops/channels/{channel_id}/messages"
    loop = curl("DELETE", f"{base}/SEQ?reason={REASON}", None, request_id)
    report.command(f"for each of {len(seqs)} messages: {loop}")
    stage.operator.expect(report, request_id, "message.erase", len(seqs))
    started = time.perf_counter()
    for seq in seqs:
        await stage.operator.call("DELETE", f"{base}/{seq}?reason={REASON}", None, request_id)
    missing = set(seqs)
    try:
        while missing:
            frame = await seat.until(
                lambda got: got["type"] == "deleted",
                "deleted entry",
                stage.permissions.closing_seconds,
            )
            missing.discard(frame["target_seq"])
    except DrillFailed as error:
        report.check(False, "the listener sees each of them go", f"{len(missing)} stay; {error}")
    else:
        report.figure(
            f"erasing {len(seqs)} messages, seen by others", time.perf_counter() - started
        )
    path = f"/chat/channels/{channel_id}/messages?limit=200"
    entries = (await stage.cast.call_as(listener, "GET", path))["entries"]
    kept = [e["seq"] for e in entries if e["seq"] in seqs and e.get("content")]
    report.check(not kept, "none of their texts is in the history", f"{len(kept)} are")


async def _throw_out(stage: Stage, report: Report, spammer: Session, seats: list[Seat]) -> None:
    address = (await stage.shown_session(spammer.id, spammer.person.user_id))["ip"]
    if address is None:
        report.not_checked("revocation by address: the service sees none (a unix socket)")
        return
    await stage.spare_others(f"revoking {address}", lambda _: True, address)
    psql = f"-v network={address} -f db/sql/ops/revoke_network.sql"
    await stage.revoke(report, {"ip": address}, psql, seats)
    refusal = await refusal_of(stage.cast.call_as(spammer, "GET", "/auth/me"))
    report.check(refusal == "401 session_revoked", "the spammer's token is dead", refusal)
