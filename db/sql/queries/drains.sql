-- name: start_drain
SELECT drain_id, enrolled
FROM start_drain_by_policy(
    %(reason)s, %(scope)s, %(grace_seconds)s, %(actor)s, %(request_id)s
)

-- name: cancel_drain
SELECT verdict, audit_id, audit_hash
FROM cancel_drain(%(drain_id)s, %(actor)s, %(reason)s, %(request_id)s, %(ip)s)

-- name: list_drains
-- Newest first.
SELECT
    d.id, d.status, d.reason, d.release_id, d.scope, d.started_at, d.deadline, d.grace_seconds,
    c.enrolled, c.acked, c.closed, c.unreachable, c.revoked
FROM publish_drain_events d
CROSS JOIN LATERAL drain_counts(d.id) c
WHERE d.id < coalesce(%(before_id)s::bigint, 9223372036854775807)
ORDER BY d.id DESC
LIMIT %(limit)s

-- name: find_drain
SELECT
    d.id, d.status, d.reason, d.release_id, d.scope, d.started_at, d.deadline, d.grace_seconds,
    c.enrolled, c.acked, c.closed, c.unreachable, c.revoked
FROM publish_drain_events d
CROSS JOIN LATERAL drain_counts(d.id) c
WHERE d.id = %(drain_id)s

-- name: list_receipts
SELECT
    session_id, user_id, client_version, client_content_version, enrolled_at, notified_at,
    acked_at, closed_at, revoked_at, outcome
FROM publish_drain_session_audit
WHERE drain_id = %(drain_id)s AND session_id > %(after_session_id)s
ORDER BY session_id
LIMIT %(limit)s

-- name: find_active_drain
-- What a gateway must know of it, and the clock it is to be read by.
SELECT d.id, d.reason, d.deadline, clock_timestamp() AS now
FROM publish_drain_events d
WHERE d.status = 'draining'

-- name: list_enrolled_sessions
-- Of these sessions those that the drain holds.
SELECT s.id
FROM user_sessions s
WHERE s.id = ANY (%(session_ids)s::bigint[]) AND s.drain_event_id = %(drain_id)s

-- name: note_drain_receipts
SELECT note_drain_receipts(
    %(drain_id)s, %(notified)s::bigint[], %(acked)s::bigint[], %(closed)s::bigint[]
)

-- name: finish_drain
SELECT drain_id, audit_id, audit_hash FROM finish_drain(%(instance_id)s, %(linger_seconds)s)
