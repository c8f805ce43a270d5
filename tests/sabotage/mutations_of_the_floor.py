"""Ways to break what everything stands on: migrations, rights, pools, the ends of sessions, and the
promises of the gateway."""

from __future__ import annotations

from tests.sabotage.mutation import Mutation

_MIGRATIONS = "db/migrations.py"
_ROLES = "db/sql/roles.sql"
_CONNECTIONS = "db/connections.py"
_SESSIONS = "db/sql/queries/sessions.sql"
_FOUNDATION = "db/sql/migrations/0001_foundation.sql"
_POOL_TESTS = "tests/db/test_connections.py"
_PASSWORDS = f"{_POOL_TESTS}::TestPasswords"
_CUT = (
    f"{_POOL_TESTS}::TestAServerThatGoesAway"
    "::test_connections_that_were_cut_are_replaced_before_they_are_lent"
)
_ENDS = "tests/db/test_session_ends.py"
_PROMISES = "tests/gateway/test_promises.py"

MUTATIONS_OF_THE_FLOOR = (
    # Migrations
    Mutation(
        "changed-migration-unnoticed",
        _MIGRATIONS,
        "        if (was.version, was.checksum) != (migration.version, migration.checksum):\n",
        "        if was.version != migration.version:\n",
        ("tests/db/test_migrations.py",),
        "a migration is never edited after it ran",
    ),
    Mutation(
        "migrations-without-their-lock",
        _MIGRATIONS,
        "        _LOCK_MIGRATIONS\n",
        '        "SELECT 1"\n',
        ("tests/db/test_migrations.py::TestRunning",),
        "any number of deployments may start at once",
    ),
    Mutation(
        "started-on-an-older-schema",
        _MIGRATIONS,
        "    if len(applied) < len(migrations):\n",
        "    if False:\n",
        ("tests/db/test_migrations.py::TestWhoMayStart",),
        "a service must not run on a schema that lacks something",
    ),
    Mutation(
        "started-on-an-incompatible-schema",
        _MIGRATIONS,
        "        if newer.incompatible:\n",
        "        if False:\n",
        ("tests/db/test_migrations.py::TestWhoMayStart",),
        "an old service must not write to a schema that it does not understand",
    ),
    Mutation(
        "older-program-takes-rights-away",
        _MIGRATIONS,
        "    if len(applied) > len(migrations):\n",
        "    if False:\n",
        ("tests/db/test_migrations.py::TestRunning",),
        "a rollback must not break the services that are newer",
    ),
    # Rights
    Mutation(
        "gateway-reads-password-hashes",
        _ROLES,
        "GRANT SELECT (id, display_name, disabled_at, is_admin) ON users TO gatehouse_gateway;",
        "GRANT SELECT ON users TO gatehouse_gateway;",
        ("tests/db/test_roles.py",),
        "a service has the rights that it uses",
    ),
    Mutation(
        "api-deletes-messages",
        _ROLES,
        "GRANT SELECT (channel_id, user_id, role, joined_at) ON chat_members TO gatehouse_api;",
        "GRANT SELECT, DELETE ON chat_members, chat_messages TO gatehouse_api;",
        ("tests/db/test_roles.py",),
        "what was acknowledged is stored for ever",
    ),
    Mutation(
        "functions-open-to-all",
        _FOUNDATION,
        "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;",
        "SELECT 1;",
        ("tests/db/test_roles.py",),
        "what a later migration creates is closed until roles.sql opens it",
    ),
    # Pools
    Mutation(
        "next-password-not-tried",
        _CONNECTIONS,
        "    return error.pgconn is not None and error.pgconn.used_password\n",
        "    return False\n",
        (_PASSWORDS,),
        "passwords rotate without a restart",
    ),
    Mutation(
        "cut-connections-are-lent",
        _CONNECTIONS,
        "        check=_check,\n",
        "",
        (_CUT,),
        "a connection is checked before it is lent",
    ),
    Mutation(
        "conflicts-not-tried-again",
        _CONNECTIONS,
        "            if attempt >= (LOCKED_RETRIES if isinstance(error, LOCKED) else RETRIES):\n",
        "            if True:\n",
        (f"{_POOL_TESTS}::TestTransactions",),
        "deadlocks and serialisation failures are retried",
    ),
    Mutation(
        "deadlock-taken-for-a-lock",
        _CONNECTIONS,
        "            if attempt >= (LOCKED_RETRIES if isinstance(error, LOCKED) else RETRIES):\n",
        "            if attempt == RETRIES or isinstance(error, LOCKED):\n",
        (f"{_POOL_TESTS}::TestTransactions",),
        "a deadlock that ends as a lock timeout is retried too",
    ),
    # The ends of sessions
    Mutation(
        "anybody-ends-any-session",
        _SESSIONS,
        "WHERE id = %(session_id)s AND user_id = %(user_id)s\n",
        "WHERE id = %(session_id)s AND %(user_id)s > 0\n",
        (f"{_ENDS}::TestEnding",),
        "what is not yours is not found",
    ),
    Mutation(
        "later-reason-wins",
        _SESSIONS,
        "WHERE id = %(session_id)s AND revoked_at IS NULL\n",
        "WHERE id = %(session_id)s\n",
        (f"{_ENDS}::TestEnding",),
        "theft must not be relabelled by a logout",
    ),
    Mutation(
        "disabling-wakes-nobody",
        _FOUNDATION,
        "        WHERE n.disabled_at IS DISTINCT FROM o.disabled_at\n",
        "        WHERE false\n",
        (f"{_ENDS}::TestNotices",),
        "a disabled user's sockets end at once",
    ),
    Mutation(
        "deleting-wakes-nobody",
        _FOUNDATION,
        "    PERFORM notify_sessions(ARRAY(SELECT o.id FROM old_rows o ORDER BY o.id));\n",
        "",
        (f"{_ENDS}::TestNotices",),
        "a DELETE in psql ends sockets too",
    ),
    Mutation(
        "touch-waits-for-a-lock",
        _SESSIONS,
        "    FOR NO KEY UPDATE SKIP LOCKED\n",
        "    FOR NO KEY UPDATE\n",
        (f"{_ENDS}::TestTouching",),
        "housekeeping waits for nobody",
    ),
    # The gateway
    Mutation(
        "ack-before-the-commit",
        "wsgateway/writer.py",
        "            results = await self._append([pending.message for pending in batch])\n",
        "            async with self._pool.connection() as early, early.transaction():\n"
        "                messages = [pending.message for pending in batch]\n"
        "                results = await append_messages_async(early, messages, self._limits)\n"
        "                self._deliver(batch, results)\n"
        "            return\n",
        (_PROMISES,),
        "an acknowledged message is stored",
    ),
    Mutation(
        "fan-out-skips-a-gap",
        "wsgateway/fanout.py",
        "            if entry.seq == expected:\n                next_ones.append(entry)\n"
        "                expected += 1\n",
        "            if entry.seq >= expected:\n                next_ones.append(entry)\n"
        "                expected = entry.seq + 1\n",
        (_PROMISES,),
        "nothing is skipped silently",
    ),
    Mutation(
        "unsubscribing-changes-nothing",
        "wsgateway/fanout.py",
        "        feed.subscribers.pop(subscriber, None)\n",
        "",
        ("tests/gateway/test_chat.py::TestSubscribing",),
        "nobody gets what they have unsubscribed from",
    ),
    Mutation(
        "session-not-checked-after-registering",
        "wsgateway/gateway.py",
        "            if self._watch.changes != changes_seen:\n",
        "            if False:\n",
        ("tests/gateway/test_revocation.py",),
        "a revocation cannot slip between the ticket and the socket",
    ),
    Mutation(
        "batch-not-split",
        "wsgateway/writer.py",
        "                await self._store(batch[middle:])\n",
        "",
        (
            "tests/gateway/test_database_failures.py"
            "::test_one_bad_message_does_not_take_the_others_of_its_batch_down",
        ),
        "one bad message cannot take others down",
    ),
    # Tests that run beside each other
    Mutation(
        "test-ports-handed-out-twice",
        "tests/support/ports.py",
        " and _claim(port):\n",
        ":\n",
        ("tests/unit/test_free_ports.py",),
        "a test talks to its own service, never to the one of another worker",
    ),
)
