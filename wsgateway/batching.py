"""Shares the cost of a transaction without adding a delay.

Items wait in one queue; whatever has gathered while the last batch ran goes into the next one. When
there is no load a batch is one item, at once; under load the batches grow and a commit is shared.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Batcher(Generic[T]):
    """Runs `work` on batches in order, one at a time. `work` must not raise."""

    def __init__(
        self, work: Callable[[list[T]], Awaitable[None]], *, max_batch: int, max_waiting: int
    ) -> None:
        self._work = work
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._waiting: deque[T] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def submit(self, item: T) -> bool:
        """False when the queue is full: the caller says so to its client, nothing is kept."""
        if len(self._waiting) >= self._max_waiting:
            return False
        self._waiting.append(item)
        self._idle.clear()
        self._arrived.set()
        return True

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            while self._waiting:
                size = min(self._max_batch, len(self._waiting))
                await self._work([self._waiting.popleft() for _ in range(size)])
            self._arrived.clear()
            self._idle.set()

    async def flushed(self) -> None:
        """Returns when everything that was submitted has been worked on."""
        await self._idle.wait()


async def outcome_within(outcome: asyncio.Future[T], seconds: float) -> T:
    """What becomes of an item. After TimeoutError the future is cancelled, so that the one who
    works on the item sees that nobody waits for it any more.

    The time may be up in the very turn in which the outcome was set: then it counts, for who has
    set it takes it for delivered.
    """
    try:
        async with asyncio.timeout(seconds):
            return await outcome
    except TimeoutError:
        if outcome.cancelled():
            raise
        return outcome.result()
