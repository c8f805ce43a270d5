"""Sends that are not acknowledged yet, oldest first, without any network.

Each keeps its client_msg_id for as long as it takes, so sending it again after a reconnect is
harmless: the server knows it, and answers with the seq it has already.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from gatehouse_client import backoff
from gatehouse_client.errors import SendRefused

# Answers after which the very same message may be sent again. `unavailable` passes; an internal
# error that comes back every time does not.
_FOR_A_WHILE = "unavailable"
_PERHAPS = "internal_error"
MAX_INTERNAL_ERRORS = 5


@dataclass(slots=True, eq=False)
class Pending:
    """One message on its way; `is_written` is whether this connection has carried it, `is_suspect`
    whether one may have ended for it, `waiting` how many callers want to know."""

    channel_id: int
    client_msg_id: str
    content: str
    outcome: asyncio.Future[dict[str, Any]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    is_written: bool = False
    is_suspect: bool = False
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    refusals: int = 0
    waiting: int = 0

    @property
    def frame(self) -> str:
        return json.dumps(
            {
                "type": "send",
                "channel_id": self.channel_id,
                "client_msg_id": self.client_msg_id,
                "content": self.content,
            }
        )


class Outbox:
    def __init__(self) -> None:
        self._pending: dict[str, Pending] = {}

    def __bool__(self) -> bool:
        return bool(self._pending)

    def add(self, channel_id: int, content: str, client_msg_id: str) -> Pending:
        """The same message twice is one; the same id with another content is refused."""
        pending = self._pending.get(client_msg_id)
        if pending is None:
            pending = self._pending[client_msg_id] = Pending(channel_id, client_msg_id, content)
        elif (pending.channel_id, pending.content) != (channel_id, content):
            raise SendRefused("conflict", "This client_msg_id is in use for another message.")
        return pending

    def reconnected(self) -> list[Pending]:
        """What a new connection must send, in the order in which it was given to us."""
        for pending in self._pending.values():
            pending.is_written = False
        return list(self._pending.values())

    def acknowledged(self, frame: dict[str, Any]) -> None:
        pending = self._pending.get(frame["client_msg_id"])
        if pending is not None:
            if not pending.outcome.done():
                pending.outcome.set_result(frame)
            self.forget(pending)

    def refused(self, frame: dict[str, Any]) -> tuple[Pending, float] | None:
        """What is to be sent again after so many seconds; None when the refusal is final."""
        pending = self._pending.get(frame["client_msg_id"])
        if pending is None:
            return None
        pending.is_written = False
        pending.answered.set()
        pending.refusals += 1
        code, seconds = str(frame["code"]), frame.get("retry_after_seconds")
        again = code == _PERHAPS and pending.refusals < MAX_INTERNAL_ERRORS
        if again or code == _FOR_A_WHILE:
            return pending, float(seconds or 0) + backoff.delay(pending.refusals)
        self._fail(pending, SendRefused(code, str(frame["message"]), seconds))
        return None

    def blame_written(self, code: str, message: str) -> None:
        """The connection ended for something that it carried, and must not carry again.

        Of several the others may be stored, with the ack lost: refused, the app would say them all
        again. So they are sent once more under their ids, each alone, until one is found out.
        """
        written = [pending for pending in self._pending.values() if pending.is_written]
        for pending in written:
            pending.is_suspect = True
            if len(written) == 1:
                self._fail(pending, SendRefused(code, message))

    def fail_all(self, error: Exception) -> None:
        for pending in list(self._pending.values()):
            self._fail(pending, error)

    def forget(self, pending: Pending) -> None:
        """Nobody waits for it any more: it is not sent again."""
        if self._pending.get(pending.client_msg_id) is pending:
            del self._pending[pending.client_msg_id]
        pending.answered.set()
        pending.outcome.cancel()  # nothing happens where there is an outcome

    def _fail(self, pending: Pending, error: Exception) -> None:
        if not pending.outcome.done():
            pending.outcome.set_exception(error)
            pending.outcome.exception()  # whoever waits is told; nobody has to
        self.forget(pending)
