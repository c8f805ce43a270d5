-- name: lock_user_with_password_hash
-- The user row comes first in the lock order; a change of password, disabling and lockout take it
-- too, so no login that was checked before them can land after them.
SELECT id FROM users
WHERE id = %(user_id)s AND password_hash = %(checked_hash)s AND disabled_at IS NULL
FOR NO KEY UPDATE

-- name: lock_user
SELECT id FROM users WHERE id = %(user_id)s FOR NO KEY UPDATE

-- name: revoke_sessions_beyond_limit
-- Makes room for one more: of the user's live sessions all but the newest (limit - 1) end. In id
-- order, like every change of several sessions.
UPDATE user_sessions
SET revoked_at = clock_timestamp(), revoked_reason = 'replaced_by_newer'
WHERE id IN (
    SELECT id FROM user_sessions
    WHERE revoked_at IS NULL AND id IN (
        SELECT session_id FROM live_sessions
        WHERE user_id = %(user_id)s
        ORDER BY session_id DESC
        OFFSET %(limit)s - 1
    )
    ORDER BY id
    FOR NO KEY UPDATE
)

-- name: insert_session
INSERT INTO user_sessions (
    user_id, expires_at, idle_expires_at, ip, user_agent, client_version, client_content_version
)
VALUES (
    %(user_id)s,
    clock_timestamp() + make_interval(days => %(ttl_days)s),
    clock_timestamp() + make_interval(days => %(idle_days)s),
    %(ip)s, %(user_agent)s, %(client_version)s, %(client_content_version)s
)
RETURNING
    id, expires_at, clock_timestamp() AS now,
    coalesce(drain_deadline_at <= clock_timestamp(), false) AS is_drained

-- name: insert_refresh_token
INSERT INTO refresh_tokens (token_hash, session_id) VALUES (%(token_hash)s, %(session_id)s)

-- name: find_live_session
SELECT
    session_id, user_id, email, display_name, is_admin, created_at, last_seen_at, expires_at,
    ip, user_agent, client_version, client_content_version, clock_timestamp() AS now
FROM live_sessions
WHERE session_id = %(session_id)s

-- name: find_live_session_and_policy
-- A bearer and the gate in one statement: it is asked on every call.
SELECT
    s.session_id, s.user_id, s.email, s.display_name, s.is_admin, s.created_at, s.last_seen_at,
    s.expires_at, s.ip, s.user_agent, s.client_version, s.client_content_version,
    clock_timestamp() AS now,
    p.latest_version, p.min_supported_version, p.latest_content_version,
    p.min_supported_content_version, p.enforce_after, p.update_url,
    p.floor_version, p.floor_content_version
FROM live_sessions s
LEFT JOIN release_policy p ON true
WHERE s.session_id = %(session_id)s

-- name: lock_user_of_refresh_token
-- Coming back from a drain opens a session, and user rows come first in the lock order: a change of
-- password that is under way ends the way back, or sees the session that came of it. The deadline may
-- pass at any moment, so whoever refreshes takes the row.
SELECT u.id
FROM users u
WHERE u.id = (
    SELECT s.user_id
    FROM refresh_tokens t JOIN user_sessions s ON s.id = t.session_id
    WHERE t.token_hash = %(token_hash)s
)
FOR NO KEY UPDATE

-- name: lock_sessions_beside_drained_one
-- Some of them may have to make room for the one that comes back. In id order, like every change of
-- several sessions.
SELECT s.id
FROM user_sessions s
WHERE s.revoked_at IS NULL AND s.user_id = (
    SELECT d.user_id
    FROM refresh_tokens t JOIN drained_sessions d ON d.session_id = t.session_id
    WHERE t.token_hash = %(token_hash)s
)
ORDER BY s.id
FOR NO KEY UPDATE OF s

-- name: find_drained_session
-- Still in time to come back from its drain; whether the client is new enough for that.
SELECT
    d.user_id,
    NOT coalesce(is_outdated(
        %(client_version)s, %(client_content_version)s, e.min_version, e.min_content_version
    ), false) AS is_new_enough
FROM drained_sessions d
LEFT JOIN publish_drain_events e ON e.id = d.drain_event_id
WHERE d.session_id = %(session_id)s
  AND d.drain_deadline_at + make_interval(hours => %(reentry_hours)s) > clock_timestamp()

-- name: is_session_drained
SELECT EXISTS (SELECT FROM drained_sessions d WHERE d.session_id = %s)

-- name: insert_returning_session
-- In place of one that a drain ended; it does not live longer than that one would have, and runs what
-- that one was said to run, unless this call names something else.
INSERT INTO user_sessions (
    user_id, expires_at, idle_expires_at, ip, user_agent, client_version, client_content_version
)
SELECT
    s.user_id, s.expires_at, clock_timestamp() + make_interval(days => %(idle_days)s),
    %(ip)s, %(user_agent)s, coalesce(%(client_version)s, s.client_version),
    coalesce(%(client_content_version)s, s.client_content_version)
FROM user_sessions s
WHERE s.id = %(session_id)s
RETURNING id

