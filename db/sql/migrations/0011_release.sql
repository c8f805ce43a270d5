-- Releases: what the team has published last, which clients it still serves, and since when it does
-- not serve the others.

-- One row. Versions are compared with version_key; null demands and offers nothing.
CREATE TABLE release_policy (
    is_policy boolean PRIMARY KEY DEFAULT true CHECK (is_policy),
    release_id bigint,                       -- of release_records; null before the first
    latest_version text,
    min_supported_version text,
    latest_content_version text,
    min_supported_content_version text,
    enforce_after timestamptz,               -- until then the minima are only announced
    -- The minima that were enforced already when these were announced: a release with a grace must
    -- not let in again whom the one before it has shut out.
    floor_version text,
    floor_content_version text,
    update_url text,
    notes text,
    activated_at timestamptz
);

INSERT INTO release_policy DEFAULT VALUES;

-- What was in force when, and by whom.
CREATE TABLE release_records (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    action text NOT NULL,
    actor text NOT NULL,
    reason text,                             -- of a rollback, where one was given
    request_id text,
    previous_id bigint REFERENCES release_records,  -- in force before; where a rollback leads to
    restored_id bigint REFERENCES release_records,  -- what a rollback went back to; null: to nothing
    policy jsonb NOT NULL,                   -- release_policy as it stood from then on
    drain_id bigint,
    CONSTRAINT release_records_action CHECK (action IN ('activate', 'rollback'))
);

-- Whatever writes the policy, and whoever, wakes every gateway: "read it again".
CREATE FUNCTION on_release_policy_changed() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    PERFORM pg_notify('gatehouse_release', '');
    RETURN NULL;
END;
$$;

CREATE TRIGGER release_policy_changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON release_policy
    FOR EACH STATEMENT EXECUTE FUNCTION on_release_policy_changed();

-- rules/versions.py says the same in Python; a test holds the two together.
CREATE FUNCTION is_below_minimum(p release_policy, p_version text, p_content_version text)
RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN version_key(p_version) < version_key(p.min_supported_version)
    OR version_key(p_content_version) < version_key(p.min_supported_content_version);

CREATE FUNCTION is_update_required(
    p release_policy, p_version text, p_content_version text, p_now timestamptz
) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN version_key(p_version) < version_key(p.floor_version)
    OR version_key(p_content_version) < version_key(p.floor_content_version)
    OR coalesce(p.enforce_after <= p_now, false)
       AND is_below_minimum(p, p_version, p_content_version);

-- Whoever creates a session begins with this: the policy cannot change until the transaction ends,
-- so no login is decided by one policy and lands under another. Before every row lock, because an
-- activation, which takes the lock for itself, goes on to lock rows.
CREATE FUNCTION hold_release_policy() RETURNS TABLE (policy release_policy, now timestamptz)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(72013004);
    -- In a statement of its own, so that it sees what was committed while it waited.
    RETURN QUERY SELECT p, clock_timestamp()
    FROM (SELECT) one LEFT JOIN release_policy p ON true;
END;
$$;

-- Live sessions below the minima, admins excepted, by what they run; the most frequent first. What
-- they run is compared once a version, not once a session.
CREATE FUNCTION list_outdated_sessions(p release_policy)
RETURNS TABLE (client_version text, client_content_version text, sessions bigint)
LANGUAGE sql STABLE
SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT
        CASE WHEN version_key(v.client_version) <> '{}' THEN v.client_version END,
        CASE WHEN version_key(v.client_content_version) <> '{}' THEN v.client_content_version END,
        sum(v.sessions)::bigint
    FROM (
        SELECT l.client_version, l.client_content_version, count(*) AS sessions
        FROM live_sessions l
        WHERE NOT l.is_admin
        GROUP BY 1, 2
    ) v
    WHERE is_below_minimum(p, v.client_version, v.client_content_version)
    GROUP BY 1, 2
    ORDER BY 3 DESC, 1, 2
$$;

