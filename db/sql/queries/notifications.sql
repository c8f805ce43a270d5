-- name: listen_log
LISTEN gatehouse_log

-- name: listen_sessions
LISTEN gatehouse_sessions

-- name: listen_replaced
LISTEN gatehouse_replaced

-- name: listen_release
LISTEN gatehouse_release

-- name: listen_drains
LISTEN gatehouse_drains

-- name: listen_members
LISTEN gatehouse_members

-- name: listen_typing
LISTEN gatehouse_typing

-- name: notify_typing
SELECT notify_typing(%(session_ids)s::bigint[], %(channel_ids)s::bigint[])

-- name: listen_lockouts
LISTEN gatehouse_lockouts

-- name: listen_heartbeat
LISTEN gatehouse_heartbeat

-- name: notify_heartbeat
SELECT pg_notify('gatehouse_heartbeat', %s)
