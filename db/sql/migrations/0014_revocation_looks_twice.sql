-- A revocation that races with the way back of drained sessions (0012_drains.sql) leaves nobody in:
-- what their refresh tokens have opened while it waited for its locks ends as well.
CREATE OR REPLACE FUNCTION revoke_sessions(
    p_actor text,
    p_reason text,
    p_request_id text,
    p_ip inet,
    p_dry_run boolean,
    p_user_id bigint DEFAULT NULL,
    p_session_id bigint DEFAULT NULL,
    p_network inet DEFAULT NULL,
    p_version_below text DEFAULT NULL,
    p_created_before timestamptz DEFAULT NULL,
    p_all boolean DEFAULT NULL
) RETURNS TABLE (matched bigint, revoked bigint, audit_id bigint, audit_hash bytea)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_ids bigint[];
    v_revoked bigint := 0;
BEGIN
    PERFORM require_actor(p_actor, p_reason);
    IF num_nonnulls(
        p_user_id, p_session_id, p_network, p_version_below, p_created_before, p_all
    ) <> 1 THEN
        RAISE EXCEPTION 'exactly one selector is needed';
    END IF;
    -- Twice: the second look sees what was opened on the way back of drained sessions while the
    -- first one's locks were waited for; behind those locks nothing more can be.
    FOR v_look IN 1..2 LOOP
        v_ids := ARRAY(
            SELECT l.session_id
            FROM (
                SELECT a.session_id, a.user_id, a.ip, a.client_version, a.created_at
                FROM live_sessions a
                UNION ALL
                SELECT d.session_id, d.user_id, d.ip, d.client_version, d.created_at
                FROM drained_sessions d
            ) l
            WHERE (p_user_id IS NULL OR l.user_id = p_user_id)
              AND (p_session_id IS NULL OR l.session_id = p_session_id)
              AND (p_network IS NULL OR l.ip <<= p_network)
              AND (p_version_below IS NULL
                   OR version_key(l.client_version) < version_key(p_version_below))
              AND (p_created_before IS NULL OR l.created_at < p_created_before)
            ORDER BY l.session_id
        );
        IF p_dry_run THEN
            RETURN QUERY SELECT cardinality(v_ids)::bigint, 0::bigint, NULL::bigint, NULL::bytea;
            RETURN;
        END IF;
        PERFORM s.id FROM user_sessions s
        WHERE s.id = ANY (v_ids) ORDER BY s.id FOR NO KEY UPDATE;
    END LOOP;
    UPDATE user_sessions
    SET revoked_at = clock_timestamp(), revoked_reason = 'revoked_by_operator'
    WHERE id = ANY (v_ids) AND revoked_at IS NULL;
    GET DIAGNOSTICS v_revoked = ROW_COUNT;
    RETURN QUERY
    SELECT cardinality(v_ids)::bigint, v_revoked, a.id, a.hash
    FROM append_audit(
        p_actor, 'sessions.revoke', p_request_id, p_ip, p_user_id, p_reason,
        jsonb_strip_nulls(jsonb_build_object(
            'session_id', p_session_id,
            'network', p_network::text,
            'version_below', p_version_below,
            'created_before', p_created_before,
            'all', p_all,
            'matched', cardinality(v_ids),
            'revoked', v_revoked
        ))
    ) a;
END;
$$;
