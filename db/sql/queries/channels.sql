-- name: list_readable_channels
-- What the user may read, newest first; of a direct channel also who is at its other end.
SELECT
    c.id, c.kind, c.name, c.created_at, c.last_seq, m.role,
    peer.id AS peer_id, peer.display_name AS peer_name
FROM (
    SELECT everybodys.id FROM chat_channels everybodys WHERE everybodys.kind = 'global'
    UNION
    SELECT mine.channel_id FROM chat_members mine WHERE mine.user_id = %(user_id)s
) readable
JOIN chat_channels c ON c.id = readable.id
LEFT JOIN chat_members m ON m.channel_id = c.id AND m.user_id = %(user_id)s
LEFT JOIN users peer
    ON peer.id = CASE WHEN c.direct_low = %(user_id)s THEN c.direct_high ELSE c.direct_low END
WHERE %(channel_id)s::bigint IS NULL OR c.id = %(channel_id)s
ORDER BY c.id DESC

-- name: create_group
SELECT create_group(%(owner_id)s, %(name)s, %(request_id)s)

-- name: find_direct
-- No row where the other is not there, null where the two have no channel yet. It holds the two
-- people, whose rows come before limit rows in the lock order.
WITH people AS (
    SELECT u.id FROM users u
    WHERE u.id IN (%(user_id)s, %(other_id)s) AND u.disabled_at IS NULL
    ORDER BY u.id
    FOR KEY SHARE
)
SELECT (
    SELECT c.id FROM chat_channels c
    WHERE c.kind = 'direct'
      AND c.direct_low = least(%(user_id)s::bigint, %(other_id)s)
      AND c.direct_high = greatest(%(user_id)s::bigint, %(other_id)s)
) AS channel_id
FROM people
WHERE people.id = %(other_id)s

-- name: open_direct
SELECT channel_id, created FROM open_direct(%(user_id)s, %(other_id)s)

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
