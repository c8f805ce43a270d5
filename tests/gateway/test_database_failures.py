"""Postgres goes away, stands still or cuts lines: nothing is lost, and nobody unproven stays."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from scripts.embedded_postgres import EmbeddedPostgres
from scripts.process_table import children
from tests.gateway.conftest import StartGateway
from tests.support.databases import Database
from tests.support.deaf_proxy import DeafProxy
from tests.support.http_calls import Http
from tests.support.own_database import migrated
from tests.support.processes import wait_until
from tests.support.services import People
from tests.support.sockets import Frame, Sockets, TestSocket

LISTENER = "gatehouse-gateway-listener"


def terminate(people: People, application: str) -> int:
    """Cuts the lines of this application to the database; returns how many there were."""
    count: int = people.one(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = %s",
        application,
    )
    return count


def test_messages_arrive_whole_while_the_listening_connection_is_cut_again_and_again(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    _, port = start_gateway(database)
    ada = people.person()
    channel = people.channel(ada)
    opened = sockets.admitted(port, people.ticket(ada))
    opened.subscribe(channel)
    for number in range(4):
        wait_until(lambda: terminate(people, LISTENER) == 1, "it listens again")
        people.fill(ada, channel, 25, f"round {number}")
    frames = opened.take("message", 100)
    assert [frame["seq"] for frame in frames] == list(range(1, 101))
    assert opened.is_alive()


def test_a_revocation_while_nobody_listens_is_found(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    _, port = start_gateway(database)
    ada = people.person()
    opened = sockets.admitted(port, people.ticket(ada))
    wait_until(lambda: terminate(people, LISTENER) == 1, "it listens")
    people.owner.execute(
        "UPDATE user_sessions SET revoked_at = now() WHERE id = %s", (ada.session_id,)
    )
    assert opened.closed() == (4501, "session_revoked")


@pytest.mark.parametrize("how", ["frozen", "deaf"])
def test_a_listening_connection_that_hears_nothing_any_more_is_noticed_and_replaced(
    database: Database,
    people: People,
    start_gateway: StartGateway,
    sockets: Sockets,
    how: str,
) -> None:
    """It stays open all the time, and when it is deaf it even answers."""
    cluster = database.cluster
    with DeafProxy(cluster.host, cluster.port) as proxy:
        gateway, port = start_gateway(database, DB_HOST="127.0.0.1", DB_PORT=str(proxy.port))
        ada, bob = people.person("Ada"), people.person("Bob")
        channel = people.channel(ada, bob)
        opened, bobs = (sockets.admitted(port, people.ticket(one)) for one in (ada, bob))
        opened.subscribe(channel)
        gateway.wait_for_line('"listening"')
        spoil = proxy.freeze if how == "frozen" else proxy.deafen
        assert spoil(LISTENER) == 1
        people.fill(ada, channel, 5, "into the silence")
        people.owner.execute(
            "UPDATE user_sessions SET revoked_at = now() WHERE id = %s", (bob.session_id,)
        )
        assert [frame["seq"] for frame in opened.take("message", 5)] == [1, 2, 3, 4, 5]
        assert bobs.closed() == (4501, "session_revoked")
        gateway.wait_for_line("listening broke off")
        wait_until(lambda: gateway.output.count('"listening"') == 2, "it listens again")
        assert gateway.stop() == 0


def test_a_sender_does_not_notice_that_connections_are_cut(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    _, port = start_gateway(database)
    ada = people.person()
    channel = people.channel(ada)
    opened = sockets.admitted(port, people.ticket(ada))
    opened.subscribe(channel)
    for number in range(100):
        if number % 10 == 5:
            terminate(people, "gatehouse-gateway")
        opened.say(channel, str(number))
    acks = opened.take("ack", 100)
    assert sorted(ack["seq"] for ack in acks) == list(range(1, 101))
    assert {content for _, content in people.stored(channel)} == {str(n) for n in range(100)}
    assert [frame["seq"] for frame in opened.take("message", 100)] == list(range(1, 101))


class Writer:
    """Sends one message after the other and repeats each until it is acknowledged, as a client
    does; comes back with a new ticket when its socket ends."""

    def __init__(self, opened: TestSocket, channel: int) -> None:
        self.acked: dict[int, str] = {}
        self.refusals: list[Frame] = []
        self.failure: BaseException | None = None
        self._opened = opened
        self._channel = channel
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def finish(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.failure is None

    def _run(self) -> None:
        try:
            number = 0
            while not self._stop.is_set():
                self._say_until_acknowledged(str(number))
                number += 1
        except BaseException as error:
            self.failure = error

    def _say_until_acknowledged(self, content: str) -> None:
        client_msg_id = str(uuid.uuid4())
        while True:
            self._opened.say(self._channel, content, client_msg_id)
            frame = self._opened.receive_any(30)
            if frame["type"] == "ack":
                assert frame["client_msg_id"] == client_msg_id
                self.acked[frame["seq"]] = content
                return
            self.refusals.append(frame)
            time.sleep(0.05)  # a client's pause: frame["retry_after_seconds"] would do as well


def test_a_killed_postgres_loses_nothing_that_was_acknowledged(
    own_postgres: EmbeddedPostgres, start_gateway: StartGateway, sockets: Sockets
) -> None:
    database = migrated(own_postgres)
    ports = [start_gateway(database)[1] for _ in range(2)]
    with People(database) as people:
        writing, reading = people.person("Writer"), people.person("Reader")
        channel = people.channel(writing, reading)
        readers = [sockets.admitted(port, people.ticket(reading)) for port in ports]
        for reader in readers:
            reader.subscribe(channel)
        writers = [
            Writer(sockets.admitted(port, people.ticket(writing)), channel) for port in ports
        ]
        wait_until(lambda: all(len(writer.acked) > 20 for writer in writers), "all is well")
        late = people.ticket(writing)
    own_postgres.kill()
    wait_until(lambda: all(writer.refusals for writer in writers), "the writers are told", 20)
    for port in ports:
        answer = Http(port).get("/health/ready")
        assert (answer.status, answer.error["code"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert Http(port).get("/health/live").status == 200
    turned_away = sockets.open(ports[0], late)
    assert turned_away.closed() == (1013, "at_capacity")
    own_postgres.start()
    counts = [len(writer.acked) for writer in writers]
    wait_until(
        lambda: all(
            len(writer.acked) > count + 20 for writer, count in zip(writers, counts, strict=True)
        ),
        "the writers go on without a restart",
        20,
    )
    for writer in writers:
        writer.finish()
        for refusal in writer.refusals:
            assert refusal["code"] == "unavailable"
            assert refusal["retry_after_seconds"] > 0
    with People(database) as people:
        stored = people.stored(channel)
        assert [seq for seq, _ in stored] == list(range(1, len(stored) + 1))
        acked = {**writers[0].acked, **writers[1].acked}
        assert len(acked) == sum(len(writer.acked) for writer in writers)
        assert acked == dict(stored)  # a message whose answer was lost was repeated: once each
        for reader in readers:
            received = [(f["seq"], f["content"]) for f in reader.take("message", len(stored))]
            assert received == stored
            assert reader.is_alive()
        sockets.admitted(ports[0], late)  # not spent by what was refused


@contextmanager
def standing_still(postgres: EmbeddedPostgres) -> Iterator[None]:
    """Not gone but frozen: every line stays open and nothing answers."""
    assert postgres.pid is not None
    frozen = []
    try:
        for pid in (postgres.pid, *children(postgres.pid)):
            with suppress(ProcessLookupError):  # a backend that has just ended
                os.kill(pid, signal.SIGSTOP)
                frozen.append(pid)
        yield
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("how", ["gone", "standing still"])
def test_a_gateway_that_cannot_check_its_sessions_closes_its_sockets_with_1013(
    own_postgres: EmbeddedPostgres, start_gateway: StartGateway, sockets: Sockets, how: str
) -> None:
    database = migrated(own_postgres)
    _, port = start_gateway(database, WS_UNVERIFIED_MAX_SECONDS="3")
    with People(database) as people:
        ada = people.person()
        channel = people.channel(ada)
        opened = [sockets.admitted(port, people.ticket(ada)) for _ in range(3)]
        later = people.ticket(ada, seconds=600)
        last = people.ticket(ada, seconds=600)
    if how == "gone":
        own_postgres.kill()
        assert_all_closed(opened)
        own_postgres.start()
    else:
        with standing_still(own_postgres):
            opened[0].say(channel, "not answered while it stands still")
            coming = sockets.open(port, later)
            assert_all_closed(opened)
            # Somebody who comes meanwhile is not left waiting either.
            assert coming.closed() == (1013, "at_capacity")
    wait_until(lambda: Http(port).get("/health/ready").status == 200, "it recovers", 20)
    assert sockets.admitted(port, last).is_alive()


def assert_all_closed(opened: list[TestSocket]) -> None:
    for each in opened:
        assert each.closed(10) == (1013, "at_capacity")
        assert each.unread[-1]["code"] == "at_capacity"


def test_one_bad_message_does_not_take_the_others_of_its_batch_down(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    """What Postgres objects to for a reason of its own: here, a trigger."""
    people.owner.execute(
        """
        CREATE FUNCTION object_to_bad() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.content = 'bad' THEN
                RAISE EXCEPTION 'bad content';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    people.owner.execute(
        "CREATE TRIGGER object_to_bad BEFORE INSERT ON chat_messages"
        " FOR EACH ROW EXECUTE FUNCTION object_to_bad()"
    )
    _, port = start_gateway(database)
    ada = people.person()
    channel = people.channel(ada)
    opened = sockets.admitted(port, people.ticket(ada))
    with database.connect() as other, other.transaction():
        other.execute("SELECT FROM chat_channels WHERE id = %s FOR UPDATE", (channel,))
        for number in range(10):
            opened.say(channel, "bad" if number == 6 else str(number))
        wait_until(lambda: people.waiting() == 1, "the batch waits for the channel")
    opened.take("ack", 9)
    assert opened.receive("error")["code"] == "internal_error"
    contents = [content for _, content in people.stored(channel)]
    assert contents == [str(number) for number in range(10) if number != 6]


