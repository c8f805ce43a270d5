"""Whether the database answers: one look for all who ask, and good for a moment.

Anybody may ask, as often as they like, and a look takes a connection that the gateway's own work
would have to wait for.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

from db.connections import UNAVAILABLE
from rules.errors import Refusal

GOOD_FOR_SECONDS = 1.0


class Readiness:
    """`look` raises what UNAVAILABLE names when the database does not answer."""

    def __init__(
        self, look: Callable[[], Awaitable[None]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look = look
        self._clock = clock
        self._looking = asyncio.Lock()
        self._looked_at = -math.inf
        self._cause: str | None = None

    async def require(self) -> None:
        """Raises Refusal unavailable when the last look found no database."""
        async with self._looking:
            if self._clock() - self._looked_at >= GOOD_FOR_SECONDS:
                self._cause = await self._cause_now()
                # From its end: who has waited for a look that took long does not want another.
                self._looked_at = self._clock()
        if self._cause is not None:
            raise Refusal("unavailable", retry_after_seconds=2, cause=self._cause)

    async def _cause_now(self) -> str | None:
        try:
            await self._look()
        except UNAVAILABLE as error:
            return type(error).__name__
        return None
