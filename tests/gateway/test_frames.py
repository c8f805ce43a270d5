"""What a client may send, and what becomes of it when it sends something else."""

from __future__ import annotations

import json
import uuid
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from tests.gateway.conftest import House, StartGateway
from tests.support.databases import Database
from tests.support.http_calls import Http
from tests.support.processes import wait_until
from tests.support.services import People
from tests.support.sockets import Sockets, TestSocket

ID = "8c6f0d8e-52a4-4b0e-9a3e-0d3a5c1f2b47"
SEND = {"type": "send", "channel_id": 1, "client_msg_id": ID, "content": "x"}


@pytest.fixture
def opened(house: House, sockets: Sockets) -> TestSocket:
    return sockets.admitted(house.ports[0], house.people.ticket(house.people.person()))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "null",
        "[]",
        '"ping"',
        "1",
        "{",
        '{"type":"ping"} {}',
        "{'type':'ping'}",
        '{"type":"ping","type":"ping"}',
        '{"type":NaN}',
        '{"type":"ping","ref":Infinity}',
        "[" * 30_000,
        '{"type":' + "[" * 33 + "]" * 33 + "}",
        '{"a":' * 5000 + "1" + "}" * 5000,
        "\ufeff" + '{"type":"ping"}',
    ],
    ids=repr,
)
def test_what_is_no_json_object_is_answered_and_the_socket_stays(
    opened: TestSocket, text: str
) -> None:
    opened.connection.send(text)
    frame = opened.receive("error")
    assert frame["code"] == "malformed_json"
    assert set(frame) == {"type", "code", "message"}
    assert opened.is_alive()


@pytest.mark.parametrize(
    ("frame", "code", "named"),
    [
        ({}, "validation_failed", "type"),
        ({"type": 1}, "validation_failed", "type"),
        ({"type": None}, "validation_failed", "type"),
        ({"type": "shout"}, "invalid_request", "shout"),
        ({"type": "Ping"}, "invalid_request", "Ping"),
        ({"type": "connected"}, "invalid_request", "connected"),
        ({"type": "__class__"}, "invalid_request", "__class__"),
        ({"type": "x" * 30_000}, "invalid_request", "x"),
        ({"type": "ping", "extra": 1}, "validation_failed", "extra"),
        ({"type": "ping", "ref": 1}, "validation_failed", "ref"),
        ({"type": "ping", "ref": None}, "validation_failed", "ref"),
        ({"type": "ping", "ref": "r" * 65}, "validation_failed", "ref"),
        ({"type": "ping", "ref": "\x00"}, "validation_failed", "ref"),
        ({"type": "ping", "ref": "\ud800"}, "validation_failed", "ref"),
        ({"type": "subscribe"}, "validation_failed", "channel_id"),
        ({"type": "subscribe", "channel_id": "1"}, "validation_failed", "channel_id"),
        ({"type": "subscribe", "channel_id": True}, "validation_failed", "channel_id"),
        ({"type": "subscribe", "channel_id": 1.0}, "validation_failed", "channel_id"),
        ({"type": "subscribe", "channel_id": 0}, "validation_failed", "channel_id"),
        ({"type": "subscribe", "channel_id": -1}, "validation_failed", "channel_id"),
        ({"type": "subscribe", "channel_id": 2**53}, "validation_failed", "channel_id"),
        ({"type": "subscribe", "channel_id": 10**400}, "validation_failed", "channel_id"),
        (
            {"type": "subscribe", "channel_id": 1, "after_seq": -1},
            "validation_failed",
            "after_seq",
        ),
        (
            {"type": "subscribe", "channel_id": 1, "after_seq": None},
            "validation_failed",
            "after_seq",
        ),
        ({"type": "unsubscribe"}, "validation_failed", "channel_id"),
        ({"type": "unsubscribe", "channel_id": [1]}, "validation_failed", "channel_id"),
        ({**SEND, "content": ""}, "validation_failed", "content"),
        ({**SEND, "content": " \t\n\u3000"}, "validation_failed", "content"),
        ({**SEND, "content": "x" * 2001}, "validation_failed", "content"),
        ({**SEND, "content": "\U0001f600" * 2001}, "validation_failed", "content"),
        ({**SEND, "content": "a\x00b"}, "validation_failed", "content"),
        ({**SEND, "content": "\udc00"}, "validation_failed", "content"),
        ({**SEND, "content": {"text": "x"}}, "validation_failed", "content"),
        ({**SEND, "client_msg_id": "1"}, "validation_failed", "client_msg_id"),
        ({**SEND, "client_msg_id": ID.replace("-", "")}, "validation_failed", "client_msg_id"),
        ({**SEND, "client_msg_id": "{" + ID + "}"}, "validation_failed", "client_msg_id"),
        ({**SEND, "client_msg_id": 7}, "validation_failed", "client_msg_id"),
        ({**SEND, "sender_id": 1}, "validation_failed", "sender_id"),
    ],
    ids=lambda value: str(value)[:70],
)
def test_a_frame_with_something_wrong_is_answered_with_what_is_wrong(
    opened: TestSocket, frame: dict[str, Any], code: str, named: str
) -> None:
    opened.connection.send(json.dumps(frame))
    answer = opened.receive("error")
    assert answer["code"] == code
    assert named in answer["message"]
    assert opened.is_alive()


