"""Reading a channel's log: in order, within bounds, and only by who may."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import psycopg
import pytest

from db.channels import (
    LogBounds,
    find_readable_channel,
    find_readable_channel_async,
    list_readable_channels,
)
from db.chat_log import (
    NewMessage,
    WriteLimits,
    append_messages,
    list_entries_after,
    list_entries_before,
    list_entries_between,
    list_entries_of_channels,
    list_last_seqs,
)
from db.sessions import ClientInfo, SessionTerms, open_session
from db.users import insert_user
from rules.log_entry import Entry
from tests.support.databases import Database

Connection = psycopg.Connection[tuple[Any, ...]]
T = TypeVar("T")
GLOBAL = 1
WIDE = WriteLimits(10, 1_000_000, 1_000_000, 30, 600)


@pytest.fixture
def api(database: Database) -> Iterator[Connection]:
    with database.connect("api") as connection:
        yield connection


@pytest.fixture
def owner(database: Database) -> Iterator[Connection]:
    with database.connect() as connection:
        yield connection


class Person:
    """A user with a session."""

    def __init__(self, api: Connection, name: str) -> None:
        user = insert_user(api, email=f"{name}@example.org", password_hash="x", display_name=name)
        assert user is not None
        session = open_session(
            api,
            user.id,
            checked_hash="x",
            client=ClientInfo(None, None, None, None),
            terms=SessionTerms(ttl_days=30, idle_days=14, max_per_account=20),
        )
        assert session is not None
        self.id, self.session_id = user.id, session.id

    def message(self, content: str, channel_id: int = GLOBAL) -> NewMessage:
        return NewMessage(self.session_id, channel_id, uuid.uuid4(), content, "request-1", None)


@pytest.fixture
def ann(api: Connection) -> Person:
    return Person(api, "Ann")


@pytest.fixture
def ten(api: Connection, ann: Person) -> None:
    """Ten messages in the global channel."""
    append_messages(api, [ann.message(str(number)) for number in range(1, 11)], WIDE)


def group(owner: Connection, *members: Person) -> int:
    row = owner.execute("INSERT INTO chat_channels (kind) VALUES ('group') RETURNING id").fetchone()
    assert row is not None
    for member in members:
        owner.execute(
            "INSERT INTO chat_members (channel_id, user_id) VALUES (%s, %s)", (row[0], member.id)
        )
    return int(row[0])


def seqs(entries: list[Entry]) -> list[int]:
    return [entry.seq for entry in entries]


def as_gateway(
    database: Database, ask: Callable[[psycopg.AsyncConnection[Any]], Awaitable[T]]
) -> T:
    async def main() -> T:
        async with await psycopg.AsyncConnection.connect(
            database.conninfo("gateway"), autocommit=True
        ) as connection:
            return await ask(connection)

    return asyncio.run(main())


@pytest.mark.usefixtures("ten")
class TestPages:
    def test_after_a_seq_come_the_next_ones_ascending(self, api: Connection) -> None:
        assert seqs(list_entries_after(api, GLOBAL, 0, 3)) == [1, 2, 3]
        assert seqs(list_entries_after(api, GLOBAL, 8, 3)) == [9, 10]
        assert seqs(list_entries_after(api, GLOBAL, 10, 3)) == []

    def test_before_a_seq_come_the_last_ones_ascending(self, api: Connection) -> None:
        assert seqs(list_entries_before(api, GLOBAL, 11, 3)) == [8, 9, 10]
        assert seqs(list_entries_before(api, GLOBAL, 3, 3)) == [1, 2]
        assert seqs(list_entries_before(api, GLOBAL, 1, 3)) == []

    def test_between_two_seqs_the_first_is_left_out_and_the_last_is_not(
        self, database: Database
    ) -> None:
        asked = as_gateway(
            database, lambda connection: list_entries_between(connection, GLOBAL, 3, 6, 100)
        )
        assert seqs(asked) == [4, 5, 6]

    def test_an_entry_has_its_senders_present_name(
        self, api: Connection, ann: Person, owner: Connection
    ) -> None:
        owner.execute("UPDATE users SET display_name = 'Annika'")
        [entry] = list_entries_after(api, GLOBAL, 0, 1)
        assert (entry.kind, entry.content, entry.sender_id) == ("message", "1", ann.id)
        assert entry.sender_name == "Annika"

    def test_an_entry_outlives_its_sender(self, api: Connection, owner: Connection) -> None:
        owner.execute("DELETE FROM users")
        [entry] = list_entries_after(api, GLOBAL, 0, 1)
        assert (entry.content, entry.sender_name) == ("1", None)


class TestSeveralChannels:
    def test_each_is_read_from_where_its_reader_stands(
        self, api: Connection, ann: Person, owner: Connection, database: Database
    ) -> None:
        rooms = [group(owner, ann) for _ in range(3)]
        for room in rooms:
            append_messages(api, [ann.message(str(n), room) for n in range(5)], WIDE)
        asked = as_gateway(
            database,
            lambda connection: list_entries_of_channels(
                connection, {rooms[2]: 0, rooms[0]: 3, rooms[1]: 5, 999: 0}, 4
            ),
        )
        assert [(entry.channel_id, entry.seq) for entry in asked] == [
            *((rooms[0], seq) for seq in (4, 5)),
            *((rooms[2], seq) for seq in (1, 2, 3, 4)),
        ]
        ends = as_gateway(database, lambda connection: list_last_seqs(connection, [*rooms, 999]))
        assert ends == dict.fromkeys(rooms, 5)


class TestWhoMayRead:
    def test_the_global_channel_is_everybodys_and_a_group_its_members(
        self, api: Connection, ann: Person, owner: Connection, database: Database
    ) -> None:
        bob = Person(api, "Bob")
        room = group(owner, bob)
        assert [one.id for one in list_readable_channels(api, ann.id)] == [GLOBAL]
        assert [one.id for one in list_readable_channels(api, bob.id)] == [room, GLOBAL]
        for channel_id, reader, expected in (
            (GLOBAL, ann, LogBounds(last_seq=0, first_seq=1)),
            (room, ann, None),
            (room, bob, LogBounds(last_seq=0, first_seq=1)),
            (999, bob, None),
        ):
            assert find_readable_channel(api, channel_id, reader.id) == expected
            ask = partial(find_readable_channel_async, channel_id=channel_id, user_id=reader.id)
            asked = as_gateway(database, ask)
            assert asked == expected

    @pytest.mark.usefixtures("ten")
    def test_the_bounds_are_those_of_what_is_kept(
        self, api: Connection, ann: Person, owner: Connection
    ) -> None:
        owner.execute("DELETE FROM chat_messages WHERE seq <= 4")
        assert find_readable_channel(api, GLOBAL, ann.id) == LogBounds(last_seq=10, first_seq=5)
        owner.execute("DELETE FROM chat_messages")
        assert find_readable_channel(api, GLOBAL, ann.id) == LogBounds(last_seq=10, first_seq=11)
