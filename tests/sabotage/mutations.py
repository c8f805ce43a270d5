"""The list. A new rule comes with a line here that breaks it."""

from __future__ import annotations

from tests.sabotage.mutation import Mutation
from tests.sabotage.mutations_of_channels import MUTATIONS_OF_CHANNELS
from tests.sabotage.mutations_of_clients import MUTATIONS_OF_CLIENTS
from tests.sabotage.mutations_of_deployment import MUTATIONS_OF_DEPLOYMENT
from tests.sabotage.mutations_of_drills import MUTATIONS_OF_DRILLS
from tests.sabotage.mutations_of_events import MUTATIONS_OF_EVENTS
from tests.sabotage.mutations_of_operators import MUTATIONS_OF_OPERATORS
from tests.sabotage.mutations_of_pentest import MUTATIONS_OF_PENTEST
from tests.sabotage.mutations_of_rules import MUTATIONS_OF_RULES
from tests.sabotage.mutations_of_secrets import MUTATIONS_OF_SECRETS
from tests.sabotage.mutations_of_the_benchmarks import MUTATIONS_OF_THE_BENCHMARKS
from tests.sabotage.mutations_of_the_drain import MUTATIONS_OF_THE_DRAIN
from tests.sabotage.mutations_of_the_floor import MUTATIONS_OF_THE_FLOOR
from tests.sabotage.mutations_of_the_gate import MUTATIONS_OF_THE_GATE
from tests.sabotage.mutations_of_the_gateway import MUTATIONS_OF_THE_GATEWAY
from tests.sabotage.mutations_of_the_socket import MUTATIONS_OF_THE_SOCKET

_FOUNDATION = "db/sql/migrations/0001_foundation.sql"
_LIMITS = "db/sql/migrations/0002_limits_and_events.sql"
_REDEEM = "db/sql/migrations/0011_release.sql"
_SESSIONS = "tests/db/test_sessions.py"
_APPEND_SQL = "db/sql/migrations/0004_append_messages.sql"
_APPEND = "tests/db/test_append_messages.py"
_TICKETS = "tests/db/test_tickets.py"
_LIMIT_TESTS = "tests/db/test_limits.py"
_LOGIN = "tests/api/test_login_limits.py"
_PRESENCE_TESTS = "tests/gateway/test_presence.py"
_RAW_BYTES = "tests/api/test_raw_bytes.py"
_HTTP_SERVER = "tests/api/test_http_server.py"
_SECURITY_HEADERS = "tests/api/test_security_headers.py"
_CORS = "tests/api/test_cors.py"

