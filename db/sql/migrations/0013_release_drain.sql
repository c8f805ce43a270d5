-- A release that sends out whom it no longer serves: its policy and its drain in one transaction.

-- As activate_release, with the drain that goes with it: outdated (below the minima), all, or none.
-- The drain's deadline is the moment from which the minimum is enforced, so that HTTP, tickets and
-- sockets agree about it. Sessions are locked before the audit's head, hence the order. The release's
-- audit row comes first, the drain's is the head after it.
--
-- verdict: as activate_release, or drain_in_progress. Only activated changes anything.
CREATE FUNCTION activate_release_with_drain(
    p_actor text,
    p_request_id text,
    p_ip inet,
    p_latest_version text,
    p_min_supported_version text,
    p_latest_content_version text,
    p_min_supported_content_version text,
    p_update_url text,
    p_notes text,
    p_grace_seconds integer,
    p_allow_regression boolean,
    p_dry_run boolean,
    p_drain text
) RETURNS TABLE (
    verdict text, policy release_policy, outdated jsonb, drain_id bigint, enrolled bigint,
    audit_id bigint, head_id bigint, head_hash bytea
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_done record;
    v_drain publish_drain_events;
    v_drain_id bigint;
    v_enrolled bigint := 0;
    v_head_id bigint;
    v_head_hash bytea;
BEGIN
    PERFORM pg_advisory_xact_lock(72013004);
    -- What it would come to.
    SELECT a.* INTO v_done FROM activate_release(
        p_actor, p_request_id, p_ip, p_latest_version, p_min_supported_version,
        p_latest_content_version, p_min_supported_content_version, p_update_url, p_notes,
        p_grace_seconds, p_allow_regression, p_dry_run => true
    ) a;
    IF v_done.verdict = 'activated' AND p_drain <> 'none'
       AND EXISTS (SELECT FROM publish_drain_events d WHERE d.status = 'draining') THEN
        v_done.verdict := 'drain_in_progress';
    END IF;
    IF v_done.verdict <> 'activated' OR p_dry_run THEN
        RETURN QUERY SELECT
            v_done.verdict, v_done.policy, v_done.outdated, NULL::bigint,
            CASE p_drain
                WHEN 'outdated' THEN (v_done.outdated ->> 'sessions')::bigint
                WHEN 'all' THEN (SELECT count(*) FROM live_sessions l WHERE NOT l.is_admin)
                ELSE 0 END,
            NULL::bigint, NULL::bigint, NULL::bytea;
        RETURN;
    END IF;

    IF p_drain <> 'none' THEN
        SELECT s.drain_id, s.enrolled INTO STRICT v_drain_id, v_enrolled
        FROM start_drain(
            'release ' || p_latest_version, p_drain, p_grace_seconds, NULL, p_actor,
            p_request_id, (v_done.policy).min_supported_version,
            (v_done.policy).min_supported_content_version
        ) s;
        SELECT d.* INTO STRICT v_drain FROM publish_drain_events d WHERE d.id = v_drain_id;
    END IF;
    SELECT a.* INTO v_done FROM activate_release(
        p_actor, p_request_id, p_ip, p_latest_version, p_min_supported_version,
        p_latest_content_version, p_min_supported_content_version, p_update_url, p_notes,
        p_grace_seconds, p_allow_regression, p_dry_run => false,
        p_enforce_after => v_drain.deadline
    ) a;
    v_head_id := v_done.audit_id;
    v_head_hash := v_done.audit_hash;
    IF v_drain_id IS NOT NULL THEN
        UPDATE publish_drain_events SET release_id = (v_done.policy).release_id
        WHERE id = v_drain_id;
        UPDATE release_records SET drain_id = v_drain_id
        WHERE id = (v_done.policy).release_id;
        SELECT a.id, a.hash INTO v_head_id, v_head_hash
        FROM append_audit(
            p_actor, 'drain.start', p_request_id, p_ip, NULL, v_drain.reason,
            jsonb_build_object(
                'drain_id', v_drain_id,
                'release_id', (v_done.policy).release_id,
                'scope', v_drain.scope,
                'deadline', v_drain.deadline,
                'enrolled', v_enrolled
            )
        ) a;
    END IF;
    RETURN QUERY SELECT
        v_done.verdict, v_done.policy, v_done.outdated, v_drain_id, v_enrolled,
        v_done.audit_id, v_head_id, v_head_hash;
END;
$$;
