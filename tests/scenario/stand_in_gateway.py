"""What the stand-ins for a gateway have in common: a socket server that begins with `connected`."""

from __future__ import annotations

import contextlib
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

_CONNECTED = {"type": "connected", "user_id": 1, "session_id": 1, "ping_seconds": 25}


class StandInGateway(ABC):
    """Each socket has a thread of its own, and ends with it."""

    def __init__(self) -> None:
        self._server = serve(
            self._handle, "127.0.0.1", 0, subprotocols=[Subprotocol("gatehouse.v1")]
        )
        port = self._server.socket.getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}/ws"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
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

    @abstractmethod
    def _converse(self, connection: ServerConnection) -> None:
        """One socket; whatever is still open when it returns is closed."""

    def _handle(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed, TimeoutError):  # the client was quicker
            self._converse(connection)


def welcome(connection: ServerConnection, drain: dict[str, Any] | None = None) -> None:
    transmit(connection, {**_CONNECTED, "drain": drain})


def transmit(connection: ServerConnection, frame: dict[str, Any]) -> None:
    connection.send(json.dumps(frame))


def frames(connection: ServerConnection) -> Iterator[dict[str, Any]]:
    for message in connection:
        yield json.loads(message)
