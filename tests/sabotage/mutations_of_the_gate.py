"""Ways to break the release gate: who gets in, when, and what an activation leaves behind."""

from __future__ import annotations

from tests.sabotage.mutation import Mutation

_DB = "tests/db/test_releases.py"
_API = "tests/api/test_release_gate.py"
_SOCKET = "tests/gateway/test_release_gate.py"
_MIGRATION = "db/sql/migrations/0011_release.sql"
_WATCH = "wsgateway/release_watch.py"

MUTATIONS_OF_THE_GATE = (
    Mutation(
        "session-behind-the-activation",
        _MIGRATION,
        "    PERFORM pg_advisory_xact_lock_shared(72013004);\n",
        "",
        (_DB, _API),
        "no login in flight is decided by one policy and lands under another",
    ),
    Mutation(
        "session-opened-without-holding-the-policy",
        "db/sessions.py",
        "    hold_policy(connection)\n    if not",
        "    if not",
        (_DB,),
        "whoever opens a session holds the policy, and cannot forget it",
    ),
    Mutation(
        "announced-minimum-opens-the-gate",
        _MIGRATION,
        "    IF v_old.enforce_after <= v_now THEN\n",
        "    IF false THEN\n",
        (_DB,),
        "who was shut out stays shut out while the next minimum is only announced",
    ),
    Mutation(
        "grace-for-nobody",
        _MIGRATION,
        "            THEN v_now + make_interval(secs => p_grace_seconds)\n",
        "            THEN v_now\n",
        (_DB, _API),
        "a minimum is enforced after the grace",
    ),
    Mutation(
        "deadline-moved-by-the-next-release",
        _MIGRATION,
        "            THEN v_old.enforce_after\n",
        "            THEN v_now\n",
        (_DB,),
        "an announced deadline stays where it is",
    ),
    Mutation(
        "dry-run-in-earnest",
        _MIGRATION,
        "    IF p_dry_run THEN\n        RETURN QUERY SELECT 'activated'",
        "    IF false THEN\n        RETURN QUERY SELECT 'activated'",
        (_DB, _API),
        "a dry run changes nothing",
    ),
    Mutation(
        "rollback-goes-round-in-circles",
        _MIGRATION,
        "    IF p_action = 'activate' THEN\n",
        "    IF true THEN\n",
        (_DB,),
        "a second rollback goes one release further back",
    ),
    Mutation(
        "outdated-ticket-admitted",
        _MIGRATION,
        "            NOT s.is_admin AND is_update_required(\n",
        "            false AND is_update_required(\n",
        (_SOCKET,),
        "the ticket is measured by the policy that is in force when it is spent",
    ),
    Mutation(
        "admin-shut-out-at-the-ticket",
        _MIGRATION,
        "            NOT s.is_admin AND is_update_required(\n",
        "            is_update_required(\n",
        (_SOCKET,),
        "admins are exempt",
    ),
    Mutation(
        "outdated-bearer-served",
        "api/app.py",
        "            ReleaseGate(),\n",
        "",
        (_API,),
        "every bearer call passes the gate",
    ),
    Mutation(
        "thief-protected-by-the-gate",
        "api/middleware/release_gate.py",
        ' or req.method in getattr(resource, "ungated_methods", ())',
        "",
        (_API,),
        "whatever one runs, sessions can be ended",
    ),
    Mutation(
        "admin-shut-out",
        "api/release_gate.py",
        "    if is_admin or not is_update_required(",
        "    if not is_update_required(",
        (_API,),
        "admins are exempt",
    ),
    Mutation(
        "outdated-registration-counts",
        "api/resources/accounts.py",
        "            refuse_outdated(find_policy(connection), req.client(), is_admin=False)\n",
        "",
        (_API,),
        "a registration that the gate refuses uses up none",
    ),
    Mutation(
        "outdated-login-counts-for-ever",
        "api/resources/accounts.py",
        "        except Refusal:\n            attempts.released(attempt)\n            raise\n"
        "        resp.send_json(200",
        "        except ZeroDivisionError:\n            raise\n        resp.send_json(200",
        (_API,),
        "the right password is no failed attempt",
    ),
    Mutation(
        "refused-refresh-spends",
        "api/resources/sessions.py",
        "            refuse_outdated(held, client, is_admin=session.is_admin)\n",
        "            pass\n",
        (_API,),
        "an outdated client renews nothing",
    ),
    Mutation(
        "script-for-a-link",
        "rules/fields.py",
        "    if not _WEB_ADDRESS.fullmatch(string):\n",
        "    if False:\n",
        (_API,),
        "clients open what stands there",
    ),
    Mutation(
        "socket-untold",
        _WATCH,
        "        if has_changed:\n            self._tell()\n",
        "",
        (_SOCKET,),
        "the live ones are told of a release",
    ),
    Mutation(
        "outdated-socket-stays",
        _WATCH,
        "            await self._close_outdated()\n",
        "            pass\n",
        (_SOCKET,),
        "at the deadline outdated sockets are closed",
    ),
    Mutation(
        "admin-socket-closed",
        _WATCH,
        "        return not connection.is_admin and is_update_required(",
        "        return is_update_required(",
        (_SOCKET,),
        "admins are exempt",
    ),
    Mutation(
        "release-heard-of-by-notification-alone",
        "wsgateway/listener.py",
        "        await self._releases.read()\n        await self._members.sweep()\n",
        "        await self._members.sweep()\n",
        (_SOCKET,),
        "a lost notification costs seconds, not the gate",
    ),
)
