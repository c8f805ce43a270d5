"""Every frame of the socket: what wsgateway/protocol.py reads, and what the gateway sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from api.descriptions.schemas import BOOLEAN, ENTRIES, Schema, closed, ref, text
from rules.errors import KINDS

REF_MAX_CHARS = 64  # tests/unit/test_descriptions.py compares it with the protocol's


@dataclass(frozen=True, slots=True)
class Close:
    """A way for a socket to end; `reason` is empty where the websocket layer chooses the words."""

    code: int
    reason: str
    advice: str


COME_BACK = "come_back"  # a new ticket, exponential backoff with full jitter, 0.5 s up to 30 s
NOT_THE_SAME = "come_back_without_resending"  # what was sent last must not be sent again
PERSON = "person_must_act"

# The codes of rules/errors.py that end a socket now, and what the layer below gives on its own.
_CLOSING = (
    "session_revoked",
    "account_disabled",
    "drained",
    "update_required",
    "replaced",
    "ticket_invalid",
    "slow_consumer",
    "rate_limited",
    "lifetime",
    "service_restart",
    "at_capacity",
    "unavailable",
    "internal_error",
    "unsupported_data",
    "policy",
)
# Error frames after which the socket stays open.
_ANSWERING = (
    "invalid_request",
    "malformed_json",
    "validation_failed",
    "not_found",
    "conflict",
    "muted",
    "session_revoked",
    "unavailable",
    "internal_error",
)
# A slow consumer would not read a frame that says so, and a session's end has one of its own.
_WITHOUT_FRAME = ("slow_consumer",)

ERROR_CODES = tuple(sorted({code for code in _CLOSING + _ANSWERING if code not in _WITHOUT_FRAME}))


def closes() -> list[Close]:
    ours = {
        Close(kind.close, kind.close_reason, _advice(kind.close))
        for kind in (KINDS[code] for code in _CLOSING)
        if kind.close is not None
    }
    return sorted([*ours, *_BELOW], key=lambda close: (close.code, close.reason))


def _advice(code: int) -> str:
    if code in (1003, 1008):
        return NOT_THE_SAME
    return PERSON if code >= 4500 else COME_BACK


# RFC 6455, 7.4.1: what needs no decision of ours.
_BELOW = [
    Close(1002, "", NOT_THE_SAME),  # not a websocket frame
    Close(1007, "", NOT_THE_SAME),  # a text frame that is not UTF-8
    Close(1009, "", NOT_THE_SAME),  # larger than x-limits.max_frame_bytes
    Close(1011, "", COME_BACK),  # no pong to our ping in time
]


def client_frames() -> dict[str, Schema]:
    """By type. Each may carry `ref`, which its answer echoes."""
    frames: dict[str, dict[str, Schema]] = {
        "subscribe": {"channel_id": ref("Id"), "after_seq": ref("Seq")},
        "unsubscribe": {"channel_id": ref("Id")},
        "send": {
            "channel_id": ref("Id"),
            "client_msg_id": ref("ClientMsgId"),
            "content": ref("Content"),
        },
        "typing": {"channel_id": ref("Id")},
        "drain_ack": {"event_id": ref("Id")},
        "ping": {},
    }
    return {
        kind: closed(
            {"type": {"const": kind}, **members, "ref": _REF}, optional=("ref", "after_seq")
        )
        for kind, members in frames.items()
    }


# Which frame answers which, when it is not an error.
ANSWERS: Mapping[str, str | None] = {
    "subscribe": "subscribed",
    "unsubscribe": "unsubscribed",
    "send": "ack",
    "typing": None,
    "drain_ack": "drain_acked",
    "ping": "pong",
}

_REF: Schema = text(0, REF_MAX_CHARS, description="Echoed in the answer.")


_DRAIN: dict[str, Schema] = {
    "event_id": ref("Id"),
    "reason": {"type": "string", "minLength": 1},
    "deadline": ref("Time"),
    "seconds_remaining": {"type": "integer", "minimum": 0},
}
_SECONDS: Schema = {"type": "integer", "minimum": 1}


def server_frames() -> dict[str, Schema]:
    """By type."""
    frames: dict[str, Schema] = {
        "connected": {
            "user_id": ref("Id"),
            "session_id": ref("Id"),
            "display_name": ref("DisplayName"),
            "instance": {"type": "string", "minLength": 1},
            "server_time": ref("Time"),
            "ping_seconds": _SECONDS,
            "max_lifetime_seconds": _SECONDS,
            "version_status": ref("VersionStatus"),
            "drain": {"oneOf": [closed(_DRAIN), {"type": "null"}]},
        },
        "subscribed": {
            "channel_id": ref("Id"),
            "first_seq": ref("Seq"),
            "last_seq": ref("Seq"),
            "recovered": BOOLEAN,
            "entries": {"type": "array", "items": ref("Entry")},
            "ref": _REF,
        },
        "unsubscribed": {"channel_id": ref("Id"), "ref": _REF},
        "ack": {
            "channel_id": ref("Id"),
            "client_msg_id": ref("ClientMsgId"),
            "seq": ref("EntrySeq"),
            "created_at": ref("Time"),
            "duplicate": BOOLEAN,
            "ref": _REF,
        },
        "removed": {"channel_id": ref("Id")},
        "typing": {"channel_id": ref("Id"), "user_id": ref("Id")},
        "pong": {"server_time": ref("Time"), "ref": _REF},
        "update_available": {"version_status": ref("VersionStatus")},
        "update_required": {"version_status": ref("VersionStatus")},
        "drain_started": _DRAIN,
        "drain_warning": _DRAIN,
        "drain_cancelled": {"event_id": ref("Id")},
        "drain_acked": {"event_id": ref("Id"), "ref": _REF},
        "session_revoked": {"reason": {"type": "string", "minLength": 1}},
        "error": {
            "code": {"enum": list(ERROR_CODES)},
            "message": {"type": "string"},
            "ref": _REF,
            # As the client wrote it: whoever sent a wrong one must find it again.
            "client_msg_id": {"type": "string", "maxLength": 36},
            "retry_after_seconds": {"type": "integer", "minimum": 1},
        },
    }
    optional = ("ref",)
    described = {
        kind: closed(
            {"type": {"const": kind}, **members},
            optional=("ref", "client_msg_id", "retry_after_seconds")
            if kind == "error"
            else optional,
        )
        for kind, members in frames.items()
    }
    entries = {schema["properties"]["type"]["const"]: schema for schema in ENTRIES.values()}
    return described | entries
