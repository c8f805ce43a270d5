-- As in 0012_drains.sql; and whoever has come back before the drain was finished has a receipt that
-- says when the drain ended the session, like everybody else.
CREATE OR REPLACE FUNCTION finish_drain(p_instance_id text, p_linger_seconds integer)
RETURNS TABLE (drain_id bigint, audit_id bigint, audit_hash bytea)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET lock_timeout = '4s'
AS $$
#variable_conflict use_column
DECLARE
    v_drain publish_drain_events;
    v_now timestamptz;
BEGIN
    SELECT d.* INTO v_drain FROM publish_drain_events d
    WHERE d.status = 'draining' AND d.deadline <= clock_timestamp()
    FOR UPDATE SKIP LOCKED;
    IF NOT FOUND OR (
        v_drain.deadline + make_interval(secs => greatest(p_linger_seconds, 0))
            > clock_timestamp()
        AND EXISTS (
            SELECT FROM present_connections c
            JOIN user_sessions s ON s.id = c.session_id
            WHERE s.drain_event_id = v_drain.id
        )
    ) THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(72013004);
    PERFORM s.id FROM user_sessions s
    WHERE s.drain_event_id = v_drain.id ORDER BY s.id FOR NO KEY UPDATE;
    v_now := clock_timestamp();
    UPDATE user_sessions SET drained_at = v_now
    WHERE drain_event_id = v_drain.id AND (revoked_at IS NULL OR revoked_reason = 'came_back');
    UPDATE publish_drain_session_audit r
    SET revoked_at = (
            SELECT s.drained_at FROM user_sessions s
            WHERE s.id = r.session_id AND s.drain_event_id = v_drain.id
        ),
        outcome = CASE
            WHEN r.acked_at IS NOT NULL THEN 'acked'
            WHEN r.closed_at IS NOT NULL OR r.notified_at IS NOT NULL THEN 'closed'
            ELSE 'unreachable'
        END
    WHERE r.drain_id = v_drain.id AND r.outcome IS NULL;
    RETURN QUERY
    SELECT v_drain.id, s.audit_id, s.audit_hash
    FROM seal_drain(
        v_drain.id, 'completed', 'gateway:' || p_instance_id, v_drain.reason, v_drain.request_id,
        NULL
    ) s;
END;
$$;