def test_a_refused_frame_is_named_by_its_ref_and_client_msg_id(opened: TestSocket) -> None:
    opened.connection.send(json.dumps({**SEND, "content": "", "ref": "r1"}))
    answer = opened.receive("error")
    assert (answer["ref"], answer["client_msg_id"]) == ("r1", ID)


def test_an_uppercase_id_is_the_same_id_and_is_answered_as_it_was_sent(
    opened: TestSocket, house: House
) -> None:
    opened.subscribe(1)
    client_msg_id = str(uuid.uuid4())
    opened.say(1, "one", client_msg_id.upper())
    assert opened.receive("ack")["client_msg_id"] == client_msg_id.upper()
    assert opened.receive("message")["client_msg_id"] == client_msg_id
    opened.say(1, "one", client_msg_id)
    repeated = opened.receive("ack")
    assert (repeated["client_msg_id"], repeated["duplicate"]) == (client_msg_id, True)
    opened.say(1, "two", client_msg_id.upper())
    refused = opened.receive("error")
    assert (refused["client_msg_id"], refused["code"]) == (client_msg_id.upper(), "conflict")


def test_a_binary_frame_closes_with_1003(opened: TestSocket) -> None:
    opened.connection.send(b'{"type":"ping"}')
    assert opened.closed() == (1003, "unsupported_data")
    assert [frame["code"] for frame in opened.unread] == ["unsupported_data"]


def test_bad_utf8_closes_with_1007(opened: TestSocket) -> None:
    opened.connection.send(b'{"type":"\xff"}', text=True)
    assert opened.closed()[0] == 1007


def test_a_message_of_the_largest_size_is_read_and_one_byte_more_closes_with_1009(
    house: House, sockets: Sockets
) -> None:
    ticket = house.people.ticket(house.people.person())
    opened = sockets.admitted(house.ports[0], ticket)
    ping = '{"type":"ping"'
    opened.connection.send(ping + " " * (32768 - len(ping) - 1) + "}")
    opened.receive("pong")
    opened.connection.send(ping + " " * (32768 - len(ping)) + "}")
    assert opened.closed()[0] == 1009


def test_fragments_count_together(opened: TestSocket) -> None:
    opened.connection.send(['{"ty', 'pe":"pi', 'ng"}'])
    opened.receive("pong")
    with suppress(ConnectionClosed):  # the refusal may come while the second half is on its way
        opened.connection.send([" " * 20_000, " " * 20_000])
    assert opened.closed()[0] == 1009


def test_the_longest_message_fits_into_a_frame_however_it_is_escaped(opened: TestSocket) -> None:
    content = "\U0001f600" * 2000  # twelve bytes each as \ud83d\ude00
    opened.say(1, content)
    opened.receive("ack")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (Frame(Opcode.TEXT, b"{}", rsv1=True), 1002),
        (Frame(Opcode.CONT, b"{}"), 1002),
        (Frame(Opcode.PING, b"", fin=False), 1002),
        (Frame(Opcode.CLOSE, b"\x00"), 1002),
        (Frame(Opcode.CLOSE, (4501).to_bytes(2, "big")), 4501),
        (Frame(Opcode.CLOSE, b""), 1005),
    ],
    ids=["rsv bits", "nothing to continue", "a piece of a ping", "a short close", "close", "empty"],
)
def test_frames_that_break_the_protocol_end_that_socket_alone(
    house: House, sockets: Sockets, frame: Frame, code: int
) -> None:
    people = house.people
    opened, other = (
        sockets.admitted(house.ports[0], people.ticket(people.person())) for _ in range(2)
    )
    opened.connection.socket.sendall(serialized(frame))
    assert opened.closed()[0] == code
    assert other.is_alive()


