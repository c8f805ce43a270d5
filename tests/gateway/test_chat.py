"""Talking: what is sent is stored, acknowledged and delivered, to everybody and in order."""

from __future__ import annotations

import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest

from tests.gateway.conftest import House, StartGateway
from tests.support.databases import Database
from tests.support.http_calls import Http
from tests.support.processes import wait_until
from tests.support.services import People, Person
from tests.support.sockets import Frame, Sockets, TestSocket

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


class Room:
    """Ada on one gateway and Bob on another, in a channel of their own."""

    def __init__(self, house: House, sockets: Sockets) -> None:
        self.people = house.people
        self.ports = house.ports
        self.sockets = sockets
        self.ada_user, self.bob_user = house.people.person("Ada"), house.people.person("Bob")
        self.channel = house.people.channel(self.ada_user, self.bob_user)
        self.ada = self.enter(self.ada_user, 0)
        self.bob = self.enter(self.bob_user, 1)

    def enter(self, person: Person, gateway: int) -> TestSocket:
        return self.sockets.admitted(self.ports[gateway], self.people.ticket(person))

    def fill(self, *contents: str) -> None:
        """Ada sends these and waits until all are stored."""
        for content in contents:
            self.ada.say(self.channel, content)
        self.ada.take("ack", len(contents))


@pytest.fixture
def room(house: House, sockets: Sockets) -> Room:
    return Room(house, sockets)


def seqs(frames: list[Frame]) -> list[int]:
    return [frame["seq"] for frame in frames]


