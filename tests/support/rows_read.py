"""How many rows statements have read: whether a plan reads what it needs or all there is."""

from __future__ import annotations

from typing import Any

import psycopg

ROWS_READ = (
    "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint"
    " FROM pg_stat_xact_user_tables"
)


def rows_read(connection: psycopg.Connection[Any]) -> int:
    """By this connection in its transaction, of all tables; ask before and after."""
    row = connection.execute(ROWS_READ).fetchone()
    assert row is not None
    return int(row[0])


def fill_house(owner: psycopg.Connection[Any], people: int = 1000) -> None:
    """So many more users with a session each, which no statistics tell of."""
    for table in ("users", "user_sessions", "chat_messages", "chat_members", "ws_tickets"):
        owner.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    owner.execute(
        "INSERT INTO users (email, email_key, password_hash, display_name)"
        " SELECT n || '@x', n || '@x', 'x', 'X' FROM generate_series(1, %s) n",
        (people,),
    )
    owner.execute(
        "INSERT INTO user_sessions (user_id, expires_at, idle_expires_at)"
        " SELECT id, now() + interval '1 day', now() + interval '1 day' FROM users"
    )
