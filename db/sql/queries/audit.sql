-- name: append_audit
SELECT id, hash
FROM append_audit(
    %(actor)s, %(action)s, %(request_id)s, %(ip)s, %(user_id)s, %(reason)s, %(details)s
)

-- name: find_audit_head
SELECT id, hash FROM admin_action_audit_head

-- name: verify_audit
SELECT rows, last_id, last_hash, first_broken_id
FROM verify_audit(%(after_id)s, %(after_hash)s, %(limit)s)

-- name: find_audit_hash
SELECT hash FROM admin_action_audit WHERE id = %s

-- name: list_audit
-- Newest first; of the conditions those that are given.
SELECT id, created_at, actor, action, request_id, host(ip) AS ip, user_id, reason, details, hash
FROM admin_action_audit
WHERE id < coalesce(%(before_id)s::bigint, 9223372036854775807)
  AND (%(request_id)s::text IS NULL OR request_id = %(request_id)s)
  AND (%(actor)s::text IS NULL OR actor = %(actor)s)
  AND (%(action)s::text IS NULL OR action = %(action)s)
  AND (%(user_id)s::bigint IS NULL OR user_id = %(user_id)s)
  AND (%(since)s::timestamptz IS NULL OR created_at >= %(since)s)
ORDER BY id DESC
LIMIT %(limit)s

-- name: export_audit_after
SELECT id, canonical, prev_hash, hash
FROM admin_action_audit
WHERE id > %(after_id)s
ORDER BY id
LIMIT %(limit)s
