"""A publish drain as sockets see it: told, silenced at the deadline, closed, whoever was killed."""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from db.drains import cancel_drain, start_drain
from db.operators import Operator
from rules.times import read_rfc3339
from tests.gateway.conftest import House, StartGateway, open_house
from tests.support.cluster import Cluster
from tests.support.databases import Database
from tests.support.processes import Processes, wait_until
from tests.support.services import People, Person, gateway_environment
from tests.support.sockets import Sockets, TestSocket

DRAINED = (4510, "drained")
OLGA = Operator("olga", None)
# Set it to 500 for the figures in docs/operators.md, and run pytest with -s.
CROWD = int(os.environ.get("GATEHOUSE_DRAINED_SOCKETS", "60"))


def start(database: Database, grace: int, reason: str = "2.0 is out") -> int:
    with database.connect("api") as api, api.transaction():
        drain_id = start_drain(api, OLGA, reason, scope="all", grace_seconds=grace)
    assert drain_id is not None
    return drain_id


def cancel(database: Database, drain_id: int) -> str:
    with database.connect("api") as api, api.transaction():
        return cancel_drain(api, OLGA, None, drain_id)[0]


def status(people: People, drain_id: int) -> str:
    found: str = people.one("SELECT status FROM publish_drain_events WHERE id = %s", drain_id)
    return found


def receipts(people: People, drain_id: int) -> dict[int, dict[str, Any]]:
    rows = people.owner.execute(
        "SELECT session_id, notified_at, acked_at, closed_at, revoked_at, outcome"
        " FROM publish_drain_session_audit WHERE drain_id = %s",
        [drain_id],
    ).fetchall()
    names = ("notified_at", "acked_at", "closed_at", "revoked_at", "outcome")
    return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows}


def seconds_past(people: People, drain_id: int) -> float:
    """From the deadline to now, by the database's clock."""
    seconds: float = people.one(
        "SELECT extract(epoch FROM clock_timestamp() - deadline)::float8"
        " FROM publish_drain_events WHERE id = %s",
        drain_id,
    )
    return seconds


@pytest.fixture(scope="module")
def own_house(cluster: Cluster, admin_connection: psycopg.Connection[Any]) -> Iterator[House]:
    """A drain concerns everybody who is there."""
    with open_house(cluster, admin_connection) as house:
        yield house


@pytest.fixture
def gatehouse(own_house: House) -> Iterator[House]:
    yield own_house
    people = own_house.people
    active = people.owner.execute(
        "SELECT id FROM publish_drain_events WHERE status = 'draining'"
    ).fetchone()
    if active is not None and cancel(own_house.database, active[0]) != "cancelled":
        wait_until(lambda: status(people, active[0]) != "draining", "the drain has ended", 20)


