-- name: report_presence
SELECT connection_id
FROM report_presence(
    %(instance_id)s, %(connection_ids)s::bigint[], %(session_ids)s::bigint[],
    %(user_ids)s::bigint[], %(newest_id)s
)

-- name: delete_connections
DELETE FROM gateway_connections WHERE id = ANY (%s::bigint[])

-- name: delete_instance
-- Its connections go with it.
DELETE FROM gateway_instances WHERE id = %s

-- name: update_stats
UPDATE gateway_instances SET stats = %(stats)s WHERE id = %(instance_id)s