def serialized(frame: Frame) -> bytes:
    """Without the checks that keep a decent client from sending it."""
    head = (frame.fin << 7) | (frame.rsv1 << 6) | frame.opcode
    mask = b"\x00\x00\x00\x00"
    return bytes([head, 0x80 | len(frame.data)]) + mask + bytes(frame.data)


class TestFlood:
    def test_more_frames_than_allowed_close_with_4429_after_the_acks_that_are_due(
        self, database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
    ) -> None:
        _, port = start_gateway(database, WS_MAX_FRAMES_PER_SECOND="10")
        ada = people.person()
        opened = sockets.admitted(port, people.ticket(ada))
        channel = people.channel(ada)
        with database.connect() as other, other.transaction():
            # The batch waits for the channel, so that no ack can go out before the flood.
            other.execute("SELECT FROM chat_channels WHERE id = %s FOR UPDATE", (channel,))
            for number in range(400):
                opened.say(channel, str(number))
            wait_until(lambda: people.waiting() == 1, "the batch waits for the lock")
        assert opened.closed() == (4429, "rate_limited")
        stored = [content for _, content in people.stored(channel)]
        assert stored == [str(number) for number in range(len(stored))]
        assert 20 <= len(stored) < 100  # a burst of twice the rate, and what flowed in meanwhile
        assert [frame["type"] for frame in opened.unread] == ["ack"] * len(stored) + ["error"]
        assert opened.unread[-1]["code"] == "rate_limited"

    @pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG, Opcode.CONT])
    def test_frames_that_are_no_messages_are_counted_too(
        self,
        database: Database,
        people: People,
        start_gateway: StartGateway,
        sockets: Sockets,
        opcode: Opcode,
    ) -> None:
        _, port = start_gateway(database, WS_MAX_FRAMES_PER_SECOND="10")
        opened, other = (sockets.admitted(port, people.ticket(people.person())) for _ in range(2))
        if opcode is Opcode.CONT:
            opened.connection.socket.sendall(serialized(Frame(Opcode.TEXT, b"{", fin=False)))
        opened.connection.socket.sendall(serialized(Frame(opcode, b"", fin=opcode != 0)) * 400)
        assert opened.closed() == (4429, "rate_limited")
        assert [frame["code"] for frame in opened.unread] == ["rate_limited"]
        assert other.is_alive()

    def test_what_comes_after_too_many_pieces_is_not_put_together(
        self, database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
    ) -> None:
        """Some of its pieces are missing, and the acks that are due go out all the same."""
        gateway, port = start_gateway(database, WS_MAX_FRAMES_PER_SECOND="10")
        ada = people.person()
        opened = sockets.admitted(port, people.ticket(ada))
        channel = people.channel(ada)
        with database.connect() as other, other.transaction():
            other.execute("SELECT FROM chat_channels WHERE id = %s FOR UPDATE", (channel,))
            opened.say(channel, "before the flood")
            wait_until(lambda: people.waiting() == 1, "the message waits for the lock")
            opened.connection.socket.sendall(
                serialized(Frame(Opcode.TEXT, b"{", fin=False))
                + serialized(Frame(Opcode.CONT, b" ", fin=False)) * 150
                + serialized(Frame(Opcode.CONT, b"}"))
                + serialized(Frame(Opcode.TEXT, b"{}"))
            )
            assert Http(port).get("/health/live").status == 200  # so it has read all of that
        assert opened.closed() == (4429, "rate_limited")
        assert [frame["type"] for frame in opened.unread] == ["ack", "error"]
        assert "Traceback" not in gateway.output


def test_a_socket_that_sends_no_frame_at_all_is_closed_with_1008(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    _, port = start_gateway(database, WS_FIRST_FRAME_SECONDS="1")
    ada = people.person()
    talker, silent = (sockets.admitted(port, people.ticket(ada)) for _ in range(2))
    assert talker.is_alive()
    assert silent.closed() == (1008, "policy")
    assert [frame["code"] for frame in silent.unread] == ["policy"]
    silent_too = sockets.admitted(port, people.ticket(ada))
    assert silent_too.closed() == (1008, "policy")
    assert talker.is_alive()  # one frame is enough for good
