"""A gateway whose `subscribed` answers hold no entries: what was missed is paged in over HTTP."""

from __future__ import annotations

from websockets.sync.server import ServerConnection

from tests.scenario.stand_in_gateway import StandInGateway, frames, transmit, welcome

LAST_SEQ = 4


class ForgetfulGateway(StandInGateway):
    def _converse(self, connection: ServerConnection) -> None:
        welcome(connection)
        for frame in frames(connection):
            if frame["type"] == "subscribe":
                bounds = {"first_seq": 1, "last_seq": LAST_SEQ, "recovered": False, "entries": []}
                answer = {"channel_id": frame["channel_id"], "ref": frame["ref"], **bounds}
                transmit(connection, {"type": "subscribed", **answer})
