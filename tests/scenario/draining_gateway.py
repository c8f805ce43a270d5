"""A gateway in the middle of a drain, which breaks the connection on the client's acknowledgement.

Drain 5 is begun on the first socket, which ends with 1012 instead of an answer to `drain_ack`. The
second one says in `connected` that it goes on, answers the ack that must come again, and an ack of
any other drain with an error; then, at the word `go`, it ends with 4510. A third must not come.
"""

from __future__ import annotations

import json
import threading
from types import TracebackType
from typing import Any

from websockets.sync.server import ServerConnection

from tests.scenario.stand_in_gateway import StandInGateway, transmit, welcome

EVENT_ID = 5
DRAIN = {
    "event_id": EVENT_ID,
    "reason": "release 2.0",
    "deadline": "2026-11-24T08:22:30.123456Z",
    "seconds_remaining": 60,
}


class DrainingGateway(StandInGateway):
    """`acks` are the event ids that were acknowledged, by socket."""

    def __init__(self) -> None:
        super().__init__()
        self.acks: list[list[int]] = []
        self.go = threading.Event()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.go.set()
        super().__exit__(kind, error, traceback)

    def _converse(self, connection: ServerConnection) -> None:
        self.acks.append([])
        is_first = len(self.acks) == 1
        welcome(connection, None if is_first else DRAIN)
        if is_first:
            transmit(connection, {"type": "drain_started", **DRAIN})
        while not self.go.is_set():
            try:
                frame = json.loads(connection.recv(timeout=0.05))
            except TimeoutError:
                continue
            if frame["type"] != "drain_ack":
                continue
            self.acks[-1].append(frame["event_id"])
            if is_first:
                connection.close(1012, "service_restart")
                return
            transmit(connection, _answer(frame))
        connection.close(4510, "drained")


def _answer(ack: dict[str, Any]) -> dict[str, Any]:
    if ack["event_id"] == EVENT_ID:
        return {"type": "drain_acked", "event_id": EVENT_ID, "ref": ack["ref"]}
    return {"type": "error", "code": "not_found", "message": "No such drain.", "ref": ack["ref"]}
