"""A crowd of sockets that all want the database at once keeps nobody else from it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from db.connections import open_async_pool, probe_async
from tests.db.test_connections import password_of, settings_of
from tests.gateway.conftest import StartGateway
from tests.gateway.test_drain import start as start_drain
from tests.support.databases import Database
from tests.support.processes import wait_until
from tests.support.services import People
from tests.support.sockets import Sockets
from wsgateway.__main__ import SOCKETS_AT_ONCE
from wsgateway.connections import Connections
from wsgateway.drain_watch import DrainWatch
from wsgateway.session_watch import SessionWatch
from wsgateway.turns import Turns

CROWD = 32


def test_a_revocation_does_not_wait_for_a_crowd_that_subscribes(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    # Long enough for whoever stands in the pool's line to get a connection in the end.
    gateway, port = start_gateway(database, DB_POOL_TIMEOUT_MS="30000")
    ada, bob = people.person("Ada"), people.person("Bob")
    channel = people.channel(ada)
    crowd = [sockets.admitted(port, people.ticket(ada)) for _ in range(CROWD)]
    bobs = sockets.admitted(port, people.ticket(bob))
    with database.connect() as other, other.transaction():
        other.execute("LOCK TABLE chat_messages IN ACCESS EXCLUSIVE MODE")
        for each in crowd:
            each.send("subscribe", channel_id=channel)
        wait_until(lambda: people.waiting() >= SOCKETS_AT_ONCE, "some of the crowd have their turn")
        people.owner.execute(
            "UPDATE user_sessions SET revoked_at = now() WHERE id = %s", (bob.session_id,)
        )
        assert bobs.closed() == (4501, "session_revoked")
        # Each turn ends with the lock's timeout, and most are still to come.
        assert gateway.output.count("a socket ends: LockNotAvailable") < CROWD / 2


@pytest.mark.parametrize(
    "ask",
    [
        lambda watch, drains: watch.check(1),
        lambda watch, drains: drains.drain_of(1),
        lambda watch, drains: drains.look_at(1),
    ],
    ids=["whether it lives", "which drain holds it", "what has become of the drain"],
)
def test_what_is_asked_for_each_admission_leaves_a_connection_for_others(
    database: Database,
    people: People,
    ask: Callable[[SessionWatch, DrainWatch], Awaitable[object]],
) -> None:
    environment = database.environment("gateway")
    start_drain(database, grace=600)

    async def scenario() -> None:
        pool = await open_async_pool(
            settings_of(environment), [password_of(environment)], "test-turns", 3
        )
        turns = Turns(2)
        drains = DrainWatch(pool, turns, Connections(), "of-a-test", [])
        watch = SessionWatch(
            pool,
            turns,
            Connections(),
            idle_days=14,
            unverified_max_seconds=30,
            overdue=drains.overdue,
        )
        async with pool:
            await drains.read()
            with database.connect() as other, other.transaction():
                other.execute("LOCK TABLE user_sessions IN ACCESS EXCLUSIVE MODE")
                asking = [asyncio.ensure_future(ask(watch, drains)) for _ in range(12)]
                while people.waiting() < 2:
                    await asyncio.sleep(0.01)
                async with pool.connection() as connection:
                    await probe_async(connection)
                # Each ends with the lock's timeout, and most are still to come.
                assert sum(one.done() for one in asking) < len(asking) / 2
            await asyncio.gather(*asking, return_exceptions=True)

    asyncio.run(scenario())