class TestSending:
    def test_the_row_is_there_when_the_ack_arrives(self, room: Room) -> None:
        for number in range(1, 11):
            client_msg_id = room.ada.say(room.channel, f"message {number}")
            ack = room.ada.receive("ack")
            assert room.people.stored(room.channel)[-1] == (number, f"message {number}")
            assert RFC3339.fullmatch(ack.pop("created_at"))
            assert ack == {
                "type": "ack",
                "channel_id": room.channel,
                "client_msg_id": client_msg_id,
                "seq": number,
                "duplicate": False,
            }

    def test_it_reaches_another_person_on_another_gateway_and_the_sender(self, room: Room) -> None:
        room.ada.subscribe(room.channel)
        room.bob.subscribe(room.channel)
        client_msg_id = room.ada.say(room.channel, "hi")
        ack = room.ada.receive("ack")
        expected = {
            "type": "message",
            "channel_id": room.channel,
            "seq": 1,
            "sender_id": room.ada_user.user_id,
            "sender_name": "Ada",
            "content": "hi",
            "client_msg_id": client_msg_id,
            "created_at": ack["created_at"],
        }
        assert room.bob.receive("message") == expected
        assert room.ada.receive("message") == expected

    def test_one_may_send_without_being_subscribed(self, room: Room) -> None:
        room.fill("into the dark")
        assert room.ada.is_alive()
        assert room.ada.unread == []

    def test_the_global_channel_is_everybodys(self, room: Room) -> None:
        room.bob.subscribe(1)
        client_msg_id = room.ada.say(1, "hello, everybody")
        assert room.bob.receive("message", client_msg_id=client_msg_id)["channel_id"] == 1

    def test_a_message_posted_over_http_is_delivered_on_both_gateways(
        self, room: Room, house_api: Http
    ) -> None:
        room.ada.subscribe(room.channel)
        room.bob.subscribe(room.channel)
        posted = house_api.post(
            f"/chat/channels/{room.channel}/messages",
            {"client_msg_id": str(uuid.uuid4()), "content": "by post"},
            token=room.people.access_token(room.ada_user),
        )
        assert posted.status == 201
        for reader in (room.ada, room.bob):
            assert reader.receive("message")["content"] == "by post"

    def test_a_repeat_gives_the_first_ones_seq_and_is_delivered_once(self, room: Room) -> None:
        room.bob.subscribe(room.channel)
        client_msg_id = room.ada.say(room.channel, "once")
        first = room.ada.receive("ack")
        elsewhere = room.enter(room.ada_user, 1)
        for repeating in (room.ada, elsewhere):
            repeating.say(room.channel, "once", client_msg_id)
            assert repeating.receive("ack") == {**first, "duplicate": True}
        room.fill("and then")
        assert [frame["content"] for frame in room.bob.take("message", 2)] == ["once", "and then"]

    def test_the_same_id_with_other_content_is_a_conflict(self, room: Room) -> None:
        client_msg_id = room.ada.say(room.channel, "this")
        room.ada.receive("ack")
        room.ada.say(room.channel, "that", client_msg_id)
        assert room.ada.receive("error", client_msg_id=client_msg_id)["code"] == "conflict"
        assert room.people.stored(room.channel) == [(1, "this")]

    def test_two_people_may_use_the_same_id(self, room: Room) -> None:
        client_msg_id = room.ada.say(room.channel, "mine")
        assert room.ada.receive("ack")["duplicate"] is False
        room.bob.say(room.channel, "mine too", client_msg_id)
        assert room.bob.receive("ack")["duplicate"] is False

    @pytest.mark.parametrize("where", ["of others", "that does not exist"])
    def test_a_channel_that_is_not_yours_is_not_found(self, room: Room, where: str) -> None:
        channel = room.people.channel(room.bob_user) if where == "of others" else 2**53 - 1
        room.ada.say(channel, "let me in")
        assert room.ada.receive("error")["code"] == "not_found"
        room.ada.send("subscribe", channel_id=channel, ref="s")
        assert room.ada.receive("error", ref="s")["code"] == "not_found"

    def test_somebody_muted_is_told_for_how_long(self, room: Room) -> None:
        room.people.owner.execute(
            "UPDATE users SET muted_until = clock_timestamp() + interval '1 hour' WHERE id = %s",
            (room.ada_user.user_id,),
        )
        client_msg_id = room.ada.say(room.channel, "mmh")
        frame = room.ada.receive("error", client_msg_id=client_msg_id)
        assert frame["code"] == "muted"
        assert 3500 < frame["retry_after_seconds"] <= 3600

    @pytest.mark.parametrize(
        "content",
        [
            "x" * 2000,
            "\U0001f469\u200d\U0001f469\u200d\U0001f467" * 400,
            "\u05e9\u05dc\u05d5\u05dd \u202eabc\u202c \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
            "e\u0301 is not \u00e9",
            "\x01\x7f\u2028\ufeff\ufffd\U0010ffff",
            " two spaces and a tab\t\n",
            "'; DROP TABLE chat_messages; --",
            '{"type":"message"}',
        ],
        ids=["longest", "emoji", "scripts", "unnormalised", "odd", "spaces", "sql", "json"],
    )
    def test_content_is_delivered_as_it_was_sent(self, room: Room, content: str) -> None:
        room.bob.subscribe(room.channel)
        room.fill(content)
        assert room.bob.receive("message")["content"] == content
        assert room.people.stored(room.channel) == [(1, content)]

    def test_refs_come_back_on_every_kind_of_answer(self, room: Room) -> None:
        room.ada.send("subscribe", channel_id=room.channel, ref="a")
        room.ada.send("ping", ref="b")
        room.ada.send(
            "send", channel_id=room.channel, client_msg_id=str(uuid.uuid4()), content="x", ref="c"
        )
        room.ada.send("unsubscribe", channel_id=room.channel, ref="d" * 64)
        room.ada.send("nonsense", ref="")
        answers = {
            "subscribed": "a",
            "pong": "b",
            "ack": "c",
            "unsubscribed": "d" * 64,
            "error": "",
        }
        for kind, ref in answers.items():
            assert room.ada.receive(kind)["ref"] == ref

    def test_a_pong_tells_the_time(self, room: Room) -> None:
        room.ada.send("ping")
        pong = room.ada.receive("pong")
        assert set(pong) == {"type", "server_time"}
        assert RFC3339.fullmatch(pong["server_time"])
        datetime.fromisoformat(pong["server_time"])