MUTATIONS = (
    *MUTATIONS_OF_DEPLOYMENT,
    *MUTATIONS_OF_CHANNELS,
    *MUTATIONS_OF_DRILLS,
    *MUTATIONS_OF_EVENTS,
    *MUTATIONS_OF_THE_BENCHMARKS,
    *MUTATIONS_OF_THE_DRAIN,
    *MUTATIONS_OF_THE_GATE,
    *MUTATIONS_OF_CLIENTS,
    *MUTATIONS_OF_PENTEST,
    *MUTATIONS_OF_OPERATORS,
    *MUTATIONS_OF_RULES,
    *MUTATIONS_OF_SECRETS,
    *MUTATIONS_OF_THE_FLOOR,
    *MUTATIONS_OF_THE_GATEWAY,
    *MUTATIONS_OF_THE_SOCKET,
    Mutation(
        "gateway-clears-failures",
        "db/sql/roles.sql",
        "GRANT EXECUTE ON FUNCTION count_failure TO gatehouse_gateway;\n",
        "GRANT EXECUTE ON FUNCTION count_failure, settle_attempt TO gatehouse_gateway;\n",
        ("tests/db/test_roles.py",),
        "a gateway counts failures and clears none",
    ),
    # Sessions by the thousand
    Mutation(
        "quadratic-end-of-sessions",
        _FOUNDATION,
        "CREATE FUNCTION on_sessions_updated() RETURNS trigger\nLANGUAGE plpgsql\n"
        "SECURITY DEFINER\nSET search_path = pg_catalog, public, pg_temp\n"
        "SET enable_nestloop = off\n",
        "CREATE FUNCTION on_sessions_updated() RETURNS trigger\nLANGUAGE plpgsql\n"
        "SECURITY DEFINER\nSET search_path = pg_catalog, public, pg_temp\n",
        ("tests/db/test_session_ends.py",),
        "a plan made for the end of one session does not serve for that of all",
    ),
    # Tickets
    Mutation(
        "ticket-spent-twice",
        _REDEEM,
        "          AND t.consumed_at IS NULL\n",
        "",
        (_TICKETS,),
        "a ticket opens one connection",
    ),
    Mutation(
        "ticket-never-expires",
        _REDEEM,
        "          AND t.expires_at > clock_timestamp()\n",
        "",
        (_TICKETS,),
        "a ticket lives for seconds",
    ),
    Mutation(
        "tickets-planned-by-the-size-of-the-house",
        _REDEEM,
        "            FROM live_sessions l WHERE l.session_id = t.id\n            OFFSET 0\n",
        "            FROM live_sessions l WHERE l.session_id = t.id\n",
        (f"{_TICKETS}::TestPlan",),
        "a plan made in an empty house would read all sessions for each batch",
    ),
    Mutation(
        "ticket-of-a-dead-session",
        _REDEEM,
        "            FROM live_sessions l WHERE l.session_id = t.id\n",
        "            FROM (SELECT x.id AS session_id, x.user_id, '' AS display_name,"
        " false AS is_admin FROM user_sessions x) l WHERE l.session_id = t.id\n",
        (_TICKETS,),
        "a ticket is worth nothing once its session has ended",
    ),
    Mutation(
        "accounts-not-locked",
        _REDEEM,
        "    PERFORM pg_advisory_xact_lock(72013002, k.key)\n",
        "    PERFORM k.key\n",
        (_TICKETS, _PRESENCE_TESTS),
        "two instances count an account's sockets one after the other",
    ),
    # Sessions
    Mutation(
        "live-though-revoked",
        _FOUNDATION,
        "WHERE s.revoked_at IS NULL\n  AND s.expires_at > clock_timestamp()",
        "WHERE s.expires_at > clock_timestamp()",
        (_SESSIONS,),
        "a revoked session is dead",
    ),
    Mutation(
        "live-though-expired",
        _FOUNDATION,
        "  AND s.expires_at > clock_timestamp()\n",
        "",
        (_SESSIONS,),
        "a session has an absolute end",
    ),
    Mutation(
        "live-though-idle",
        _FOUNDATION,
        "  AND s.idle_expires_at > clock_timestamp()\n",
        "",
        (_SESSIONS,),
        "an idle session ends",
    ),
    Mutation(
        "live-though-disabled",
        _FOUNDATION,
        "  AND u.disabled_at IS NULL\n",
        "",
        (_SESSIONS,),
        "a disabled user is out at once",
    ),
    Mutation(
        "live-though-drained",
        _FOUNDATION,
        "  AND (s.drain_deadline_at IS NULL OR s.drain_deadline_at > clock_timestamp());",
        ";",
        (_SESSIONS,),
        "a passed drain deadline ends the session",
    ),
    Mutation(
        "login-without-the-checked-hash",
        "db/sql/queries/sessions.sql",
        "WHERE id = %(user_id)s AND password_hash = %(checked_hash)s AND disabled_at IS NULL\n",
        "WHERE id = %(user_id)s AND %(checked_hash)s IS NOT NULL AND disabled_at IS NULL\n",
        (_SESSIONS,),
        "no login in flight survives a change of password",
    ),
    Mutation(
        "session-limit-off-by-one",
        "db/sql/queries/sessions.sql",
        "    OFFSET %(limit)s - 1\n",
        "    OFFSET %(limit)s\n",
        (_SESSIONS,),
        "an account has at most so many sessions",
    ),
    Mutation(
        "theft-goes-unpunished",
        "db/sessions.py",
        '        revoke_session(connection, session_id, "refresh_token_reused")\n',
        "",
        (_SESSIONS,),
        "a reused refresh token ends the session",
    ),
    Mutation(
        "grace-though-successor-used",
        "db/sql/queries/sessions.sql",
        "            AND successor.spent_at IS NULL,",
        "            ,",
        (_SESSIONS,),
        "who has used the successor has received it",
    ),
    Mutation(
        "grace-without-end",
        "db/sql/queries/sessions.sql",
        "        t.spent_at > clock_timestamp() - make_interval(secs => %(grace_seconds)s)\n",
        "        %(grace_seconds)s >= 0\n",
        (_SESSIONS,),
        "the grace is short",
    ),
    Mutation(
        "email-not-folded",
        "rules/fields.py",
        '    folded = unicodedata.normalize("NFKC", address).casefold()',
        '    return unicodedata.normalize("NFKC", address)',
        (_SESSIONS, _LOGIN),
        "one address is one account",
    ),
    # The chat log
    Mutation(
        "append-without-the-channel-lock",
        _APPEND_SQL,
        "    ORDER BY c.id\n    FOR NO KEY UPDATE;\n",
        "    ORDER BY c.id;\n",
        (_APPEND,),
        "seqs are taken under the channel's lock",
    ),
    Mutation(
        "array-with-a-backslash-too-few",
        "db/arrays.py",
        'value.replace("\\\\", "\\\\\\\\")',
        "value",
        ("tests/db/test_arrays.py",),
        "a message keeps its backslashes, and cannot end its element",
    ),
    Mutation(
        "append-planned-by-the-size-of-the-house",
        _APPEND_SQL,
        "              AND e.client_msg_id = i.client_msg_id\n            OFFSET 0\n",
        "              AND e.client_msg_id = i.client_msg_id\n",
        (f"{_APPEND}::TestPlan",),
        "a plan made in an empty house would read all messages for each batch",
    ),
    Mutation(
        "append-stamped-before-the-lock",
        _APPEND_SQL,
        "    v_now := refresh_limits(v_keys, p_window_seconds);\n",
        "    PERFORM refresh_limits(v_keys, p_window_seconds); v_now := now();\n",
        (_APPEND,),
        "a transaction that waited must not stamp its messages with an older time",
    ),
    Mutation(
        "append-seq-off-by-one",
        _APPEND_SQL,
        "            d.last_seq + row_number() OVER",
        "            1 + d.last_seq + row_number() OVER",
        (_APPEND,),
        "seq has no gaps",
    ),
    Mutation(
        "append-time-runs-backwards",
        _APPEND_SQL,
        "            greatest(v_now, c.last_entry_at) AS stamp,",
        "            v_now AS stamp,",
        (_APPEND,),
        "created_at never runs backwards in a channel",
    ),
    Mutation(
        "append-forgets-repeats",
        _APPEND_SQL,
        "              AND e.client_msg_id = i.client_msg_id\n",
        "              AND e.client_msg_id = i.client_msg_id AND false\n",
        (_APPEND,),
        "a repeat is the same message",
    ),
    Mutation(
        "append-conflict-unnoticed",
        _APPEND_SQL,
        "WHEN f.position <> f.first_position AND f.content <> f.first_content\n",
        "WHEN f.position <> f.first_position AND false\n",
        (_APPEND,),
        "the same id with other content is a conflict",
    ),
    Mutation(
        "append-by-strangers",
        _APPEND_SQL,
        "                WHEN f.may_write IS NOT TRUE THEN 'not_found'\n",
        "",
        (_APPEND,),
        "only members write",
    ),
    Mutation(
        "append-by-the-muted",
        _APPEND_SQL,
        "                WHEN f.muted_until > v_now THEN 'muted'\n",
        "",
        (_APPEND,),
        "the muted do not write",
    ),
    Mutation(
        "mute-before-repeat",
        _APPEND_SQL,
        "                WHEN f.may_write IS NOT TRUE THEN 'not_found'\n",
        "                WHEN f.may_write IS NOT TRUE THEN 'not_found'\n"
        "                WHEN f.muted_until > v_now THEN 'muted'\n",
        (_APPEND,),
        "a repeat costs nothing, whatever the limits say",
    ),
    Mutation(
        "touch-wakes-everybody",
        _FOUNDATION,
        "        WHERE (n.revoked_at, n.expires_at, n.drain_deadline_at)\n",
        "        WHERE (n.revoked_at, n.expires_at, n.last_seen_at)\n",
        (_APPEND,),
        "a touched session wakes nobody",
    ),
    Mutation(
        "account-limit-off-by-one",
        _APPEND_SQL,
        "                - greatest(x.account_room, 0) AS beyond_account\n",
        "                - greatest(x.account_room + 1, 0) AS beyond_account\n",
        (_APPEND,),
        "never more than the maximum in any window",
    ),
    Mutation(
        "address-limit-off-by-one",
        _APPEND_SQL,
        "        WHERE w.place <= w.address_room\n",
        "        WHERE w.place <= w.address_room + 1\n",
        (_APPEND,),
        "an address is bounded too",
    ),
    Mutation(
        "going-on-costs-nothing",
        _APPEND_SQL,
        "                bool_or(d.decision = 'locked_out_now') AS went_on,\n",
        "                false AS went_on,\n",
        (_APPEND,),
        "an account that goes on is locked out",
    ),
    # Limits
    Mutation(
        "limit-off-by-one",
        _LIMITS,
        "       OR sum_of_slices(r.reserved) + sum_of_slices(r.failures) >= wanted.maximum;",
        "       OR sum_of_slices(r.reserved) + sum_of_slices(r.failures) > wanted.maximum;",
        (_LIMIT_TESTS,),
        "never more than the maximum",
    ),
    Mutation(
        "limit-rows-locked-in-any-order",
        _LIMITS,
        "    FROM unnest(p_keys) AS k\n    ORDER BY k\n",
        "    FROM unnest(p_keys) AS k\n",
        (_LIMIT_TESTS,),
        "two subjects in two orders must not deadlock",
    ),
    Mutation(
        "lockouts-never-double",
        _LIMITS,
        "p_first_seconds * 2::numeric ^ least(p_in_a_row - 1, 30)",
        "p_first_seconds",
        (_LIMIT_TESTS,),
        "further lockouts are longer",
    ),
    Mutation(
        "lockout-not-looked-at",
        _LIMITS,
        "AND r.locked_until > v_now;\n"
        "\n"
        "    IF v_refusing IS NULL THEN\n"
        "        v_now := lock_limits(p_keys, p_window_seconds);\n"
        "        SELECT array_agg(r.key),\n"
        "               max(CASE WHEN p_settled AND (r.locked_until > v_now) IS NOT TRUE THEN 1\n"
        "                   ELSE seconds_until_free(r, wanted.maximum, v_now) END)\n"
        "        INTO v_refusing, v_seconds\n"
        "        FROM unnest(p_keys, p_maxima) AS wanted (key, maximum)\n"
        "        JOIN rate_limits r ON r.key = wanted.key\n"
        "        WHERE r.locked_until > v_now\n"
        "           OR sum_of_slices",
        "AND false;\n"
        "\n"
        "    IF v_refusing IS NULL THEN\n"
        "        v_now := lock_limits(p_keys, p_window_seconds);\n"
        "        SELECT array_agg(r.key),\n"
        "               max(CASE WHEN p_settled AND (r.locked_until > v_now) IS NOT TRUE THEN 1\n"
        "                   ELSE seconds_until_free(r, wanted.maximum, v_now) END)\n"
        "        INTO v_refusing, v_seconds\n"
        "        FROM unnest(p_keys, p_maxima) AS wanted (key, maximum)\n"
        "        JOIN rate_limits r ON r.key = wanted.key\n"
        "        WHERE sum_of_slices",
        (_LIMIT_TESTS,),
        "a lockout holds",
    ),
    Mutation(
        "success-clears-the-address",
        _LIMITS,
        "        WHERE r.key = ANY (p_clear_keys);",
        "        WHERE r.key = ANY (p_keys);",
        (_LIMIT_TESTS, _LOGIN),
        "a success never clears the address",
    ),
    Mutation(
        "home-is-not-exempt",
        "api/login_attempts.py",
        "            if not at_home:\n",
        "            if True:\n",
        (_LOGIN,),
        "a stranger cannot lock a player out at home",
    ),
    Mutation(
        "leftmost-forwarded-for",
        "rules/client_address.py",
        "        claimed = _parse(chain[-trusted_hops])\n",
        "        claimed = _parse(chain[0])\n",
        (_LOGIN,),
        "what a client writes into X-Forwarded-For itself does not count",
    ),
    Mutation(
        "common-passwords-allowed",
        "api/common_passwords.py",
        "    if password.lower() in _COMMON:\n",
        "    if password in _COMMON and False:\n",
        (_LOGIN,),
        "the commonest passwords are refused",
    ),
    # Sockets
    Mutation(
        "account-place-off-by-one",
        _REDEEM,
        "            OFFSET p_max_per_account\n",
        "            OFFSET p_max_per_account + 1\n",
        (_PRESENCE_TESTS,),
        "an account has at most so many sockets",
    ),
    Mutation(
        "ended-sockets-go-on-counting",
        "wsgateway/presence.py",
        "        self._departures.submit(connection_id)\n",
        "",
        (_PRESENCE_TESTS,),
        "a socket that has ended does not count",
    ),
    Mutation(
        "made-up-tickets-do-not-count",
        "wsgateway/admission.py",
        "                self._lockouts.count_failure(one.ip)\n",
        "                pass\n",
        (_PRESENCE_TESTS,),
        "guessing tickets locks the address",
    ),
    # Layers
    Mutation(
        "layer-crossed",
        "wsgateway/batching.py",
        "import asyncio\n",
        "import asyncio\n\nimport api  # noqa: F401\n",
        ("tests/unit/test_layers.py",),
        "the two services never import each other",
    ),
    Mutation(
        "clock-in-the-rules",
        "rules/token_bucket.py",
        "from dataclasses import dataclass, field\n",
        "import time  # noqa: F401\nfrom dataclasses import dataclass, field\n",
        ("tests/unit/test_layers.py",),
        "policy has no clock",
    ),
    # The client library
    Mutation(
        "client-skips-a-gap",
        "gatehouse_client/progress.py",
        '                raise GapError(f"entry {seq} came after {self.last_seq}")\n',
        "                pass\n",
        ("tests/unit/test_client_library.py",),
        "a client notices a gap",
    ),
    Mutation(
        "client-forgets-unacked-sends",
        "gatehouse_client/live.py",
        "        for pending in self._outbox.reconnected():\n            self._transmit(pending)\n",
        "",
        ("tests/client/test_live.py",),
        "what was not acknowledged is sent again",
    ),
    Mutation(
        "client-sends-again-what-was-too-big",
        "gatehouse_client/live.py",
        "                if advice is Advice.SEND_SOMETHING_ELSE:\n",
        "                if advice is None:\n",
        ("tests/client/test_live.py",),
        "what the server closed the socket on is not sent again for ever",
    ),
    Mutation(
        "client-floods",
        "gatehouse_client/live.py",
        "            await asyncio.sleep(pace.take(clock()))\n",
        "            await asyncio.sleep(0)\n",
        ("tests/client/test_live.py",),
        "a client that resumes much is not closed for flooding",
    ),
    Mutation(
        "client-keeps-quiet-about-retention",
        "gatehouse_client/subscriptions.py",
        '        self._inbox.put({"type": "missed", "channel_id": channel.id, **bounds})\n',
        "",
        ("tests/client/test_live.py",),
        "nothing is skipped silently",
    ),
    Mutation(
        "client-gives-up-on-a-lost-refresh",
        "gatehouse_client/client.py",
        "                if attempt + 1 == REFRESH_ATTEMPTS:\n",
        "                if True:\n",
        ("tests/client/test_live.py",),
        "a refresh whose answer got lost is asked again within the grace",
    ),
    Mutation(
        "chat-prints-raw",
        "scripts/chat_text.py",
        "    return printable(line)\n",
        "    return line\n",
        ("tests/unit/test_chat_text.py", "tests/acceptance/test_chat_and_smoke.py"),
        "other people's text does not act on a terminal",
    ),
    Mutation(
        "smoke-does-not-wait-for-the-end",
        "scripts/smoke.py",
        '                await self._step("socket ends", ends, REVOCATION_SECONDS)\n',
        "                ends.close()\n",
        ("tests/acceptance/test_chat_and_smoke.py",),
        "a socket that outlives its session makes scripts/smoke fail",
    ),
    # HTTP, byte by byte
    Mutation(
        "length-and-chunked-accepted",
        "api/http_grammar.py",
        '        raise RefusedHead(400, "Content-Length together with Transfer-Encoding")\n',
        "        pass\n",
        (_RAW_BYTES,),
        "where a body ends is said once",
    ),
    Mutation(
        "chunked-twice-accepted",
        "api/http_grammar.py",
        '    if names == [b"chunked"]:\n',
        '    if set(names) == {b"chunked"}:\n',
        (_RAW_BYTES,),
        "chunked is applied once",
    ),
    Mutation(
        "any-content-type-is-read",
        "api/app.py",
        "            BodyGuard(settings.service.max_request_body_bytes),\n",
        "",
        ("tests/api/test_errors.py",),
        "a body is JSON and says so",
    ),
    Mutation(
        "a-status-that-the-table-lacks",
        "api/http_grammar.py",
        'RefusedHead(400, "a transfer coding other than chunked")',
        'RefusedHead(501, "a transfer coding other than chunked")',
        (_RAW_BYTES,),
        "codes and statuses come from one table",
    ),
    Mutation(
        "chunked-in-http-1-0",
        "api/http_grammar.py",
        '        raise RefusedHead(400, "Transfer-Encoding in HTTP/1.0")\n',
        "        pass\n",
        (_RAW_BYTES,),
        "HTTP/1.0 knows no chunks, so a proxy may read on",
    ),
    Mutation(
        "second-host-accepted",
        "api/http_grammar.py",
        "    if len(hosts) > 1 or",
        "    if",
        (_RAW_BYTES,),
        "two programs may take different hosts",
    ),
    Mutation(
        "doubled-slash-accepted",
        "api/http_grammar.py",
        'rb"/(?!/)[^#]*"',
        'rb"/[^#]*"',
        (_RAW_BYTES,),
        "//ops must not be /ops to us and something else to a perimeter rule",
    ),
    Mutation(
        "encoded-slash-accepted",
        "api/http_grammar.py",
        "|2[Ff]|5[Cc]",
        "|5[Cc]",
        (_RAW_BYTES,),
        "%2F must not become a slash behind a perimeter rule",
    ),
    Mutation(
        "bare-line-feed-accepted",
        "api/http_grammar.py",
        "_CONTROLS = bytes([*range(9), *range(10, 32), 127])",
        "_CONTROLS = bytes([*range(9), *range(11, 32), 127])",
        (_RAW_BYTES,),
        "a bare LF ends no line",
    ),
    Mutation(
        "reserved-method-let-through",
        "api/http_grammar.py",
        '(b"WEBSOCKET",)',
        "()",
        (_RAW_BYTES,),
        "falcon answers it before any middleware",
    ),
    Mutation(
        "chunk-size-with-an-underscore",
        "api/http_chunks.py",
        'rb"([0-9A-Fa-f]{1,16})(?:;"',
        'rb"([0-9A-Fa-f_]{1,16})(?:;"',
        (_RAW_BYTES,),
        "a chunk size is digits, and Python's int() takes more",
    ),
    Mutation(
        "framing-not-bounded",
        "api/http_chunks.py",
        "or self._framing_bytes > allowed",
        "",
        (_RAW_BYTES,),
        "trailers and extensions end somewhere",
    ),
    Mutation(
        "chunks-over-the-limit",
        "api/http_chunks.py",
        "if self._content_bytes > self._max_bytes:",
        "if self._content_bytes > self._max_bytes + 1:",
        (_RAW_BYTES,),
        "the body limit holds for chunks",
    ),
    Mutation(
        "length-over-the-limit",
        "api/http_parser.py",
        "if self.content_length > self.adj.max_request_body_size:",
        "if self.content_length > self.adj.max_request_body_size + 1:",
        (_RAW_BYTES,),
        "the body limit holds for a length",
    ),
    Mutation(
        "limit-one-too-low",
        "api/http_parser.py",
        "if self.content_length > self.adj.max_request_body_size:",
        "if self.content_length >= self.adj.max_request_body_size:",
        (_RAW_BYTES,),
        "exactly the limit is accepted",
    ),
    Mutation(
        "expectation-without-a-body",
        "api/http_channel.py",
        "            if request.completed:\n",
        "            if request.completed and not request.expect_continue:\n",
        (_RAW_BYTES,),
        "one request's headers never reach the next",
    ),
    Mutation(
        "refusal-reset-by-the-kernel",
        "api/http_channel.py",
        "        if not (self.will_linger and self.close_when_flushed) or self.will_close:\n",
        "        if True:\n",
        (_RAW_BYTES,),
        "a client that is still sending gets to read its refusal",
    ),
    Mutation(
        "slow-client-never-late",
        "api/http_channel.py",
        "return Overdue.RECEIVING if late else None",
        "return None",
        (_HTTP_SERVER,),
        "a byte now and then buys no time",
    ),
    Mutation(
        "idle-connection-kept",
        "api/http_channel.py",
        "return Overdue.IDLE if now - self._waiting_since > limits.idle_seconds else None",
        "return None",
        (_HTTP_SERVER,),
        "idle connections are closed",
    ),
    Mutation(
        "unread-answer-kept",
        "api/http_channel.py",
        "return Overdue.ANSWERING if late else None",
        "return None",
        (_HTTP_SERVER,),
        "a client that does not read is cut",
    ),
    Mutation(
        "next-request-before-the-answer-is-out",
        "api/http_channel.py",
        "        if self._held and not self.requests and not self.total_outbufs_len:\n",
        "        if self._held and not self.requests:\n",
        (_HTTP_SERVER,),
        "a client that does not read gets one answer, not all of them",
    ),
    Mutation(
        "working-connection-shown-out",
        "api/http_channel.py",
        "            return None\n        if self.request is None and",
        "            pass\n        if self.request is None and",
        (_HTTP_SERVER,),
        "a request at work is never thrown out",
    ),
    Mutation(
        "newest-shown-out",
        "api/http_server.py",
        "            min(expendable, key",
        "            max(expendable, key",
        (_HTTP_SERVER,),
        "who has kept us waiting longest makes room",
    ),
    Mutation(
        "backlog-forgotten",
        "api/http_server.py",
        "            self._server.handle_accept()\n",
        "",
        (_HTTP_SERVER,),
        "who is in the backlog at the stop is answered",
    ),
    Mutation(
        "kept-alive-through-a-drain",
        "api/http_answers.py",
        '            self.request.headers["CONNECTION"] = "close"',
        "            pass",
        (_HTTP_SERVER,),
        "an answer during a drain closes its connection",
    ),
    Mutation(
        "exit-in-a-handler-hangs",
        "api/http_answers.py",
        "        except BaseException as error:\n",
        "        except Exception as error:\n",
        (_RAW_BYTES,),
        "whatever comes out of a handler, the client is answered",
    ),
    Mutation(
        "own-answers-without-hsts",
        "api/http_answers.py",
        "security_headers(secure=secure)",
        "security_headers(secure=False)",
        (_SECURITY_HEADERS,),
        "HSTS on HTTPS, on every answer",
    ),
    Mutation(
        "own-answers-without-cors",
        "api/http_answers.py",
        '        *origin_headers(fields.get("ORIGIN"), terms.cors_allowed_origins),\n',
        "",
        (_CORS,),
        "an allowed page can read a 413",
    ),
    Mutation(
        "proto-believed-without-a-proxy",
        "rules/client_address.py",
        "if trusted_hops == 0 or forwarded_proto is None:",
        "if forwarded_proto is None:",
        (_SECURITY_HEADERS,),
        "X-Forwarded-Proto counts only behind a trusted proxy",
    ),
    Mutation(
        "any-https-in-the-chain",
        "rules/client_address.py",
        "return all(",
        "return any(",
        (_SECURITY_HEADERS,),
        "one hop by HTTP is not HTTPS",
    ),
    Mutation(
        "method-logged-as-it-came",
        "rules/log_lines.py",
        'return method if method in _HTTP_METHODS else "(other)"',
        "return method",
        (_SECURITY_HEADERS,),
        "no word of a client's choice stands in the access line",
    ),
    Mutation(
        "method-refused-after-the-token",
        "api/app.py",
        "            Methods(),\n",
        "",
        (_SECURITY_HEADERS,),
        "an unknown method is 405, for everybody",
    ),
    Mutation(
        "head-forgotten",
        "api/http_methods.py",
        '            methods.setdefault("HEAD", methods["GET"])\n',
        "            pass\n",
        (_SECURITY_HEADERS,),
        "HEAD wherever GET",
    ),
    Mutation(
        "origin-by-prefix",
        "api/middleware/cors.py",
        "if origin is not None and origin in allowed:",
        "if origin is not None and origin.startswith(tuple(allowed)):",
        (_CORS,),
        "an origin is allowed exactly or not at all",
    ),
    Mutation(
        "origin-in-any-case",
        "api/middleware/cors.py",
        "if origin is not None and origin in allowed:",
        "if origin is not None and origin.lower() in allowed:",
        (_CORS,),
        "an origin is allowed exactly or not at all",
    ),
    Mutation(
        "no-vary",
        "api/middleware/cors.py",
        'headers = [("Vary", "Origin")]',
        "headers: list[tuple[str, str]] = []",
        (_CORS,),
        "a cache keeps origins apart",
    ),
)
