"""People who may no longer read a channel: live delivery to them ends where the log says so."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from db.members import remove_member
from tests.gateway.conftest import House, StartGateway
from tests.support.databases import Database
from tests.support.processes import wait_until
from tests.support.services import People, Person
from tests.support.sockets import Frame, Sockets, TestSocket


class Room:
    """Ada, who stays, and Bob, who may not; sockets on either gateway of the house."""

    def __init__(self, house: House, sockets: Sockets) -> None:
        self.people = house.people
        self._ports = house.ports
        self._sockets = sockets
        self.ada, self.bob = self.people.person("Ada"), self.people.person("Bob")
        self.channel = self.people.channel(self.ada, self.bob)

    def enter(self, person: Person, gateway: int = 0) -> TestSocket:
        return self._sockets.admitted(self._ports[gateway], self.people.ticket(person))

    def subscribed(self, person: Person, gateway: int = 0) -> TestSocket:
        opened = self.enter(person, gateway)
        opened.subscribe(self.channel)
        return opened

    def remove_bob(self) -> int:
        """As the API does; returns the seq of the entry that says so."""
        verdict = remove_member(
            self.people.owner,
            actor_id=self.bob.user_id,
            channel_id=self.channel,
            user_id=self.bob.user_id,
            request_id="of-a-test",
        )
        assert verdict == "removed"
        seq: int = self.people.one(
            "SELECT max(seq) FROM chat_messages WHERE channel_id = %s AND kind = 'left'",
            self.channel,
        )
        return seq

    def add_bob(self) -> None:
        self.people.owner.execute(
            "INSERT INTO chat_members (channel_id, user_id) VALUES (%s, %s)",
            (self.channel, self.bob.user_id),
        )


@pytest.fixture
def room(house: House, sockets: Sockets) -> Room:
    return Room(house, sockets)


def entries(frames: list[Frame]) -> list[int]:
    return [frame["seq"] for frame in frames if "seq" in frame and frame["type"] != "ack"]


def assert_cut_off(opened: TestSocket, channel: int, left: int) -> None:
    """Got `removed`, nothing that was committed after the removal, and gets nothing more."""
    if left:
        opened.receive("removed", channel_id=channel)
    opened.send("subscribe", channel_id=channel, after_seq=0, ref="again")
    assert opened.receive("error", ref="again")["code"] == "not_found"
    seen = entries(opened.unread)
    assert seen == list(range(min(seen, default=0), min(seen, default=0) + len(seen)))
    assert all(seq <= left for seq in seen)
    assert [frame for frame in opened.unread if frame["type"] == "removed"] == []


def test_delivery_to_a_removed_member_ends_at_once_on_all_instances(room: Room) -> None:
    bobs = [room.subscribed(room.bob, gateway) for gateway in (0, 0, 1)]
    ada = room.subscribed(room.ada)
    room.people.fill(room.ada, room.channel, 3, "before")
    left = room.remove_bob()
    room.people.fill(room.ada, room.channel, 3, "after")
    for opened in bobs:
        assert_cut_off(opened, room.channel, left)
        assert opened.is_alive()
    assert entries(ada.take("message", 6)) == [1, 2, 3, 5, 6, 7]


def test_not_one_message_of_after_the_removal_slips_through_while_many_are_written(
    room: Room,
) -> None:
    """Ada writes through the same gateway, which stores it before it can hear of the removal."""
    writers = [room.enter(room.ada, gateway) for gateway in (0, 1)]
    reader = room.subscribed(room.ada)
    stopping = threading.Event()

    def write(opened: TestSocket) -> int:
        count = 0
        while not stopping.is_set():
            for _ in range(10):
                opened.say(room.channel, "one of many")
            opened.take("ack", 10)
            count += 10
        return count

    with ThreadPoolExecutor(2) as threads:
        written = [threads.submit(write, opened) for opened in writers]
        try:
            for _ in range(8):
                bobs = [room.subscribed(room.bob, gateway) for gateway in (0, 1)]
                bobs[0].receive("message")
                left = room.remove_bob()
                for opened in bobs:
                    assert_cut_off(opened, room.channel, left)
                room.add_bob()
        finally:
            stopping.set()
        total = sum(future.result(30) for future in written)
    seen = entries(reader.take("message", total))
    assert len(seen) == total
    assert seen == sorted(seen)


def test_a_removal_in_the_middle_of_a_subscribe_is_not_overlooked(room: Room) -> None:
    for number in range(20):
        opened = room.enter(room.bob, number % 2)
        with ThreadPoolExecutor(1) as threads:
            removing = threads.submit(room.remove_bob)
            opened.send("subscribe", channel_id=room.channel)
            left = removing.result(10)
        answer = opened.receive_any()
        room.people.fill(room.ada, room.channel, 1, "after")
        if answer["type"] == "subscribed":
            assert_cut_off(opened, room.channel, left)
        else:
            assert answer["code"] == "not_found"
        room.add_bob()


def test_a_removal_between_the_check_and_the_joining_is_found_at_once(
    house: House, sockets: Sockets
) -> None:
    """The subscribe has been found allowed and waits for its entries, with the names of those who
    wrote them, while Bob is taken out. Once more where that took too long for the gateway, which
    then ends the socket, or where one of its sweeps came in between."""
    people = house.people
    for _ in range(5):
        room = Room(house, sockets)
        elsewhere, opened = room.subscribed(room.bob), room.enter(room.bob)
        with people.owner.transaction(), house.database.connect() as other:
            people.owner.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
            opened.send("subscribe", channel_id=room.channel, after_seq=0)
            wait_until(lambda: people.waiting() >= 1, "the subscribe waits")
            other.execute("DELETE FROM chat_members WHERE user_id = %s", (room.bob.user_id,))
            try:
                elsewhere.receive("removed")  # so the gateway has heard of it
            except AssertionError:  # a sweep waits for the same table, and all news for the sweep
                continue
        answer = opened.receive_any()
        if answer.get("code") != "unavailable":
            break
    assert (answer["type"], answer["code"]) == ("error", "not_found")


def test_who_is_added_again_may_subscribe_at_once_and_stays(room: Room) -> None:
    opened = room.subscribed(room.bob)
    for _ in range(5):
        room.remove_bob()
        opened.receive("removed")
        room.add_bob()
        opened.subscribe(room.channel, after_seq=0)
    room.people.fill(room.ada, room.channel, 1, "welcome back")
    assert opened.receive("message")["content"] == "welcome back"


def test_a_plain_delete_in_psql_cuts_delivery_on_both_instances_too(room: Room) -> None:
    bobs = [room.subscribed(room.bob, gateway) for gateway in (0, 1)]
    room.people.owner.execute(
        "DELETE FROM chat_members WHERE channel_id = %s AND user_id = %s",
        (room.channel, room.bob.user_id),
    )
    for opened in bobs:
        opened.receive("removed", channel_id=room.channel)
    room.people.fill(room.ada, room.channel, 3, "after")
    for opened in bobs:
        assert_cut_off(opened, room.channel, 0)


def test_a_removal_that_nobody_was_told_of_is_found_by_the_sweep(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    people.owner.execute("ALTER TABLE chat_members DISABLE TRIGGER USER")
    _, port = start_gateway(database)
    ada, bob = people.person("Ada"), people.person("Bob")
    channel, other = people.channel(ada, bob), people.channel(ada, bob)
    opened, staying = (sockets.admitted(port, people.ticket(one)) for one in (bob, ada))
    for each in (opened, staying):
        each.subscribe(channel)
        each.subscribe(other)
        each.subscribe(1)
    people.owner.execute(
        "DELETE FROM chat_members WHERE channel_id = %s AND user_id = %s", (channel, bob.user_id)
    )
    assert opened.receive("removed") == {"type": "removed", "channel_id": channel}
    people.fill(ada, channel, 1, "after")
    assert staying.receive("message")["content"] == "after"
    people.fill(ada, other, 1, "elsewhere")
    people.fill(ada, 1, 1, "to everybody")
    still = {frame["content"] for frame in opened.take("message", 2)}
    assert still == {"elsewhere", "to everybody"}
