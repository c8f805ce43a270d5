-- Publish drains: everybody whom a drain names is told, has until its deadline, and is out after it.
--
--   draining ── deadline ──> completed     by whichever gateway comes to it (finish_drain)
--       └────── before it ──> cancelled    by an operator (cancel_drain)
--
-- The deadline is a time by the database's clock and part of live_sessions: nothing has to happen at
-- that moment. What comes after it, the receipts' outcomes and the digest of them, may be late.
--
-- Whoever opens a session holds the advisory lock of hold_release_policy, shared, before any session
-- row; beginning, cancelling and finishing a drain take it for themselves. So a session that is being
-- opened meanwhile is either seen by them or sees what they did.
--
-- Lock order here: the drain's row, the advisory lock, sessions by id, receipts, the audit head.

CREATE TABLE publish_drain_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    status text NOT NULL DEFAULT 'draining',
    reason text NOT NULL,
    scope text NOT NULL,
    release_id bigint,                       -- whose activation began it, if any
    min_version text,                        -- below these a client is outdated, for this drain
    min_content_version text,
    grace_seconds integer NOT NULL,
    started_at timestamptz NOT NULL,
    deadline timestamptz NOT NULL,
    started_by text NOT NULL,                -- as in admin_action_audit.actor
    request_id text,
    finished_at timestamptz,
    receipts_digest bytea,                   -- drain_digest, once finished
    CONSTRAINT publish_drain_events_status CHECK (status IN ('draining', 'completed', 'cancelled')),
    CONSTRAINT publish_drain_events_scope CHECK (scope IN ('outdated', 'all')),
    CONSTRAINT publish_drain_events_grace CHECK (grace_seconds >= 0),
    CONSTRAINT publish_drain_events_finished CHECK (
        (status = 'draining') = (finished_at IS NULL)
        AND (finished_at IS NULL) = (receipts_digest IS NULL)
    )
);

CREATE UNIQUE INDEX publish_drain_events_one_active ON publish_drain_events (status)
    WHERE status = 'draining';

-- Wakes every gateway: "look which drain there is".
CREATE FUNCTION on_drains_changed() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    PERFORM pg_notify('gatehouse_drains', '');
    RETURN NULL;
END;
$$;

CREATE TRIGGER drains_changed AFTER INSERT OR UPDATE ON publish_drain_events
    FOR EACH STATEMENT EXECUTE FUNCTION on_drains_changed();

-- A receipt for each session that was enrolled. No foreign keys: deleting a session must not delete
-- the evidence.
CREATE TABLE publish_drain_session_audit (
    drain_id bigint NOT NULL,
    session_id bigint NOT NULL,
    user_id bigint NOT NULL,
    client_version text,                     -- when it was enrolled
    client_content_version text,
    enrolled_at timestamptz NOT NULL,
    notified_at timestamptz,                 -- a socket of it was told
    acked_at timestamptz,                    -- its client said that it has saved what it must
    closed_at timestamptz,                   -- a gateway closed a socket of it
    revoked_at timestamptz,                  -- the drain ended it for good
    outcome text,                            -- null until it is known
    PRIMARY KEY (drain_id, session_id),
    CONSTRAINT publish_drain_session_audit_outcome
        CHECK (outcome IN ('acked', 'closed', 'unreachable', 'cancelled'))
);

-- With the id: right after a drain has begun the planner believes that it holds nobody, and looks a
-- session of it up in here, which must not mean going through all of them.
CREATE INDEX user_sessions_by_drain ON user_sessions (drain_event_id, id)
    WHERE drain_event_id IS NOT NULL;

-- Those that a drain ended, whose refresh token may still open one new session.
CREATE VIEW drained_sessions AS
SELECT
    s.id AS session_id,
    s.user_id,
    s.created_at,
    s.expires_at,
    s.ip,
    s.client_version,
    s.drain_event_id,
    s.drain_deadline_at,
    u.is_admin
