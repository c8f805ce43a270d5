"""Drains as a client sees them: each is told once, and acknowledged when the app has saved.

A drain outlives the connection: whoever comes back in the middle of one hears of it in `connected`,
and says again what was not answered. Nothing here knows a socket.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from gatehouse_client.errors import SendRefused

REF = "drain_ack "


class Drains:
    """`_told` is the drain that the app knows of; `_acks` wait for their answer, by event id."""

    def __init__(self) -> None:
        self._told: int | None = None
        self._acks: dict[int, asyncio.Future[None]] = {}

    def __bool__(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._acks)

    def connected(self, drain: dict[str, Any] | None) -> list[dict[str, Any]]:
        """The events that a new connection's `connected` frame amounts to."""
        known, self._told = self._told, None if drain is None else drain["event_id"]
        if known == self._told:
            return [] if drain is None else [{"type": "drain_warning", **drain}]
        events = [] if known is None else [{"type": "drain_cancelled", "event_id": known}]
        return events if drain is None else [*events, {"type": "drain_started", **drain}]

    def heard(self, frame: dict[str, Any]) -> None:
        """A drain_started, drain_warning or drain_cancelled on the way to the app."""
        self._told = None if frame["type"] == "drain_cancelled" else frame["event_id"]

    def acknowledge(self, event_id: int) -> asyncio.Future[None]:
        """Done with the server's answer; the frame of it is for the caller to send."""
        if event_id not in self._acks:
            self._acks[event_id] = asyncio.get_running_loop().create_future()
        return self._acks[event_id]

    def reconnected(self) -> list[str]:
        return [ack_frame(event_id) for event_id in self._acks]

    def acked(self, event_id: int) -> None:
        ack = self._acks.pop(event_id, None)
        if ack is not None and not ack.done():
            ack.set_result(None)

    def refused(self, frame: dict[str, Any]) -> None:
        """An error frame whose ref is one of ours."""
        ack = self._acks.pop(int(str(frame["ref"]).removeprefix(REF)), None)
        if ack is not None:
            _fail(ack, SendRefused(str(frame["code"]), str(frame["message"])))

    def fail_all(self, error: Exception) -> None:
        while self._acks:
            _fail(self._acks.popitem()[1], error)


def ack_frame(event_id: int) -> str:
    frame = {"type": "drain_ack", "event_id": event_id, "ref": f"{REF}{event_id}"}
    return json.dumps(frame)


def _fail(ack: asyncio.Future[None], error: Exception) -> None:
    if not ack.done():
        ack.set_exception(error)
        ack.exception()  # whoever waits is told; nobody has to
