"""Ways to break the publish drain: who is enrolled, when it ends, what is kept, who comes back."""

from __future__ import annotations

from tests.sabotage.mutation import Mutation

_DB = "tests/db/test_drains.py"
_API = "tests/api/test_drains.py"
_BACK = "tests/api/test_reentry.py"
_SOCKET = "tests/gateway/test_drain.py"
_MIGRATION = "db/sql/migrations/0012_drains.sql"
_WATCH = "wsgateway/drain_watch.py"
_SESSIONS = "db/sql/queries/sessions.sql"

MUTATIONS_OF_THE_DRAIN = (
    Mutation(
        "drain-of-admins",
        _MIGRATION,
        "          AND NOT u.is_admin\n",
        "",
        (_DB, _SOCKET),
        "admins are exempt",
    ),
    Mutation(
        "drain-beside-another",
        _MIGRATION,
        "    IF EXISTS (SELECT FROM publish_drain_events d WHERE d.status = 'draining') THEN\n"
        "        RETURN;\n    END IF;\n",
        "",
        (_DB, _API),
        "a second start is told that a drain is active",
    ),
    Mutation(
        "late-login-escapes",
        _MIGRATION,
        "        NEW.drain_deadline_at := v_drain.deadline;\n",
        "",
        (_DB, _API),
        "who logs in during a drain is enrolled too",
    ),
    Mutation(
        "silence-erases-the-version",
        _MIGRATION,
        "    v_version := coalesce(p_version, v_session.client_version);\n",
        "    v_version := p_version;\n",
        (_API, "tests/db/test_session_ends.py"),
        "a call that names no version leaves the session's alone",
    ),
    Mutation(
        "silence-erases-the-content-version",
        _MIGRATION,
        "    v_content_version := coalesce(p_content_version, v_session.client_content_version);\n",
        "    v_content_version := p_content_version;\n",
        ("tests/db/test_session_ends.py",),
        "each of the two versions stays when a call does not name it",
    ),
    Mutation(
        "back-without-its-version",
        _SESSIONS,
        "coalesce(%(client_version)s, s.client_version)",
        "%(client_version)s",
        (_API,),
        "whoever comes back runs what it ran until it says otherwise",
    ),
    Mutation(
        "updated-in-vain",
        _MIGRATION,
        "        PERFORM release_from_drain(v_drain.id, ARRAY[p_session_id]);\n",
        "        NULL;\n",
        (_DB, _API),
        "who has updated is let go",
    ),
    Mutation(
        "admin-thrown-out",
        _MIGRATION,
        "        PERFORM release_from_drain(v_drain.id, v_session_ids);\n",
        "        NULL;\n",
        (_DB,),
        "whoever becomes an administrator is let go",
    ),
    Mutation(
        "admin-made-beside-a-beginning-drain",
        _MIGRATION,
        "CREATE TRIGGER new_admins_hold_drains BEFORE UPDATE OF is_admin ON users\n"
        "    FOR EACH STATEMENT EXECUTE FUNCTION hold_drains();\n",
        "",
        (_DB,),
        "a drain that is just beginning is waited for",
    ),
    Mutation(
        "admin-let-go-too-late",
        _MIGRATION,
        "v_session_ids <> '{}' AND v_drain.deadline > clock_timestamp() THEN\n",
        "v_session_ids <> '{}' THEN\n",
        (_DB,),
        "after the deadline no administrator is let go either",
    ),
    Mutation(
        "updated-too-late",
        _MIGRATION,
        "\n      AND d.deadline > clock_timestamp();",
        ";",
        (_DB,),
        "after the deadline nobody is let go",
    ),
    Mutation(
        "cancelled-after-the-deadline",
        _MIGRATION,
        "    IF v_drain.status <> 'draining' OR v_drain.deadline <= clock_timestamp() THEN\n",
        "    IF v_drain.status <> 'draining' THEN\n",
        (_DB, _API),
        "a drain is called off before its deadline only",
    ),
    Mutation(
        "clock-lets-back-in",
        _MIGRATION,
        "    UPDATE user_sessions SET drained_at = v_now\n",
        "    UPDATE user_sessions SET drained_at = NULL\n",
        (_DB,),
        "after the end no clock lets anybody back in",
    ),
    Mutation(
        "receipts-of-a-finished-drain-change",
        _MIGRATION,
        "        SELECT FROM publish_drain_events d WHERE d.id = NEW.drain_id"
        " AND d.status = 'draining'\n",
        "        SELECT FROM publish_drain_events d WHERE d.id = NEW.drain_id\n",
        (_DB,),
        "the receipts of a finished drain are frozen",
    ),
    Mutation(
        "no-finisher-after-a-restart",
        _WATCH,
        "            await self._finish()\n",
        "            pass\n",
        (_SOCKET,),
        "any gateway finishes any drain",
    ),
    Mutation(
        "delivered-after-the-deadline",
        "wsgateway/connection.py",
        "        if not self.is_silent:\n",
        "        if True:\n",
        (_SOCKET,),
        "nothing is delivered after the deadline",
    ),
    Mutation(
        "drain-heard-of-by-notification-alone",
        "wsgateway/listener.py",
        "            self._drains.read,\n",
        "",
        (_SOCKET,),
        "a lost notification costs seconds, not the drain",
    ),
    Mutation(
        "acked-before-it-is-written",
        _WATCH,
        "        receipts.acked.add(connection.session_id)\n",
        "",
        (_SOCKET,),
        "an ack that was answered stands in the receipt",
    ),
    Mutation(
        "connected-says-nothing-of-the-drain",
        "wsgateway/gateway.py",
        '            connection.send(self._connected(admission) | {"drain": drain})\n',
        '            connection.send(self._connected(admission) | {"drain": None})\n',
        (_SOCKET,),
        "who connects during a drain is told",
    ),
    Mutation(
        "back-for-ever",
        _SESSIONS,
        "  AND d.drain_deadline_at + make_interval(hours => %(reentry_hours)s)"
        " > clock_timestamp()\n",
        "",
        (_API,),
        "the way back closes after AUTH_DRAIN_REENTRY_HOURS",
    ),
    Mutation(
        "back-with-the-old-client",
        "db/sessions.py",
        "    if not (is_new_enough and terms.passes_gate):\n",
        "    if False:\n",
        (_API,),
        "an outdated client does not come back",
    ),
    Mutation(
        "back-after-a-revocation",
        "db/sql/migrations/0012_drains.sql",
        "WHERE s.revoked_at IS NULL\n  AND s.expires_at > clock_timestamp()\n"
        "  AND u.disabled_at IS NULL\n  AND (s.drained_at",
        "WHERE s.expires_at > clock_timestamp()\n  AND u.disabled_at IS NULL\n  AND (s.drained_at",
        (_API,),
        "a revocation leaves no way back",
    ),
    Mutation(
        "a-revocation-looks-once",
        "db/sql/migrations/0012_drains.sql",
        "FOR v_look IN 1..2 LOOP",
        "FOR v_look IN 1..1 LOOP",
        (_BACK,),
        "a revocation that races with people coming back leaves none of them in",
    ),
    Mutation(
        "no-way-back-after-a-lost-answer",
        "db/sessions.py",
        "        if may_follow and _session_of_successor(connection, token) is None:\n",
        "        if False:\n",
        (_BACK,),
        "a refresh right before the drain whose answer got lost costs no password",
    ),
    Mutation(
        "came-back-without-a-receipt",
        "db/sql/migrations/0012_drains.sql",
        " AND (revoked_at IS NULL OR revoked_reason = 'came_back');",
        " AND revoked_at IS NULL;",
        (_BACK,),
        "whoever has come back has a receipt of the end like everybody else",
    ),
    Mutation(
        "back-without-the-gate",
        "api/resources/sessions.py",
        "                passes_gate=refusal is None,\n",
        "                passes_gate=True,\n",
        (_BACK,),
        "nobody comes back with a client that the gate refuses",
    ),
)
