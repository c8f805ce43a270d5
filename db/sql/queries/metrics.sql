-- name: count_live_sessions
-- By version, the commonest first. What a client calls its version is up to the client: those that
-- are none count together. Counted first and looked at afterwards: a pattern is slow, a million times.
SELECT
    CASE WHEN named.client_version ~ '^[0-9]{1,18}(\.[0-9]{1,18}){0,7}$' THEN named.client_version END
        AS version,
    sum(named.live)::bigint AS live,
    sum(named.draining)::bigint AS draining
FROM (
    SELECT client_version, count(*) AS live, count(drain_event_id) AS draining
    FROM live_sessions
    GROUP BY client_version
) named
GROUP BY 1
ORDER BY 2 DESC, 1

-- name: count_security_events
-- Of the last five minutes and of the last hour, by kind.
SELECT
    event,
    count(*) FILTER (WHERE created_at > clock_timestamp() - interval '5 minutes') AS of_5m,
    count(*) AS of_1h
FROM security_events
WHERE created_at > clock_timestamp() - interval '1 hour'
GROUP BY event

-- name: count_lockouts
-- That hold now: of logging in, of writing.
SELECT
    count(*) FILTER (WHERE NOT starts_with(key, 'chat:')) AS auth,
    count(*) FILTER (WHERE starts_with(key, 'chat:')) AS chat
FROM rate_limits
WHERE locked_until > clock_timestamp()

-- name: count_tickets
-- Of the last five minutes. A ticket expires after it was issued, so the index on expires_at finds
-- them; a ticket lives for ten minutes at the most.
SELECT count(*) AS issued, count(consumed_at) AS consumed
FROM ws_tickets
WHERE expires_at > clock_timestamp() - interval '5 minutes'
  AND created_at > clock_timestamp() - interval '5 minutes'

-- name: count_messages
-- Of the last five minutes, in those channels where anything was. Where they begin is found first,
-- once a channel, and not asked anew for every row.
WITH active AS MATERIALIZED (
    SELECT
        c.id,
        first_seq_since(c.id, c.last_seq, clock_timestamp() - interval '5 minutes') AS first_seq
    FROM chat_channels c
    WHERE c.last_entry_at > clock_timestamp() - interval '5 minutes'
)
SELECT coalesce(sum(counted.messages), 0)::bigint AS messages
FROM active a
CROSS JOIN LATERAL (
    SELECT count(*) AS messages
    FROM chat_messages m
    WHERE m.channel_id = a.id AND m.seq >= a.first_seq AND m.kind = 'message'
) counted

-- name: list_gateways
-- Those without a heartbeat too, until somebody clears them away: that is how one sees them missing.
SELECT
    id AS instance,
    extract(epoch FROM clock_timestamp() - heartbeat_at)::float8 AS heartbeat_age_seconds,
    stats
FROM gateway_instances
ORDER BY id

-- name: read_clock
SELECT clock_timestamp()
