-- name: insert_security_event
INSERT INTO security_events (event, request_id, user_id, session_id, ip, details)
VALUES (%(event)s, %(request_id)s, %(user_id)s, %(session_id)s, %(ip)s, %(details)s)

-- name: list_security_events
-- Newest first; of the conditions those that are given.
SELECT id, created_at, event, request_id, user_id, session_id, host(ip) AS ip, details
FROM security_events
WHERE id < coalesce(%(before_id)s::bigint, 9223372036854775807)
  AND (%(request_id)s::text IS NULL OR request_id = %(request_id)s)
  AND (%(event)s::text IS NULL OR event = %(event)s)
  AND (%(user_id)s::bigint IS NULL OR user_id = %(user_id)s)
  AND (%(since)s::timestamptz IS NULL OR created_at >= %(since)s)
ORDER BY id DESC
LIMIT %(limit)s
