"""One channel's delivery in one process: what was delivered last, and to whom the next goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rules.log_entry import Entry
from wsgateway.connection import Connection
from wsgateway.framing import text_frame


@dataclass(slots=True)
class Feed:
    """Each of `subscribers` has the number of its joining, which no other joining has. `ahead`
    holds those that joined at a seq which is not delivered yet: what came in their `subscribed`
    answer must not come again. `last_deliveries` counts what the last delivery wrote: each entry to
    each subscriber.
    """

    channel_id: int
    delivered_seq: int
    subscribers: dict[Connection, int] = field(default_factory=dict)
    ahead: dict[Connection, int] = field(default_factory=dict)
    last_deliveries: int = 0

    def deliver(self, entries: Sequence[Entry]) -> list[Connection]:
        """Writes `entries`, which begin right after delivered_seq and have no gaps.

        Returns who has left with one of them, and got nothing that came after it. The log itself
        says so, and it is the log that puts a departure before or after a message: whoever wrote
        which, and whatever was heard of it first.
        """
        frames = [text_frame(entry.as_object()) for entry in entries]
        joined = b"".join(frames)
        before, first, last = self.delivered_seq, entries[0].seq, entries[-1].seq
        self.delivered_seq = last
        departures = [(entry.sender_id, entry.seq) for entry in entries if entry.kind == "left"]
        departed = []
        self.last_deliveries = 0
        for subscriber in tuple(self.subscribers):
            after = self.ahead.get(subscriber, before)
            if after >= last:
                continue
            self.ahead.pop(subscriber, None)
            until = _departure(departures, subscriber.user_id, after)
            if until is not None:
                departed.append(subscriber)
            if after < first and until is None:
                subscriber.write(joined)
                self.last_deliveries += len(frames)
            else:
                end = last if until is None else until
                missing = frames[max(0, after + 1 - first) : end + 1 - first]
                subscriber.write(b"".join(missing))
                self.last_deliveries += len(missing)
        return departed


def _departure(departures: list[tuple[int | None, int]], user_id: int, after: int) -> int | None:
    """The seq with which the user left, if that was after `after`; the first one counts."""
    for who, seq in departures:
        if who == user_id and seq > after:
            return seq
    return None
