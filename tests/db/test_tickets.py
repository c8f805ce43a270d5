"""Tickets: each is spent at most once, whoever presents it, wherever, in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import psycopg
import pytest

from db.presence import report_presence
from db.sessions import ClientInfo, SessionTerms, open_session
from db.tickets import (
    Admission,
    Outdated,
    PresentedTicket,
    find_known_tickets,
    issue_ticket,
    redeem_tickets,
)
from db.users import insert_user
from rules.opaque_tokens import new_token
from tests.support.databases import Database
from tests.support.rows_read import ROWS_READ, fill_house

NOBODY = ClientInfo(ip=None, user_agent=None, version=None, content_version=None)


@pytest.fixture
def tickets(database: Database) -> list[str]:
    """Twenty good tickets of one session."""
    with database.connect("api") as api:
        user = insert_user(api, email="ann@example.org", password_hash="x", display_name="Ann")
        assert user is not None
        terms = SessionTerms(ttl_days=30, idle_days=14, max_per_account=20)
        session = open_session(api, user.id, checked_hash="x", client=NOBODY, terms=terms)
        assert session is not None
        return [
            issue_ticket(
                api,
                session_id=session.id,
                ttl_seconds=30,
                request_id=f"request-{number}",
                client_version="1.0",
                client_content_version=None,
            )[0]
            for number in range(20)
        ]


class Gateways:
    """Connections as the gateway's role, each an instance of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def connect(self, name: str) -> psycopg.AsyncConnection:
        connection = await psycopg.AsyncConnection.connect(
            self._database.conninfo("gateway"), autocommit=True
        )
        await report_presence(connection, name, {}, 0)
        return connection

    async def redeem(
        self, connection: psycopg.AsyncConnection, tickets: Sequence[str], name: str = "one"
    ) -> Sequence[Admission | Outdated | None]:
        presented = [PresentedTicket(ticket, None) for ticket in tickets]
        return await redeem_tickets(connection, presented, instance_id=name, max_per_account=1000)


@pytest.fixture
def gateways(database: Database) -> Gateways:
    return Gateways(database)


def redeemed(gateways: Gateways, tickets: Sequence[str]) -> list[bool]:
    async def scenario() -> list[bool]:
        async with await gateways.connect("one") as connection:
            return [one is not None for one in await gateways.redeem(connection, tickets)]

    return asyncio.run(scenario())


class TestOneTicket:
    def test_it_opens_one_connection_and_names_its_session(
        self, gateways: Gateways, tickets: list[str]
    ) -> None:
        async def scenario() -> None:
            async with await gateways.connect("one") as connection:
                [admission] = await gateways.redeem(connection, tickets[:1])
                assert isinstance(admission, Admission)
                assert (admission.display_name, admission.request_id) == ("Ann", "request-0")
                assert admission.client_version == "1.0"
                assert await gateways.redeem(connection, tickets[:1]) == [None]

        asyncio.run(scenario())

    def test_twice_in_one_batch_the_first_place_gets_it(
        self, gateways: Gateways, tickets: list[str]
    ) -> None:
        batch = [tickets[0], tickets[1], tickets[0], tickets[0]]
        assert redeemed(gateways, batch) == [True, True, False, False]

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE ws_tickets SET expires_at = now()",
            "UPDATE ws_tickets SET consumed_at = now()",
            "UPDATE user_sessions SET revoked_at = now()",
            "UPDATE users SET disabled_at = now()",
            "DELETE FROM user_sessions",
        ],
    )
    def test_each_of_these_makes_it_worthless(
        self, gateways: Gateways, tickets: list[str], database: Database, change: str
    ) -> None:
        with database.connect() as owner:
            owner.execute(change)
        assert redeemed(gateways, tickets[:1]) == [False]

    def test_a_made_up_one_is_told_from_one_that_was_issued(
        self, gateways: Gateways, tickets: list[str]
    ) -> None:
        async def scenario() -> None:
            async with await gateways.connect("one") as connection:
                known = await find_known_tickets(connection, [tickets[0], new_token()])
                assert known == {tickets[0]}

        asyncio.run(scenario())


class TestRaces:
    def test_of_twenty_gateways_with_the_same_twenty_tickets_each_is_let_in_once(
        self, gateways: Gateways, tickets: list[str]
    ) -> None:
        async def scenario() -> None:
            names = [f"gateway {number}" for number in range(20)]
            connections = [await gateways.connect(name) for name in names]
            # Every other one presents them backwards: the way to a deadlock.
            answers = await asyncio.gather(
                *(
                    gateways.redeem(connection, tickets[:: (-1) ** number], names[number])
                    for number, connection in enumerate(connections)
                )
            )
            for connection in connections:
                await connection.close()
            let_in = [one.request_id for answer in answers for one in answer if one is not None]
            assert sorted(let_in) == sorted(f"request-{number}" for number in range(20))

        asyncio.run(scenario())

    def test_two_instances_count_an_accounts_sockets_one_after_the_other(
        self, gateways: Gateways, tickets: list[str], database: Database
    ) -> None:
        """Else neither would see the other's socket, and the account would have two."""

        async def scenario() -> None:
            one, other = await gateways.connect("one"), await gateways.connect("other")

            async def redeem(connection: psycopg.AsyncConnection, name: str, ticket: str) -> None:
                [admission] = await redeem_tickets(
                    connection,
                    [PresentedTicket(ticket, None)],
                    instance_id=name,
                    max_per_account=1,
                )
                assert admission is not None

            async with one, other:
                async with one.transaction():
                    await redeem(one, "one", tickets[0])
                    later = asyncio.create_task(redeem(other, "other", tickets[1]))
                    while not (later.done() or waiting(database)):
                        await asyncio.sleep(0)
                await later

        asyncio.run(scenario())
        with database.connect() as owner:
            left = owner.execute("SELECT instance_id FROM gateway_connections").fetchall()
        assert left == [("other",)]


def waiting(database: Database) -> bool:
    """Whether anybody waits for a lock in this database."""
    with database.connect() as owner:
        row = owner.execute(
            "SELECT EXISTS (SELECT FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock')"
        ).fetchone()
    return row is not None and bool(row[0])


class TestPlan:
    def test_a_plan_made_in_an_empty_house_still_reads_little_in_a_full_one(
        self, database: Database, gateways: Gateways, tickets: list[str]
    ) -> None:
        """Statistics come later, if at all: a connection keeps the plan of its first batch."""

        async def rows_read(connection: psycopg.AsyncConnection) -> int:
            row = await (await connection.execute(ROWS_READ)).fetchone()
            assert row is not None
            return int(row[0])

        async def scenario() -> None:
            async with await gateways.connect("one") as connection:
                await gateways.redeem(connection, tickets[:1])
                fill_house(owner)
                owner.execute(
                    "INSERT INTO ws_tickets (ticket_hash, session_id, expires_at, request_id)"
                    " SELECT sha256(id::text::bytea), id, now() + interval '1 hour', 'r'"
                    " FROM user_sessions"
                )
                async with connection.transaction():
                    before = await rows_read(connection)
                    assert None not in await gateways.redeem(connection, tickets[1:11])
                    assert await rows_read(connection) - before < 300

        with database.connect() as owner:
            asyncio.run(scenario())
