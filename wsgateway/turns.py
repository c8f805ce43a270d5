"""What single sockets ask of the database: a few at a time, however many sockets there are.

The pool lends its connections first come, first served, and refuses whoever comes when too many
wait. The parts of the gateway are few and take one connection each; sockets are thousands, and
after a restart all of them subscribe at once. So they wait here for their turn, and the writer and
the watch over revocations find a connection whatever the sockets want.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

# Ten thousand sockets are through before that; only a database that stands still takes longer.
TURN_WITHIN_SECONDS = 10.0


class Turns:
    """`at_once` turns are had at the same time, the others in the order in which they came."""

    def __init__(self, at_once: int) -> None:
        self._free = asyncio.Semaphore(at_once)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Whoever has it takes one connection at a time. TimeoutError when it does not come."""
        async with asyncio.timeout(TURN_WITHIN_SECONDS):
            await self._free.acquire()
        try:
            yield
        finally:
            self._free.release()
