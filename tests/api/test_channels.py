"""Channels and their messages over HTTP."""

from __future__ import annotations

import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from tests.api.conftest import SharedApi
from tests.support.http_calls import Answer, Http
from tests.support.services import Person

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


class Room:
    """Ada and Bob in a channel of their own."""

    def __init__(self, shared: SharedApi) -> None:
        self.people = shared.people
        self.http = shared.http
        self.ada, self.bob = self.people.person("Ada"), self.people.person("Bob")
        self.channel = self.people.channel(self.ada, self.bob)
        self.path = f"/chat/channels/{self.channel}/messages"

    def token(self, person: Person) -> str:
        return self.people.access_token(person)

    def post(self, content: Any, client_msg_id: Any = None, **more: Any) -> Answer:
        body = {"client_msg_id": client_msg_id or str(uuid.uuid4()), "content": content, **more}
        return self.http.post(self.path, body, token=self.token(self.ada))

    def read(self, query: str = "") -> Answer:
        return self.http.get(self.path + query, token=self.token(self.bob))


@pytest.fixture
def room(shared: SharedApi) -> Room:
    return Room(shared)


class TestListing:
    def test_the_channels_one_may_read_come_newest_first(self, room: Room) -> None:
        room.people.channel(room.ada)  # not Bob's
        room.post("one")
        answer = room.http.get("/chat/channels", token=room.token(room.bob))
        assert (answer.status, set(answer.json)) == (200, {"channels"})
        group, everybodys = answer.json["channels"]
        assert RFC3339.fullmatch(group.pop("created_at"))
        assert group == {
            "id": room.channel,
            "kind": "group",
            "name": None,
            "last_seq": 1,
            "role": "member",
            "peer": None,
        }
        assert (everybodys["id"], everybodys["kind"], everybodys["name"]) == (1, "global", "Global")


class TestPosting:
    def test_it_is_stored_when_201_is_answered(self, room: Room) -> None:
        client_msg_id = str(uuid.uuid4())
        answer = room.post("hi", client_msg_id)
        assert room.people.stored(room.channel) == [(1, "hi")]
        assert answer.status == 201
        shown = answer.json
        assert RFC3339.fullmatch(shown.pop("created_at"))
        assert shown == {
            "channel_id": room.channel,
            "client_msg_id": client_msg_id,
            "seq": 1,
            "duplicate": False,
        }

    def test_the_request_id_is_stored_with_the_message(self, room: Room) -> None:
        answer = room.post("traceable")
        stored = room.people.one(
            "SELECT request_id FROM chat_messages WHERE channel_id = %s", room.channel
        )
        assert stored == answer.headers["X-Request-ID"]

    def test_a_repeat_is_200_with_the_same_answer(self, room: Room) -> None:
        client_msg_id = str(uuid.uuid4())
        first = room.post("once", client_msg_id)
        repeat = room.post("once", client_msg_id.upper())
        assert (first.status, repeat.status) == (201, 200)
        assert repeat.json == {**first.json, "duplicate": True}
        assert room.people.stored(room.channel) == [(1, "once")]

    def test_of_twenty_repeats_at_once_one_is_201(self, room: Room) -> None:
        client_msg_id, start = str(uuid.uuid4()), Barrier(20)

        def race(_: int) -> tuple[int, int]:
            start.wait(10)
            answer = room.post("once", client_msg_id)
            return answer.status, answer.json["seq"]

        with ThreadPoolExecutor(20) as threads:
            answers = sorted(threads.map(race, range(20)))
        assert answers == [(200, 1)] * 19 + [(201, 1)]

    def test_the_same_id_with_other_content_is_409(self, room: Room) -> None:
        client_msg_id = str(uuid.uuid4())
        room.post("this", client_msg_id)
        answer = room.post("that", client_msg_id)
        assert (answer.status, answer.error["code"]) == (409, "conflict")

    @pytest.mark.parametrize(
        "content",
        [
            "x" * 2000,
            "\U0001f600" * 2000,
            "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u05e9\u05dc\u05d5\u05dd \u4f60\u597d \u202eabc",
            "e\u0301 is not \u00e9",
            "\x01\x7f\u2028\ufeff\U0010ffff",
            '\\ " / \\u0041 <script>',
        ],
        ids=["longest", "emoji", "scripts", "unnormalised", "odd", "escapes"],
    )
    def test_content_comes_back_byte_for_byte(self, room: Room, content: str) -> None:
        assert room.post(content).status == 201
        read = room.read()
        assert read.json["entries"][0]["content"] == content
        assert read.headers["Content-Type"] == "application/json"
        assert room.people.stored(room.channel) == [(1, content)]

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"content": ""}, "content"),
            ({"content": " \t\u3000"}, "content"),
            ({"content": "x" * 2001}, "content"),
            ({"content": "\U0001f600" * 2001}, "content"),
            ({"content": 1}, "content"),
            ({"content": None}, "content"),
            ({"content": "a\x00b"}, "content"),
            ({"content": "\ud800"}, "content"),
            ({"content": "x", "client_msg_id": "no uuid"}, "client_msg_id"),
            ({"content": "x", "client_msg_id": 7}, "client_msg_id"),
            ({"content": "x", "channel_id": 1}, "channel_id"),
            ({"content": "x", "sender_id": 1}, "sender_id"),
        ],
        ids=lambda value: repr(value)[:40],
    )
    def test_what_is_wrong_is_named(self, room: Room, changes: dict[str, Any], field: str) -> None:
        answer = room.post(**changes)
        assert (answer.status, answer.error["code"]) == (422, "validation_failed")
        assert answer.error["details"]["field"] == field
        assert room.people.stored(room.channel) == []

    def test_somebody_muted_is_403_and_told_for_how_long(self, room: Room) -> None:
        room.people.owner.execute(
            "UPDATE users SET muted_until = now() + interval '1 hour' WHERE id = %s",
            (room.ada.user_id,),
        )
        answer = room.post("mmh")
        assert (answer.status, answer.error["code"]) == (403, "muted")
        assert 3500 < answer.error["details"]["retry_after_seconds"] <= 3600


