-- name: list_members
-- The longest-standing first.
SELECT m.user_id, u.display_name, m.role, m.joined_at
FROM chat_members m
JOIN users u ON u.id = m.user_id
WHERE m.channel_id = %(channel_id)s
ORDER BY m.joined_at, m.user_id

-- name: find_member
SELECT m.user_id, u.display_name, m.role, m.joined_at
FROM chat_members m
JOIN users u ON u.id = m.user_id
WHERE m.channel_id = %(channel_id)s AND m.user_id = %(user_id)s

-- name: add_member
SELECT add_member(%(actor_id)s, %(channel_id)s, %(user_id)s, %(most)s, %(request_id)s)

-- name: remove_member
SELECT remove_member(%(actor_id)s, %(channel_id)s, %(user_id)s, %(request_id)s)
