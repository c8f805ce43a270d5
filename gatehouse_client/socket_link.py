"""One socket from its ticket to its end: frames as dictionaries, the end as an exception."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

OPEN_SECONDS = 15.0
CLOSE_SECONDS = 2.0
# A dead peer is noticed after two of these; the server pings on its own account.
PING_SECONDS = 20.0
# A `subscribed` answer holds as much as the server likes to give back at once.
MAX_FRAME_BYTES = 32 * 1024 * 1024

# In its debug messages the websockets library prints headers, and with them the ticket.
_logger = logging.getLogger("gatehouse_client.websockets")
_logger.setLevel(logging.INFO)


class LinkClosed(Exception):
    """The socket has ended. `code` is None where it broke, or was never open."""

    def __init__(self, code: int | None, reason: str, retry_after_seconds: float = 0.0) -> None:
        self.code = code
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"{reason} ({code})" if code else reason)


class LinkRefused(Exception):
    """The handshake was refused for a reason that time does not mend: a wrong address, mostly."""


class Link:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, websocket_url: str, subprotocols: Sequence[str]) -> Link:
        """Raises LinkClosed when it is worth coming back, else LinkRefused."""
        try:
            return cls(
                await connect(
                    websocket_url,
                    subprotocols=[Subprotocol(name) for name in subprotocols],
                    compression=None,
                    proxy=None,  # like the HTTP calls: straight to the server
                    open_timeout=OPEN_SECONDS,
                    close_timeout=CLOSE_SECONDS,
                    ping_interval=PING_SECONDS,
                    ping_timeout=PING_SECONDS,
                    max_size=MAX_FRAME_BYTES,
                    logger=_logger,
                )
            )
        except InvalidURI as error:
            raise LinkRefused(f"not a websocket address: {websocket_url!r}") from error
        except InvalidStatus as error:
            response = error.response
            status, retry_after = response.status_code, response.headers.get("Retry-After", "")
            if status < 500 and status != 429:
                raise LinkRefused(f"the gateway refused the handshake: HTTP {status}") from error
            seconds = float(retry_after) if retry_after.isdecimal() else 0.0
            raise LinkClosed(None, f"handshake refused: HTTP {status}", seconds) from error
        except (OSError, EOFError, InvalidHandshake) as error:
            raise LinkClosed(None, _in_words(error)) from error

    async def receive(self) -> dict[str, Any]:
        """The next frame; raises LinkClosed."""
        try:
            message = await self._connection.recv()
        except ConnectionClosed as error:
            raise _closed(error) from error
        try:
            frame = json.loads(message)
        except ValueError:
            frame = None
        if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
            raise LinkClosed(None, "the server sent something that is no frame")
        return frame

    async def send(self, frame: Mapping[str, Any] | str) -> None:
        """A frame, or its JSON; raises LinkClosed."""
        text = frame if isinstance(frame, str) else json.dumps(frame)
        try:
            await self._connection.send(text)
        except ConnectionClosed as error:
            raise _closed(error) from error

    async def close(self) -> None:
        await self._connection.close()


def _closed(error: ConnectionClosed) -> LinkClosed:
    if error.rcvd is None:
        return LinkClosed(None, "the connection broke")
    return LinkClosed(error.rcvd.code, error.rcvd.reason or "no reason was given")


def _in_words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the gateway did not answer in time"
    return f"the gateway cannot be reached ({type(error).__name__})"