FROM user_sessions s
JOIN users u ON u.id = s.user_id
WHERE s.revoked_at IS NULL
  AND s.expires_at > clock_timestamp()
  AND u.disabled_at IS NULL
  AND (s.drained_at IS NOT NULL OR s.drain_deadline_at <= clock_timestamp());

-- Null where there is nothing to compare with.
CREATE FUNCTION is_outdated(
    p_version text, p_content_version text, p_min_version text, p_min_content_version text
) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT CASE WHEN num_nonnulls(p_min_version, p_min_content_version) > 0 THEN
        coalesce(version_key(p_version) < version_key(p_min_version), false)
        OR coalesce(version_key(p_content_version) < version_key(p_min_content_version), false)
    END
$$;

-- Begins a drain and enrols, in one transaction, every session it means:
--
-- outdated   whose client is below p_min_version or p_content_version; nobody where both are null
-- all        everybody
--
-- Admins are exempt. No row when a drain is active. Auditing it is the caller's, as its last act.
CREATE FUNCTION start_drain(
    p_reason text,
    p_scope text,
    p_grace_seconds integer,
    p_release_id bigint,
    p_actor text,
    p_request_id text,
    p_min_version text DEFAULT NULL,
    p_content_version text DEFAULT NULL
) RETURNS TABLE (drain_id bigint, enrolled integer)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_started_at timestamptz;
    v_deadline timestamptz;
    v_id bigint;
    v_enrolled integer;
BEGIN
    PERFORM require_actor(p_actor, p_reason);
    PERFORM pg_advisory_xact_lock(72013004);
    IF EXISTS (SELECT FROM publish_drain_events d WHERE d.status = 'draining') THEN
        RETURN;
    END IF;
    v_started_at := clock_timestamp();
    v_deadline := v_started_at + make_interval(secs => p_grace_seconds);
    INSERT INTO publish_drain_events (
        reason, scope, release_id, min_version, min_content_version,
        grace_seconds, started_at, deadline, started_by, request_id
    ) VALUES (
        p_reason, p_scope, p_release_id, p_min_version, p_content_version,
        p_grace_seconds, v_started_at, v_deadline, p_actor, p_request_id
    ) RETURNING id INTO v_id;
    -- A statement of its own: what was committed while we waited for the lock is seen. The rows
    -- are locked by id and judged by their latest version.
    WITH meant AS MATERIALIZED (
        SELECT s.id
        FROM user_sessions s
        JOIN users u ON u.id = s.user_id
        WHERE s.revoked_at IS NULL
          AND s.drained_at IS NULL
          AND s.expires_at > clock_timestamp()
          AND s.idle_expires_at > clock_timestamp()
          AND u.disabled_at IS NULL
          AND NOT u.is_admin
          AND (p_scope = 'all' OR is_outdated(
              s.client_version, s.client_content_version, p_min_version, p_content_version
          ))
        ORDER BY s.id
        FOR NO KEY UPDATE OF s
    ), enrolled AS (
        UPDATE user_sessions s
        SET drain_event_id = v_id, drain_deadline_at = v_deadline
        FROM meant
        WHERE s.id = meant.id
        RETURNING s.id, s.user_id, s.client_version, s.client_content_version
    )
    INSERT INTO publish_drain_session_audit (
        drain_id, session_id, user_id, client_version, client_content_version, enrolled_at
    )
    SELECT v_id, e.id, e.user_id, e.client_version, e.client_content_version, v_started_at
    FROM enrolled e;
    GET DIAGNOSTICS v_enrolled = ROW_COUNT;
    RETURN QUERY SELECT v_id, v_enrolled;
END;
$$;

