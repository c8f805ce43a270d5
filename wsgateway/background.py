"""The parts of a gateway that work beside its sockets: started together, ended together."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any

CANCEL_AGAIN_SECONDS = 0.2


async def forever(work: Coroutine[Any, Any, None]) -> None:
    """A background part that ends by itself is a defect: it must end the process, not silently."""
    try:
        await work
    except asyncio.CancelledError:
        return
    raise RuntimeError("a background part of the gateway has ended")


async def end(parts: Collection[asyncio.Task[None]]) -> None:
    """Cancels until all have ended.

    Once is not enough: before Python 3.12 `asyncio.wait_for`, with which the pool waits for a
    connection, forgets a cancellation that comes together with the connection.
    """
    remaining = set(parts)
    while remaining:
        for part in remaining:
            part.cancel()
        _, remaining = await asyncio.wait(remaining, timeout=CANCEL_AGAIN_SECONDS)
