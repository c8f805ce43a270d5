-- name: append_messages
SELECT position, verdict, seq, created_at, sender_id, sender_name, retry_after_seconds
FROM append_messages(
    %(session_ids)s::bigint[], %(channel_ids)s::bigint[], %(client_msg_ids)s::uuid[],
    %(contents)s::text[], %(request_ids)s::text[], %(address_keys)s::text[],
    %(window_seconds)s, %(max_per_account)s, %(max_per_address)s,
    %(lockout_seconds)s, %(lockout_max_seconds)s
)

-- name: list_entries_after
SELECT
    e.channel_id, e.seq, e.kind, e.sender_id, u.display_name AS sender_name, e.content,
    e.client_msg_id, e.target_seq, e.created_at
FROM chat_messages e
LEFT JOIN users u ON u.id = e.sender_id
WHERE e.channel_id = %(channel_id)s AND e.seq > %(after_seq)s AND e.seq <= %(until_seq)s
ORDER BY e.seq
LIMIT %(limit)s

-- name: list_entries_before
-- The newest ones before a seq, so the first rows are the last entries.
SELECT
    e.channel_id, e.seq, e.kind, e.sender_id, u.display_name AS sender_name, e.content,
    e.client_msg_id, e.target_seq, e.created_at
FROM chat_messages e
LEFT JOIN users u ON u.id = e.sender_id
WHERE e.channel_id = %(channel_id)s AND e.seq < %(before_seq)s
ORDER BY e.seq DESC
LIMIT %(limit)s

-- name: list_entries_of_channels_after
-- Several channels at once, each from where its reader stands; in order within a channel.
SELECT
    e.channel_id, e.seq, e.kind, e.sender_id, u.display_name AS sender_name, e.content,
    e.client_msg_id, e.target_seq, e.created_at
FROM unnest(%(channel_ids)s::bigint[], %(after_seqs)s::bigint[]) AS wanted (channel_id, after_seq)
CROSS JOIN LATERAL (
    SELECT
        m.channel_id, m.seq, m.kind, m.sender_id, m.content, m.client_msg_id, m.target_seq,
        m.created_at
    FROM chat_messages m
    WHERE m.channel_id = wanted.channel_id AND m.seq > wanted.after_seq
    ORDER BY m.seq
    LIMIT %(limit)s
) e
LEFT JOIN users u ON u.id = e.sender_id
ORDER BY e.channel_id, e.seq

-- name: erase_message
SELECT erase_message(%(actor_id)s, %(channel_id)s, %(seq)s, %(request_id)s)

-- name: list_last_seqs
SELECT id, last_seq FROM chat_channels WHERE id = ANY (%s)