-- The same without a release: outdated is whoever lies below the minima that are in force or announced,
-- and of two operators who act at once the later one goes by what the other has just announced.
CREATE FUNCTION start_drain_by_policy(
    p_reason text, p_scope text, p_grace_seconds integer, p_actor text, p_request_id text
) RETURNS TABLE (drain_id bigint, enrolled integer)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_policy release_policy;
BEGIN
    PERFORM pg_advisory_xact_lock(72013004);
    -- In a statement of its own, so that it sees what was committed while it waited.
    IF p_scope = 'outdated' THEN
        SELECT p.* INTO v_policy FROM release_policy p;
    END IF;
    RETURN QUERY
    SELECT s.drain_id, s.enrolled
    FROM start_drain(
        p_reason, p_scope, p_grace_seconds, v_policy.release_id, p_actor, p_request_id,
        v_policy.min_supported_version, v_policy.min_supported_content_version
    ) s;
END;
$$;

-- One that is opened during a drain is enrolled too, whoever inserts it, when the drain would have
-- meant it at its start. After the deadline an outdated one is dead at birth, which its opener turns
-- into an error; a drain of everybody no longer concerns newcomers then. That goes on when the drain of
-- the outdated has finished, as long as its release is in force: else they would only have to log in
-- again. Such a one is in no receipt, for those are frozen.
CREATE FUNCTION enrol_late_session() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_drain publish_drain_events;
    v_outdated boolean;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(72013004);
    SELECT d.* INTO v_drain FROM publish_drain_events d
    WHERE d.status = 'draining'
       OR (d.status = 'completed' AND d.scope = 'outdated'
           AND d.release_id = (SELECT p.release_id FROM release_policy p))
    ORDER BY d.id DESC
    LIMIT 1;
    IF NOT FOUND OR (SELECT u.is_admin FROM users u WHERE u.id = NEW.user_id) THEN
        RETURN NEW;
    END IF;
    v_outdated := is_outdated(
        NEW.client_version, NEW.client_content_version,
        v_drain.min_version, v_drain.min_content_version
    );
    IF v_outdated OR (
        v_outdated IS NULL AND v_drain.scope = 'all' AND v_drain.deadline > clock_timestamp()
    ) THEN
        NEW.drain_event_id := v_drain.id;
        NEW.drain_deadline_at := v_drain.deadline;
        IF v_drain.status = 'draining' THEN
            INSERT INTO publish_drain_session_audit (
                drain_id, session_id, user_id, client_version, client_content_version, enrolled_at
            ) VALUES (
                v_drain.id, NEW.id, NEW.user_id, NEW.client_version, NEW.client_content_version,
                clock_timestamp()
            );
        END IF;
    END IF;
    RETURN NEW;
END;
$$;

CREATE TRIGGER late_session_is_enrolled BEFORE INSERT ON user_sessions
    FOR EACH ROW EXECUTE FUNCTION enrol_late_session();

