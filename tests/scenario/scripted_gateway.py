"""A gateway that does to its clients what a real one does only in a crisis, with every close code.

`/ws/CODE` closes every socket with CODE, right after `connected` and a first subscribe.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from types import TracebackType

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol


class ScriptedGateway:
    """`visits` counts the sockets by code."""

    def __init__(self) -> None:
        self.visits: Counter[int] = Counter()
        self._server = serve(
            self._handle, "127.0.0.1", 0, subprotocols=[Subprotocol("gatehouse.v1")]
        )
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> ScriptedGateway:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join(5)

    def url(self, code: int) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/{code}"

    def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        code = int(connection.request.path.rpartition("/")[2])
        self.visits[code] += 1
        connected = {"type": "connected", "user_id": 1, "session_id": 1, "ping_seconds": 25}
        try:
            connection.send(json.dumps(connected))
            connection.recv(timeout=5)
            connection.close(code, "on purpose")
        except (ConnectionClosed, TimeoutError):
            pass  # the client was quicker
