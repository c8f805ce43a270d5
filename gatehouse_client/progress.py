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

    def missing_before(self, answer: dict[str, Any]) -> range:
        """The seqs to page in over HTTP before the entries of a `subscribed` answer count.

        Empty when the answer has everything, and when there was no place to resume from.
        """
        if self.last_seq is None or answer["recovered"]:
            return range(0)
        entries = answer["entries"]
        end = int(entries[0]["seq"]) if entries else int(answer["last_seq"]) + 1
        start = max(self.last_seq + 1, int(answer["first_seq"]))
        return range(start, max(start, end))

    def is_beyond(self, answer: dict[str, Any]) -> bool:
        """The log ends before our place: the server's database was set back."""
        return self.last_seq is not None and self.last_seq > int(answer["last_seq"])

    def skip_to(self, seq: int) -> range:
        """Entries up to and including `seq` cannot be had any more; returns which were not read."""
        missed = range(seq + 1 if self.last_seq is None else self.last_seq + 1, seq + 1)
        self.last_seq = seq
        return missed
