"""What must be true after a drain, whoever was killed in the middle of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from rules.times import rfc3339
from tests.drains.guest import Guest
from tests.support.services import People

CLOSED_WITHIN_SECONDS = 5.0
LET_GO = (4510, 4401, None)  # None: it had no socket when the deadline came


@dataclass(slots=True)
class Facts:
    """What was seen. `old` are the guests that the drain means, `late` among them those that came
    in its middle; `updated` have let themselves be updated in time, `current` never had to."""

    drain_id: int
    deadline: float
    status: dict[str, Any] = field(default_factory=dict)
    old: list[Guest] = field(default_factory=list)
    updated: list[Guest] = field(default_factory=list)
    current: list[Guest] = field(default_factory=list)
    left_over: int = 0  # sockets of old guests that a living gateway still has 5 s afterwards
    let_in: list[str] = field(default_factory=list)


def judge(facts: Facts, people: People) -> tuple[list[str], Counter[str]]:
    """(promises that were broken, figures)."""
    damages: list[str] = []
    figures: Counter[str] = Counter()
    _judge_receipts(facts, people, damages, figures)
    _judge_deliveries(facts, people, damages, figures)
    _judge_ends(facts, damages, figures)
    damages += [f"let in after the deadline: {what}" for what in facts.let_in]
    return damages, figures


def _judge_receipts(
    facts: Facts, people: People, damages: list[str], figures: Counter[str]
) -> None:
    rows = people.owner.execute(
        "SELECT session_id, notified_at IS NOT NULL, revoked_at IS NOT NULL, outcome"
        " FROM publish_drain_session_audit WHERE drain_id = %s",
        (facts.drain_id,),
    ).fetchall()
    receipts = {row[0]: row[1:] for row in rows}
    expected = {guest.session_id for guest in facts.old + facts.updated}
    if set(receipts) != expected:
        damages.append(
            f"receipts: {len(expected - set(receipts))} are missing,"
            f" {len(set(receipts) - expected)} are of sessions that it does not mean"
        )
    for guest in facts.old:
        notified, revoked, outcome = receipts.get(guest.session_id, (False, False, None))
        figures[f"outcome {outcome}"] += 1
        if guest.acked and outcome != "acked":
            damages.append(f"{guest.session_id} was answered drain_acked, and is {outcome}")
        if outcome == "acked" and not guest.acks:
            damages.append(f"{guest.session_id} never acknowledged, and is acked")
        if notified and "drain" not in guest.told:
            damages.append(f"{guest.session_id} is notified, and heard nothing")
        if not revoked:
            damages.append(f"{guest.session_id} has a receipt without its end")
    for guest in facts.updated:
        outcome = receipts.get(guest.session_id, (None, None, None))[2]
        figures["updated in time"] += 1
        if outcome != "cancelled":
            damages.append(f"{guest.session_id} has updated in time, and is {outcome}")
    if facts.status.get("status") != "completed":
        damages.append(f"the drain is {facts.status}")


def _judge_deliveries(
    facts: Facts, people: People, damages: list[str], figures: Counter[str]
) -> None:
    deadline = people.one(
        "SELECT max(drain_deadline_at) FROM user_sessions WHERE drain_event_id = %s",
        facts.drain_id,
    )
    shown = rfc3339(deadline)
    for guest in facts.old:
        figures["entries to those who must leave"] += guest.entries
        if guest.newest_entry > shown:
            damages.append(f"{guest.session_id} was given an entry of {guest.newest_entry}")
    sessions = [guest.session_id for guest in facts.old]
    stored = people.one(
        "SELECT count(*) FROM chat_messages m JOIN user_sessions s ON s.user_id = m.sender_id"
        " WHERE s.id = ANY (%s) AND m.created_at > %s",
        sessions,
        deadline,
    )
    if stored:
        damages.append(f"{stored} messages of theirs were accepted after the deadline")
    written = people.one("SELECT count(*) FROM chat_messages WHERE created_at > %s", deadline)
    figures["entries after the deadline"] = written
    if not written or not any(guest.newest_entry > shown for guest in facts.current):
        damages.append("nothing was said after the deadline: the rehearsal proves nothing")


def _judge_ends(facts: Facts, damages: list[str], figures: Counter[str]) -> None:
    latest = 0.0
    for guest in facts.old:
        if guest.deaf:
            continue  # sees no end; facts.left_over looks at it from the other side
        figures[f"ended with {guest.final_code}"] += 1
        if guest.is_open or guest.final_code not in LET_GO:
            damages.append(f"{guest.session_id} ended with {guest.final_code}")
        if guest.final_code == 4510 and guest.ended_at is not None:
            latest = max(latest, guest.ended_at - facts.deadline)
    figures["last socket closed, ms after the deadline"] = round(latest * 1000)
    if latest > CLOSED_WITHIN_SECONDS:
        damages.append(f"a socket lived for {latest:.1f} s after the deadline")
    if facts.left_over:
        damages.append(f"{facts.left_over} sockets were left after {CLOSED_WITHIN_SECONDS} s")
    for guest in facts.updated + facts.current:
        if not guest.is_open or guest.final_code is not None:
            damages.append(f"{guest.session_id} may stay, and ended with {guest.final_code}")
