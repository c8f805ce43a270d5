"""Ending a session ends its sockets, on every gateway, however it was ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.gateway.conftest import House, StartGateway, open_house
from tests.support.cluster import Cluster
from tests.support.databases import Database
from tests.support.http_calls import Http
from tests.support.processes import wait_until
from tests.support.services import People, Person
from tests.support.sockets import Sockets, TestSocket

REVOKED = (4501, "session_revoked")
# The endings that a person with psql has at hand, with what the socket is told.
ENDINGS = {
    "revoked": (
        "UPDATE user_sessions SET revoked_at = now(), revoked_reason = 'leaked' WHERE id = {s}",
        REVOKED,
        {"type": "session_revoked", "reason": "leaked"},
    ),
    "revoked without a reason": (
        "UPDATE user_sessions SET revoked_at = now() WHERE id = {s}",
        REVOKED,
        {"type": "session_revoked", "reason": "revoked"},
    ),
    "expired": (
        "UPDATE user_sessions SET expires_at = now() WHERE id = {s}",
        REVOKED,
        {"type": "session_revoked", "reason": "expired"},
    ),
    "idle": (
        "UPDATE user_sessions SET idle_expires_at = now() WHERE id = {s}",
        REVOKED,
        {"type": "session_revoked", "reason": "expired"},
    ),
    "deleted": (
        "DELETE FROM user_sessions WHERE id = {s}",
        REVOKED,
        {"type": "session_revoked", "reason": "revoked"},
    ),
    "account deleted": (
        "DELETE FROM users WHERE id = {u}",
        REVOKED,
        {"type": "session_revoked", "reason": "revoked"},
    ),
    "account disabled": (
        "UPDATE users SET disabled_at = now() WHERE id = {u}",
        (4503, "account_disabled"),
        {"type": "error", "code": "account_disabled"},
    ),
}


@pytest.fixture(scope="module")
def silent_house(cluster: Cluster, admin_connection: psycopg.Connection[Any]) -> Iterator[House]:
    """Its database tells nobody of sessions."""
    with open_house(cluster, admin_connection) as house:
        for table, trigger in (
            ("user_sessions", "sessions_updated"),
            ("user_sessions", "sessions_deleted"),
            ("users", "users_updated"),
        ):
            house.people.owner.execute(f"DROP TRIGGER {trigger} ON {table}".encode())
        yield house


def everywhere(house: House, sockets: Sockets, person: Person) -> list[TestSocket]:
    return [sockets.admitted(port, house.people.ticket(person)) for port in house.ports]


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_ending_in_psql_closes_the_sockets_on_both_gateways(
    house: House, sockets: Sockets, ending: str
) -> None:
    statement, close, farewell = ENDINGS[ending]
    ada, bob = house.people.person("Ada"), house.people.person("Bob")
    hers, his = everywhere(house, sockets, ada), everywhere(house, sockets, bob)
    house.people.owner.execute(statement.format(s=ada.session_id, u=ada.user_id).encode())
    for each in hers:
        assert each.closed() == close
        [last] = each.unread
        assert farewell.items() <= last.items()
    assert all(each.is_alive() for each in his)


def test_logging_out_closes_the_sockets_of_that_session_alone(
    house: House, house_api: Http, sockets: Sockets
) -> None:
    account = {"email": "log-out@example.org", "password": "a long enough one"}
    sessions = [
        house_api.post("/auth/register", {**account, "display_name": "Ada"}).json,
        house_api.post("/auth/login", account).json,
    ]
    opened = []
    for number, session in enumerate(sessions):
        ticket = house_api.post("/auth/ws-ticket", token=session["access_token"]).json["ticket"]
        opened.append(sockets.admitted(house.ports[number], ticket))
    assert house_api.post("/auth/logout", token=sessions[0]["access_token"]).status == 204
    assert opened[0].closed() == REVOKED
    assert opened[0].unread == [{"type": "session_revoked", "reason": "logout"}]
    assert opened[1].is_alive()


def test_everybody_is_revoked_by_one_statement(house: House, sockets: Sockets) -> None:
    everybody = [house.people.person() for _ in range(40)]
    opened = [each for person in everybody for each in everywhere(house, sockets, person)]
    house.people.owner.execute(
        "UPDATE user_sessions SET revoked_at = now() WHERE id = ANY (%s)",
        ([person.session_id for person in everybody],),
    )
    for each in opened:
        assert each.closed() == REVOKED


@pytest.mark.parametrize("ending", ["revoked", "deleted", "account disabled"])
def test_an_ending_is_found_within_five_seconds_where_no_notification_comes(
    silent_house: House, sockets: Sockets, ending: str
) -> None:
    statement, close, _ = ENDINGS[ending]
    people = silent_house.people
    ada = people.person()
    hers = everywhere(silent_house, sockets, ada)
    people.owner.execute(statement.format(s=ada.session_id, u=ada.user_id).encode())
    ended = time.monotonic()
    for each in hers:
        assert each.closed() == close
    assert time.monotonic() - ended < 5.0


def test_a_session_that_ends_by_the_clock_ends_its_sockets(house: House, sockets: Sockets) -> None:
    ada = house.people.person()
    hers = everywhere(house, sockets, ada)
    house.people.owner.execute(
        "UPDATE user_sessions SET expires_at = clock_timestamp() + interval '1 second'"
        " WHERE id = %s",
        (ada.session_id,),
    )
    for each in hers:
        assert each.closed() == REVOKED


@pytest.mark.parametrize(
    ("statement", "close", "farewell"),
    [
        ENDINGS["revoked"],
        ENDINGS["account disabled"],
        (
            "UPDATE user_sessions SET drain_deadline_at = now() WHERE id = {s}",
            (4510, "drained"),
            {"type": "error", "code": "drained"},
        ),
    ],
    ids=["revoked", "account disabled", "drained"],
)
def test_a_message_of_an_ended_session_is_not_stored_and_the_socket_is_told_why_it_ends(
    silent_house: House,
    sockets: Sockets,
    statement: str,
    close: tuple[int, str],
    farewell: dict[str, str],
) -> None:
    """Nobody has told the gateway. Once more where a sweep has found it before the message came."""
    people = silent_house.people
    for _ in range(5):
        ada = people.person()
        channel = people.channel(ada)
        opened = sockets.admitted(silent_house.ports[0], people.ticket(ada))
        people.owner.execute(statement.format(s=ada.session_id, u=ada.user_id).encode())
        client_msg_id = opened.say(channel, "too late")
        assert opened.closed() == close
        assert people.stored(channel) == []
        if len(opened.unread) > 1:
            break
    refused, last = opened.unread
    assert (refused["code"], refused["client_msg_id"]) == ("session_revoked", client_msg_id)
    assert farewell.items() <= last.items()


def test_a_touch_of_a_session_ends_nothing(house: House, sockets: Sockets) -> None:
    ada = house.people.person()
    [opened, other] = everywhere(house, sockets, ada)
    house.people.owner.execute(
        "UPDATE user_sessions SET last_seen_at = now(), client_version = '2' WHERE id = %s",
        (ada.session_id,),
    )
    assert opened.is_alive()
    assert other.is_alive()


def test_a_revocation_that_races_with_admissions_leaves_no_socket_open(
    house: House, sockets: Sockets
) -> None:
    """However the two interleave: turned away, or closed after `connected`."""
    for _ in range(10):
        ada = house.people.person()
        tickets = [house.people.ticket(ada) for _ in range(8)]
        with ThreadPoolExecutor(9) as threads:
            coming = [
                threads.submit(sockets.open, house.ports[number % 2], ticket)
                for number, ticket in enumerate(tickets)
            ]
            threads.submit(
                house.people.owner.execute,
                "UPDATE user_sessions SET revoked_at = now() WHERE id = %s",
                (ada.session_id,),
            ).result()
            for future in coming:
                assert future.result().closed() in (REVOKED, (4401, "ticket_invalid"))


def test_a_revocation_is_not_missed_between_the_spending_of_the_ticket_and_the_socket(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    """The ticket is spent while the session lives, and the answer is held back until after the
    revocation has been heard of: no notification will come again."""
    _, port = start_gateway(database)
    # Committed before the ticket's transaction ends, seen by nobody in it: READ COMMITTED.
    people.owner.execute(
        """
        CREATE FUNCTION hold_back() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock(4711);
            RETURN NULL;
        END $$
        """
    )
    people.owner.execute(
        "CREATE TRIGGER hold_back AFTER INSERT ON gateway_connections"
        " FOR EACH STATEMENT EXECUTE FUNCTION hold_back()"
    )
    # More than once: a sweep may happen to find it in time, but not every time.
    for _ in range(5):
        ada, other = people.person("Ada"), people.person("Other")
        heard = sockets.admitted(port, people.ticket(other))
        with database.connect() as holding:
            holding.execute("SELECT pg_advisory_lock(4711)")
            opened = sockets.open(port, people.ticket(ada))
            wait_until(
                lambda: people.waiting() == 1,
                "the ticket is spent but not yet answered",
            )
            for person in (ada, other):
                people.owner.execute(
                    "UPDATE user_sessions SET revoked_at = now() WHERE id = %s",
                    (person.session_id,),
                )
            assert heard.closed() == REVOKED  # and so the notification before it was heard too
        assert opened.closed(seconds=1.0) == REVOKED


def test_a_revocation_does_not_wait_for_the_end_of_a_sweep(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    """The sweep has been over the sessions when one of them ends, and is held up further on. Once
    more where it got there before the notification came."""
    gateway, port = start_gateway(database)
    for _ in range(5):
        ada = people.person()
        opened = sockets.admitted(port, people.ticket(ada))
        opened.subscribe(people.channel(ada))
        with database.connect() as further_on, further_on.transaction():
            further_on.execute("LOCK TABLE chat_channels IN ACCESS EXCLUSIVE MODE")
            with database.connect() as after_sessions, after_sessions.transaction():
                after_sessions.execute("LOCK TABLE release_policy IN ACCESS EXCLUSIVE MODE")
                wait_until(
                    lambda: people.one(
                        "SELECT count(*) FROM pg_locks"
                        " WHERE relation = 'release_policy'::regclass AND NOT granted"
                    ),
                    "the sweep waits for the policy",
                )
                breaks = gateway.output.count("listening broke off")
                people.owner.execute(
                    "UPDATE user_sessions SET revoked_at = now() WHERE id = %s", (ada.session_id,)
                )
            assert opened.closed() == REVOKED
            # Else it was found by the next sweep, which begins anew.
            was_heard_of = gateway.output.count("listening broke off") == breaks
        if was_heard_of:
            break
    assert was_heard_of