-- Lets sessions go that need not leave, before the deadline; their receipts stay, with the outcome
-- `cancelled`. The caller has locked the sessions.
CREATE FUNCTION release_from_drain(p_drain_id bigint, p_session_ids bigint[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    UPDATE user_sessions SET drain_event_id = NULL, drain_deadline_at = NULL
    WHERE id = ANY (p_session_ids);
    -- In the order of note_drain_receipts.
    PERFORM r.session_id FROM publish_drain_session_audit r
    WHERE r.drain_id = p_drain_id AND r.session_id = ANY (p_session_ids)
    ORDER BY r.session_id FOR NO KEY UPDATE;
    UPDATE publish_drain_session_audit SET outcome = 'cancelled'
    WHERE drain_id = p_drain_id AND session_id = ANY (p_session_ids);
END;
$$;

-- Somebody who becomes an administrator while a drain runs is exempt from it like one who was so
-- before, whoever makes them one and how. First the lock of whoever opens a session, before the
-- user's row: a drain that is just beginning or ending is waited for, then seen.
CREATE FUNCTION hold_drains() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(72013004);
    RETURN NULL;
END;
$$;

CREATE FUNCTION release_new_admins() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET enable_nestloop = off
AS $$
DECLARE
    v_user_ids bigint[] := ARRAY(
        SELECT n.id FROM new_rows n JOIN old_rows o USING (id)
        WHERE n.is_admin AND NOT o.is_admin
    );
    v_drain publish_drain_events;
    v_session_ids bigint[];
BEGIN
    SELECT d.* INTO v_drain FROM publish_drain_events d WHERE d.status = 'draining';
    v_session_ids := ARRAY(
        SELECT s.id FROM user_sessions s
        WHERE s.user_id = ANY (v_user_ids)
          AND s.drain_event_id = v_drain.id AND s.revoked_at IS NULL
        ORDER BY s.id
        FOR NO KEY UPDATE
    );
    -- By the clock as it is now that nothing more has to be waited for.
    IF v_session_ids <> '{}' AND v_drain.deadline > clock_timestamp() THEN
        PERFORM release_from_drain(v_drain.id, v_session_ids);
    END IF;
    RETURN NULL;
END;
$$;

-- No service may write this column.
CREATE TRIGGER new_admins_hold_drains BEFORE UPDATE OF is_admin ON users
    FOR EACH STATEMENT EXECUTE FUNCTION hold_drains();
CREATE TRIGGER new_admins_are_released AFTER UPDATE ON users
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT WHEN (session_user NOT IN ('gatehouse_api', 'gatehouse_gateway'))
    EXECUTE FUNCTION release_new_admins();

-- What a refresh or a ticket says of the client; of what it does not name, null, the session keeps
-- what was said last. One that was outdated for the drain it is in, and no longer is, is let go before
-- the deadline.
CREATE FUNCTION note_client_version(
    p_session_id bigint, p_version text, p_content_version text
) RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_session user_sessions;
    v_version text;
    v_content_version text;
    v_drain publish_drain_events;
BEGIN
    -- Locked by itself: the statements below then see the drain that may have been waited for.
    SELECT s.* INTO v_session FROM user_sessions s
    WHERE s.id = p_session_id FOR NO KEY UPDATE;
    v_version := coalesce(p_version, v_session.client_version);
    v_content_version := coalesce(p_content_version, v_session.client_content_version);
    UPDATE user_sessions
    SET client_version = v_version, client_content_version = v_content_version
    WHERE id = p_session_id;
    SELECT d.* INTO v_drain FROM publish_drain_events d
    WHERE d.id = v_session.drain_event_id AND d.status = 'draining'
      AND d.deadline > clock_timestamp();
    IF v_drain.id IS NOT NULL
        AND is_outdated(
            v_session.client_version, v_session.client_content_version,
            v_drain.min_version, v_drain.min_content_version
        )
        AND NOT is_outdated(
            v_version, v_content_version, v_drain.min_version, v_drain.min_content_version
        )
    THEN
        PERFORM release_from_drain(v_drain.id, ARRAY[p_session_id]);
    END IF;
END;
$$;

-- SHA-256 over every receipt of a drain, in the order of the sessions: a JSON array a line, times in
-- UTC.
CREATE FUNCTION drain_digest(p_drain_id bigint) RETURNS bytea
LANGUAGE sql STABLE
SET search_path = pg_catalog, public, pg_temp
SET timezone = 'UTC'
AS $$
    SELECT sha256(convert_to(coalesce(string_agg(
        jsonb_build_array(
            r.session_id, r.user_id, r.client_version, r.client_content_version,
            r.enrolled_at, r.notified_at, r.acked_at, r.closed_at, r.revoked_at, r.outcome
        )::text,
        E'\n' ORDER BY r.session_id
    ), ''), 'UTF8'))
    FROM publish_drain_session_audit r
    WHERE r.drain_id = p_drain_id
$$;

-- How far it is: acked, closed, unreachable and cancelled are one each, so they add up to enrolled in
-- the end.
CREATE FUNCTION drain_counts(p_drain_id bigint) RETURNS TABLE (
    enrolled bigint, acked bigint, closed bigint, unreachable bigint, cancelled bigint,
    revoked bigint
)
LANGUAGE sql STABLE
SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT
        count(*),
        count(*) FILTER (WHERE o.outcome = 'acked'),
        count(*) FILTER (WHERE o.outcome = 'closed'),
        count(*) FILTER (WHERE o.outcome = 'unreachable'),
        count(*) FILTER (WHERE o.outcome = 'cancelled'),
        count(o.revoked_at)
    FROM (
        SELECT
            r.revoked_at,
            coalesce(r.outcome, CASE
                WHEN r.acked_at IS NOT NULL THEN 'acked'
                WHEN r.closed_at IS NOT NULL THEN 'closed'
            END) AS outcome
        FROM publish_drain_session_audit r
        WHERE r.drain_id = p_drain_id
    ) o
$$;

-- The end of both ways out: freezes the rows, and puts the digest of the receipts into the chain.
CREATE FUNCTION seal_drain(
    p_drain_id bigint, p_status text, p_actor text, p_reason text, p_request_id text, p_ip inet
) RETURNS TABLE (audit_id bigint, audit_hash bytea)
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_digest bytea := drain_digest(p_drain_id);
BEGIN
    UPDATE publish_drain_events
    SET status = p_status, finished_at = clock_timestamp(), receipts_digest = v_digest
    WHERE id = p_drain_id;
    RETURN QUERY
    SELECT a.id, a.hash
    FROM append_audit(
        p_actor,
        CASE p_status WHEN 'cancelled' THEN 'drain.cancel' ELSE 'drain.complete' END,
        p_request_id, p_ip, NULL, p_reason,
        (SELECT to_jsonb(c) FROM drain_counts(p_drain_id) c) || jsonb_build_object(
            'drain_id', p_drain_id, 'receipts_sha256', encode(v_digest, 'hex')
        )
    ) a;
END;
$$;

-- Completes the drain whose deadline has passed, once no socket of it is left, or p_linger_seconds
-- after the deadline whatever is left. Any gateway may call it at any time; one of several does it.
-- Whoever has come back before has a receipt that says when the drain ended the session, like
-- everybody else.
CREATE FUNCTION finish_drain(p_instance_id text, p_linger_seconds integer)
RETURNS TABLE (drain_id bigint, audit_id bigint, audit_hash bytea)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
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

-- Without a reason the drain's own stands in the audit trail.
-- 'cancelled'; 'too_late' at and after the deadline, and for one that has finished; 'unknown'.
CREATE FUNCTION cancel_drain(
    p_drain_id bigint, p_actor text, p_reason text, p_request_id text, p_ip inet
) RETURNS TABLE (verdict text, audit_id bigint, audit_hash bytea)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_drain publish_drain_events;
BEGIN
    SELECT d.* INTO v_drain FROM publish_drain_events d WHERE d.id = p_drain_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'unknown', NULL::bigint, NULL::bytea;
        RETURN;
    END IF;
    PERFORM require_actor(p_actor, coalesce(p_reason, v_drain.reason));
    IF v_drain.status = 'draining' THEN
        PERFORM pg_advisory_xact_lock(72013004);
        PERFORM s.id FROM user_sessions s
        WHERE s.drain_event_id = p_drain_id ORDER BY s.id FOR NO KEY UPDATE;
    END IF;
    -- By the clock as it is now that nothing more has to be waited for.
    IF v_drain.status <> 'draining' OR v_drain.deadline <= clock_timestamp() THEN
        RETURN QUERY SELECT 'too_late', NULL::bigint, NULL::bytea;
        RETURN;
    END IF;
    UPDATE user_sessions SET drain_event_id = NULL, drain_deadline_at = NULL
    WHERE drain_event_id = p_drain_id;
    UPDATE publish_drain_session_audit SET outcome = 'cancelled'
    WHERE drain_id = p_drain_id;
    RETURN QUERY
    SELECT 'cancelled', s.audit_id, s.audit_hash
    FROM seal_drain(
        p_drain_id, 'cancelled', p_actor, coalesce(p_reason, v_drain.reason), p_request_id, p_ip
    ) s;
END;
$$;

-- What gateways saw of sessions: they were told, they answered, their sockets were closed. The first
-- time counts. Rows in the order of the sessions, so that two gateways wait for, not kill, each
-- other. Late news of a drain that has finished changes nothing.
CREATE FUNCTION note_drain_receipts(
    p_drain_id bigint, p_notified bigint[], p_acked bigint[], p_closed bigint[]
) RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_now timestamptz;
BEGIN
    -- Shared with the other gateways, and in the way of whoever finishes the drain meanwhile.
    PERFORM d.id FROM publish_drain_events d
    WHERE d.id = p_drain_id AND d.status = 'draining' FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM r.session_id FROM publish_drain_session_audit r
    WHERE r.drain_id = p_drain_id AND r.session_id = ANY (p_notified || p_acked || p_closed)
    ORDER BY r.session_id FOR NO KEY UPDATE;
    v_now := clock_timestamp();
    UPDATE publish_drain_session_audit r
    SET notified_at = CASE WHEN r.session_id = ANY (p_notified || p_acked)
            THEN coalesce(r.notified_at, v_now) ELSE r.notified_at END,
        acked_at = CASE WHEN r.session_id = ANY (p_acked)
            THEN coalesce(r.acked_at, v_now) ELSE r.acked_at END,
        closed_at = CASE WHEN r.session_id = ANY (p_closed)
            THEN coalesce(r.closed_at, v_now) ELSE r.closed_at END
    WHERE r.drain_id = p_drain_id AND r.session_id = ANY (p_notified || p_acked || p_closed)
      AND r.outcome IS NULL;
END;
$$;

-- A finished drain and its receipts are evidence: nobody changes them, the owner included.
CREATE FUNCTION refuse_change_of_drain() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'drains and their receipts are kept as they are';
END;
$$;

-- Once a statement, which may be about everybody's receipt. Of drains one at most is active.
CREATE FUNCTION refuse_change_of_finished_drain() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_active_id bigint := (SELECT d.id FROM publish_drain_events d WHERE d.status = 'draining');
BEGIN
    IF EXISTS (SELECT FROM new_rows n WHERE n.drain_id IS DISTINCT FROM v_active_id) THEN
        RAISE EXCEPTION 'drains and their receipts are kept as they are';
    END IF;
    RETURN NULL;
END;
$$;

CREATE TRIGGER finished_drains_stay BEFORE UPDATE ON publish_drain_events
    FOR EACH ROW WHEN (OLD.status <> 'draining') EXECUTE FUNCTION refuse_change_of_drain();
CREATE TRIGGER drains_stay BEFORE DELETE ON publish_drain_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_drain();
CREATE TRIGGER no_drain_is_truncated BEFORE TRUNCATE ON publish_drain_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_drain();
CREATE TRIGGER finished_receipts_stay AFTER UPDATE ON publish_drain_session_audit
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_finished_drain();
CREATE TRIGGER finished_drains_get_no_receipt AFTER INSERT ON publish_drain_session_audit
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_finished_drain();
CREATE TRIGGER receipts_keep_their_session BEFORE UPDATE ON publish_drain_session_audit
    FOR EACH ROW
    WHEN ((OLD.drain_id, OLD.session_id) IS DISTINCT FROM (NEW.drain_id, NEW.session_id))
    EXECUTE FUNCTION refuse_change_of_drain();
CREATE TRIGGER receipts_stay BEFORE DELETE ON publish_drain_session_audit
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_drain();
CREATE TRIGGER no_receipt_is_truncated BEFORE TRUNCATE ON publish_drain_session_audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_drain();

-- Ends the sessions that exactly one selector names; of those that had ended before none matches,
-- but those that a drain has ended do: a revocation leaves no way back.
-- p_all is a selector like the others, so that nobody ends everything by leaving one out. What the
-- client is told is only that an operator did it: the reason is for the audit trail.
CREATE FUNCTION revoke_sessions(
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
    v_noted bigint := last_statement_by_hand();
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
    PERFORM forget_statements_by_hand(v_noted);
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
