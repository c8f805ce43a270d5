"""One client with its socket: it comes back after every end but those that say it must not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

GLOBAL = 1
WRITE_EVERY_SECONDS = 0.25
COME_BACK_WITHIN_SECONDS = 0.4


@dataclass(slots=True)
class Guest:
    """`ticket` gives a new one for each socket. Times are seconds since 1970.

    `deaf` stops reading once it is told of the drain, and answers no closing handshake.
    """

    session_id: int
    ports: list[int]
    ticket: Callable[[], str]
    acks: bool = False
    writes: bool = False
    deaf: bool = False
    told: set[str] = field(default_factory=set)
    acked: bool = False
    newest_entry: str = ""  # created_at of the newest entry that it was given
    entries: int = 0
    is_open: bool = False
    final_code: int | None = None
    ended_at: float | None = None
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.session_id)

    async def run(self, leave: asyncio.Event) -> None:
        while not leave.is_set() and self.final_code is None:
            port = self.rng.choice(self.ports)
            with contextlib.suppress(OSError, TimeoutError, InvalidHandshake):
                await self._visit(port, leave)
            if self.final_code is None:
                await asyncio.sleep(self.rng.uniform(0, COME_BACK_WITHIN_SECONDS))

    async def _visit(self, port: int, leave: asyncio.Event) -> None:
        socket = await connect(
            f"ws://127.0.0.1:{port}/ws",
            subprotocols=[Subprotocol("gatehouse.v1"), Subprotocol(f"ticket.{self.ticket()}")],
            compression=None,
            ping_interval=None,
            close_timeout=1,
            open_timeout=20,
        )
        self.is_open = True
        aside = [asyncio.create_task(self._leave(socket, leave))]
        if self.writes:
            aside.append(asyncio.create_task(self._write(socket)))
        try:
            async for message in socket:
                await self._hear(socket, json.loads(message))
            await socket.wait_closed()
        except ConnectionClosed:
            pass
        finally:
            self.is_open = False
            self.ended_at = time.time()
            for task in aside:
                task.cancel()
            await asyncio.gather(*aside, return_exceptions=True)
        code = socket.close_code
        if code is not None and (4500 <= code <= 4999 or code == 4401):
            self.final_code = code

    async def _leave(self, socket: ClientConnection, leave: asyncio.Event) -> None:
        await leave.wait()
        await socket.close()

    async def _hear(self, socket: ClientConnection, frame: dict[str, Any]) -> None:
        kind = str(frame["type"])
        if kind == "connected":
            await _say(socket, type="subscribe", channel_id=GLOBAL)
            drain = frame["drain"]
        else:
            drain = frame if kind == "drain_started" else None
        if drain is not None:
            self.told.add("drain")
            if self.acks and not self.acked:
                await _say(socket, type="drain_ack", event_id=drain["event_id"])
            if self.deaf:
                socket.transport.pause_reading()
        elif kind == "message":
            self.entries += 1
            self.newest_entry = max(self.newest_entry, frame["created_at"])
        elif kind == "drain_acked":
            self.acked = True
        elif kind != "ack":
            self.told.add(kind)

    async def _write(self, socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(self.rng.uniform(0, 2 * WRITE_EVERY_SECONDS))
                identifier = str(uuid.uuid4())
                members = {"channel_id": GLOBAL, "client_msg_id": identifier, "content": "x"}
                await _say(socket, type="send", **members)


async def _say(socket: ClientConnection, **frame: Any) -> None:
    await socket.send(json.dumps(frame))
