"""The socket's protocol without I/O: a message and a state come in, actions go out.

    text frame ──> receive(state, text, now) ──> [Subscribe | Send | Typing | Reply | Close ...]

Nothing here knows a socket, a clock or the database; wsgateway/connection.py carries the actions
out. A frame that cannot be read is answered, not punished: only a flood and a binary frame end the
socket.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from rules import fields
from rules.errors import Refusal
from rules.fields import Fields
from rules.json_input import read_object
from rules.token_bucket import TokenBucket

REF_MAX_CHARS = 64
CLIENT_MSG_ID_CHARS = 36
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Reply:
    """A frame that answers at once."""

    frame: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pong:
    ref: str | None


@dataclass(frozen=True, slots=True)
class Subscribe:
    channel_id: int
    after_seq: int | None
    ref: str | None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    channel_id: int
    ref: str | None


@dataclass(frozen=True, slots=True)
class Send:
    channel_id: int
    client_msg_id: UUID
    named: str  # client_msg_id as the client spelled it, for the answer
    content: str
    ref: str | None


@dataclass(frozen=True, slots=True)
class Typing:
    channel_id: int


@dataclass(frozen=True, slots=True)
class DrainAck:
    """The client has saved what it must."""

    event_id: int
    ref: str | None


@dataclass(frozen=True, slots=True)
class Close:
    """An error frame with this code goes out, then the close code that belongs to it."""

    code: str


Action = Reply | Pong | Subscribe | Unsubscribe | Send | Typing | DrainAck | Close


@dataclass(frozen=True, slots=True)
class Limits:
    frames_per_second: int
    max_subscriptions: int
    message_max_chars: int


@dataclass(slots=True)
class SocketState:
    """What the protocol remembers of one socket. `subscriptions` are channel ids."""

    limits: Limits
    subscriptions: set[int] = field(default_factory=set)
    bucket: TokenBucket = field(init=False)

    def __post_init__(self) -> None:
        # Bursts of twice the rate: a client that resumes subscribes to everything at once.
        rate = self.limits.frames_per_second
        self.bucket = TokenBucket(rate=rate, burst=2 * rate)


def receive(state: SocketState, message: str | bytes, now: float) -> list[Action]:
    """What to do about one message. `now`: monotonic seconds, for the frame limit."""
    if not state.bucket.take(now):
        return [Close("rate_limited")]
    if isinstance(message, bytes):
        return [Close("unsupported_data")]
    try:
        frame = Fields(read_object(message))
        ref = frame.optional("ref", fields.bounded_text(0, REF_MAX_CHARS))
        kind = frame.required("type", fields.text)
        handler = _HANDLERS.get(kind)
        if handler is None:
            raise Refusal("invalid_request", f"There is no frame of type {kind[:32]!r}.")
        action = handler(state, frame, ref)
        frame.end()
        return [action]
    except Refusal as refusal:
        return [Reply(error_frame(refusal, **_named_in(message)))]


def error_frame(
    refusal: Refusal, *, ref: str | None = None, client_msg_id: str | None = None
) -> dict[str, Any]:
    frame: dict[str, Any] = {"type": "error", "code": refusal.code, "message": refusal.message}
    return frame | _present(
        ref=ref,
        client_msg_id=client_msg_id,
        retry_after_seconds=refusal.retry_after_seconds,
    )


def with_ref(frame: dict[str, Any], ref: str | None) -> dict[str, Any]:
    return frame | _present(ref=ref)


def _present(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _named_in(message: str) -> dict[str, str]:
    """What a refused frame named, so that its sender can tell which one it was.

    It may have been refused for anything: for a value that is not allowed, then the rest is read
    all the same; for naming something twice, then that is not known.
    """
    try:
        members = json.loads(message, object_pairs_hook=_named_once, parse_int=float)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(members, dict):
        return {}
    longest = {"ref": REF_MAX_CHARS, "client_msg_id": CLIENT_MSG_ID_CHARS}
    return {
        name: members[name]
        for name, most in longest.items()
        if isinstance(value := members.get(name), str)
        and len(value) <= most
        and not _LONE_SURROGATE.search(value)  # which no answer could hold
    }


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    times = Counter(name for name, _ in pairs)
    return {name: value for name, value in pairs if times[name] == 1}


def _subscribe(state: SocketState, frame: Fields, ref: str | None) -> Action:
    channel_id = frame.required("channel_id", fields.row_id)
    after_seq = frame.optional("after_seq", fields.sequence_number)
    full = len(state.subscriptions) >= state.limits.max_subscriptions
    if full and channel_id not in state.subscriptions:
        raise Refusal(
            "conflict",
            f"A socket has at most {state.limits.max_subscriptions} subscriptions."
            " Unsubscribe from another channel first.",
        )
    return Subscribe(channel_id, after_seq, ref)


def _unsubscribe(state: SocketState, frame: Fields, ref: str | None) -> Action:
    return Unsubscribe(frame.required("channel_id", fields.row_id), ref)


def _send(state: SocketState, frame: Fields, ref: str | None) -> Action:
    channel_id = frame.required("channel_id", fields.row_id)
    client_msg_id, named = frame.required("client_msg_id", _client_msg_id_and_its_spelling)
    return Send(
        channel_id=channel_id,
        client_msg_id=client_msg_id,
        named=named,
        content=frame.required("content", fields.content(state.limits.message_max_chars)),
        ref=ref,
    )


def _client_msg_id_and_its_spelling(name: str, value: Any) -> tuple[UUID, str]:
    return fields.client_msg_id(name, value), value


def _typing(state: SocketState, frame: Fields, ref: str | None) -> Action:
    return Typing(frame.required("channel_id", fields.row_id))


def _drain_ack(state: SocketState, frame: Fields, ref: str | None) -> Action:
    return DrainAck(frame.required("event_id", fields.row_id), ref)


def _ping(state: SocketState, frame: Fields, ref: str | None) -> Action:
    return Pong(ref)


_HANDLERS: Mapping[str, Callable[[SocketState, Fields, str | None], Action]] = {
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
    "send": _send,
    "typing": _typing,
    "drain_ack": _drain_ack,
    "ping": _ping,
}
