-- name: forget_tickets
SELECT forget_tickets(%(age)s, %(limit)s)

-- name: forget_nonces
SELECT forget_nonces(%(age)s, %(limit)s)

-- name: forget_refresh_tokens
SELECT forget_refresh_tokens(%(age)s, %(limit)s)

-- name: forget_sessions
SELECT forget_sessions(%(age)s, %(limit)s)

-- name: forget_limits
SELECT forget_limits(%(age)s, %(limit)s)

-- name: forget_security_events
SELECT forget_security_events(%(age)s, %(limit)s)

-- name: forget_messages
SELECT channel_id, forgotten FROM forget_messages(%(age_days)s, %(after_channel_id)s, %(limit)s)
