"""Housekeeping: what is old goes, what is not stays, and nobody waits for it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from db.housekeeping import Busy, Chore, forget, forget_messages
from db.tickets import find_known_tickets
from tests.support.databases import Database
from tests.support.services import People, Person

DAY = 86_400


class House:
    def __init__(self, database: Database, people: People) -> None:
        self.database = database
        self.people = people

    def do(self, chore: Chore, age: int, limit: int = 100) -> int:
        """One step, as the gateway's role."""

        async def step() -> int:
            async with await self._connect() as connection:
                return await forget(connection, chore, age, limit)

        return asyncio.run(step())

    def forget_messages(
        self, age_days: int, after_channel_id: int = 0, limit: int = 100
    ) -> tuple[int, int] | None:
        async def step() -> tuple[int, int] | None:
            async with await self._connect() as connection:
                return await forget_messages(connection, age_days, after_channel_id, limit)

        return asyncio.run(step())

    def run(self, statement: str, *values: object) -> None:
        self.people.owner.execute(statement, values)

    def count(self, table: str) -> int:
        counted: int = self.people.one(f"SELECT count(*) FROM {table}")
        return counted

    def aged_messages(self, count: int, days: float, sender: Person, channel: int) -> None:
        """The channel's next messages, of so many days ago."""
        before = self.people.one("SELECT last_seq FROM chat_channels WHERE id = %s", channel)
        self.people.fill(sender, channel, count, "hello")
        self.run(
            "UPDATE chat_messages SET created_at = created_at - %s * interval '1 day'"
            " WHERE channel_id = %s AND seq > %s",
            days,
            channel,
            before,
        )

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(
            self.database.conninfo("gateway"), autocommit=True, options="-c lock_timeout=2000"
        )


@pytest.fixture
def house(database: Database) -> Iterator[House]:
    with People(database) as people:
        yield House(database, people)


def test_tickets_go_when_they_expired_long_ago_and_no_more_than_asked_for(house: House) -> None:
    ada = house.people.person()
    tickets = [house.people.ticket(ada) for _ in range(6)]
    house.run("UPDATE ws_tickets SET expires_at = clock_timestamp() - interval '59 minutes'")
    assert house.do(Chore.TICKETS, 3600) == 0
    house.run("UPDATE ws_tickets SET expires_at = clock_timestamp() - interval '61 minutes'")
    fresh = house.people.ticket(ada)
    assert [house.do(Chore.TICKETS, 3600, 4) for _ in range(3)] == [4, 2, 0]

    async def known() -> set[str]:
        async with await house._connect() as connection:
            return set(await find_known_tickets(connection, [*tickets, fresh]))

    assert asyncio.run(known()) == {fresh}


def test_an_age_below_nothing_takes_no_ticket_that_is_good(house: House) -> None:
    house.people.ticket(house.people.person())
    assert house.do(Chore.TICKETS, -3600) == 0


def spend_a_token(house: House, session_id: int) -> bytes:
    """A spent refresh token with its nonce, and the successor; returns the hash of the former."""
    spent, successor = uuid.uuid4().bytes, uuid.uuid4().bytes
    house.run(
        "INSERT INTO refresh_tokens (token_hash, session_id, spent_at, successor_nonce,"
        " successor_hash) VALUES (%s, %s, clock_timestamp(), 'nonce', %s)",
        spent,
        session_id,
        successor,
    )
    house.run(
        "INSERT INTO refresh_tokens (token_hash, session_id) VALUES (%s, %s)",
        successor,
        session_id,
    )
    return spent


def test_a_nonce_goes_after_the_grace_and_its_spent_token_stays(house: House) -> None:
    spent = spend_a_token(house, house.people.person().session_id)
    assert house.do(Chore.NONCES, 60) == 0
    house.run("UPDATE refresh_tokens SET spent_at = spent_at - interval '61 s'")
    assert house.do(Chore.NONCES, 60) == 1
    assert house.do(Chore.NONCES, 60) == 0
    row = house.people.owner.execute(
        "SELECT spent_at IS NOT NULL, successor_nonce FROM refresh_tokens WHERE token_hash = %s",
        (spent,),
    ).fetchone()
    assert row == (True, None)


def test_sessions_go_long_after_they_expired_and_what_hangs_on_them_goes_first(
    house: House,
) -> None:
    old, recent, living = (house.people.person() for _ in range(3))
    for person in (old, recent, living):
        spend_a_token(house, person.session_id)
    for person, days in ((old, 31), (recent, 29)):
        house.run(
            "UPDATE user_sessions SET expires_at = clock_timestamp() - %s * interval '1 day'"
            " WHERE id = %s",
            days,
            person.session_id,
        )
    assert house.do(Chore.SESSIONS, 30) == 0  # its tokens are still there
    assert [house.do(Chore.REFRESH_TOKENS, 30, 2) for _ in range(3)] == [2, 1, 0]
    house.people.ticket(old)
    assert house.do(Chore.SESSIONS, 30) == 0  # and its ticket
    house.run("DELETE FROM ws_tickets")
    assert house.do(Chore.SESSIONS, 30) == 1
    rows = house.people.owner.execute("SELECT id FROM user_sessions ORDER BY id").fetchall()
    assert [row[0] for row in rows] == [recent.session_id, living.session_id]
    assert house.count("refresh_tokens") == 6