class TestTheFrames:
    def test_everybody_is_told_at_once_warned_and_closed_at_the_deadline(
        self, gatehouse: House, sockets: Sockets
    ) -> None:
        people = gatehouse.people
        persons = [people.person() for _ in range(4)]
        opened = [
            sockets.admitted(gatehouse.ports[number % 2], people.ticket(person))
            for number, person in enumerate(persons)
        ]
        drain_id = start(gatehouse.database, grace=2)
        for each in opened:
            frame = each.receive("drain_started", event_id=drain_id)
            assert frame["reason"] == "2.0 is out"
            assert frame["seconds_remaining"] in (1, 2)
            assert read_rfc3339(frame["deadline"]) is not None
        opened[0].send("drain_ack", event_id=drain_id, ref="saved")
        assert opened[0].receive("drain_acked") == {
            "type": "drain_acked",
            "event_id": drain_id,
            "ref": "saved",
        }
        for each in opened:
            assert each.closed() == DRAINED
            assert each.unread[-1]["code"] == "drained"
        assert 0 <= seconds_past(people, drain_id) < 5
        wait_until(lambda: status(people, drain_id) == "completed", "it is completed", 15)
        kept = receipts(people, drain_id)
        assert [kept[person.session_id]["outcome"] for person in persons] == [
            *("acked", "closed", "closed", "closed")
        ]
        for person in persons:
            receipt = kept[person.session_id]
            assert receipt["notified_at"] < receipt["closed_at"] < receipt["revoked_at"]

    def test_without_warnings_it_begins_and_ends_all_the_same(
        self, database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
    ) -> None:
        _, port = start_gateway(database, DRAIN_WARNING_SECONDS="")
        opened = sockets.admitted(port, people.ticket(people.person()))
        drain_id = start(database, grace=2)
        opened.receive("drain_started")
        assert opened.closed(10) == (4510, "drained")
        assert not [frame for frame in opened.unread if frame["type"] == "drain_warning"]
        wait_until(lambda: status(people, drain_id) == "completed", "it is completed", 15)

    def test_warnings_come_at_the_seconds_that_are_set(
        self, database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
    ) -> None:
        _, port = start_gateway(database, DRAIN_WARNING_SECONDS="60,2,1")
        opened = sockets.admitted(port, people.ticket(people.person()))
        drain_id = start(database, grace=3)
        opened.receive("drain_started")
        remaining = [
            opened.receive("drain_warning", event_id=drain_id)["seconds_remaining"]
            for _ in range(2)
        ]
        assert remaining == [2, 1]
        assert opened.closed() == DRAINED

    def test_who_connects_during_the_drain_is_told_by_connected(
        self, gatehouse: House, sockets: Sockets
    ) -> None:
        people = gatehouse.people
        ada = people.person()
        drain_id = start(gatehouse.database, grace=60)
        for port in gatehouse.ports:

            def said(port: int = port) -> bool:
                drain = sockets.open(port, people.ticket(ada)).receive("connected")["drain"]
                return drain is not None and drain["event_id"] == drain_id

            wait_until(said, "connected says so")
        late = people.person()  # somebody who logs in now
        opened = sockets.open(gatehouse.ports[0], people.ticket(late))
        assert opened.receive("connected")["drain"]["event_id"] == drain_id
        wait_until(
            lambda: receipts(people, drain_id)[late.session_id]["notified_at"], "it is written"
        )

    def test_of_those_who_connect_while_it_begins_everybody_is_told(
        self, gatehouse: House, sockets: Sockets
    ) -> None:
        people = gatehouse.people
        tickets = [people.ticket(people.person()) for _ in range(40)]
        begun: list[int] = []

        def come(number: int) -> TestSocket:
            if number == 20:
                begun.append(start(gatehouse.database, grace=60))
            return sockets.open(gatehouse.ports[number % 2], tickets[number])

        with ThreadPoolExecutor(8) as pool:
            opened = list(pool.map(come, range(len(tickets))))
        for each in opened:
            if each.receive_any()["drain"] is None:  # connected always comes first
                each.receive("drain_started", event_id=begun[0])

    def test_when_it_is_cancelled_everybody_is_told_and_stays(
        self, gatehouse: House, sockets: Sockets
    ) -> None:
        people = gatehouse.people
        ada = people.person()
        opened = sockets.admitted(gatehouse.ports[0], people.ticket(ada))
        drain_id = start(gatehouse.database, grace=1)
        opened.receive("drain_started")
        assert cancel(gatehouse.database, drain_id) == "cancelled"
        opened.receive("drain_cancelled", event_id=drain_id)
        wait_until(lambda: seconds_past(people, drain_id) > 0.5, "its deadline would be over")
        assert opened.is_alive()
        assert receipts(people, drain_id)[ada.session_id]["outcome"] == "cancelled"

    def test_an_ack_of_a_drain_that_does_not_hold_the_session_is_refused(
        self, gatehouse: House, sockets: Sockets
    ) -> None:
        opened = sockets.admitted(
            gatehouse.ports[0], gatehouse.people.ticket(gatehouse.people.person())
        )
        opened.send("drain_ack", event_id=2**40, ref="x")
        assert opened.receive("error", ref="x")["code"] == "not_found"

    def test_admins_stay(self, gatehouse: House, sockets: Sockets) -> None:
        people = gatehouse.people
        admin, ada = people.person(), people.person()
        people.owner.execute("UPDATE users SET is_admin = true WHERE id = %s", [admin.user_id])
        theirs, hers = (
            sockets.admitted(gatehouse.ports[0], people.ticket(who)) for who in (admin, ada)
        )
        start(gatehouse.database, grace=1)
        assert hers.closed() == DRAINED
        assert theirs.is_alive()
        assert theirs.unread == []

    def test_where_no_notification_comes_everybody_is_out_within_five_seconds(
        self, gatehouse: House, sockets: Sockets
    ) -> None:
        people = gatehouse.people
        triggers = (
            ("publish_drain_events", "drains_changed"),
            ("user_sessions", "sessions_updated"),
        )
        for table, trigger in triggers:
            people.owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}")
        try:
            opened = [
                sockets.admitted(gatehouse.ports[number % 2], people.ticket(people.person()))
                for number in range(6)
            ]
            drain_id = start(gatehouse.database, grace=0)
            for each in opened:
                assert each.closed() == DRAINED
            assert seconds_past(people, drain_id) < 5
        finally:
            for table, trigger in triggers:
                people.owner.execute(f"ALTER TABLE {table} ENABLE TRIGGER {trigger}")


