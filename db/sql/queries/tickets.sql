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
SELECT
    position, connection_id, session_id, user_id, display_name, is_admin, request_id,
    client_version, client_content_version, update_required, now
FROM redeem_tickets(
    %(ticket_hashes)s::bytea[], %(ips)s::inet[], %(instance_id)s, %(max_per_account)s
)

-- name: find_known_tickets
SELECT ticket_hash FROM ws_tickets WHERE ticket_hash = ANY (%s::bytea[])
