"""How far a channel has been read: what makes resuming exact, without any I/O."""

from __future__ import annotations

from typing import Any


class GapError(Exception):
    """The server skipped an entry, which it promises never to do; reconnect and resume."""


class ChannelProgress:
    """`last_seq` is the last entry that was handed on; None until the first `subscribed`."""

    def __init__(self, after_seq: int | None) -> None:
        self.last_seq = after_seq

    def take(self, entry: dict[str, Any]) -> bool:
        """Whether the entry is the next one; False for one that was handed on before."""
        seq = int(entry["seq"])
        if self.last_seq is not None:
            if seq <= self.last_seq:
                return False
            if seq > self.last_seq + 1:
                raise GapError(f"entry {seq} came after {self.last_seq}")
        self.last_seq = seq
        return True

    def missing_before(self, entries: list[dict[str, Any]], first_seq: int) -> range:
        """The seqs that must be paged in before the entries of a `subscribed` answer.

        Those below `first_seq` are gone for good. When our last seq lies beyond the log (a restored
        database) everything that is kept is new to us.
        """
        start = first_seq if self.last_seq is None else max(self.last_seq + 1, first_seq)
        end = int(entries[0]["seq"]) if entries else start
        return range(min(start, end), end)

    def skip_to(self, seq: int) -> None:
        """Entries up to and including `seq` cannot be had any more."""
        self.last_seq = seq
