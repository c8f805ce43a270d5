"""What a subscriber that resumes is given of what it missed."""

from __future__ import annotations

from dataclasses import dataclass

from db.channels import LogBounds
from rules.log_entry import Entry
from wsgateway.framing import text_frame


@dataclass(frozen=True, slots=True)
class Subscription:
    """The answer to a subscribe: entries end with last_seq, live delivery begins after it."""

    first_seq: int
    last_seq: int
    recovered: bool
    entries: list[Entry]


class Recovery:
    """How much of what was missed is given, and whether that is all of it."""

    def __init__(self, bounds: LogBounds, after_seq: int | None, max_messages: int) -> None:
        self._bounds = bounds
        self._after_seq = after_seq
        oldest = max(bounds.first_seq - 1, bounds.last_seq - max_messages)
        if after_seq is None:
            self.start = bounds.last_seq
        elif after_seq > bounds.last_seq:  # a database that was restored to an earlier state
            self.start = oldest
        else:
            self.start = max(after_seq, oldest)

    def answer(self, entries: list[Entry], last_seq: int, max_bytes: int) -> Subscription:
        kept = _newest_within(entries, max_bytes)
        complete = self._after_seq is None or (
            self.start == self._after_seq and len(kept) == last_seq - self.start
        )
        return Subscription(self._bounds.first_seq, last_seq, complete, kept)


def _newest_within(entries: list[Entry], max_bytes: int) -> list[Entry]:
    size = 0
    for position in range(len(entries) - 1, -1, -1):
        size += len(text_frame(entries[position].as_object()))
        if size > max_bytes:
            return entries[position + 1 :]
    return entries
