"""The numbers that operators watch, counted by the database."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from db import metrics
from tests.support.databases import Database
from tests.support.services import People


@pytest.fixture
def people(database: Database) -> Iterator[People]:
    with People(database) as made:
        yield made


def fill(people: People, ages_seconds: list[int]) -> int:
    """A channel with one message for each age, which fall."""
    channel_id: int = people.one(
        "INSERT INTO chat_channels (kind, last_seq, last_entry_at) VALUES"
        " ('group', %s, now() - make_interval(secs => %s)) RETURNING id",
        len(ages_seconds),
        ages_seconds[-1],
    )
    people.owner.execute(
        "INSERT INTO chat_messages"
        " (channel_id, seq, sender_id, content, client_msg_id, request_id, created_at)"
        " SELECT %s, n, 1, 'x', gen_random_uuid(), 'x', now() - make_interval(secs => age)"
        " FROM unnest(%s::integer[]) WITH ORDINALITY AS a (age, n)",
        (channel_id, ages_seconds),
    )
    return channel_id


@pytest.mark.parametrize("lost", [0, 1, 3, 7])
def test_the_first_entry_since_a_time_is_found_by_halving(people: People, lost: int) -> None:
    """Also where retention has taken the beginning."""
    ages = [900, 900, 700, 500, 301, 299, 299, 50, 0]
    channel_id = fill(people, ages)
    people.owner.execute(
        "DELETE FROM chat_messages WHERE channel_id = %s AND seq <= %s", (channel_id, lost)
    )
    for since in (1000, 800, 600, 300, 100, 10):
        expected = [n for n, age in enumerate(ages, 1) if age < since and n > lost]
        found = people.one(
            "SELECT first_seq_since(%s, %s, now() - make_interval(secs => %s))",
            channel_id,
            len(ages),
            since,
        )
        assert found == min(expected, default=len(ages) + 1), since


def test_messages_of_five_minutes_are_counted_without_other_entries(
    database: Database, people: People
) -> None:
    fill(people, [900, 400, 200, 100])
    fill(people, [900])
    channel_id = fill(people, [10, 5])
    people.owner.execute(
        "UPDATE chat_messages SET kind = 'joined', content = NULL, client_msg_id = NULL"
        " WHERE channel_id = %s AND seq = 1",
        (channel_id,),
    )
    with database.connect("api") as api:
        assert metrics.read_activity(api).messages == 3


def test_sessions_are_counted_by_version_and_only_live_ones(
    database: Database, people: People
) -> None:
    versions = ["1.4.2", "1.4.2", "2.0", "a made-up <version>", None, "1.4.2"]
    for version in versions:
        person = people.person()
        people.owner.execute(
            "UPDATE user_sessions SET client_version = %s WHERE id = %s",
            (version, person.session_id),
        )
    people.owner.execute("UPDATE user_sessions SET revoked_at = now() WHERE id = %s", (6,))
    with database.connect("api") as api:
        counts = metrics.count_live_sessions(api)
    assert sorted((count.version or "", count.live) for count in counts) == [
        ("", 2),
        ("1.4.2", 2),
        ("2.0", 1),
    ]


def test_a_gateway_says_things_of_itself_alone(database: Database) -> None:
    with database.connect("gateway") as gateway:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            gateway.execute("UPDATE gateway_instances SET heartbeat_at = now()")
        gateway.execute("UPDATE gateway_instances SET stats = '{}' WHERE id = 'x'")
