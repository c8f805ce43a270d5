"""Ways to break what a client is told: in the handshake, and about each frame that it sends."""

from __future__ import annotations

from tests.sabotage.mutation import Mutation

_GUARDED = "wsgateway/guarded_socket.py"
_HANDSHAKE = "tests/gateway/test_handshake.py"

MUTATIONS_OF_THE_SOCKET = (
    # Requests that cannot be a handshake
    Mutation(
        "unread-request-left-without-an-answer",
        _GUARDED,
        "        if unread and not self.protocol.reader.eof:\n",
        "        if False:\n",
        (f"{_HANDSHAKE}::test_a_request_that_cannot_be_a_handshake_is_answered_all_the_same",),
        "what the library hangs up on is answered",
    ),
    Mutation(
        "half-a-request-answered",
        _GUARDED,
        "        if unread and not self.protocol.reader.eof:\n",
        "        if unread:\n",
        (f"{_HANDSHAKE}::test_a_request_that_stops_half_way_gets_no_answer",),
        "who hung up half way waits for nothing",
    ),
    Mutation(
        "unread-request-not-looked-at",
        "wsgateway/handshake.py",
        "        if request.method:\n",
        "        if False:\n",
        (f"{_HANDSHAKE}::test_a_request_that_cannot_be_a_handshake_is_answered_all_the_same",),
        "path and method are refused, whether or not there is a body",
    ),
    Mutation(
        "unread-request-without-its-fields",
        "wsgateway/unread_heads.py",
        "_FIELDS.findall(head)",
        "()",
        (f"{_HANDSHAKE}::test_its_answer_keeps_the_request_id_that_was_sent",),
        "the client's request id is kept",
    ),
)
