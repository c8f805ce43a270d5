-- name: listen_log
LISTEN gatehouse_log

-- name: listen_sessions
LISTEN gatehouse_sessions

-- name: listen_replaced
LISTEN gatehouse_replaced
