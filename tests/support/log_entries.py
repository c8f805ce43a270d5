"""Entries of the kinds that only some endpoints write, put straight into a channel's log."""

from __future__ import annotations

from tests.support.databases import Database


def add_one_of_each_kind(database: Database, channel_id: int, user_id: int) -> None:
    """Appends joined, deleted (of seq 1) and left, and wakes the gateways."""
    with database.connect() as owner, owner.transaction():
        owner.execute(
            "UPDATE chat_messages SET content = NULL WHERE channel_id = %s AND seq = 1",
            [channel_id],
        )
        owner.execute(
            """
            WITH more AS (
                INSERT INTO chat_messages
                    (channel_id, seq, kind, sender_id, target_seq, request_id, created_at)
                SELECT c.id, c.last_seq + v.n, v.kind, %(user_id)s, v.target, 'of-a-test',
                    clock_timestamp()
                FROM chat_channels c,
                    (VALUES (1, 'joined', NULL), (2, 'deleted', 1::bigint), (3, 'left', NULL))
                        AS v (n, kind, target)
                WHERE c.id = %(channel_id)s
                RETURNING seq
            )
            UPDATE chat_channels
            SET last_seq = (SELECT max(seq) FROM more), last_entry_at = clock_timestamp()
            WHERE id = %(channel_id)s
            """,
            {"channel_id": channel_id, "user_id": user_id},
        )
        owner.execute("SELECT pg_notify('gatehouse_log', '*')")
