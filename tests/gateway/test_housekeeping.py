"""Gateways keep house: together, in the middle of traffic, and after one of them was killed."""

from __future__ import annotations

import uuid

from tests.gateway.conftest import StartGateway
from tests.support.databases import Database
from tests.support.processes import wait_until
from tests.support.services import People
from tests.support.sockets import Sockets

CHAT_RECOVERY_MAX_MESSAGES = 500


def make_old(people: People, table: str, count: int) -> None:
    """Rows of so long ago that no retention keeps them."""
    statement = {
        "security_events": "INSERT INTO security_events (event, created_at)"
        " SELECT 'x', 'epoch' FROM generate_series(1, %s)",
        "rate_limits": "INSERT INTO rate_limits"
        " (key, window_seconds, slice, reserved, failures, touched_at)"
        " SELECT 'old:' || n, 60, 0, array_fill(0, ARRAY[11]), array_fill(0, ARRAY[11]), 'epoch'"
        " FROM generate_series(1, %s) n",
    }[table]
    people.owner.execute(statement, (count,))


def old_rows(people: People) -> int:
    count: int = people.one(
        "SELECT (SELECT count(*) FROM security_events WHERE created_at = 'epoch')"
        " + (SELECT count(*) FROM rate_limits WHERE touched_at = 'epoch')"
    )
    return count


def test_a_gateway_that_is_killed_in_the_middle_leaves_the_rest_to_another(
    database: Database, people: People, start_gateway: StartGateway
) -> None:
    make_old(people, "rate_limits", 300)
    make_old(people, "security_events", 30_000)
    first, _ = start_gateway(database)
    wait_until(lambda: old_rows(people) < 30_000, "it has begun")
    first.kill()
    left = old_rows(people)
    assert left > 0
    start_gateway(database)
    wait_until(lambda: old_rows(people) == 0, "another one finishes", 20)


def test_retention_disturbs_neither_writers_nor_readers_and_whoever_resumes_is_told(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    ada = people.person()
    channel = people.channel(ada)
    people.fill(ada, channel, 2_000, "of long ago")
    people.owner.execute("UPDATE chat_messages SET created_at = 'epoch'")
    ports = [start_gateway(database, CHAT_RETENTION_DAYS="7")[1] for _ in range(2)]
    opened = [sockets.admitted(port, people.ticket(ada)) for port in ports]
    for each in opened:
        each.subscribe(channel)
    said = 0
    while len(people.stored(channel)) > said:
        for each in opened:
            each.say(channel, str(uuid.uuid4()))
            each.receive("ack")
            said += 1
    for each in opened:
        seqs = [frame["seq"] for frame in each.take("message", said)]
        assert seqs == list(range(2_001, 2_001 + said))
    answer = opened[0].subscribe(channel, after_seq=1_990)
    assert (answer["recovered"], answer["first_seq"]) == (False, 2_001)
    newest = seqs[-CHAT_RECOVERY_MAX_MESSAGES:]  # a slow house keeper lets more be said than that
    assert [entry["seq"] for entry in answer["entries"]] == newest
    seen = 2_000 + max(0, said - CHAT_RECOVERY_MAX_MESSAGES)
    answer = opened[1].subscribe(channel, after_seq=seen)
    assert (answer["recovered"], answer["last_seq"]) == (True, 2_000 + said)


def test_without_retention_no_message_goes(
    database: Database, people: People, start_gateway: StartGateway
) -> None:
    ada = people.person()
    people.fill(ada, 1, 3, "of long ago")
    people.owner.execute("UPDATE chat_messages SET created_at = 'epoch'")
    make_old(people, "security_events", 1)
    start_gateway(database)
    wait_until(lambda: old_rows(people) == 0, "it has kept house")
    assert len(people.stored(1)) == 3


def test_what_cannot_be_forgotten_leaves_the_rest_its_turn(
    database: Database, people: People, start_gateway: StartGateway
) -> None:
    people.owner.execute(
        "REVOKE EXECUTE ON FUNCTION forget_tickets, forget_limits FROM gatehouse_gateway"
    )
    people.fill(people.person(), 1, 3, "of long ago")
    people.owner.execute("UPDATE chat_messages SET created_at = 'epoch'")
    make_old(people, "security_events", 1)
    gateway, _ = start_gateway(database, CHAT_RETENTION_DAYS="7")
    wait_until(lambda: old_rows(people) == 0, "events are forgotten")
    wait_until(lambda: people.stored(1) == [], "messages are forgotten")
    gateway.wait_for_line("housekeeping: tickets wait: InsufficientPrivilege")
    gateway.wait_for_line("housekeeping: limits wait: InsufficientPrivilege")