class TestSubscribing:
    def test_without_after_seq_it_begins_now(self, room: Room) -> None:
        room.fill("old", "older")
        assert room.bob.subscribe(room.channel) == {
            "type": "subscribed",
            "channel_id": room.channel,
            "first_seq": 1,
            "last_seq": 2,
            "recovered": True,
            "entries": [],
        }
        room.fill("new")
        assert room.bob.receive("message")["seq"] == 3

    def test_of_an_empty_channel_the_first_seq_is_the_next_to_come(self, room: Room) -> None:
        answer = room.bob.subscribe(room.channel, after_seq=0)
        assert (answer["first_seq"], answer["last_seq"]) == (1, 0)
        assert (answer["recovered"], answer["entries"]) == (True, [])

    @pytest.mark.parametrize("after_seq", [0, 1, 4, 5])
    def test_with_after_seq_what_was_missed_comes_with_the_answer(
        self, room: Room, after_seq: int
    ) -> None:
        room.fill(*"abcde")
        answer = room.bob.subscribe(room.channel, after_seq=after_seq)
        assert (answer["recovered"], answer["last_seq"]) == (True, 5)
        assert seqs(answer["entries"]) == list(range(after_seq + 1, 6))
        assert [entry["content"] for entry in answer["entries"]] == list("abcde")[after_seq:]
        room.fill("f")
        assert room.bob.receive("message")["seq"] == 6

    def test_entries_in_the_answer_look_like_those_that_are_delivered(self, room: Room) -> None:
        room.ada.subscribe(room.channel)
        room.fill("the same")
        delivered = room.ada.receive("message")
        assert room.bob.subscribe(room.channel, after_seq=0)["entries"] == [delivered]

    def test_after_seq_beyond_the_end_is_not_recovered_and_gets_the_newest(
        self, room: Room
    ) -> None:
        room.fill("a", "b")
        answer = room.bob.subscribe(room.channel, after_seq=3)
        assert (answer["recovered"], answer["last_seq"]) == (False, 2)
        assert seqs(answer["entries"]) == [1, 2]

    def test_what_retention_took_is_not_recovered(self, room: Room) -> None:
        room.fill(*"abcd")
        room.people.owner.execute(
            "DELETE FROM chat_messages WHERE channel_id = %s AND seq <= 2", (room.channel,)
        )
        lost = room.bob.subscribe(room.channel, after_seq=1)
        assert (lost["recovered"], lost["first_seq"], seqs(lost["entries"])) == (False, 3, [3, 4])
        kept = room.bob.subscribe(room.channel, after_seq=2)
        assert (kept["recovered"], seqs(kept["entries"])) == (True, [3, 4])

    def test_subscribing_again_gives_no_entry_twice(self, room: Room) -> None:
        room.bob.subscribe(room.channel)
        room.bob.subscribe(room.channel, after_seq=0)
        room.fill("a")
        assert room.bob.receive("message")["seq"] == 1
        answer = room.bob.subscribe(room.channel, after_seq=0)
        assert seqs(answer["entries"]) == [1]
        room.fill("b")
        assert room.bob.receive("message")["seq"] == 2
        assert room.bob.is_alive()
        assert room.bob.unread == []

    def test_after_unsubscribing_nothing_comes_any_more(self, room: Room) -> None:
        room.bob.subscribe(room.channel)
        room.bob.send("unsubscribe", channel_id=room.channel)
        assert room.bob.receive("unsubscribed") == {
            "type": "unsubscribed",
            "channel_id": room.channel,
        }
        other = room.people.channel(room.ada_user, room.bob_user)
        room.bob.subscribe(other)
        room.fill("unheard")
        room.ada.say(other, "heard")
        assert room.bob.receive("message")["content"] == "heard"
        assert room.bob.unread == []

    def test_unsubscribing_from_what_one_never_subscribed_to_is_answered(self, room: Room) -> None:
        room.bob.send("unsubscribe", channel_id=room.channel)
        room.bob.receive("unsubscribed")

    def test_a_socket_that_is_gone_leaves_the_others_subscribed(self, room: Room) -> None:
        other = room.enter(room.bob_user, 1)
        other.subscribe(room.channel)
        room.bob.subscribe(room.channel)
        other.abort()
        room.fill("still here")
        assert room.bob.receive("message")["content"] == "still here"


