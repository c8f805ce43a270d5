-- name: revoke_sessions
SELECT matched, revoked, audit_id, audit_hash
FROM revoke_sessions(
    %(actor)s, %(reason)s, %(request_id)s, %(ip)s, %(dry_run)s,
    p_user_id => %(user_id)s, p_session_id => %(session_id)s, p_network => %(network)s,
    p_version_below => %(version_below)s, p_created_before => %(created_before)s,
    p_all => %(all)s
)

-- name: act_on_user
SELECT until, audit_id, audit_hash
FROM act_on_user(
    %(action)s, %(user_id)s, %(actor)s, %(reason)s, %(request_id)s, %(ip)s,
    p_seconds => %(seconds)s, p_limit_key => %(limit_key)s, p_password_hash => %(password_hash)s,
    p_token_hash => %(token_hash)s, p_flag => %(flag)s
)

-- name: erase_message_as
SELECT verdict, audit_id, audit_hash
FROM erase_message_as(
    %(actor)s, %(reason)s, %(request_id)s, %(ip)s, %(channel_id)s, %(seq)s
)

-- name: list_accounts
-- By address, or by where one of their sessions of late came from; the newest first.
SELECT u.id, u.email, u.display_name, u.is_admin, u.created_at, u.disabled_at, u.muted_until
FROM users u
WHERE (%(email_key)s::text IS NULL OR u.email_key = %(email_key)s)
  AND (%(network)s::inet IS NULL OR u.id IN (
      SELECT s.user_id FROM user_sessions s WHERE s.ip <<= %(network)s
  ))
ORDER BY u.id DESC
LIMIT %(limit)s

-- name: list_sessions_for_operators
-- The live ones, newest first.
SELECT
    session_id, user_id, email, display_name, created_at, last_seen_at, expires_at,
    host(ip) AS ip, user_agent, client_version, client_content_version, drain_event_id
FROM live_sessions
WHERE session_id < coalesce(%(before_id)s::bigint, 9223372036854775807)
  AND (%(user_id)s::bigint IS NULL OR user_id = %(user_id)s)
  AND (%(network)s::inet IS NULL OR ip <<= %(network)s)
ORDER BY session_id DESC
LIMIT %(limit)s

-- name: list_lockouts
SELECT key, locked_until, lockouts
FROM rate_limits
WHERE locked_until > clock_timestamp()
  AND (key = ANY (%(keys)s) OR starts_with(key, %(prefix)s))
ORDER BY key

-- name: list_lockouts_of_addresses
-- Of the network and of what lies in it: an IPv6 address is locked out with its /64.
SELECT key, locked_until, lockouts
FROM rate_limits
WHERE locked_until > clock_timestamp()
  AND CASE
    WHEN starts_with(key, %(prefix)s) AND key <> %(prefix)s || 'local'
        THEN substr(key, length(%(prefix)s) + 1)::inet && %(network)s::inet
  END
ORDER BY key
LIMIT %(limit)s
