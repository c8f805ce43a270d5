"""Ways to break the operators' hands: the audit trail, statements by hand, scripts, metrics."""

from __future__ import annotations

from tests.sabotage.mutation import Mutation

_AUDIT_SQL = "db/sql/migrations/0008_audit.sql"
_OPERATORS_SQL = "db/sql/migrations/0009_operators.sql"
_BY_HAND_SQL = "db/sql/migrations/0014_statements_by_hand.sql"
_REVOKE_SQL = "db/sql/migrations/0012_drains.sql"
_METRICS_SQL = "db/sql/migrations/0010_metrics.sql"
_AUDIT = "tests/db/test_audit.py"
_OPERATORS = "tests/api/test_operators.py"
_ACCESS = "tests/api/test_ops_access.py"
_SESSION_ENDS = (
    "tests/db/test_session_ends.py::test_a_change_of_several_sessions_locks_them_in_id_order"
)
_PSQL = "tests/db/test_psql_scripts.py"
_VERIFY = "tests/acceptance/test_verify_audit.py"
_METRICS = "tests/db/test_metrics.py"
_FLEET = "tests/gateway/test_metrics.py"

MUTATIONS_OF_OPERATORS = (
    Mutation(
        "outsiders-try-for-nothing",
        "api/middleware/ops_access.py",
        "            self._count_outsider(address)\n",
        "",
        (_ACCESS,),
        "a refused call to ops counts against its address, from wherever",
    ),
    Mutation(
        "a-lockout-tells-of-ops",
        "api/middleware/ops_access.py",
        "        except Refusal:\n            pass ",
        "        except ZeroDivisionError:\n            pass ",
        (_ACCESS,),
        "from elsewhere there are no operators' paths, for whoever is locked out too",
    ),
    Mutation(
        "options-tell-of-ops",
        "api/middleware/ops_access.py",
        "        if not self._is_inside(address):\n",
        '        if not self._is_inside(address) and req.method != "OPTIONS":\n',
        (_ACCESS,),
        "from elsewhere there are no operators' paths, whatever the method",
    ),
    Mutation(
        "audit-head-not-locked",
        _AUDIT_SQL,
        "FROM admin_action_audit_head h FOR UPDATE;",
        "FROM admin_action_audit_head h;",
        (_AUDIT,),
        "writers at once make one chain",
    ),
    Mutation(
        "audit-rows-may-change",
        _AUDIT_SQL,
        "CREATE TRIGGER audit_rows_stay BEFORE UPDATE OR DELETE ON admin_action_audit",
        "CREATE TRIGGER audit_rows_stay BEFORE DELETE ON admin_action_audit",
        (_AUDIT,),
        "the trail is only ever appended to",
    ),
    Mutation(
        "audit-in-the-sessions-time-zone",
        _AUDIT_SQL,
        "SET timezone = 'UTC'\n",
        "",
        (_AUDIT,),
        "a row means the same in every time zone",
    ),
    Mutation(
        "appended-row-breaks-the-chain",
        "db/audit.py",
        " and find_head(connection).id < audit_id",
        "",
        (_AUDIT,),
        "verifying goes on while operators act",
    ),
    Mutation(
        "head-kept-elsewhere-ignored",
        "rules/audit_chain.py",
        "        elif found[audit_id] != kept[audit_id]:\n",
        "        elif False:\n",
        (_VERIFY,),
        "a chain that was made anew shows against a head that was kept",
    ),
    Mutation(
        "cut-off-tail-ignored",
        "rules/audit_chain.py",
        "        if audit_id not in found:\n",
        "        if False:\n",
        (_VERIFY,),
        "a tail that was cut off shows against a head that was kept",
    ),
    Mutation(
        "unreadable-export-is-intact",
        "scripts/verify_audit.py",
        "COULD_NOT_LOOK = 2",
        "COULD_NOT_LOOK = 0",
        (_VERIFY,),
        "what cannot be read is not intact",
    ),
    Mutation(
        "act-without-an-actor",
        _OPERATORS_SQL,
        "    IF coalesce(btrim(p_actor), '') = '' OR coalesce(btrim(p_reason), '') = '' THEN\n",
        "    IF false THEN\n",
        (_PSQL,),
        "nobody acts without a name and a reason",
    ),
    Mutation(
        "any-number-of-selectors",
        _REVOKE_SQL,
        "    ) <> 1 THEN\n        RAISE EXCEPTION 'exactly one selector is needed';",
        "    ) > 1 THEN\n        RAISE EXCEPTION 'exactly one selector is needed';",
        (_PSQL,),
        "a selector that was left out does not end everything",
    ),
    Mutation(
        "dry-run-that-revokes",
        _REVOKE_SQL,
        "    IF p_dry_run THEN\n",
        "    IF false THEN\n",
        (_PSQL,),
        "a dry run changes nothing",
    ),
    Mutation(
        "statements-by-hand-unseen",
        _BY_HAND_SQL,
        "    IF v_rows = 0 THEN\n",
        "    IF true THEN\n",
        (_PSQL,),
        "a plain UPDATE leaves its row",
    ),
    Mutation(
        "services-count-as-hands",
        _BY_HAND_SQL,
        "(''gatehouse_api'', ''gatehouse_gateway'')",
        "(''gatehouse_gateway'')",
        (_PSQL,),
        "what services do is not written down as somebody's statement",
    ),
    Mutation(
        "statement-by-hand-holds-the-head",
        _BY_HAND_SQL,
        "    DEFERRABLE INITIALLY DEFERRED\n",
        "    DEFERRABLE INITIALLY IMMEDIATE\n",
        (_PSQL,),
        "an open transaction in psql holds no operator up",
    ),
    Mutation(
        "an-act-hides-statements-by-hand",
        _BY_HAND_SQL,
        "n WHERE n.id > p_after;",
        "n;",
        (_PSQL,),
        "only what an audited act did itself needs no other row",
    ),
    Mutation(
        "an-act-is-audited-twice",
        "db/sql/migrations/0012_drains.sql",
        "    PERFORM forget_statements_by_hand(v_noted);\n",
        "",
        (_PSQL,),
        "one act, one row",
    ),
    Mutation(
        "version-that-is-none-counts-as-zero",
        "db/sql/ops/revoke_below_version.sql",
        "p_version_below => substring(:'version' FROM '^([0-9]{1,18}(?:\\.[0-9]{1,18}){0,7})$')",
        "p_version_below => :'version'",
        (_PSQL,),
        "a mistyped version must not look like success",
    ),
    Mutation(
        "wrong-token-opens",
        "api/middleware/ops_access.py",
        "            if hmac.compare_digest(presented, known):\n",
        "            if presented[:4] == known[:4]:\n",
        (_ACCESS,),
        "only the whole token opens",
    ),
    Mutation(
        "strange-network-gets-in",
        "api/middleware/ops_access.py",
        "any(address in network for network in self._networks)\n",
        "any(True for network in self._networks)\n",
        (_ACCESS,),
        "for strange networks there is no such path",
    ),
    Mutation(
        "enabling-locks-in-any-order",
        _OPERATORS_SQL,
        "                ORDER BY s.id\n                FOR NO KEY UPDATE OF s\n",
        "                ORDER BY s.id DESC\n                FOR NO KEY UPDATE OF s\n",
        (_SESSION_ENDS,),
        "mass changes go in id order",
    ),
    Mutation(
        "making-room-locks-in-any-order",
        "db/sql/queries/sessions.sql",
        "    )\n    ORDER BY id\n    FOR NO KEY UPDATE\n)\n\n-- name: insert_session\n",
        "    )\n)\n\n-- name: insert_session\n",
        (_SESSION_ENDS,),
        "mass changes go in id order",
    ),
    Mutation(
        "sessions-come-back-with-enabling",
        _OPERATORS_SQL,
        "u.disabled_at IS NOT NULL AND s.revoked_at IS NULL\n",
        "u.disabled_at IS NOT NULL AND false\n",
        (_OPERATORS,),
        "the sessions of before stay ended",
    ),
    Mutation(
        "messages-of-five-minutes-by-one-too-many",
        _METRICS_SQL,
        "            v_low := v_middle + 1;\n",
        "            v_low := v_middle;\n            EXIT WHEN v_high - v_low < 2;\n",
        (_METRICS,),
        "halving ends at the first entry of the last five minutes",
    ),
    Mutation(
        "every-version-by-its-name",
        "db/sql/queries/metrics.sql",
        "    CASE WHEN named.client_version ~ '^[0-9]{1,18}(\\.[0-9]{1,18}){0,7}$'"
        " THEN named.client_version END\n",
        "    named.client_version\n",
        (_METRICS,),
        "what clients make up is no label",
    ),
    Mutation(
        "label-not-escaped",
        "rules/prometheus.py",
        'return _escaped_help(value).replace(\'"\', r"\\"")',
        "return _escaped_help(value)",
        ("tests/unit/test_prometheus.py",),
        "a label may hold anything",
    ),
    Mutation(
        "the-64-of-an-address-is-not-shown",
        "db/sql/queries/operators.sql",
        "::inet && %(network)s::inet\n",
        "::inet <<= %(network)s::inet\n",
        (_OPERATORS,),
        "an operator sees what locks an address out",
    ),
    Mutation(
        "percentile-beyond-the-end",
        "rules/recent.py",
        "ordered[math.ceil(percent / 100 * len(ordered)) - 1]",
        "ordered[int(percent / 100 * len(ordered)) - 1]",
        ("tests/unit/test_recent.py",),
        "a percentile is a value that there was",
    ),
    Mutation(
        "deliveries-not-counted",
        "wsgateway/fanout.py",
        "            self.deliveries += feed.last_deliveries\n",
        "",
        (_FLEET,),
        "what is delivered shows in the metrics",
    ),
    Mutation(
        "active-drain-hidden",
        "api/fleet_metrics.py",
        'if drain.status == "draining"]',
        'if drain.status == "drained"]',
        (_FLEET,),
        "an active drain shows in the metrics",
    ),
    Mutation(
        "revocations-not-measured",
        "wsgateway/session_watch.py",
        "            self.revocation_ms.add(seconds * 1000, now)\n",
        "            pass\n",
        (_FLEET,),
        "how quick revocations are shows in the metrics",
    ),
    Mutation(
        "a-service-makes-administrators",
        _OPERATORS_SQL,
        "    IF p_action = 'admin' AND session_user IN"
        " ('gatehouse_api', 'gatehouse_gateway') THEN\n",
        "    IF false THEN\n",
        ("tests/db/test_roles.py",),
        "whoever took over a service makes no administrators",
    ),
    Mutation(
        "nul-in-a-parameter",
        "api/request_input.py",
        '            if "\\0" in value:  # PostgreSQL knows none\n',
        "            if False:\n",
        ("tests/api/test_operators.py::TestErasing",),
        "NUL is refused, never a 500",
    ),
)