class TestRecoveryLimits:
    def test_500_missed_messages_are_recovered_and_501_are_not(
        self, house: House, sockets: Sockets
    ) -> None:
        ada = house.people.person()
        channel = house.people.channel(ada)
        house.people.fill(ada, channel, 600, "short")
        opened = sockets.admitted(house.ports[1], house.people.ticket(ada))
        whole = opened.subscribe(channel, after_seq=100)
        assert (whole["recovered"], seqs(whole["entries"])) == (True, list(range(101, 601)))
        part = opened.subscribe(channel, after_seq=99)
        assert (part["recovered"], seqs(part["entries"])) == (False, list(range(101, 601)))

    def test_more_bytes_than_a_quarter_of_the_send_buffer_are_not_recovered(
        self, house: House, sockets: Sockets
    ) -> None:
        ada = house.people.person()
        channel = house.people.channel(ada)
        house.people.fill(ada, channel, 200, "\u0dba" * 2000)  # 6 KB each, 1.2 MB in all
        opened = sockets.admitted(house.ports[1], house.people.ticket(ada))
        part = opened.subscribe(channel, after_seq=0)
        assert part["recovered"] is False
        kept = seqs(part["entries"])
        assert kept == list(range(kept[0], 201))
        assert 30 < len(kept) < 43  # of 256 KB
        whole = opened.subscribe(channel, after_seq=kept[0] - 1)
        assert (whole["recovered"], seqs(whole["entries"])) == (True, kept)


def test_everybody_sees_one_order_without_gap_or_double_while_four_write_and_some_join(
    house: House, house_api: Http, sockets: Sockets
) -> None:
    """Four writers on two gateways and one over HTTP; readers from the start, and readers that
    join in the middle and resume from where an earlier socket of theirs was."""
    writers = [house.people.person(f"Writer {number}") for number in range(4)]
    poster, reader = house.people.person("Poster"), house.people.person("Reader")
    channel = house.people.channel(*writers, poster, reader)
    each, total = 120, 4 * 120 + 60

    def enter(person: Person, gateway: int) -> TestSocket:
        return sockets.admitted(house.ports[gateway], house.people.ticket(person))

    from_the_start = [enter(reader, gateway) for gateway in (0, 1)]
    for early in from_the_start:
        early.subscribe(channel)
    writing = [enter(person, number % 2) for number, person in enumerate(writers)]
    tickets = [house.people.ticket(reader) for _ in range(20)]

    def write(number: int) -> list[tuple[int, str]]:
        acked = []
        for start in range(0, each, 20):
            sent = {
                writing[number].say(channel, f"{number}/{i}"): f"{number}/{i}"
                for i in range(start, start + 20)
            }
            for ack in writing[number].take("ack", 20):
                acked.append((ack["seq"], sent[ack["client_msg_id"]]))
        return acked

    def post() -> list[tuple[int, str]]:
        token = house.people.access_token(poster)
        acked = []
        for i in range(60):
            answer = house_api.post(
                f"/chat/channels/{channel}/messages",
                {"client_msg_id": str(uuid.uuid4()), "content": f"post/{i}"},
                token=token,
            )
            acked.append((answer.json["seq"], f"post/{i}"))
        return acked

    def join(number: int) -> list[Frame]:
        """Waits for a few entries, leaves, comes back on the other gateway, reads to the end."""
        first = sockets.admitted(house.ports[number % 2], tickets[2 * number])
        seen: list[Frame] = first.subscribe(channel, after_seq=0)["entries"]
        seen += first.take("message", 10)
        first.abort()
        again = sockets.admitted(house.ports[1 - number % 2], tickets[2 * number + 1])
        answer = again.subscribe(channel, after_seq=seen[-1]["seq"])
        assert answer["recovered"] is True
        seen += answer["entries"]
        return seen + again.take("message", total - len(seen))

    with ThreadPoolExecutor(20) as threads:
        joining = [threads.submit(join, number) for number in range(10)]
        acking = [*(threads.submit(write, number) for number in range(4)), threads.submit(post)]
        acked = sorted(pair for future in acking for pair in future.result(60))
        joined = [future.result(60) for future in joining]
    stored = house.people.stored(channel)
    assert [seq for seq, _ in stored] == list(range(1, total + 1))
    assert acked == stored
    for early in from_the_start:
        assert shown(early.take("message", total)) == stored
    for seen in joined:
        assert shown(seen) == stored
    for number in range(4):  # a writer's own messages keep their order
        own = [content for _, content in stored if content.startswith(f"{number}/")]
        assert own == [f"{number}/{i}" for i in range(each)]
    for early in from_the_start:
        assert early.is_alive()
        assert early.unread == []