class TestAtTheDeadline:
    def test_nothing_is_delivered_or_accepted_any_more(
        self, gatehouse: House, sockets: Sockets
    ) -> None:
        people = gatehouse.people
        writer, listener = people.person("Wanda"), people.person("Lin")
        admin = people.person("Root")
        people.owner.execute("UPDATE users SET is_admin = true WHERE id = %s", [admin.user_id])
        room = people.channel(writer, listener, admin)
        theirs = sockets.admitted(gatehouse.ports[0], people.ticket(admin))
        hers = sockets.admitted(gatehouse.ports[0], people.ticket(writer))
        his = sockets.admitted(gatehouse.ports[1], people.ticket(listener))
        for each in (theirs, hers, his):
            each.subscribe(room)
        drain_id = start(gatehouse.database, grace=2)
        deadline = people.one("SELECT deadline FROM publish_drain_events WHERE id = %s", drain_id)
        # An admin who stays writes on, and so does somebody who is drained, past the deadline.
        while seconds_past(people, drain_id) < 0.3:
            theirs.say(room, "admin")
            try:
                hers.say(room, "drained")
            except ConnectionClosed:
                break
            time.sleep(0.005)
        for each in (hers, his):
            assert each.closed() == DRAINED
            for frame in each.unread:
                if frame["type"] == "message":
                    made_at = read_rfc3339(frame["created_at"])
                    assert made_at is not None
                    assert made_at < deadline
        late = people.one(
            "SELECT count(*) FROM chat_messages WHERE channel_id = %s AND sender_id = %s"
            " AND created_at >= %s",
            *(room, writer.user_id, deadline),
        )
        assert late == 0
        stayed = people.one(
            "SELECT count(*) FROM chat_messages WHERE channel_id = %s AND sender_id = %s"
            " AND created_at >= %s",
            *(room, admin.user_id, deadline),
        )
        assert stayed > 0

    def test_when_all_gateways_were_down_one_that_starts_later_finishes_it(
        self, database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
    ) -> None:
        running = [start_gateway(database) for _ in range(2)]
        persons = [people.person() for _ in range(6)]
        tickets = [people.ticket(person) for person in persons]
        spare = [people.ticket(person) for person in persons]
        opened = [
            sockets.admitted(running[number % 2][1], ticket)
            for number, ticket in enumerate(tickets)
        ]
        drain_id = start(database, grace=2)
        for each in opened:
            each.receive("drain_started")
        opened[0].send("drain_ack", event_id=drain_id)
        opened[0].receive("drain_acked")
        for process, _ in running:
            process.kill()
        wait_until(lambda: seconds_past(people, drain_id) > 0, "the deadline is over")
        assert status(people, drain_id) == "draining"
        _, port = start_gateway(database)
        # Before it has finished the drain, and after that.
        assert sockets.open(port, spare[0]).closed()[0] == 4401
        # Whoever was killed counts until its heartbeat is old: its sockets might still be there.
        wait_until(lambda: status(people, drain_id) == "completed", "it is completed", 20)
        assert sockets.open(port, spare[1]).closed()[0] == 4401
        kept = receipts(people, drain_id)
        assert kept[persons[0].session_id]["outcome"] == "acked"
        assert len(kept) == 6
        assert all(receipt["revoked_at"] is not None for receipt in kept.values())
        announced = people.one(
            "SELECT count(*) FROM admin_action_audit WHERE action = 'drain.complete'"
        )
        assert announced == 1


class TestTheEnd:
    def test_that_takes_longer_than_a_statement_may_comes_all_the_same(
        self, database: Database, people: People, start_gateway: StartGateway
    ) -> None:
        people.person()
        people.owner.execute(
            "CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN PERFORM pg_sleep(0.6); RETURN NULL; END'"
        )
        people.owner.execute(
            "CREATE TRIGGER takes_time AFTER UPDATE OF drained_at ON user_sessions"
            " FOR EACH STATEMENT EXECUTE FUNCTION take_time()"
        )
        start_gateway(database, DB_STATEMENT_TIMEOUT_MS="300")
        drain_id = start(database, grace=0)
        wait_until(lambda: status(people, drain_id) == "completed", "it is completed", 10)

    def test_that_fails_is_tried_again_ever_more_rarely(
        self, database: Database, people: People, start_gateway: StartGateway
    ) -> None:
        people.person()
        people.owner.execute("REVOKE EXECUTE ON FUNCTION finish_drain FROM gatehouse_gateway")
        gateway, _ = start_gateway(database)
        drain_id = start(database, grace=0)

        def failures() -> list[float]:
            return [
                datetime.fromisoformat(entry["time"]).timestamp()
                for entry in gateway.log
                if entry["message"].startswith("a drain waits for the database")
            ]

        wait_until(lambda: len(failures()) >= 4, "it has been tried", 20)
        first, *_, fourth = failures()[:4]
        assert fourth - first > 5  # after 1, 2 and 4 s: a busy machine can only make it longer
        people.owner.execute("GRANT EXECUTE ON FUNCTION finish_drain TO gatehouse_gateway")
        wait_until(lambda: status(people, drain_id) == "completed", "it is completed", 20)


