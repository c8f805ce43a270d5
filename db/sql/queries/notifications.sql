-- name: listen_log
LISTEN gatehouse_log

-- name: listen_sessions
LISTEN gatehouse_sessions