def shown(frames: list[Frame]) -> list[tuple[int, Any]]:
    return [(frame["seq"], frame["content"]) for frame in frames]


def test_a_socket_has_at_most_so_many_subscriptions(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    _, port = start_gateway(database, WS_MAX_SUBSCRIPTIONS="2")
    ada = people.person()
    opened = sockets.admitted(port, people.ticket(ada))
    first, second, third = (people.channel(ada) for _ in range(3))
    opened.subscribe(first)
    opened.subscribe(second)
    opened.send("subscribe", channel_id=third)
    assert opened.receive("error")["code"] == "conflict"
    opened.subscribe(second, after_seq=0)  # one that it has already
    opened.send("unsubscribe", channel_id=first)
    opened.receive("unsubscribed")
    opened.subscribe(third)


def test_what_is_stored_while_the_first_subscriber_joins_arrives_without_waiting_for_a_sweep(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    """The answer is held back between the reading of the log's end and the joining; what the
    gateway hears of meanwhile has nobody to go to yet."""
    _, port = start_gateway(database)
    for statement in (
        """
        CREATE FUNCTION hold_back() RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock_shared(4711);
            RETURN true;
        END $$
        """,
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
        # Only the gateway's reading of a sender's name passes here: functions run as the owner.
        "CREATE POLICY hold_back ON users TO gatehouse_gateway USING (hold_back())",
        "CREATE POLICY others ON users TO gatehouse_api USING (true)",
        "GRANT EXECUTE ON FUNCTION hold_back TO gatehouse_gateway",
    ):
        people.owner.execute(statement.encode())
    ada, bob = people.person("Ada"), people.person("Bob")
    writer = sockets.admitted(port, people.ticket(ada))
    reader = sockets.admitted(port, people.ticket(bob))
    # More than once: a sweep may happen to come in time, but not every time.
    for by_this_gateway in (True, False) * 4:
        channel = people.channel(ada, bob)
        people.fill(ada, channel, 1, "old")
        with database.connect() as holding:
            holding.execute("SELECT pg_advisory_lock(4711)")
            reader.send("subscribe", channel_id=channel, after_seq=0)
            wait_until(lambda: people.waiting() >= 1, "the answer is held back")
            if by_this_gateway:
                writer.say(channel, "new")
                writer.receive("ack", channel_id=channel)
            else:
                people.fill(ada, channel, 1, "new")
        assert seqs(reader.receive("subscribed", channel_id=channel)["entries"]) == [1]
        assert reader.receive("message", channel_id=channel, seconds=1.0)["seq"] == 2
