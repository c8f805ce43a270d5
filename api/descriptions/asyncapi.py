"""The AsyncAPI 3.0 document: the gateway as an application that receives and sends frames."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from api.descriptions import errors, frames, schemas
from api.descriptions.frames import ANSWERS, COME_BACK, NOT_THE_SAME, PERSON
from api.descriptions.openapi import VERSION
from api.descriptions.schemas import Schema
from rules.settings import Settings
from rules.socket_names import DEFAULT_WS_URL, SUBPROTOCOL, TICKET_PREFIX

_ABOUT = f"""\
Ask POST /auth/ws-ticket for a ticket and offer both subprotocols of the answer, `{SUBPROTOCOL}` and
`{TICKET_PREFIX}<ticket>`. A wrong path, method or Origin, a locked-out address and a full gateway
are refused in the handshake (404, 405, 403, 429, 503) with the envelope of /openapi.json.

Frames are JSON text objects with a `type`, at most one a message. The
first one is `connected`, or an `error` before the close. A client frame may carry `ref`, which its
answer echoes; one that cannot be read is answered with an `error`, and the socket stays open.
After `subscribed` a channel's seq rises by exactly one, or the socket closes: nothing is skipped
silently. `x-close-codes` says what a client does after each end; 1000, 1001 and 1006 mean come
back.
"""

_ADVICE = {
    COME_BACK: "Come back with a new ticket, after exponential backoff with full jitter: 0.5 s at"
    " first, 30 s at most.",
    NOT_THE_SAME: "Come back, but do not send the same again.",
    PERSON: "A person must act first: log in again, update, or close another tab.",
}


def document(settings: Settings) -> dict[str, Any]:
    url = urlsplit(settings.service.public_ws_url or DEFAULT_WS_URL)
    received, sent = frames.client_frames(), frames.server_frames()
    messages = _messages(received, sent)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Gatehouse, the socket", "version": VERSION, "description": _ABOUT},
        "defaultContentType": "application/json",
        "servers": {
            "gateway": {
                "host": url.netloc,
                "pathname": url.path or "/",
                "protocol": url.scheme,
                "security": [{"$ref": "#/components/securitySchemes/ticket"}],
            }
        },
        "channels": {
            "socket": {
                "address": None,  # the server's pathname is all of it
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
            }
        },
        "operations": _operations(received, sent),
        "components": {
            "messages": messages,
            "schemas": schemas.components(settings),
            "securitySchemes": {
                "ticket": {
                    "type": "httpApiKey",
                    "in": "header",
                    "name": "Sec-WebSocket-Protocol",
                    "description": f"The subprotocol {TICKET_PREFIX}<ticket>, beside {SUBPROTOCOL}."
                    " A ticket opens one socket, once.",
                }
            },
        },
        "x-close-codes": [
            {
                "code": close.code,
                "reason": close.reason,
                "client": close.advice,
                "description": _ADVICE[close.advice],
            }
            for close in frames.closes()
        ],
        "x-error-codes": errors.table(frames.ERROR_CODES),
        "x-limits": _limits(settings),
    }


def _messages(received: dict[str, Schema], sent: dict[str, Schema]) -> dict[str, Any]:
    """By key: the type, where both sides send frames of that type the client's with a suffix."""
    by_key = {_client_key(kind, sent): (kind, schema) for kind, schema in received.items()}
    by_key |= {kind: (kind, schema) for kind, schema in sent.items()}
    return {key: {"name": kind, "payload": schema} for key, (kind, schema) in by_key.items()}


def _client_key(kind: str, sent: dict[str, Schema]) -> str:
    return f"{kind}_by_client" if kind in sent else kind


def _operations(received: dict[str, Schema], sent: dict[str, Schema]) -> dict[str, Any]:
    channel = {"$ref": "#/channels/socket"}
    operations: dict[str, Any] = {
        f"receive_{kind}": {
            "action": "receive",
            "channel": channel,
            "messages": [_message(_client_key(kind, sent))],
            "reply": {
                "channel": channel,
                "messages": [_message(answer) for answer in (ANSWERS[kind], "error") if answer],
            },
        }
        for kind in received
    }
    unasked = [kind for kind in sent if kind not in ANSWERS.values()]
    operations["send_events"] = {
        "action": "send",
        "channel": channel,
        "messages": [_message(kind) for kind in unasked],
    }
    return operations


def _message(kind: str) -> dict[str, str]:
    return {"$ref": f"#/channels/socket/messages/{kind}"}


def _limits(settings: Settings) -> dict[str, int]:
    socket, chat = settings.socket, settings.chat
    return {
        "max_frame_bytes": socket.max_frame_bytes,
        "max_frames_per_second": socket.max_frames_per_second,
        "max_subscriptions": socket.max_subscriptions,
        "max_connections_per_account": socket.max_connections_per_account,
        "message_max_chars": chat.message_max_chars,
        "recovery_max_messages": chat.recovery_max_messages,
        "ticket_ttl_seconds": socket.ticket_ttl_seconds,
    }
