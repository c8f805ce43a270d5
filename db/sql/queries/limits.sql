-- name: reserve_attempt
SELECT allowed, retry_after_seconds, slice, note
FROM reserve_attempt(%(keys)s::text[], %(maxima)s::integer[], %(window_seconds)s, %(settled)s)

-- name: settle_attempt
SELECT key, seconds
FROM settle_attempt(
    %(keys)s::text[], %(maxima)s::integer[], %(window_seconds)s, %(slice)s::bigint, %(outcome)s,
    %(clear_keys)s::text[], %(lockout_seconds)s, %(lockout_max_seconds)s
)

-- name: count_failure
SELECT key, seconds
FROM count_failure(
    %(keys)s::text[], %(maxima)s::integer[], %(window_seconds)s, %(lockout_seconds)s,
    %(lockout_max_seconds)s
)

-- name: has_logged_in_from_network
SELECT EXISTS (
    SELECT FROM user_sessions s
    JOIN users u ON u.id = s.user_id
    WHERE u.email_key = %(email_key)s
      AND s.ip <<= %(network)s::inet
      AND s.created_at > clock_timestamp() - interval '30 days'
)

-- name: list_locked_addresses
-- What the gateway refuses before it looks at a ticket.
SELECT key, extract(epoch FROM locked_until - clock_timestamp())::float8 AS seconds
FROM rate_limits
WHERE locked_until > clock_timestamp() AND key LIKE 'login:ip:%'
