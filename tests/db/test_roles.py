"""What each role may do, and above all what it may not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from db.migrations import migrate, read_migrations
from tests.support.databases import Database, Who

Connection = psycopg.Connection[tuple[Any, ...]]

TABLES = {
    "admin_action_audit",
    "admin_action_audit_head",
    "chat_channels",
    "chat_members",
    "chat_messages",
    "gateway_connections",
    "gateway_instances",
    "password_resets",
    "publish_drain_events",
    "publish_drain_session_audit",
    "rate_limits",
    "refresh_tokens",
    "release_policy",
    "release_records",
    "schema_migrations",
    "security_events",
    "statements_by_hand",
    "user_sessions",
    "users",
    "ws_tickets",
}
# A statement that begins like one of these is refused before it looks at a row.
FORBIDDEN_TO_BOTH = [
    "UPDATE chat_messages SET content = 'x'",
    "DELETE FROM chat_messages",
    "INSERT INTO chat_messages (channel_id, seq, sender_id, content, client_msg_id, request_id,"
    " created_at) VALUES (1, 1, 1, 'x', gen_random_uuid(), 'x', now())",
    "UPDATE chat_channels SET last_seq = 0",
    "DELETE FROM chat_channels",
    "DELETE FROM users",
    "UPDATE users SET is_admin = true",
    "UPDATE users SET disabled_at = NULL",
    "UPDATE users SET muted_until = NULL",
    "UPDATE users SET email_key = 'x'",
    "DELETE FROM user_sessions",
    "UPDATE user_sessions SET expires_at = 'infinity'",
    "UPDATE user_sessions SET user_id = 1",
    "UPDATE user_sessions SET drain_deadline_at = NULL",
    "UPDATE user_sessions SET drained_at = NULL",
    "UPDATE publish_drain_events SET deadline = 'infinity'",
    "DELETE FROM publish_drain_events",
    "UPDATE publish_drain_session_audit SET outcome = 'acked'",
    "INSERT INTO publish_drain_session_audit (drain_id, session_id) VALUES (1, 1)",
    "DELETE FROM publish_drain_session_audit",
    "DELETE FROM refresh_tokens",
    "UPDATE refresh_tokens SET token_hash = ''",
    "DELETE FROM ws_tickets",
    "UPDATE ws_tickets SET consumed_at = NULL",
    "UPDATE ws_tickets SET expires_at = 'infinity'",
    "UPDATE rate_limits SET locked_until = NULL",
    "DELETE FROM rate_limits",
    "SELECT failures FROM rate_limits",
    "UPDATE admin_action_audit SET actor = 'x'",
    "DELETE FROM admin_action_audit",
    "INSERT INTO admin_action_audit SELECT * FROM admin_action_audit",
    "UPDATE admin_action_audit_head SET id = 0",
    "DELETE FROM admin_action_audit_head",
    "SELECT user_id FROM password_resets",
    "DELETE FROM password_resets",
    "SELECT * FROM statements_by_hand",
    "SELECT forget_statements_by_hand(0)",
    "UPDATE release_policy SET min_supported_version = NULL",
    "DELETE FROM release_policy",
    "DELETE FROM release_records",
    "UPDATE release_records SET actor = 'x'",
    "UPDATE security_events SET event = 'x'",
    "DELETE FROM security_events",
    "INSERT INTO security_events (event, created_at) VALUES ('x', 'epoch')",
    "UPDATE schema_migrations SET checksum = 'x'",
    "INSERT INTO schema_migrations (version, name, checksum, incompatible)"
    " VALUES (99, 'x', 'x', false)",
    "CREATE TABLE public.mine (id integer)",
    "CREATE FUNCTION public.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA mine",
    "DROP TABLE users",
    "ALTER TABLE users DISABLE TRIGGER ALL",
    "ALTER ROLE gatehouse_api SUPERUSER",
    "CREATE ROLE another",
    "SET ROLE gatehouse",
    "SET session_replication_role = replica",
    "SELECT lock_limits(ARRAY['x'], 10)",
    "SELECT lock_limit_rows(ARRAY['x'], 10)",
    "SELECT refresh_limits(ARRAY['x'], 10)",
    "SELECT notify_sessions(ARRAY[1])",
    "SELECT notify_log(ARRAY[1], now())",
    "COPY users TO PROGRAM 'cat'",
    "SELECT pg_read_file('/etc/passwd')",
]
FORBIDDEN: dict[Who, list[str]] = {
    "api": [
        *FORBIDDEN_TO_BOTH,
        "SELECT act_on_user('admin', 1, 'x', 'x', 'x', NULL, p_flag => true)",
        "INSERT INTO users (email, email_key, password_hash, display_name, is_admin)"
        " VALUES ('x', 'x', 'x', 'x', true)",
        "INSERT INTO user_sessions (user_id, expires_at, idle_expires_at, created_at)"
        " VALUES (1, 'infinity', 'infinity', 'epoch')",
        "SELECT ticket_hash FROM ws_tickets",
        "SELECT * FROM redeem_tickets('{}', '{}', 'x', 1)",
        "SELECT report_presence('x', '{}', '{}', '{}', 0)",
        "DELETE FROM gateway_instances",
    ],
    "gateway": [
        *FORBIDDEN_TO_BOTH,
        "SELECT settle_attempt('{x}', '{1}', 10, NULL, 'success', '{x}', 1, 1)",
        "SELECT * FROM security_events",
        "SELECT * FROM admin_action_audit",
        "SELECT append_audit('x', 'x', NULL, NULL, NULL, NULL, NULL)",
        "SELECT password_hash FROM users",
        "SELECT email FROM users",
        "SELECT * FROM users",
        "UPDATE users SET password_hash = 'x'",
        "UPDATE users SET display_name = 'x'",
        "INSERT INTO users (email, email_key, password_hash, display_name)"
        " VALUES ('x', 'x', 'x', 'x')",
        "UPDATE user_sessions SET revoked_at = NULL",
        "INSERT INTO user_sessions (user_id, expires_at, idle_expires_at)"
        " VALUES (1, 'infinity', 'infinity')",
        "SELECT ip FROM user_sessions",
        "SELECT * FROM refresh_tokens",
        "INSERT INTO refresh_tokens (token_hash, session_id) VALUES ('', 1)",
        "SELECT session_id FROM ws_tickets",
        "INSERT INTO ws_tickets (ticket_hash, session_id, expires_at, request_id)"
        " VALUES ('', 1, 'infinity', 'x')",
        "INSERT INTO gateway_instances (id) VALUES ('x')",
        "UPDATE gateway_instances SET heartbeat_at = 'infinity'",
        "SELECT user_id FROM gateway_connections",
    ],
}


@pytest.fixture
def owner(database: Database) -> Iterator[Connection]:
    with database.connect() as connection:
        yield connection


def test_neither_service_may_do_what_is_not_its_own(database: Database) -> None:
    for who, statements in FORBIDDEN.items():
        with database.connect(who) as connection:
            for statement in statements:
                try:
                    connection.execute(statement)
                except InsufficientPrivilege:
                    continue
                pytest.fail(f"{who} may: {statement}")


def test_nobody_but_the_owner_empties_a_table(database: Database, owner: Connection) -> None:
    assert tables(owner) == TABLES
    for table in TABLES:
        for who in ("api", "gateway"):
            for right in ("TRUNCATE", "TRIGGER", "REFERENCES"):
                assert not has_right(owner, f"gatehouse_{who}", table, right), (who, table, right)


def test_public_has_no_right_to_anything(owner: Connection) -> None:
    assert not one(owner, "SELECT has_schema_privilege('public', 'public', 'CREATE')")
    for table in TABLES:
        for right in ("SELECT", "INSERT", "UPDATE", "DELETE"):
            assert not has_right(owner, "public", table, right), (table, right)
    callable_by_all = owner.execute(
        "SELECT p.oid::regprocedure FROM pg_proc p"
        " WHERE p.pronamespace = 'public'::regnamespace"
        " AND has_function_privilege('public', p.oid, 'EXECUTE')"
    ).fetchall()
    assert callable_by_all == []


def test_every_function_fixes_where_names_are_looked_up(owner: Connection) -> None:
    """A caller must not slip a table of its own under a function that runs as the owner."""
    fixed = owner.execute(
        "SELECT p.proname, (SELECT s FROM unnest(p.proconfig) AS s WHERE s LIKE 'search_path=%')"
        " FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace"
        " AND p.prosqlbody IS NULL"  # else bound to what it calls when it was made
    ).fetchall()
    assert len(fixed) > 10
    for name, setting in fixed:
        assert setting is not None, name
        assert setting.startswith("search_path=pg_catalog, "), name
        assert setting.endswith("pg_temp"), name


def test_a_temporary_table_of_a_service_is_not_taken_for_ours(database: Database) -> None:
    with database.connect("api") as api:
        api.execute("CREATE TEMPORARY TABLE rate_limits (key text)")
        row = api.execute(
            "SELECT allowed FROM reserve_attempt(ARRAY['a'], ARRAY[1], 60, true)"
        ).fetchone()
        assert row == (True,)
        assert api.execute("SELECT count(*) FROM pg_temp.rate_limits").fetchone() == (0,)


def test_a_right_that_somebody_gave_by_hand_is_gone_after_the_next_migration(
    owner: Connection,
) -> None:
    owner.execute("GRANT ALL ON users TO gatehouse_gateway")
    owner.execute("GRANT SELECT (password_hash) ON users TO gatehouse_gateway")
    owner.execute("GRANT EXECUTE ON FUNCTION lock_limits TO PUBLIC")
    migrate(owner, read_migrations())
    assert not has_right(owner, "gatehouse_gateway", "users", "DELETE")
    assert not one(
        owner,
        "SELECT has_column_privilege('gatehouse_gateway', 'users', 'password_hash', 'SELECT')",
    )
    assert not one(
        owner,
        "SELECT has_function_privilege('public', 'lock_limits(text[], integer)', 'EXECUTE')",
    )


def test_a_table_of_a_later_migration_is_closed_until_it_is_opened(owner: Connection) -> None:
    owner.execute("CREATE TABLE later (id integer)")
    owner.execute("CREATE FUNCTION later() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
    for who in ("public", "gatehouse_api", "gatehouse_gateway"):
        assert not has_right(owner, who, "later", "SELECT")
        assert not one(owner, f"SELECT has_function_privilege('{who}', 'later()', 'EXECUTE')")


def tables(owner: Connection) -> set[str]:
    rows = owner.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {row[0] for row in rows}


def has_right(owner: Connection, role: str, table: str, right: str) -> bool:
    return one(owner, f"SELECT has_table_privilege('{role}', '{table}', '{right}')")


def one(owner: Connection, query: str) -> bool:
    row = owner.execute(query).fetchone()
    assert row is not None
    return bool(row[0])