-- {"sessions": how many, "by_version": the fifty most frequent}: versions are what clients say.
CREATE FUNCTION describe_outdated_sessions(p release_policy) RETURNS jsonb
LANGUAGE sql STABLE
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT jsonb_build_object(
        'sessions', coalesce(sum(numbered.sessions), 0),
        'by_version', coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'client_version', numbered.client_version,
                    'client_content_version', numbered.client_content_version,
                    'sessions', numbered.sessions
                ) ORDER BY numbered.place
            ) FILTER (WHERE numbered.place <= 50),
            '[]'
        )
    )
    FROM (
        SELECT o.client_version, o.client_content_version, o.sessions,
               row_number() OVER (ORDER BY o.sessions DESC, o.client_version) AS place
        FROM list_outdated_sessions(p) o
    ) numbered
$$;

CREATE FUNCTION lower_version(p_one text, p_other text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT CASE WHEN version_key(p_one) <= version_key(p_other) THEN p_one ELSE p_other END
$$;

-- Puts a policy in force, with its record and its audit row. The caller holds the exclusive lock.
CREATE FUNCTION put_release_policy(
    p_policy release_policy,
    p_action text,
    p_previous_id bigint,
    p_actor text,
    p_reason text,
    p_request_id text,
    p_ip inet
) RETURNS TABLE (policy release_policy, audit_id bigint, audit_hash bytea)
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_policy release_policy := p_policy;
    v_record_id bigint := nextval(pg_get_serial_sequence('release_records', 'id'));
BEGIN
    v_policy.is_policy := true;
    -- A rollback leads to a record that there is; it adds one to the history all the same.
    IF p_action = 'activate' THEN
        v_policy.release_id := v_record_id;
    END IF;
    INSERT INTO release_records (
        id, action, actor, reason, request_id, previous_id, restored_id, policy
    )
    OVERRIDING SYSTEM VALUE
    VALUES (
        v_record_id, p_action, p_actor, p_reason, p_request_id, p_previous_id,
        CASE WHEN p_action = 'rollback' THEN v_policy.release_id END, to_jsonb(v_policy)
    );
    DELETE FROM release_policy;
    INSERT INTO release_policy SELECT (v_policy).*;
    RETURN QUERY
    SELECT v_policy, a.id, a.hash
    FROM append_audit(
        p_actor, 'release.' || p_action, p_request_id, p_ip, NULL, p_reason,
        to_jsonb(v_policy) - 'is_policy' || jsonb_build_object(
            'record_id', v_record_id, 'previous_id', p_previous_id
        )
    ) a;
END;
$$;

-- Puts a release in force. What is left out stays as it is, the notes excepted. A minimum that is
-- given, and shuts out somebody who is served now, is enforced after the grace; what was enforced
-- before stays enforced.
--
-- verdict: activated; regression (a lower version than the latest, without leave);
-- minimum_above_latest. Only the first changes anything. A dry run changes nothing either: it tells
-- the policy that would be, and the sessions that it would reach.
CREATE FUNCTION activate_release(
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
    p_enforce_after timestamptz DEFAULT NULL  -- instead of p_grace_seconds from now on
) RETURNS TABLE (
    verdict text, policy release_policy, outdated jsonb, audit_id bigint, audit_hash bytea
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_old release_policy;
    v_new release_policy;
    v_now timestamptz;
    v_outdated jsonb;
BEGIN
    PERFORM pg_advisory_xact_lock(72013004);
    v_now := clock_timestamp();
    SELECT p.* INTO v_old FROM release_policy p;
    v_new.release_id := v_old.release_id;
    v_new.latest_version := p_latest_version;
    v_new.min_supported_version := coalesce(p_min_supported_version, v_old.min_supported_version);
    v_new.latest_content_version := coalesce(
        p_latest_content_version, v_old.latest_content_version
    );
    v_new.min_supported_content_version := coalesce(
        p_min_supported_content_version, v_old.min_supported_content_version
    );
    v_new.update_url := coalesce(p_update_url, v_old.update_url);
    v_new.notes := p_notes;
    v_new.activated_at := v_now;

    -- What is enforced at this moment stays so, unless this release asks for less.
    IF v_old.enforce_after <= v_now THEN
        v_old.floor_version := v_old.min_supported_version;
        v_old.floor_content_version := v_old.min_supported_content_version;
    END IF;
    v_new.floor_version := lower_version(v_old.floor_version, v_new.min_supported_version);
    v_new.floor_content_version := lower_version(
        v_old.floor_content_version, v_new.min_supported_content_version
    );
    v_new.enforce_after := CASE
        WHEN num_nonnulls(p_min_supported_version, p_min_supported_content_version) = 0
            THEN v_old.enforce_after
        WHEN version_key(v_new.min_supported_version) > version_key(v_new.floor_version)
          OR version_key(v_new.min_supported_content_version)
             > version_key(v_new.floor_content_version)
            THEN coalesce(p_enforce_after, v_now + make_interval(secs => p_grace_seconds))
        ELSE least(v_old.enforce_after, v_now)
    END;

    IF NOT p_allow_regression AND (
        version_key(v_new.latest_version) < version_key(v_old.latest_version)
        OR version_key(v_new.latest_content_version) < version_key(v_old.latest_content_version)
    ) THEN
        RETURN QUERY SELECT 'regression', v_old, NULL::jsonb, NULL::bigint, NULL::bytea;
        RETURN;
    END IF;
    IF version_key(v_new.min_supported_version) > version_key(v_new.latest_version)
       OR version_key(v_new.min_supported_content_version)
          > version_key(v_new.latest_content_version) THEN
        RETURN QUERY SELECT 'minimum_above_latest', v_new, NULL::jsonb, NULL::bigint, NULL::bytea;
        RETURN;
    END IF;

    v_outdated := describe_outdated_sessions(v_new);
    IF p_dry_run THEN
        RETURN QUERY SELECT 'activated', v_new, v_outdated, NULL::bigint, NULL::bytea;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT 'activated', put.policy, v_outdated, put.audit_id, put.audit_hash
    FROM put_release_policy(
        v_new, 'activate', v_old.release_id, p_actor, NULL, p_request_id, p_ip
    ) put;
END;
$$;

-- Puts the release in force that was so before the present one; again, the one before that; in the
-- end the state before the first. With its minima as they were, and enforced as they were.
--
-- verdict: restored, or nothing_before.
CREATE FUNCTION roll_back_release(
    p_actor text, p_reason text, p_request_id text, p_ip inet, p_dry_run boolean
) RETURNS TABLE (
    verdict text, policy release_policy, outdated jsonb, audit_id bigint, audit_hash bytea
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_old release_policy;
    v_new release_policy;
    v_restored_id bigint;
    v_outdated jsonb;
BEGIN
    -- An activation needs no reason either; but a blank one is none.
    PERFORM require_actor(p_actor, coalesce(p_reason, 'left out'));
    PERFORM pg_advisory_xact_lock(72013004);
    SELECT p.* INTO v_old FROM release_policy p;
    IF v_old.release_id IS NULL THEN
        RETURN QUERY SELECT 'nothing_before', v_old, NULL::jsonb, NULL::bigint, NULL::bytea;
        RETURN;
    END IF;
    SELECT r.previous_id INTO v_restored_id FROM release_records r WHERE r.id = v_old.release_id;
    SELECT (jsonb_populate_record(NULL::release_policy, r.policy)).* INTO v_new
    FROM release_records r WHERE r.id = v_restored_id;
    v_outdated := describe_outdated_sessions(v_new);
    IF p_dry_run THEN
        RETURN QUERY SELECT 'restored', v_new, v_outdated, NULL::bigint, NULL::bytea;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT 'restored', put.policy, v_outdated, put.audit_id, put.audit_hash
    FROM put_release_policy(
        v_new, 'rollback', v_old.release_id, p_actor, p_reason, p_request_id, p_ip
    ) put;
END;
$$;

-- Spends those of the presented tickets that are good, each at most once, whoever else presents
-- them at this moment, and writes down the connections that they open.
--
-- First every account is locked, in the order of the lock keys: two instances that admit sockets
-- of one account count one after the other, and two that were given the same tickets cannot
-- deadlock over them. The UPDATE then decides by the tickets' latest version. Of a ticket that
-- stands in the batch more than once, the first place gets it. Last, accounts with more sockets
-- than they may have lose their oldest ones; whoever serves those is told by a notification, and
-- finds out by its sweep should that get lost.
--
-- A good ticket of a client that must update is spent and opens no connection; connection_id is
-- null then.
CREATE FUNCTION redeem_tickets(
    p_ticket_hashes bytea[],
    p_ips inet[],
    p_instance_id text,
    p_max_per_account integer
) RETURNS TABLE (
    "position" bigint,
    connection_id bigint,
    session_id bigint,
    user_id bigint,
    display_name text,
    is_admin boolean,
    request_id text,
    client_version text,
    client_content_version text,
    update_required boolean,
    now timestamptz
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    -- LATERAL with OFFSET 0, here and below: an index probe a ticket, whatever the sizes of the
    -- tables were when this connection planned it.
    v_user_ids bigint[] := ARRAY(
        SELECT DISTINCT s.user_id
        FROM ws_tickets t
        CROSS JOIN LATERAL (
            SELECT us.user_id FROM user_sessions us WHERE us.id = t.session_id OFFSET 0
        ) s
        WHERE t.ticket_hash = ANY (p_ticket_hashes)
    );
    v_replaced text;
    v_policy release_policy;
BEGIN
    -- Not in the order of the accounts, for lock keys may collide.
    PERFORM pg_advisory_xact_lock(72013002, k.key)
    FROM (SELECT DISTINCT hashint8(u) AS key FROM unnest(v_user_ids) AS u ORDER BY 1) k;

    SELECT p.* INTO v_policy FROM release_policy p;

    RETURN QUERY
    WITH presented AS (
        SELECT DISTINCT ON (p.ticket_hash) p.ticket_hash, p.ip, p.position
        FROM unnest(p_ticket_hashes, p_ips) WITH ORDINALITY AS p (ticket_hash, ip, position)
        ORDER BY p.ticket_hash, p.position
    ), live AS (
        SELECT p.*, s.*
        FROM presented p
        CROSS JOIN LATERAL (
            SELECT t.session_id AS id FROM ws_tickets t WHERE t.ticket_hash = p.ticket_hash
            OFFSET 0
        ) t
        CROSS JOIN LATERAL (
            SELECT l.session_id, l.user_id, l.display_name, l.is_admin
            FROM live_sessions l WHERE l.session_id = t.id
            OFFSET 0
        ) s
    ), spent AS (
        UPDATE ws_tickets t
        SET consumed_at = clock_timestamp()
        FROM live s
        WHERE t.ticket_hash = ANY (p_ticket_hashes)
          AND t.ticket_hash = s.ticket_hash
          AND t.consumed_at IS NULL
          AND t.expires_at > clock_timestamp()
        RETURNING
            s.position, s.ip, s.session_id, s.user_id, s.display_name, s.is_admin,
            t.request_id, t.client_version, t.client_content_version,
            NOT s.is_admin AND is_update_required(
                v_policy, t.client_version, t.client_content_version, clock_timestamp()
            ) AS update_required
    ), numbered AS (
        -- The id is drawn here, so that the row that is returned knows its connection.
        SELECT
            spent.*,
            CASE WHEN NOT spent.update_required
                THEN nextval('gateway_connections_id_seq') END AS connection_id
        FROM spent
    ), opened AS (
        INSERT INTO gateway_connections (id, instance_id, session_id, user_id, ip)
        OVERRIDING SYSTEM VALUE
        SELECT n.connection_id, p_instance_id, n.session_id, n.user_id, n.ip
        FROM numbered n
        WHERE NOT n.update_required
    )
    SELECT
        n.position, n.connection_id, n.session_id, n.user_id, n.display_name, n.is_admin,
        n.request_id, n.client_version, n.client_content_version, n.update_required,
        clock_timestamp()
    FROM numbered n;

    WITH excess AS (
        SELECT c.id
        FROM unnest(v_user_ids) AS u
        CROSS JOIN LATERAL (
            SELECT pc.id FROM present_connections pc
            WHERE pc.user_id = u
            ORDER BY pc.id DESC
            OFFSET p_max_per_account
        ) c
    ), removed AS (
        DELETE FROM gateway_connections c USING excess WHERE c.id = excess.id RETURNING c.id
    )
    SELECT string_agg(removed.id::text, ' ') INTO v_replaced FROM removed;
    IF v_replaced IS NOT NULL THEN
        PERFORM pg_notify(
            'gatehouse_replaced',
            CASE WHEN octet_length(v_replaced) < 7900 THEN v_replaced ELSE '*' END
        );
    END IF;
END;
$$;
