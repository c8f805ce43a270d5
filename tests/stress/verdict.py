"""What the run left behind, held against what the writers were told."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from tests.stress.ground import Connection, Ground
from tests.stress.writers import Accepted, Report

_GAPS = """
SELECT count(*) FROM (
    SELECT seq - lag(seq) OVER (PARTITION BY channel_id ORDER BY seq) AS step
    FROM chat_messages WHERE channel_id = ANY (%s)
) s WHERE step <> 1
"""
_BACKWARD = """
SELECT count(*) FROM (
    SELECT created_at < lag(created_at) OVER (PARTITION BY channel_id ORDER BY seq) AS is_backward
    FROM chat_messages WHERE channel_id = ANY (%s)
) s WHERE is_backward
"""
_SHORT = """
SELECT count(*) FROM chat_channels c
WHERE c.id = ANY (%s) AND c.last_seq <> (
    SELECT coalesce(max(e.seq), c.last_seq) FROM chat_messages e WHERE e.channel_id = c.id
)
"""
_STORED = """
SELECT channel_id, seq, client_msg_id FROM chat_messages
WHERE channel_id = ANY (%s) AND kind = 'message'
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    messages: int
    gaps: int  # and messages that were acknowledged and are not there
    doubles: int
    deadlocks: int
    backward_timestamps: int
    wrong_answers: int
    most_in_a_window: int

    def is_good(self, limit: int) -> bool:
        wrong = (
            self.gaps,
            self.doubles,
            self.deadlocks,
            self.backward_timestamps,
            self.wrong_answers,
        )
        return self.messages > 0 and not any(wrong) and self.most_in_a_window <= limit


def deadlocks(connection: Connection) -> int:
    """Ever, in this database."""
    return _count(
        connection, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )


def judge(
    connection: Connection, ground: Ground, report: Report, new_deadlocks: int, window_seconds: int
) -> Verdict:
    channel_ids = list(ground.channel_ids)
    stored: dict[tuple[int, int], UUID] = {
        (channel_id, seq): client_msg_id
        for channel_id, seq, client_msg_id in connection.execute(_STORED, (channel_ids,))
    }
    first_kept = {
        channel_id: min((seq for where, seq in stored if where == channel_id), default=1)
        for channel_id in channel_ids
    }
    lost = sum(
        stored.get((one.channel_id, one.seq)) != one.client_msg_id
        for one in report.accepted
        if one.seq >= first_kept[one.channel_id]
    )
    seqs = Counter((one.channel_id, one.seq) for one in report.accepted)
    ids = Counter((one.user_id, one.channel_id, one.client_msg_id) for one in report.accepted)
    return Verdict(
        messages=len(report.accepted),
        gaps=_count(connection, _GAPS, channel_ids)
        + _count(connection, _SHORT, channel_ids)
        + lost,
        doubles=sum(count - 1 for counts in (seqs, ids) for count in counts.values()),
        deadlocks=new_deadlocks,
        backward_timestamps=_count(connection, _BACKWARD, channel_ids),
        wrong_answers=len(report.wrong),
        most_in_a_window=most_in_any_window(report.accepted, window_seconds),
    )


def most_in_any_window(accepted: Iterable[Accepted], seconds: float) -> int:
    """The most that one account got accepted in any so many seconds."""
    times: dict[int, list[float]] = defaultdict(list)
    for one in accepted:
        times[one.user_id].append(one.at)
    most = 0
    for of_account in times.values():
        window: deque[float] = deque()
        for at in sorted(of_account):
            window.append(at)
            while window[0] <= at - seconds:
                window.popleft()
            most = max(most, len(window))
    return most


def _count(connection: Connection, query: str, *values: object) -> int:
    row = connection.execute(query, values or None).fetchone()
    assert row is not None
    return int(row[0])