-- name: find_session_of_successor
-- Where coming back has led: another session than the token's own.
SELECT n.session_id
FROM refresh_tokens t JOIN refresh_tokens n ON n.token_hash = t.successor_hash
WHERE t.token_hash = %(token_hash)s AND n.session_id <> t.session_id

-- name: lock_session_of_refresh_token
-- Everybody who presents a token of this session queues here; what follows is decided alone.
SELECT s.id
FROM user_sessions s
WHERE s.id = (SELECT session_id FROM refresh_tokens WHERE token_hash = %(token_hash)s)
FOR NO KEY UPDATE

-- name: find_refresh_token
-- Read after the session is locked. The successor's own row tells whether it was used.
SELECT
    t.spent_at IS NOT NULL AS spent,
    t.successor_nonce,
    coalesce(
        t.spent_at > clock_timestamp() - make_interval(secs => %(grace_seconds)s)
            AND t.successor_nonce IS NOT NULL
            AND successor.spent_at IS NULL,
        false
    ) AS repeatable
FROM refresh_tokens t
LEFT JOIN refresh_tokens successor ON successor.token_hash = t.successor_hash
WHERE t.token_hash = %(token_hash)s

-- name: spend_refresh_token
UPDATE refresh_tokens
SET spent_at = clock_timestamp(), successor_nonce = %(nonce)s, successor_hash = %(successor_hash)s
WHERE token_hash = %(token_hash)s AND spent_at IS NULL

-- name: update_client_version
SELECT note_client_version(%(session_id)s, %(client_version)s, %(client_content_version)s)

-- name: revoke_session
UPDATE user_sessions
SET revoked_at = clock_timestamp(), revoked_reason = %(reason)s
WHERE id = %(session_id)s AND revoked_at IS NULL

-- name: list_live_sessions_of_user
SELECT
    session_id, user_id, email, display_name, is_admin, created_at, last_seen_at, expires_at,
    ip, user_agent, client_version, client_content_version, clock_timestamp() AS now
FROM live_sessions
WHERE user_id = %(user_id)s
ORDER BY session_id DESC

-- name: revoke_session_of_user
-- Nothing for a session that is not this user's or has ended: both are "not found". One that a drain
-- has ended may still come back, and then does not.
UPDATE user_sessions
SET revoked_at = clock_timestamp(), revoked_reason = 'ended_by_user'
WHERE id = %(session_id)s AND user_id = %(user_id)s
  AND (
      EXISTS (SELECT FROM live_sessions l WHERE l.session_id = user_sessions.id)
      OR EXISTS (SELECT FROM drained_sessions d WHERE d.session_id = user_sessions.id)
  )
  AND revoked_at IS NULL

-- name: revoke_other_sessions
-- In id order, like every change of several sessions.
UPDATE user_sessions
SET revoked_at = clock_timestamp(), revoked_reason = %(reason)s
WHERE id IN (
    SELECT id FROM user_sessions
    WHERE user_id = %(user_id)s AND id <> %(session_id)s AND revoked_at IS NULL
    ORDER BY id
    FOR NO KEY UPDATE
)

-- name: list_sessions_of_admins
SELECT s.id FROM user_sessions s JOIN users u ON u.id = s.user_id
WHERE s.id = ANY (%(session_ids)s) AND u.is_admin

-- name: list_ended_sessions
-- Of these sessions the ones that no longer live, with the reason; deleted ones included.
SELECT
    asked.id AS session_id,
    CASE
        WHEN s.revoked_reason = 'came_back' THEN 'drained'
        WHEN s.revoked_at IS NOT NULL THEN 'revoked'
        WHEN u.disabled_at IS NOT NULL THEN 'disabled'
        WHEN s.drained_at IS NOT NULL OR s.drain_deadline_at <= clock_timestamp() THEN 'drained'
        WHEN s.id IS NULL THEN 'revoked'
        ELSE 'expired'
    END AS cause,
    s.revoked_reason,
    extract(
        epoch FROM clock_timestamp() - coalesce(s.revoked_at, u.disabled_at)
    )::float8 AS ended_seconds_ago
FROM unnest(%(session_ids)s::bigint[]) AS asked (id)
LEFT JOIN user_sessions s ON s.id = asked.id
LEFT JOIN users u ON u.id = s.user_id
WHERE NOT EXISTS (SELECT FROM live_sessions l WHERE l.session_id = asked.id)

-- name: touch_sessions
-- Calls and live sockets count as activity, at most once a minute a session; the trigger lets a touch
-- wake nobody. Rows that somebody else holds are left for the next time.
UPDATE user_sessions s
SET last_seen_at = clock_timestamp(),
    idle_expires_at = clock_timestamp() + make_interval(days => %(idle_days)s)
FROM (
    SELECT t.id
    FROM user_sessions t
    WHERE t.id = ANY (%(session_ids)s::bigint[])
      AND t.last_seen_at < clock_timestamp() - interval '1 minute'
    ORDER BY t.id
    FOR NO KEY UPDATE SKIP LOCKED
) held
WHERE s.id = held.id
  AND EXISTS (SELECT FROM live_sessions l WHERE l.session_id = s.id)
