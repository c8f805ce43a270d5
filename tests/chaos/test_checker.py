"""The checker of chaos finds every kind of damage: an honest run, doctored in one place each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.chaos.checker import DELIVERY_BOUND_SECONDS, Row, judge

ANN, BOB, EVE = 1, 2, 3
REVOKED_AT = 1004.5


@dataclass(slots=True)
class Run:
    """What a run leaves behind: Ann and Eve talk, Bob listens, Eve is revoked."""

    ann: list[dict[str, Any]]
    bob: list[dict[str, Any]]
    eve: list[dict[str, Any]]
    director: list[dict[str, Any]]
    rows: list[Row]
    last_seq: int = 6

    def damages(self) -> list[str]:
        journals = [self.ann, self.bob, self.eve]
        return judge(journals, self.director, self.rows, self.last_seq).damages


def saw(row: Row) -> dict[str, Any]:
    return {
        "saw": row.seq,
        "id": row.client_msg_id,
        "from": row.sender_id,
        "content": row.content,
        "at": row.created_at + 0.1,
    }


def honest() -> Run:
    senders = [ANN, EVE, ANN, EVE, ANN, ANN]
    rows = [
        Row(seq, sender, f"id-{seq}", f"text {seq}", 1000.0 + seq)
        for seq, sender in enumerate(senders, 1)
    ]

    def talk(who: int, *, until: int) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = [{"who": who, "session": who * 10, "sends": who != BOB}]
        for row in rows[:until]:
            if row.sender_id == who:
                lines.append({"try": row.client_msg_id, "content": row.content})
                lines.append({"ack": row.client_msg_id, "seq": row.seq})
            lines.append(saw(row))
        return lines

    ann, bob, eve = talk(ANN, until=6), talk(BOB, until=6), talk(EVE, until=4)
    ann.append({"caught up": 6})
    bob.append({"caught up": 6})
    # What she sent at the last moment was never acknowledged, which is no damage.
    eve += [{"try": "id-late", "content": "?"}, {"ended": "session_revoked", "at": 1004.9}]
    director: list[dict[str, Any]] = [
        {"killed": "postgres", "at": 1001.0},
        {"revoked": EVE * 10, "who": EVE, "at": REVOKED_AT},
    ]
    return Run(ann, bob, eve, director, rows)


def test_an_honest_run_is_without_damage() -> None:
    assert honest().damages() == []


def lose_the_last(run: Run) -> None:
    del run.rows[-1]
    run.last_seq = 5
    for journal in (run.ann, run.bob):
        journal.remove(saw(honest().rows[-1]))


def store_twice(run: Run) -> None:
    run.rows.append(replace(run.rows[-1], seq=7))
    run.last_seq = 7


def leave_a_gap(run: Run) -> None:
    run.rows[5] = replace(run.rows[5], seq=7)


def forget_the_channel(run: Run) -> None:
    run.last_seq = 9


def turn_time_back(run: Run) -> None:
    run.rows[4] = replace(run.rows[4], created_at=1003.5)


def change_what_is_stored(run: Run) -> None:
    run.rows[0] = replace(run.rows[0], content="something else")


def store_what_nobody_sent(run: Run) -> None:
    run.ann = [line for line in run.ann if "id-6" not in (line.get("try"), line.get("ack"))]


def acknowledge_another_place(run: Run) -> None:
    run.ann[run.ann.index({"ack": "id-6", "seq": 6})] = {"ack": "id-6", "seq": 5}


def acknowledge_out_of_order(run: Run) -> None:
    acks = [n for n, line in enumerate(run.ann) if "ack" in line]
    first, last = acks[0], acks[-1]
    run.ann[first], run.ann[last] = run.ann[last], run.ann[first]


def skip_an_entry(run: Run) -> None:
    run.bob.remove(saw(run.rows[2]))


def show_an_entry_twice(run: Run) -> None:
    run.bob.insert(4, saw(run.rows[2]))


def swap_two_entries(run: Run) -> None:
    run.bob[2], run.bob[3] = run.bob[3], run.bob[2]


def show_another_text(run: Run) -> None:
    run.bob[2] = {**run.bob[2], "content": "something else"}


def never_show_the_end(run: Run) -> None:
    run.bob.remove(saw(run.rows[-1]))


def never_catch_up(run: Run) -> None:
    run.bob.pop()


def tell_of_a_gap(run: Run) -> None:
    run.bob.insert(3, {"other": {"type": "missed", "first_seq": 3, "last_seq": 3}})


def end_without_reason(run: Run) -> None:
    run.bob.append({"ended": "replaced (4509)", "at": 1010.0})


def show_the_dead(run: Run) -> None:
    line = {**saw(run.rows[4]), "at": REVOKED_AT + DELIVERY_BOUND_SECONDS + 0.1}
    run.eve.insert(-1, line)


def store_from_the_dead(run: Run) -> None:
    run.rows[3] = replace(run.rows[3], created_at=REVOKED_AT + 0.01)


def let_the_dead_in(run: Run) -> None:
    run.eve.append({"let in": "ticketed", "at": REVOKED_AT + 0.5})


def never_tell_the_dead(run: Run) -> None:
    run.eve.pop()


@pytest.mark.parametrize(
    ("doctor", "found"),
    [
        (lose_the_last, "id-6 was acknowledged as 6 and is lost"),
        (store_twice, "id-6 is stored 2 times"),
        (leave_a_gap, "the stored seqs have a gap"),
        (forget_the_channel, "the channel says 9"),
        (turn_time_back, "5 is older than 4"),
        (change_what_is_stored, "id-1 was acknowledged as 1 and is lost"),
        (store_what_nobody_sent, "6 is stored, and nobody sent it"),
        (acknowledge_another_place, "id-6 was acknowledged as 5 and is lost"),
        (acknowledge_out_of_order, "was acknowledged after 6"),
        (skip_an_entry, "user 2: saw 4 after 2"),
        (show_an_entry_twice, "user 2: saw 3 after 3"),
        (swap_two_entries, "user 2: saw 3 after 1"),
        (show_another_text, "user 2: saw something else at 2"),
        (never_show_the_end, "user 2: never caught up: saw 5 of 6"),
        (never_catch_up, "user 2: never caught up"),
        (tell_of_a_gap, "user 2: told of"),
        (end_without_reason, "user 2: ended without reason"),
        (show_the_dead, "user 3: revoked, and saw 1 entries too late, 5 first"),
        (store_from_the_dead, "user 3: 4 was stored after the revocation"),
        (let_the_dead_in, "user 3: revoked, and yet ticketed"),
        (never_tell_the_dead, "user 3: revoked, and never told"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_damage_is_found(doctor: Callable[[Run], None], found: str) -> None:
    run = honest()
    doctor(run)
    damages = run.damages()
    assert any(found in damage for damage in damages), damages