@dataclass(slots=True)
class Guest:
    """A client that does what docs/clients.md asks for: comes back when its socket breaks, acks."""

    person: Person
    is_acked: bool = False
    latest: datetime | None = None  # created_at of the last message that it was given
    end: tuple[int, str] | None = None
    ended_after: float = 0.0  # seconds after the deadline

    async def stay(self, people: People, ports: Sequence[int], drain: Drain) -> None:
        """Until the drain puts it out."""
        while self.end is None or self.end[0] < 4400:
            port = ports[(self.person.user_id + int(self.end is not None)) % 2]
            ticket = people.ticket(self.person)
            try:
                async with connect(
                    f"ws://127.0.0.1:{port}/ws",
                    subprotocols=[Subprotocol("gatehouse.v1"), Subprotocol(f"ticket.{ticket}")],
                    compression=None,
                    ping_interval=None,
                ) as socket:
                    await socket.send('{"type":"subscribe","channel_id":1}')
                    while True:
                        await self.heard(json.loads(await socket.recv()), socket)
            except ConnectionClosed as error:
                self.end = (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "")
                self.ended_after = drain.seconds_past()
            except (OSError, InvalidHandshake, TimeoutError):
                self.end = (1006, "")
                await asyncio.sleep(0.2)

    async def heard(self, frame: dict[str, Any], socket: ClientConnection) -> None:
        drain = frame["drain"] if frame["type"] == "connected" else frame
        if drain is not None and drain.get("seconds_remaining") is not None:
            await socket.send(json.dumps({"type": "drain_ack", "event_id": drain["event_id"]}))
        if frame["type"] == "drain_acked":
            self.is_acked = True
        elif frame["type"] == "message":
            self.latest = read_rfc3339(frame["created_at"])


@dataclass(slots=True)
class Drain:
    people: People
    deadline: datetime | None = None

    def seconds_past(self) -> float:
        """By the database's clock; minus infinity before it has begun."""
        if self.deadline is None:
            return -math.inf
        now: datetime = self.people.one("SELECT clock_timestamp()")
        return (now - self.deadline).total_seconds()


def test_a_crowd_is_drained_while_both_gateways_are_killed_and_started_again(
    database: Database, people: People, processes: Processes
) -> None:
    grace = 10 if CROWD <= 100 else 40
    environment = gateway_environment(database)
    running = [processes.start_service("wsgateway", environment) for _ in range(2)]
    ports = [port for _, port in running]
    guests = [Guest(people.person()) for _ in range(CROWD)]
    admin = people.person("Root")
    people.owner.execute("UPDATE users SET is_admin = true WHERE id = %s", [admin.user_id])
    drain = Drain(people)

    async def everybody() -> None:
        await asyncio.gather(*(guest.stay(people, ports, drain) for guest in guests))

    with ThreadPoolExecutor(1) as pool:
        staying = pool.submit(asyncio.run, everybody())
        connected = "SELECT count(*) >= %s FROM gateway_connections"
        wait_until(lambda: people.one(connected, CROWD), "everybody is there", 60)
        drain_id = start(database, grace)
        drain.deadline = people.one(
            "SELECT deadline FROM publish_drain_events WHERE id = %s", drain_id
        )
        for number in (0, 1):
            time.sleep(grace / 8)
            running[number][0].kill()
            processes.start_service("wsgateway", environment, ports[number])
        # Somebody who stays writes to everybody all the time, past the deadline.
        while drain.seconds_past() < 5:
            people.fill(admin, 1, 1, "hello")
            time.sleep(0.02)
        assert [guest for guest in guests if guest.end is None] == []
        staying.result(20)
    wait_until(lambda: status(people, drain_id) == "completed", "it is completed", 20)
    kept = receipts(people, drain_id)
    assert set(kept) == {guest.person.session_id for guest in guests}
    assert all(receipt["revoked_at"] for receipt in kept.values())
    assert drain.deadline is not None
    for guest in guests:
        assert guest.end == DRAINED
        assert guest.ended_after < 5
        assert guest.latest is None or guest.latest < drain.deadline
        wanted = {"acked"} if guest.is_acked else {"acked", "closed"}
        assert kept[guest.person.session_id]["outcome"] in wanted
    outcomes = Counter(receipt["outcome"] for receipt in kept.values())
    last = max(guest.ended_after for guest in guests)
    print(  # noqa: T201 - the figures
        f"{CROWD} sockets: {dict(outcomes)}; the last one closed {last:.2f} s after the deadline"
    )
    alive = "SELECT count(*) FROM live_sessions WHERE session_id <> %s"
    assert people.one(alive, admin.session_id) == 0
