"""The background parts of a gateway end when they are told to, whatever they are waiting for."""

from __future__ import annotations

import asyncio
import contextlib

from db.connections import AsyncPool, open_async_pool, probe_async
from tests.db.test_connections import password_of, settings_of
from tests.support.databases import Database
from wsgateway import background


def test_a_part_that_forgets_a_cancellation_is_cancelled_again() -> None:
    async def forget_once() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    async def scenario() -> None:
        part = asyncio.create_task(background.forever(forget_once()))
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await background.end([part])
        assert part.done()

    asyncio.run(scenario())


def test_a_part_that_gets_its_connection_while_it_is_cancelled_ends_nevertheless(
    database: Database,
) -> None:
    """So it may be at any stop: the goodbye gives its connection to whoever waits for one."""
    environment = database.environment("gateway")

    async def ask_again_and_again(pool: AsyncPool) -> None:
        while True:
            async with pool.connection() as connection:
                await probe_async(connection)
            await asyncio.sleep(0.01)

    async def scenario() -> None:
        pool = await open_async_pool(
            settings_of(environment), [password_of(environment)], "test-background", 1
        )
        async with pool:
            for _ in range(5):
                async with pool.connection():
                    part = asyncio.create_task(background.forever(ask_again_and_again(pool)))
                    await asyncio.sleep(0.01)
                async with asyncio.timeout(10):
                    await background.end([part])
                assert part.done()

    asyncio.run(scenario())
