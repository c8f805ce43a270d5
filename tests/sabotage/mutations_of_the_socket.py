"""Ways to break what a client is told: in the handshake, and about each frame that it sends."""

from __future__ import annotations

from tests.sabotage.mutation import Mutation

_GUARDED = "wsgateway/guarded_socket.py"
_APPEND_SQL = "db/sql/migrations/0004_append_messages.sql"
_APPEND = "tests/db/test_append_messages.py"
_LIMITS_SQL = "db/sql/migrations/0002_limits_and_events.sql"
_LIMIT_TESTS = "tests/db/test_limits.py::TestLockouts"
_WRITE_LIMITS = "tests/gateway/test_write_limits.py"
_PROTOCOL = "wsgateway/protocol.py"
_PROTOCOL_TESTS = "tests/unit/test_protocol.py"
_SPELLING = (
    "tests/gateway/test_frames.py"
    "::test_an_uppercase_id_is_the_same_id_and_is_answered_as_it_was_sent"
)
_HANDSHAKE = "tests/gateway/test_handshake.py"

MUTATIONS_OF_THE_SOCKET = (
    # Requests that cannot be a handshake
    Mutation(
        "unread-request-left-without-an-answer",
        _GUARDED,
        "        if hangs_up and not self.protocol.reader.eof:\n",
        "        if False:\n",
        (f"{_HANDSHAKE}::test_a_request_that_cannot_be_a_handshake_is_answered_all_the_same",),
        "what the library hangs up on is answered",
    ),
    Mutation(
        "half-a-request-answered",
        _GUARDED,
        "        if hangs_up and not self.protocol.reader.eof:\n",
        "        if hangs_up:\n",
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
    Mutation(
        "hsts-only-behind-one-proxy",
        "wsgateway/handshake.py",
        "secure = came_by_https(forwarded_proto, self._trusted_proxy_hops)\n",
        'secure = forwarded_proto == "https"\n',
        (f"{_HANDSHAKE}::test_behind_proxies_that_all_speak_https_hsts_is_sent",),
        "both services know HTTPS by the same words",
    ),
    Mutation(
        "opened-without-the-headers",
        "wsgateway/handshake.py",
        "            response.headers.update(self._common_headers(request))\n",
        '            response.headers["X-Request-ID"] = _request_id(request)\n',
        (_HANDSHAKE,),
        "every answer has the security headers, the 101 too",
    ),
    # Lockouts of the chat
    Mutation(
        "neighbours-sent-away",
        "wsgateway/writer.py",
        "                if result.verdict in (LOCKED_OUT_NOW, LOCKED_OUT):\n",
        '                if refusal.code == "rate_limited":\n',
        (_WRITE_LIMITS,),
        "who shares a full address is refused and stays",
    ),
    Mutation(
        "lockout-begins-with-each-message",
        _APPEND_SQL,
        "                WHEN p.beyond_account = 1 THEN 'locked_out_now'\n",
        "                WHEN p.beyond_account >= 1 THEN 'locked_out_now'\n",
        (f"{_APPEND}::TestLimits",),
        "one message begins a lockout",
    ),
    Mutation(
        "lockout-begins-with-a-repeat",
        _APPEND_SQL,
        "            WHEN f.decision = 'locked_out_now' THEN 'locked_out'\n",
        "",
        (f"{_APPEND}::TestLimits",),
        "a repeat within the batch begins nothing",
    ),
    Mutation(
        "lockout-overlooked-where-the-limit-has-shrunk",
        _APPEND_SQL,
        "                - greatest(x.account_room, 0) AS beyond_account\n",
        "                - x.account_room AS beyond_account\n",
        (f"{_APPEND}::TestLimits",),
        "less room than none is no room",
    ),
    Mutation(
        "lockout-of-the-chat-not-written-down",
        "wsgateway/writer.py",
        "                if result.verdict == LOCKED_OUT_NOW:\n",
        "                if False:\n",
        (f"{_WRITE_LIMITS}::TestTheEvent",),
        "a lockout is a security event",
    ),
    Mutation(
        "lockout-by-http-written-down-each-time",
        "api/resources/messages.py",
        "        if result.verdict == LOCKED_OUT_NOW:\n",
        "        if result.retry_after_seconds:\n",
        (f"{_WRITE_LIMITS}::TestTheEvent",),
        "a lockout is one security event, however long somebody goes on",
    ),
    Mutation(
        "messages-by-http-tried-only-once",
        "api/resources/messages.py",
        "from db.connections import in_autocommit\n",
        "def in_autocommit(pool, work):\n"
        "    with pool.connection() as connection:\n"
        "        return work(connection)\n",
        ("tests/api/test_failures.py",),
        "what a conflict in Postgres has undone is done again",
    ),
    # Answers that name what they answer
    Mutation(
        "refused-frame-not-named",
        _PROTOCOL,
        "        return [Reply(error_frame(refusal, **_named_in(message)))]\n",
        "        return [Reply(error_frame(refusal))]\n",
        (_PROTOCOL_TESTS,),
        "a sender learns which of its frames was refused",
    ),
    Mutation(
        "refused-frame-named-by-the-last-of-two-names",
        _PROTOCOL,
        " if times[name] == 1}\n",
        "}\n",
        (_PROTOCOL_TESTS,),
        "what was named twice is not known",
    ),
    Mutation(
        "refused-frame-named-by-what-cannot-be-sent",
        _PROTOCOL,
        "        and not _LONE_SURROGATE.search(value)  # which no answer could hold\n",
        "",
        (_PROTOCOL_TESTS,),
        "every answer can be sent",
    ),
    Mutation(
        "ack-in-another-spelling",
        "wsgateway/writer.py",
        '        "client_msg_id": send.named,\n',
        '        "client_msg_id": str(send.client_msg_id),\n',
        (_SPELLING,),
        "an ack names the message as its sender did",
    ),
    Mutation(
        "refusal-in-another-spelling",
        "wsgateway/writer.py",
        "ref=pending.send.ref, client_msg_id=pending.send.named)\n",
        "ref=pending.send.ref, client_msg_id=str(pending.send.client_msg_id))\n",
        (_SPELLING,),
        "an error names the message as its sender did",
    ),
    Mutation(
        "closed-with-the-code-of-the-error",
        "wsgateway/connection.py",
        "kind.close_reason)\n",
        "kind.code)\n",
        ("tests/gateway/test_asyncapi.py",),
        "a close has the reason of its table",
    ),
    # Addresses that are locked out
    Mutation(
        "lockout-of-an-address-waits-for-the-sweep",
        "wsgateway/listener.py",
        "                self._lockouts.changed()\n",
        "                pass\n",
        (
            "tests/gateway/test_presence.py"
            "::TestAnAddress::test_a_lockout_by_the_api_is_known_at_once_to_a_gateway",
        ),
        "gateways hear of a lockout",
    ),
    Mutation(
        "each-lockout-wakes-the-gateways",
        _LIMITS_SQL,
        " AND r.key LIKE 'login:ip:%' AND r.locked_at = v_now;\n",
        " AND r.locked_at = v_now;\n",
        (_LIMIT_TESTS,),
        "what is no matter of theirs wakes no gateway",
    ),
    Mutation(
        "each-failure-wakes-the-gateways",
        _LIMITS_SQL,
        " AND r.key LIKE 'login:ip:%' AND r.locked_at = v_now;\n",
        " AND r.key LIKE 'login:ip:%';\n",
        (_LIMIT_TESTS,),
        "only a new lockout wakes the gateways",
    ),
    # Sessions that have ended
    Mutation(
        "ended-session-always-revoked",
        "wsgateway/writer.py",
        "                    self._has_ended(pending.connection.session_id)\n",
        "                    pending.connection.close(refusal)\n",
        (
            "tests/gateway/test_revocation.py"
            "::test_a_message_of_an_ended_session_is_not_stored_and_the_socket_is_told_why_it_ends",
        ),
        "a close code says why, whoever found it out",
    ),
)
