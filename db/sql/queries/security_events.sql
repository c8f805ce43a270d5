-- name: insert_security_event
INSERT INTO security_events (event, request_id, user_id, session_id, ip, details)
VALUES (%(event)s, %(request_id)s, %(user_id)s, %(session_id)s, %(ip)s, %(details)s)
