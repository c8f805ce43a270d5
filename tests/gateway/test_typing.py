"""Typing: shown to others on every instance, cheap, and never in anybody's way."""

from __future__ import annotations

import time

from tests.gateway.conftest import House, StartGateway
from tests.support.databases import Database
from tests.support.processes import wait_until
from tests.support.services import People, Person
from tests.support.sockets import Frame, Sockets, TestSocket


class Room:
    """A group of Ada, Bob and Cleo, with sockets on both gateways of the house."""

    def __init__(self, house: House, sockets: Sockets) -> None:
        self.house = house
        self.people = house.people
        self._sockets = sockets
        self.ada, self.bob = self.people.person("Ada"), self.people.person("Bob")
        self.channel = self.people.channel(self.ada, self.bob)

    def enter(self, person: Person, instance: int = 0) -> TestSocket:
        opened = self._sockets.admitted(self.house.ports[instance], self.people.ticket(person))
        opened.send("subscribe", channel_id=self.channel)
        opened.receive_any()
        return opened

    def heard_before_a_message(self, listener: TestSocket, writer: Person) -> list[Frame]:
        """The typing frames that came until the next message did, and a while after typing."""
        self.people.fill(writer, self.channel, 1, "a message")
        listener.receive("message")
        heard = [frame for frame in listener.unread if frame["type"] == "typing"]
        listener.unread = [frame for frame in listener.unread if frame["type"] != "typing"]
        return heard


def test_others_on_all_instances_see_it_and_the_typist_does_not(
    house: House, sockets: Sockets
) -> None:
    room = Room(house, sockets)
    typist, typist_elsewhere = room.enter(room.ada), room.enter(room.ada, 1)
    readers = [room.enter(room.bob), room.enter(room.bob, 1)]
    typist.send("typing", channel_id=room.channel)
    expected = {"type": "typing", "channel_id": room.channel, "user_id": room.ada.user_id}
    for reader in readers:
        assert reader.receive("typing") == expected
    for own in (typist, typist_elsewhere):
        assert room.heard_before_a_message(own, room.bob) == []


def test_it_comes_at_most_once_in_three_seconds_however_often_and_wherever_it_is_said(
    house: House, sockets: Sockets
) -> None:
    room = Room(house, sockets)
    typists = [room.enter(room.ada), room.enter(room.ada, 1)]
    marker, reader = room.enter(room.bob), room.enter(room.bob, 1)
    for _ in range(20):
        for typist in typists:
            typist.send("typing", channel_id=room.channel)
    assert all(typist.is_alive() for typist in typists)
    # What Bob's other socket says comes later on the same way.
    reader.receive("typing", user_id=room.ada.user_id)
    marker.send("typing", channel_id=room.channel)
    typists[0].receive("typing", user_id=room.bob.user_id)
    assert room.heard_before_a_message(reader, room.ada) == []


def test_whoever_types_in_two_channels_is_seen_in_one_of_them(
    house: House, sockets: Sockets
) -> None:
    room = Room(house, sockets)
    elsewhere = room.people.channel(room.ada, room.bob)
    typists = [room.enter(room.ada), room.enter(room.ada, 1)]
    reader = room.enter(room.bob)
    reader.subscribe(elsewhere)
    typists[0].send("typing", channel_id=room.channel)
    reader.receive("typing", channel_id=room.channel)
    for typist in typists:
        typist.send("typing", channel_id=elsewhere)
    marker = room.enter(room.bob, 1)
    marker.send("typing", channel_id=room.channel)
    typists[0].receive("typing", user_id=room.bob.user_id)
    assert room.heard_before_a_message(reader, room.ada) == []


def test_strangers_muted_people_and_ended_sessions_are_not_seen_typing(
    house: House, sockets: Sockets
) -> None:
    room = Room(house, sockets)
    people = house.people
    muted, stranger = people.person("Muted"), people.person("Stranger")
    people.owner.execute(
        "INSERT INTO chat_members (channel_id, user_id) VALUES (%s, %s)",
        (room.channel, muted.user_id),
    )
    people.owner.execute(
        "UPDATE users SET muted_until = clock_timestamp() + interval '1 hour' WHERE id = %s",
        (muted.user_id,),
    )
    reader = room.enter(room.bob)
    for person in (muted, stranger):
        opened = sockets.admitted(house.ports[0], people.ticket(person))
        opened.send("typing", channel_id=room.channel)
        assert opened.is_alive()
        assert opened.unread == []  # not even told
    allowed = room.enter(room.ada)
    allowed.send("typing", channel_id=room.channel)
    assert reader.receive("typing")["user_id"] == room.ada.user_id
    assert room.heard_before_a_message(reader, room.ada) == []


def test_a_flood_of_it_makes_few_notifications_and_nothing_else_waits(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    _, port = start_gateway(database, WS_MAX_FRAMES_PER_SECOND="100000")
    crowd = [people.person() for _ in range(100)]
    channels = [people.channel(*crowd) for _ in range(5)]
    with database.connect() as listening:
        listening.execute("LISTEN gatehouse_typing")
        opened = [sockets.admitted(port, people.ticket(person)) for person in crowd]
        started = time.monotonic()
        for each in opened:
            for channel in channels:
                each.send("typing", channel_id=channel)
            assert each.is_alive()  # so that they come one after the other
        opened[0].say(channels[0], "meanwhile")
        opened[0].receive("ack")
        payloads = [note.payload for note in listening.notifies(timeout=1.5)]
        seconds = time.monotonic() - started
    pairs = [pair for payload in payloads for pair in payload.split()]
    assert 0 < len(payloads) <= 4 * seconds + 1  # 500 were said
    assert len(set(pairs)) == len(pairs) <= 100
    assert max(len(payload.split()) for payload in payloads) <= 100
    wait_until(lambda: people.waiting() == 0, "nobody waits")
    assert people.one("SELECT count(*) FROM chat_messages") == 1
