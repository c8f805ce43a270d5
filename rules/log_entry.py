"""One entry of a channel's log, and how clients see it: over HTTP and in the socket's frames."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from rules.times import rfc3339


@dataclass(frozen=True, slots=True)
class Entry:
    """`kind` is message, deleted, joined or left; an erased message has no content any more."""

    channel_id: int
    seq: int
    kind: str
    sender_id: int | None  # none where an operator deleted
    sender_name: str | None
    content: str | None
    client_msg_id: UUID | None
    target_seq: int | None
    created_at: datetime

    def as_object(self) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "type": self.kind,
            "channel_id": self.channel_id,
            "seq": self.seq,
            "created_at": rfc3339(self.created_at),
        }
        if self.kind == "message":
            shown["sender_id"] = self.sender_id
            shown["sender_name"] = self.sender_name
            shown["content"] = self.content
            shown["client_msg_id"] = str(self.client_msg_id)
        elif self.kind == "deleted":
            shown["target_seq"] = self.target_seq
            shown["by_user_id"] = self.sender_id
        else:
            shown["user_id"] = self.sender_id
        return shown
