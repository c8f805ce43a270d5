"""Judges a run of chaos. It shares no code with client or server, and knows none of their files.

It takes what was written down: the journals of the clients and of the director, and the rows of the
channel as psycopg reads them; and returns every broken promise in words.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Line = dict[str, Any]

# From the commit of a revocation: a sweep finds it within 5 s, and a gateway that cannot look
# closes its sockets after WS_UNVERIFIED_MAX_SECONDS (5 in these runs), looking twice a second. The
# rest is for a client on a busy machine to notice.
DELIVERY_BOUND_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Row:
    """An entry of the channel's log; `created_at` in seconds since 1970."""

    seq: int
    sender_id: int
    client_msg_id: str
    content: str
    created_at: float


@dataclass(slots=True)
class Verdict:
    """`counts` says how much was looked at: a run that did nothing proves nothing."""

    damages: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def judge(
    journals: Sequence[Sequence[Line]],
    director: Sequence[Line],
    rows: Sequence[Row],
    channel_last_seq: int,
) -> Verdict:
    """`rows` ascend by seq."""
    verdict = Verdict()
    damages, counts = verdict.damages, verdict.counts
    revoked_at = {line["revoked"]: line["at"] for line in director if "revoked" in line}
    dead_users = {line["who"]: line["at"] for line in director if "revoked" in line}
    counts["stored"], counts["revoked"] = len(rows), len(revoked_at)
    for line in director:
        if "killed" in line:
            counts[f"killed {line['killed']}"] += 1
    damages += _log(rows, channel_last_seq)
    damages += _inventions(journals, rows)
    by_seq = {row.seq: row for row in rows}
    for journal in journals:
        head = journal[0]
        counts["clients"] += 1
        counts["tried"] += sum("try" in line for line in journal)
        counts["acknowledged"] += sum("ack" in line for line in journal)
        counts["refused"] += sum("refused" in line for line in journal)
        counts["seen"] += sum("saw" in line for line in journal)
        found = [*_acknowledged(journal, by_seq), *_seen(journal, by_seq)]
        if head["session"] in revoked_at:
            found += _dead(journal, revoked_at[head["session"]])
        else:
            found += _alive(journal, channel_last_seq)
        damages += [f"user {head['who']}: {damage}" for damage in found]
    for row in rows:
        # The server takes the time before it looks at the session: no slack is due.
        if row.created_at > dead_users.get(row.sender_id, float("inf")):
            damages.append(f"user {row.sender_id}: {row.seq} was stored after the revocation")
    return verdict


def _log(rows: Sequence[Row], channel_last_seq: int) -> Iterator[str]:
    if [row.seq for row in rows] != list(range(1, len(rows) + 1)):
        yield "the stored seqs have a gap or a double"
    if channel_last_seq != len(rows):
        yield f"the channel says {channel_last_seq}, and {len(rows)} are stored"
    ids = Counter((row.sender_id, row.client_msg_id) for row in rows)
    for (sender_id, client_msg_id), times in ids.items():
        if times > 1:
            yield f"user {sender_id}: {client_msg_id} is stored {times} times"
    for before, after in itertools.pairwise(rows):
        if after.created_at < before.created_at:
            yield f"{after.seq} is older than {before.seq}"


def _inventions(journals: Sequence[Sequence[Line]], rows: Sequence[Row]) -> Iterator[str]:
    tried = {
        (journal[0]["who"], line["try"]): line["content"]
        for journal in journals
        for line in journal
        if "try" in line
    }
    for row in rows:
        if tried.get((row.sender_id, row.client_msg_id)) != row.content:
            yield f"{row.seq} is stored, and nobody sent it like this"


def _acknowledged(journal: Sequence[Line], by_seq: dict[int, Row]) -> Iterator[str]:
    who, sent, last_seq = journal[0]["who"], {}, 0
    for line in journal:
        if "try" in line:
            sent[line["try"]] = line["content"]
        if "ack" not in line:
            continue
        row = by_seq.get(line["seq"])
        said = (who, line["ack"], sent.get(line["ack"]))
        if row is None or (row.sender_id, row.client_msg_id, row.content) != said:
            yield f"{line['ack']} was acknowledged as {line['seq']} and is lost"
        # Each waits for its ack before the next one is sent.
        if line["seq"] <= last_seq:
            yield f"{line['seq']} was acknowledged after {last_seq}"
        last_seq = line["seq"]


def _seen(journal: Sequence[Line], by_seq: dict[int, Row]) -> Iterator[str]:
    last_seq = 0
    for line in journal:
        if "other" in line:
            yield f"told of {line['other']}"
        if "saw" not in line:
            continue
        seq = line["saw"]
        if seq != last_seq + 1:
            yield f"saw {seq} after {last_seq}"
        last_seq = seq
        row = by_seq.get(seq)
        shown = (line["from"], line["id"], line["content"])
        if row is None or (row.sender_id, row.client_msg_id, row.content) != shown:
            yield f"saw something else at {seq} than what is stored"


def _dead(journal: Sequence[Line], revoked_at: float) -> Iterator[str]:
    late = [
        line["saw"]
        for line in journal
        if "saw" in line and line["at"] > revoked_at + DELIVERY_BOUND_SECONDS
    ]
    if late:
        yield f"revoked, and saw {len(late)} entries too late, {late[0]} first"
    if not any("ended" in line for line in journal):
        yield "revoked, and never told"
    for line in journal:
        if "let in" in line and line["at"] > revoked_at:
            yield f"revoked, and yet {line['let in']}"


def _alive(journal: Sequence[Line], channel_last_seq: int) -> Iterator[str]:
    for line in journal:
        if "ended" in line:
            yield f"ended without reason: {line['ended']}"
    caught_up = max((line["caught up"] for line in journal if "caught up" in line), default=None)
    seen = max((line["saw"] for line in journal if "saw" in line), default=0)
    if caught_up is None or seen != channel_last_seq:
        yield f"never caught up: saw {seen} of {channel_last_seq}"
