-- name: list_readable_channels
-- What the user may read, newest first.
SELECT c.id, c.kind, c.name, c.created_at, c.last_seq
FROM chat_channels c
WHERE c.kind = 'global'
   OR c.id IN (SELECT m.channel_id FROM chat_members m WHERE m.user_id = %(user_id)s)
ORDER BY c.id DESC

-- name: find_readable_channel
-- No row for a channel that does not exist or is not the user's: both are "not found".
-- first_seq is the oldest entry that is kept; of an empty log, the next one to come.
SELECT
    c.last_seq,
    coalesce(
        (SELECT e.seq FROM chat_messages e WHERE e.channel_id = c.id ORDER BY e.seq LIMIT 1),
        c.last_seq + 1
    ) AS first_seq
FROM chat_channels c
WHERE c.id = %(channel_id)s
  AND (
    c.kind = 'global'
    OR EXISTS (
        SELECT FROM chat_members m
        WHERE m.channel_id = c.id AND m.user_id = %(user_id)s
    )
  )

-- name: list_unreadable
-- Of these pairs of a channel and a user those where the user may not read the channel any more.
SELECT asked.channel_id, asked.user_id
FROM unnest(%(channel_ids)s::bigint[], %(user_ids)s::bigint[]) AS asked (channel_id, user_id)
WHERE NOT EXISTS (
    SELECT FROM chat_channels c
    WHERE c.id = asked.channel_id
      AND (
        c.kind = 'global'
        OR EXISTS (
            SELECT FROM chat_members m
            WHERE m.channel_id = c.id AND m.user_id = asked.user_id
        )
      )
)
