"""A gateway that stores what it is sent, and takes no message that is too long.

On the first socket it answers nothing, and ends it with 1009 once `patience` messages have come:
what it has stored is not acknowledged. On all others every message is answered at once: with an
ack, or with 1009.
"""

from __future__ import annotations

from collections import Counter

from websockets.sync.server import ServerConnection

from tests.scenario.stand_in_gateway import StandInGateway, frames, transmit, welcome

TOO_LONG = 1000


class ChoosyGateway(StandInGateway):
    """`stored` has a message's content by its id, `sent` how often each content came."""

    def __init__(self, patience: int) -> None:
        super().__init__()
        self.sent: Counter[str] = Counter()
        self.stored: dict[str, str] = {}
        self._patience = patience

    def _converse(self, connection: ServerConnection) -> None:
        welcome(connection)
        for frame in frames(connection):
            if frame["type"] != "send":
                continue
            id_, content = frame["client_msg_id"], frame["content"]
            is_first_socket = self.sent.total() < self._patience
            self.sent[content] += 1
            is_known, is_too_long = id_ in self.stored, len(content) >= TOO_LONG
            if not is_too_long:
                self.stored[id_] = content
            if is_first_socket and self.sent.total() < self._patience:
                continue
            if is_first_socket or is_too_long:
                connection.close(1009, "too_big")
                return
            ack = {"client_msg_id": id_, "seq": list(self.stored).index(id_) + 1}
            transmit(connection, {"type": "ack", "duplicate": is_known, **ack})
