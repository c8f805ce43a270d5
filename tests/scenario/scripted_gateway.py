"""A gateway that does to its clients what a real one does only in a crisis, with every close code.

`/ws/CODE` closes every socket with CODE, right after `connected` and a first subscribe.
"""

from __future__ import annotations

from collections import Counter

from websockets.sync.server import ServerConnection

from tests.scenario.stand_in_gateway import StandInGateway, welcome


class ScriptedGateway(StandInGateway):
    """`visits` counts the sockets by code."""

    def __init__(self) -> None:
        super().__init__()
        self.visits: Counter[int] = Counter()

    def url_of(self, code: int) -> str:
        return f"{self.url}/{code}"

    def _converse(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        code = int(connection.request.path.rpartition("/")[2])
        self.visits[code] += 1
        welcome(connection)
        connection.recv(timeout=5)
        connection.close(code, "on purpose")