class TestOfOthers:
    @pytest.mark.parametrize(
        "channel", ["{others}", "999999", "9007199254740991", "0", "-1", "1.0", "01", "x", "1'"]
    )
    def test_a_channel_that_is_not_yours_is_not_found(self, room: Room, channel: str) -> None:
        others = room.people.channel(room.bob)
        path = f"/chat/channels/{channel.format(others=others)}/messages"
        body = {"client_msg_id": str(uuid.uuid4()), "content": "let me in"}
        for answer in (
            room.http.get(path, token=room.token(room.ada)),
            room.http.post(path, body, token=room.token(room.ada)),
        ):
            assert (answer.status, answer.error["code"]) == (404, "not_found")
        assert room.people.stored(others) == []


class TestReading:
    @pytest.fixture
    def full(self, room: Room) -> Room:
        """With 120 messages."""
        room.people.fill(room.ada, room.channel, 120, "x")
        return room

    @pytest.mark.parametrize(
        ("query", "seqs"),
        [
            ("", range(71, 121)),
            ("?limit=3", range(118, 121)),
            ("?limit=200", range(1, 121)),
            ("?after_seq=0&limit=2", range(1, 3)),
            ("?after_seq=100", range(101, 121)),
            ("?after_seq=119&limit=1", range(120, 121)),
            ("?after_seq=120", range(0)),
            ("?after_seq=9007199254740991", range(0)),
            ("?before_seq=121&limit=2", range(119, 121)),
            ("?before_seq=51", range(1, 51)),
            ("?before_seq=3", range(1, 3)),
            ("?before_seq=1", range(0)),
            ("?before_seq=0", range(0)),
            ("?before_seq=9007199254740991&limit=1", range(120, 121)),
        ],
    )
    def test_pages_ascend_and_carry_the_bounds_of_the_log(
        self, full: Room, query: str, seqs: range
    ) -> None:
        answer = full.read(query)
        assert answer.status == 200
        assert set(answer.json) == {"entries", "first_seq", "last_seq"}
        assert [entry["seq"] for entry in answer.json["entries"]] == list(seqs)
        assert (answer.json["first_seq"], answer.json["last_seq"]) == (1, 120)

    def test_an_entry_has_everything_that_a_frame_has(self, room: Room) -> None:
        posted = room.post("hi").json
        assert room.read().json["entries"] == [
            {
                "type": "message",
                "channel_id": room.channel,
                "seq": 1,
                "sender_id": room.ada.user_id,
                "sender_name": "Ada",
                "content": "hi",
                "client_msg_id": posted["client_msg_id"],
                "created_at": posted["created_at"],
            }
        ]

    def test_an_empty_channel_begins_with_the_next_seq(self, room: Room) -> None:
        assert room.read().json == {"entries": [], "first_seq": 1, "last_seq": 0}

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("?limit=0", "limit"),
            ("?limit=201", "limit"),
            ("?limit=-1", "limit"),
            ("?limit=1.5", "limit"),
            ("?limit=", "limit"),
            ("?limit=%D9%A3", "limit"),
            ("?limit=1&limit=2", "limit"),
            ("?after_seq=-1", "after_seq"),
            ("?after_seq=x", "after_seq"),
            ("?after_seq=9007199254740992", "after_seq"),
            ("?after_seq=" + "9" * 400, "after_seq"),
            ("?before_seq=1e3", "before_seq"),
            ("?after_seq=1&before_seq=5", "before_seq"),
            ("?afterseq=1", "afterseq"),
        ],
        ids=lambda value: value[:30],
    )
    def test_what_is_wrong_with_a_query_is_named(self, room: Room, query: str, field: str) -> None:
        answer = room.read(query)
        assert (answer.status, answer.error["code"]) == (422, "validation_failed")
        assert answer.error["details"]["field"] == field


def test_everything_needs_a_bearer(http: Http) -> None:
    for method, path in (
        ("GET", "/auth/me"),
        ("PATCH", "/auth/me"),
        ("POST", "/auth/logout"),
        ("POST", "/auth/password"),
        ("GET", "/auth/sessions"),
        ("DELETE", "/auth/sessions"),
        ("DELETE", "/auth/sessions/1"),
        ("POST", "/auth/ws-ticket"),
        ("GET", "/chat/channels"),
        ("GET", "/chat/channels/1/messages"),
        ("POST", "/chat/channels/1/messages"),
    ):
        answer = http.call(method, path)
        assert (answer.status, answer.error["code"]) == (401, "unauthorized"), (method, path)