def test_a_channel_that_somebody_keeps_locked_holds_up_no_other_channel_for_good(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    _, port = start_gateway(database)
    ada = people.person()
    locked, free = people.channel(ada), people.channel(ada)
    opened = sockets.admitted(port, people.ticket(ada))
    with database.connect() as other, other.transaction():
        other.execute("SELECT FROM chat_channels WHERE id = %s FOR UPDATE", (locked,))
        refused = opened.say(locked, "into the lock")
        accepted = opened.say(free, "past it")
        assert opened.receive("ack", client_msg_id=accepted)["seq"] == 1
        assert opened.receive("error", client_msg_id=refused)["code"] == "unavailable"
        assert people.stored(locked) == []
    # Nobody waits for that lock again before the clients were told to come back.
    opened.say(locked, "into the lock", refused)
    told = opened.receive("error", client_msg_id=refused)
    assert (told["code"], told["retry_after_seconds"]) == ("unavailable", 2)
    answer = told
    while answer["type"] == "error":
        time.sleep(0.1)  # a client's pause
        opened.say(locked, "into the lock", refused)
        answer = opened.receive_any()
    assert (answer["type"], answer["duplicate"]) == ("ack", False)


def test_subscribers_of_a_log_that_a_restored_backup_has_shortened_are_sent_back_to_resume(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    _, port = start_gateway(database)
    ada = people.person()
    channel, other = people.channel(ada), people.channel(ada)
    reader, elsewhere = (sockets.admitted(port, people.ticket(ada)) for _ in range(2))
    reader.subscribe(channel)
    elsewhere.subscribe(other)
    people.fill(ada, channel, 5, "before the backup was taken, and after it")
    reader.take("message", 5)
    with people.owner.transaction():
        people.owner.execute(
            "DELETE FROM chat_messages WHERE channel_id = %s AND seq > 3", (channel,)
        )
        people.owner.execute("UPDATE chat_channels SET last_seq = 3 WHERE id = %s", (channel,))
    assert reader.closed()[0] == 4408
    again = sockets.admitted(port, people.ticket(ada))
    answer = again.subscribe(channel, after_seq=5)
    assert (answer["recovered"], answer["last_seq"]) == (False, 3)
    people.fill(ada, channel, 1, "new")
    assert again.receive("message")["seq"] == 4
    assert elsewhere.is_alive()
