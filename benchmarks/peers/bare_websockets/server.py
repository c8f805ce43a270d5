"""The websockets library alone: accepts everybody, says `connected`, asks for no ticket."""

from __future__ import annotations

import asyncio
import contextlib
import os

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


async def greet(socket: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        await socket.send('{"type": "connected", "user_id": 1, "session_id": 1}')
        await socket.wait_closed()


async def main() -> None:
    port = int(os.environ["PORT"])
    async with serve(greet, "127.0.0.1", port, compression=None, server_header=None):
        await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(main())
