"""What an ack and a seq promise, shown where breaking it would be easiest."""

from __future__ import annotations

from tests.gateway.conftest import StartGateway
from tests.support.databases import Database
from tests.support.processes import wait_until
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


def test_what_is_committed_between_two_looks_at_the_tables_is_delivered_not_taken_for_lost(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    """A hint comes before its entry. There is none yet, and until it is there, the question how
    far the log goes gets no answer."""
    _, port = start_gateway(database)
    ada = people.person()
    channel = people.channel(ada)
    reader = sockets.admitted(port, people.ticket(ada))
    reader.subscribe(channel)
    for seq in range(1, 6):  # a sweep may happen to come first, but not every time
        with database.connect() as other, other.transaction():
            other.execute("LOCK TABLE chat_channels IN ACCESS EXCLUSIVE MODE")
            people.owner.execute("SELECT pg_notify('gatehouse_log', %s)", (f"{channel}:{seq}",))
            wait_until(lambda: people.waiting() >= 1, "no entry was found")
            other.execute("UPDATE chat_channels SET last_seq = %s WHERE id = %s", (seq, channel))
            other.execute(
                "INSERT INTO chat_messages"
                " (channel_id, seq, kind, sender_id, request_id, created_at)"
                " VALUES (%s, %s, 'joined', %s, 'of-a-test', clock_timestamp())",
                (channel, seq, ada.user_id),
            )
        assert reader.receive("joined")["seq"] == seq


def test_subscribers_of_a_log_that_has_lost_an_entry_are_sent_back_to_resume(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    _, port = start_gateway(database)
    ada = people.person()
    channel = people.channel(ada)
    reader = sockets.admitted(port, people.ticket(ada))
    reader.subscribe(channel)
    people.owner.execute("UPDATE chat_channels SET last_seq = 1 WHERE id = %s", (channel,))
    assert reader.closed()[0] == 4408