def test_limit_rows_go_only_when_nothing_they_remember_counts_any_more(house: House) -> None:
    house.run(
        """
        INSERT INTO rate_limits
            (key, window_seconds, slice, reserved, failures, touched_at, locked_until)
        SELECT v.key, v.window_seconds, 0, array_fill(0, ARRAY[11]), array_fill(0, ARRAY[11]),
            clock_timestamp() - v.touched, clock_timestamp() - v.unlocked
        FROM (VALUES
            ('old', 60, interval '25 hours', NULL),
            ('long window', 172800, interval '25 hours', NULL),
            ('touched lately', 60, interval '23 hours', NULL),
            ('locked out', 60, interval '25 hours', interval '-1 hour'),
            ('locked out of late', 60, interval '25 hours', interval '23 hours'),
            ('locked out long ago', 60, interval '26 hours', interval '25 hours')
        ) AS v (key, window_seconds, touched, unlocked)
        """
    )
    assert house.do(Chore.LIMITS, 0) == 2  # a day is the least
    rows = house.people.owner.execute("SELECT key FROM rate_limits ORDER BY key").fetchall()
    assert [key for (key,) in rows] == [
        "locked out",
        "locked out of late",
        "long window",
        "touched lately",
    ]


def test_security_events_go_when_their_days_are_over(house: House) -> None:
    for days in (0, 1, 89, 91, 200):
        house.run(
            "INSERT INTO security_events (event, created_at)"
            " VALUES ('x', clock_timestamp() - %s * interval '1 day')",
            days,
        )
    assert house.do(Chore.SECURITY_EVENTS, 90) == 2
    assert house.do(Chore.SECURITY_EVENTS, 90) == 0
    assert house.do(Chore.SECURITY_EVENTS, 0) == 2  # never what is younger than a day
    assert house.count("security_events") == 1


class TestMessages:
    def test_the_oldest_go_in_steps_and_the_channel_keeps_counting(self, house: House) -> None:
        ada = house.people.person()
        quiet, old, mixed = (house.people.channel(ada) for _ in range(3))
        house.aged_messages(3, 1, ada, quiet)
        house.aged_messages(7, 8, ada, old)
        house.aged_messages(4, 8, ada, mixed)
        house.aged_messages(2, 6, ada, mixed)
        assert house.forget_messages(7, 0, 5) == (old, 5)
        assert house.forget_messages(7, old - 1, 5) == (old, 2)
        assert house.forget_messages(7, old, 5) == (mixed, 4)
        assert house.forget_messages(7, mixed, 5) is None
        assert house.forget_messages(7, 0, 5) is None
        assert [seq for seq, _ in house.people.stored(mixed)] == [5, 6]
        assert house.people.stored(old) == []
        house.people.fill(ada, old, 1, "and on")
        assert house.people.stored(old) == [(8, "and on")]

    def test_a_step_looks_at_a_thousand_channels(self, house: House) -> None:
        house.run(
            "INSERT INTO chat_channels (kind) SELECT 'group' FROM generate_series(1, %s)", 2_100
        )
        ada = house.people.person()
        old = house.people.channel(ada)
        house.aged_messages(3, 8, ada, old)
        assert house.forget_messages(7) == (1_000, 0)
        assert house.forget_messages(7, 1_000) == (2_000, 0)
        assert house.forget_messages(7, 2_000) == (old, 3)
        assert house.forget_messages(7, 2_000) is None

    def test_no_age_takes_what_is_younger_than_a_day(self, house: House) -> None:
        ada = house.people.person()
        house.people.fill(ada, 1, 3, "of today")
        assert house.forget_messages(0) is None

    def test_an_entry_that_somebody_holds_is_not_waited_for_and_leaves_no_hole(
        self, house: House
    ) -> None:
        ada = house.people.person()
        channel = house.people.channel(ada)
        house.aged_messages(6, 8, ada, channel)
        with house.database.connect() as other, other.transaction():
            other.execute(
                "SELECT FROM chat_messages WHERE channel_id = %s AND seq = 4 FOR UPDATE",
                (channel,),
            )
            assert house.forget_messages(7) == (channel, 3)
            assert house.forget_messages(7) == (channel, 0)
            assert [seq for seq, _ in house.people.stored(channel)] == [4, 5, 6]
        assert house.forget_messages(7) == (channel, 3)

    def test_a_writer_that_holds_the_channel_is_not_waited_for(self, house: House) -> None:
        ada = house.people.person()
        channel = house.people.channel(ada)
        house.aged_messages(6, 8, ada, channel)
        with house.database.connect() as other, other.transaction():
            other.execute("SELECT FROM chat_channels WHERE id = %s FOR UPDATE", (channel,))
            assert house.forget_messages(7) == (channel, 6)


@pytest.mark.parametrize(
    ("chore", "make"),
    [
        (Chore.TICKETS, "UPDATE ws_tickets SET expires_at = 'epoch'"),
        (Chore.LIMITS, "UPDATE rate_limits SET touched_at = 'epoch', locked_until = NULL"),
    ],
)
def test_a_row_that_somebody_holds_is_passed_over(house: House, chore: Chore, make: str) -> None:
    ada = house.people.person()
    for _ in range(3):
        house.people.ticket(ada)
        house.people.fill(house.people.person(), 1, 1, "makes a limit row")
    house.run(make)
    table = "ws_tickets" if chore is Chore.TICKETS else "rate_limits"
    total = house.count(table)
    with house.database.connect() as other, other.transaction():
        other.execute(f"SELECT FROM {table} LIMIT 1 FOR UPDATE")
        assert house.do(chore, DAY) == total - 1
    assert house.do(chore, DAY) == 1


def test_one_keeps_house_at_a_time(house: House) -> None:
    with house.database.connect("gateway") as other, other.transaction():
        other.execute("SELECT forget_tickets(0, 1)")
        for chore in Chore:
            with pytest.raises(Busy):
                house.do(chore, DAY)
        with pytest.raises(Busy):
            house.forget_messages(1)
    assert house.do(Chore.TICKETS, DAY) == 0
