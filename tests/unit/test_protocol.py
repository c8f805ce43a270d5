"""The socket's protocol without a socket: a message and a state in, actions out."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given

from rules.errors import KINDS, Refusal
from tests.support.fuzz import FEW, bodies
from wsgateway.protocol import (
    REF_MAX_CHARS,
    Action,
    Close,
    Limits,
    Pong,
    Reply,
    Send,
    SocketState,
    Subscribe,
    Unsubscribe,
    error_frame,
    receive,
    with_ref,
)

KEY = "8c6f0d8e-52a4-4b0e-9a3e-0d3a5c1f2b47"
SEND = {"type": "send", "channel_id": 3, "client_msg_id": KEY, "content": "hi"}


def state(**changes: int) -> SocketState:
    values = {"frames_per_second": 50, "max_subscriptions": 2, "message_max_chars": 20, **changes}
    return SocketState(Limits(**values))


def one(frame: Any, of: SocketState | None = None) -> Action:
    """The one action that a frame leads to."""
    message = frame if isinstance(frame, str | bytes) else json.dumps(frame)
    [action] = receive(of or state(), message, 0.0)
    return action


def error(frame: Any, of: SocketState | None = None) -> dict[str, Any]:
    action = one(frame, of)
    assert isinstance(action, Reply)
    assert action.frame["type"] == "error"
    return action.frame


class TestFramesThatAreUnderstood:
    @pytest.mark.parametrize(
        ("frame", "action"),
        [
            ({"type": "ping"}, Pong(None)),
            ({"type": "ping", "ref": ""}, Pong("")),
            ({"ref": "r" * REF_MAX_CHARS, "type": "ping"}, Pong("r" * REF_MAX_CHARS)),
            ({"type": "subscribe", "channel_id": 1}, Subscribe(1, None, None)),
            (
                {"type": "subscribe", "channel_id": 1, "after_seq": 0, "ref": "a"},
                Subscribe(1, 0, "a"),
            ),
            (
                {"type": "subscribe", "channel_id": 2**53 - 1, "after_seq": 2**53 - 1},
                Subscribe(2**53 - 1, 2**53 - 1, None),
            ),
            ({"type": "unsubscribe", "channel_id": 1, "ref": "b"}, Unsubscribe(1, "b")),
            (SEND, Send(3, UUID(KEY), KEY, "hi", None)),
            ({**SEND, "ref": "c", "content": "é" * 20}, Send(3, UUID(KEY), KEY, "é" * 20, "c")),
            ({**SEND, "client_msg_id": KEY.upper()}, Send(3, UUID(KEY), KEY.upper(), "hi", None)),
        ],
    )
    def test_a_frame_becomes_its_action(self, frame: dict[str, Any], action: Action) -> None:
        assert one(frame) == action

    def test_reading_changes_nothing_but_the_frame_limit(self) -> None:
        kept = state()
        one({"type": "subscribe", "channel_id": 1}, kept)
        assert kept.subscriptions == set()  # whoever carries it out knows whether it came about


class TestFramesThatAreAnswered:
    @pytest.mark.parametrize(
        ("frame", "code", "message"),
        [
            ("", "malformed_json", "Not valid JSON"),
            ("[]", "malformed_json", "top level"),
            ('{"type":"ping","type":"ping"}', "malformed_json", "twice"),
            ('{"type":"ping","ref":NaN}', "malformed_json", "NaN"),
            ("[" * 50, "malformed_json", "deeper"),
            ('{"type":"ping","ref":"\\ud800"}', "validation_failed", "ref must not"),
            ({}, "validation_failed", "type is missing"),
            ({"type": 1}, "validation_failed", "type must be a string"),
            ({"type": None}, "validation_failed", "type must be a string"),
            ({"type": ""}, "invalid_request", "no frame of type ''"),
            ({"type": "Ping"}, "invalid_request", "no frame of type 'Ping'"),
            ({"type": "x" * 9999}, "invalid_request", "no frame of type"),
            ({"type": "connected"}, "invalid_request", "no frame of type"),
            ({"type": "ping", "extra": 1}, "validation_failed", "extra is not a known field"),
            ({**SEND, "sender_id": 1}, "validation_failed", "sender_id is not a known field"),
            ({"type": "ping", "ref": 7}, "validation_failed", "ref must be a string"),
            ({"type": "ping", "ref": None}, "validation_failed", "ref must be a string"),
            (
                {"type": "ping", "ref": "r" * (REF_MAX_CHARS + 1)},
                "validation_failed",
                f"ref must have 0 to {REF_MAX_CHARS} characters",
            ),
            ({"type": "subscribe"}, "validation_failed", "channel_id is missing"),
            ({"type": "subscribe", "channel_id": "1"}, "validation_failed", "channel_id must"),
            ({"type": "subscribe", "channel_id": 0}, "validation_failed", "channel_id must"),
            ({"type": "unsubscribe", "channel_id": True}, "validation_failed", "channel_id must"),
            (
                {"type": "subscribe", "channel_id": 1, "after_seq": -1},
                "validation_failed",
                "after_seq must",
            ),
            (
                {"type": "subscribe", "channel_id": 1, "after_seq": None},
                "validation_failed",
                "after_seq must",
            ),
            ({**SEND, "content": ""}, "validation_failed", "content must have 1 to 20"),
            ({**SEND, "content": "x" * 21}, "validation_failed", "content must have 1 to 20"),
            ({**SEND, "content": " \n"}, "validation_failed", "content must not be only"),
            ({**SEND, "content": ["hi"]}, "validation_failed", "content must be a string"),
            ({**SEND, "client_msg_id": "1"}, "validation_failed", "client_msg_id must be a UUID"),
        ],
    )
    def test_a_frame_with_something_wrong_is_told_what(
        self, frame: Any, code: str, message: str
    ) -> None:
        answer = error(frame)
        assert answer["code"] == code
        assert message in answer["message"]
        assert len(answer["message"]) < 200

    @pytest.mark.parametrize(
        ("frame", "named"),
        [
            ({**SEND, "content": "", "ref": "a"}, {"ref": "a", "client_msg_id": KEY}),
            ({**SEND, "type": "shout", "ref": "a"}, {"ref": "a", "client_msg_id": KEY}),
            ({**SEND, "client_msg_id": "mine"}, {"client_msg_id": "mine"}),
            ({**SEND, "client_msg_id": "x" * 37}, {}),
            ({"type": "ping", "ref": "r" * (REF_MAX_CHARS + 1)}, {}),
            ({"type": "ping", "ref": {"a": 1}}, {}),
            ({"ref": "a"}, {"ref": "a"}),
            ({**SEND, "content": "\0", "ref": "a"}, {"ref": "a", "client_msg_id": KEY}),
            ({**SEND, "content": "\ud800", "ref": "a"}, {"ref": "a", "client_msg_id": KEY}),
            ({**SEND, "content": "hi", "ref": "\ud800"}, {"client_msg_id": KEY}),
            ({**SEND, "channel_id": 2**60, "ref": "a"}, {"ref": "a", "client_msg_id": KEY}),
            ({**SEND, "channel_id": float("nan")}, {"client_msg_id": KEY}),
            ('{"ref":"a","channel_id":' + "1" * 5000 + "}", {"ref": "a"}),
            ('{"ref":"a","x":1,"x":2}', {"ref": "a"}),
            ('{"ref":"a","client_msg_id":"b","ref":"c"}', {"client_msg_id": "b"}),
            ('{"ref":"a","x":{"ref":1,"ref":2}}', {"ref": "a"}),
            ('{"ref":"a","x":' + "[" * 40 + "]" * 40 + "}", {"ref": "a"}),
            ('{"ref":"a","x":' + "[" * 9999 + "]" * 9999 + "}", {}),
            ('{"ref":"a"', {}),
            ('["ref"]', {}),
        ],
    )
    def test_the_answer_names_the_frame_as_far_as_it_named_itself(
        self, frame: Any, named: dict[str, str]
    ) -> None:
        answer = error(frame)
        assert {k: v for k, v in answer.items() if k in ("ref", "client_msg_id")} == named

    def test_one_subscription_too_many_is_refused_and_one_again_is_not(self) -> None:
        full = state(max_subscriptions=2)
        full.subscriptions |= {1, 2}
        assert error({"type": "subscribe", "channel_id": 3}, full)["code"] == "conflict"
        assert one({"type": "subscribe", "channel_id": 2}, full) == Subscribe(2, None, None)
        full.subscriptions.discard(1)
        assert one({"type": "subscribe", "channel_id": 3}, full) == Subscribe(3, None, None)


class TestWhatEndsTheSocket:
    @pytest.mark.parametrize("data", [b"", b'{"type":"ping"}', b"\xff"])
    def test_a_binary_frame(self, data: bytes) -> None:
        assert one(data) == Close("unsupported_data")

    def test_a_flood(self) -> None:
        hurried = state(frames_per_second=5)
        answers = [receive(hurried, '{"type":"ping"}', 0.0) for _ in range(11)]
        assert answers == [[Pong(None)]] * 10 + [[Close("rate_limited")]]
        assert receive(hurried, '{"type":"ping"}', 0.2) == [Pong(None)]

    @pytest.mark.parametrize("frame", ["", b"", '{"type":"nothing"}'])
    def test_frames_that_say_nothing_count_like_others(self, frame: str | bytes) -> None:
        hurried = state(frames_per_second=5)
        for _ in range(10):
            receive(hurried, frame, 0.0)
        assert receive(hurried, '{"type":"ping"}', 0.0) == [Close("rate_limited")]


class TestErrorFrames:
    def test_a_wait_is_told_and_a_cause_is_not(self) -> None:
        refusal = Refusal("muted", retry_after_seconds=9, cause="by whom")
        assert error_frame(refusal, ref="a", client_msg_id=KEY) == {
            "type": "error",
            "code": "muted",
            "message": "You may not write at the moment.",
            "ref": "a",
            "client_msg_id": KEY,
            "retry_after_seconds": 9,
        }

    def test_what_is_not_known_is_left_out(self) -> None:
        assert set(error_frame(Refusal("conflict"))) == {"type", "code", "message"}
        assert with_ref({"type": "pong"}, None) == {"type": "pong"}
        assert with_ref({"type": "pong"}, "") == {"type": "pong", "ref": ""}


@FEW
@given(data=bodies({**SEND, "after_seq": 5, "ref": "a"}))
def test_no_frame_leads_to_anything_but_one_action(data: bytes) -> None:
    for message in (data, data.decode("utf-8", "replace")):
        action = one(message)
        match action:
            case Send(channel_id=channel_id, content=content):
                assert channel_id > 0
                assert content.strip()
            case Reply(frame):
                assert KINDS[frame["code"]].close is None
                assert json.dumps(frame, ensure_ascii=False).encode("utf-8")
            case Close(code):
                assert (code, type(message)) == ("unsupported_data", bytes)
