"""Events between the socket and whoever iterates.

When the reader of the events falls behind, the socket is not read further, and no other is opened:
the server's own limit for slow consumers then applies, and the connection resumes where the reader
is. But answers that somebody waits for come through the same socket, so while there are such the
inbox takes more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

Event = dict[str, Any]


class Inbox:
    """`is_awaited` says whether somebody waits for an answer; call `nudge` when that changes."""

    def __init__(self, size: int, is_awaited: Callable[[], bool]) -> None:
        self._size = size
        self._is_awaited = is_awaited
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._end: Exception | None = None

    def put(self, event: Event) -> None:
        self._events.append(event)
        self._arrived.set()

    def end(self, how: Exception) -> None:
        """What `get` raises, now and ever, after the events that are still here."""
        self._end = how
        self._arrived.set()

    def nudge(self) -> None:
        self._room.set()

    async def get(self) -> Event:
        while not self._events:
            if self._end is not None:
                raise self._end
            self._arrived.clear()
            await self._arrived.wait()
        event = self._events.popleft()
        self.nudge()
        return event

    async def wait_for_room(self) -> None:
        while len(self._events) >= self._size and not self._is_awaited():
            self._room.clear()
            await self._room.wait()
