"""What an ack and a seq promise, shown where breaking it would be easiest."""

from __future__ import annotations

from tests.gateway.conftest import StartGateway
from tests.support.databases import Database
from tests.support.services import People
from tests.support.sockets import Sockets


def test_nothing_is_acknowledged_before_its_commit(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    """Here Postgres objects at the very last moment: when the transaction commits."""
    people.owner.execute(
        """
        CREATE FUNCTION object_to_bad() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.content = 'bad' THEN
                RAISE EXCEPTION 'bad content';
            END IF;
            RETURN NULL;
        END $$
        """
    )
    people.owner.execute(
        "CREATE CONSTRAINT TRIGGER object_to_bad AFTER INSERT ON chat_messages"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION object_to_bad()"
    )
    _, port = start_gateway(database)
    ada = people.person()
    channel = people.channel(ada)
    opened = sockets.admitted(port, people.ticket(ada))
    opened.subscribe(channel)
    refused = opened.say(channel, "bad")
    frame = opened.receive_any()
    assert (frame["type"], frame["code"]) == ("error", "internal_error")
    assert frame["client_msg_id"] == refused
    opened.say(channel, "good")
    assert opened.receive("ack")["seq"] == 1
    assert opened.receive("message")["content"] == "good"
    assert people.stored(channel) == [(1, "good")]


def test_what_others_stored_without_a_word_is_delivered_before_what_this_gateway_stores(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    people.owner.execute(
        "CREATE OR REPLACE FUNCTION notify_log(p_channel_ids bigint[], p_since timestamptz)"
        " RETURNS void LANGUAGE sql SET search_path = pg_catalog, public, pg_temp AS ''"
    )
    _, port = start_gateway(database)
    ada = people.person()
    opened = sockets.admitted(port, people.ticket(ada))
    for _ in range(3):  # a sweep may happen to come first, but not every time
        channel = people.channel(ada)
        opened.subscribe(channel)
        people.fill(ada, channel, 20, "nobody was told of it")
        opened.say(channel, "the next one")
        seqs = [frame["seq"] for frame in opened.take("message", 21)]
        assert seqs == list(range(1, 22))
