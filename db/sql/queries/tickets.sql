-- name: insert_ticket
INSERT INTO ws_tickets (
    ticket_hash, session_id, expires_at, request_id, client_version, client_content_version
)
VALUES (
    %(ticket_hash)s, %(session_id)s,
    clock_timestamp() + make_interval(secs => %(ttl_seconds)s),
    %(request_id)s, %(client_version)s, %(client_content_version)s
)
RETURNING expires_at

-- name: redeem_tickets
-- Spends those of the presented tickets that are good, each at most once, whoever else presents
-- them at this moment. Rows are locked in hash order, so that two gateways given the same tickets
-- cannot deadlock; the UPDATE then looks at their latest version. Of a ticket that stands in the
-- batch more than once, the first place gets it.
WITH presented AS (
    SELECT ticket_hash, min(position) AS position
    FROM unnest(%(ticket_hashes)s::bytea[]) WITH ORDINALITY AS p (ticket_hash, position)
    GROUP BY ticket_hash
), locked AS MATERIALIZED (
    SELECT t.ticket_hash, t.session_id
    FROM ws_tickets t
    WHERE t.ticket_hash IN (SELECT ticket_hash FROM presented)
    ORDER BY t.ticket_hash
    FOR UPDATE
)
UPDATE ws_tickets t
SET consumed_at = clock_timestamp()
FROM locked
JOIN presented p USING (ticket_hash)
JOIN live_sessions s ON s.session_id = locked.session_id
WHERE t.ticket_hash = locked.ticket_hash
  AND t.consumed_at IS NULL
  AND t.expires_at > clock_timestamp()
RETURNING
    p.position, s.session_id, s.user_id, s.display_name, s.is_admin,
    t.request_id, t.client_version, t.client_content_version, clock_timestamp() AS now
