"""A room of XMPP (XEP-0045) over websockets (RFC 7395): a frame is a stanza.

Members come in without an account, each under a nickname of its own. The room knows no ack: what it
has accepted it sends to everybody, and to its author as well. That is the author's ack.
"""

from __future__ import annotations

import uuid
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from benchmarks.wire import Dialect, text_frame

_ROOM = "global@conference.localhost"
_OPEN = '<open xmlns="urn:ietf:params:xml:ns:xmpp-framing" to="localhost" version="1.0"/>'
_AUTH = '<auth xmlns="urn:ietf:params:xml:ns:xmpp-sasl" mechanism="ANONYMOUS"/>'
_BIND = '<iq id="bind" type="set"><bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"/></iq>'


class Xmpp(Dialect):
    """One member's: it knows its own messages by its nickname."""

    path = "/ws"
    greeting = _OPEN.encode()
    head = slice(256)
    message_mark = b" type='groupchat'"
    error_mark = b" type='error'"

    def __init__(self) -> None:
        self._self = f"{_ROOM}/{uuid.uuid4()}"
        self.ack_mark = f" from='{self._self}' type='groupchat'".encode()
        enter = (
            f'<presence to="{self._self}"><x xmlns="http://jabber.org/protocol/muc"/></presence>'
        )
        self._replies = {"mechanisms": _AUTH, "success": _OPEN, "bind": _BIND, "iq": enter}

    def reply(self, kind: str) -> bytes | None:
        stanza = self._replies.get(kind)
        return text_frame(stanza.encode()) if stanza else None

    def say(self, frame: dict[str, Any]) -> bytes:
        stanza = (
            f'<message to="{_ROOM}" type="groupchat" id="{frame["client_msg_id"]}">'
            f"<body>{escape(frame['content'])}</body></message>"
        )
        return text_frame(stanza.encode())

    def read(self, payload: bytes) -> dict[str, Any]:
        stanza = ElementTree.fromstring(payload)  # noqa: S314  (what a server of our own has said)
        kind = _name(stanza)
        if kind == "features":
            return {"type": _name(stanza[0])}  # what is to be negotiated next
        if stanza.get("type") == "groupchat":
            if stanza.find("{*}subject") is not None:
                return {"type": "subscribed"}  # section 7.2.15: the last that a newcomer is told
            kind = "ack" if stanza.get("from") == self._self else "message"
        return {"type": kind, "client_msg_id": stanza.get("id")}


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
