"""A gateway that is killed at the worst moment: stored, and nobody was told."""

from __future__ import annotations

import signal
import uuid

from tests.gateway.conftest import StartGateway
from tests.support.databases import Database
from tests.support.http_calls import Http
from tests.support.processes import Processes, wait_until
from tests.support.services import People, api_environment
from tests.support.sockets import Sockets


def test_a_gateway_killed_between_commit_and_ack_leaves_the_repeat_the_first_ones_seq(
    database: Database,
    people: People,
    start_gateway: StartGateway,
    processes: Processes,
    sockets: Sockets,
) -> None:
    doomed, doomed_port = start_gateway(database)
    _, other_port = start_gateway(database)
    ada, bob = people.person("Ada"), people.person("Bob")
    channel = people.channel(ada, bob)
    opened = sockets.admitted(doomed_port, people.ticket(ada))
    opened.subscribe(channel)
    opened.say(channel, "before")
    opened.receive("ack")
    reader = sockets.admitted(other_port, people.ticket(bob))
    reader.subscribe(channel)
    with database.connect() as other, other.transaction():
        other.execute("SELECT FROM chat_channels WHERE id = %s FOR UPDATE", (channel,))
        client_msg_id = opened.say(channel, "stored, and nobody was told")
        wait_until(lambda: people.waiting() == 1, "the message waits for the channel")
        # Postgres alone goes on from here: it stores, commits, and answers to nobody.
        doomed.send_signal(signal.SIGSTOP)
    wait_until(lambda: len(people.stored(channel)) == 2, "it is committed")
    doomed.kill()
    assert opened.closed()[0] == 1006
    assert [frame for frame in opened.unread if frame.get("seq") == 2] == []
    assert reader.receive("message", client_msg_id=client_msg_id)["seq"] == 2

    again = sockets.admitted(other_port, people.ticket(ada))
    answer = again.subscribe(channel, after_seq=1)
    assert [entry["client_msg_id"] for entry in answer["entries"]] == [client_msg_id]
    again.say(channel, "stored, and nobody was told", client_msg_id)
    ack = again.receive("ack", client_msg_id=client_msg_id)
    assert (ack["seq"], ack["duplicate"]) == (2, True)
    # Over HTTP the same.
    _, api_port = processes.start_service("api", api_environment(database))
    posted = Http(api_port).post(
        f"/chat/channels/{channel}/messages",
        {"client_msg_id": client_msg_id, "content": "stored, and nobody was told"},
        token=people.access_token(ada),
    )
    assert (posted.status, posted.json["seq"], posted.json["duplicate"]) == (200, 2, True)
    assert posted.json["created_at"] == ack["created_at"]
    # And nobody saw it twice.
    again.say(channel, "after")
    assert reader.receive("message")["content"] == "after"
    assert len(people.stored(channel)) == 3


def test_a_gateway_killed_before_the_commit_has_stored_nothing_and_the_repeat_is_the_first(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    doomed, doomed_port = start_gateway(database)
    _, other_port = start_gateway(database)
    ada = people.person("Ada")
    channel = people.channel(ada)
    opened = sockets.admitted(doomed_port, people.ticket(ada))
    client_msg_id = str(uuid.uuid4())
    with database.connect() as other, other.transaction():
        other.execute("SELECT FROM chat_channels WHERE id = %s FOR UPDATE", (channel,))
        opened.say(channel, "not stored", client_msg_id)
        wait_until(lambda: people.waiting() == 1, "the message waits for the channel")
        doomed.kill()
        people.one(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    assert people.stored(channel) == []
    again = sockets.admitted(other_port, people.ticket(ada))
    again.say(channel, "not stored", client_msg_id)
    ack = again.receive("ack", client_msg_id=client_msg_id)
    assert (ack["seq"], ack["duplicate"]) == (1, False)


def test_places_of_a_killed_gateway_are_free_again_for_whoever_reconnects(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    """Everybody of a killed gateway comes back at once, and nobody is replaced by a ghost."""
    doomed, doomed_port = start_gateway(database, WS_MAX_CONNECTIONS_PER_ACCOUNT="2")
    _, other_port = start_gateway(database, WS_MAX_CONNECTIONS_PER_ACCOUNT="2")
    ada = people.person("Ada")
    for _ in range(2):
        sockets.admitted(doomed_port, people.ticket(ada))
    doomed.kill()
    back = [sockets.admitted(other_port, people.ticket(ada)) for _ in range(2)]
    assert all(each.is_alive() for each in back)
