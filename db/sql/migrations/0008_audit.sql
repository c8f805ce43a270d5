-- The audit trail of privileged acts: appended to, never changed, and chained by hashes, so that
-- whoever owns the database cannot quietly change it either.
--
-- A row's hash covers its predecessor's hash and `canonical`, a text that is made once and stored,
-- so that neither time zones nor the formatting of jsonb matter later. Ids have no gaps. The newest
-- id and hash stand in a row of their own and in the server's log: a cut-off tail shows against
-- either, and against any head that was kept elsewhere.

CREATE TABLE admin_action_audit (
    id bigint PRIMARY KEY,
    created_at timestamptz NOT NULL,
    actor text NOT NULL,                     -- the name of an ops token; psql:<role> for psql
    action text NOT NULL,                    -- noun.verb
    request_id text,
    ip inet,
    user_id bigint,                          -- whom it concerns, where that is one user
    reason text,
    details jsonb NOT NULL,
    canonical text NOT NULL,                 -- what the hash covers: all of the above
    prev_hash bytea NOT NULL,
    hash bytea NOT NULL,
    CONSTRAINT admin_action_audit_one_successor UNIQUE (prev_hash)
);

CREATE INDEX admin_action_audit_by_request ON admin_action_audit (request_id);
CREATE INDEX admin_action_audit_by_actor ON admin_action_audit (actor, id);
CREATE INDEX admin_action_audit_by_action ON admin_action_audit (action, id);
CREATE INDEX admin_action_audit_by_user ON admin_action_audit (user_id, id);
CREATE INDEX admin_action_audit_by_time ON admin_action_audit (created_at);

CREATE TABLE admin_action_audit_head (
    is_head boolean PRIMARY KEY DEFAULT true CHECK (is_head),  -- one row
    id bigint NOT NULL,
    hash bytea NOT NULL
);

-- The first row's predecessor: 32 zero bytes.
INSERT INTO admin_action_audit_head (id, hash) VALUES (0, decode(repeat('00', 32), 'hex'));

CREATE FUNCTION refuse_change_of_audit() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'the audit trail is only ever appended to';
END;
$$;

CREATE TRIGGER audit_rows_stay BEFORE UPDATE OR DELETE ON admin_action_audit
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_audit();

CREATE TRIGGER audit_stays BEFORE TRUNCATE ON admin_action_audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit();

CREATE TRIGGER audit_head_stays BEFORE DELETE OR TRUNCATE ON admin_action_audit_head
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit();

-- What a row says, in one object: made when it is written, and again when it is verified.
CREATE FUNCTION audit_contents(r admin_action_audit) RETURNS jsonb
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, public, pg_temp
SET timezone = 'UTC'
AS $$
    SELECT jsonb_build_object(
        'id', r.id,
        'created_at', to_char(r.created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'actor', r.actor,
        'action', r.action,
        'request_id', r.request_id,
        'ip', host(r.ip),
        'user_id', r.user_id,
        'reason', r.reason,
        'details', r.details
    )
$$;

-- Appends one row in the caller's transaction. The head is locked last of all locks, so this comes
-- last in a transaction: whoever waits for it holds everything else already.
CREATE FUNCTION append_audit(
    p_actor text,
    p_action text,
    p_request_id text,
    p_ip inet,
    p_user_id bigint,
    p_reason text,
    p_details jsonb
) RETURNS TABLE (id bigint, hash bytea)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_head admin_action_audit_head;
    v_row admin_action_audit;
BEGIN
    SELECT h.* INTO STRICT v_head FROM admin_action_audit_head h FOR UPDATE;
    v_row.id := v_head.id + 1;
    v_row.created_at := clock_timestamp();
    v_row.actor := p_actor;
    v_row.action := p_action;
    v_row.request_id := p_request_id;
    v_row.ip := p_ip;
    v_row.user_id := p_user_id;
    v_row.reason := p_reason;
    v_row.details := coalesce(p_details, '{}');
    v_row.canonical := audit_contents(v_row)::text;
    v_row.prev_hash := v_head.hash;
    v_row.hash := sha256(v_head.hash || convert_to(v_row.canonical, 'UTF8'));
    INSERT INTO admin_action_audit SELECT (v_row).*;
    UPDATE admin_action_audit_head SET id = v_row.id, hash = v_row.hash;
    -- Kept outside the database as well: see docs/operators.md.
    RAISE LOG 'audit head % %', v_row.id, encode(v_row.hash, 'hex');
    RETURN QUERY SELECT v_row.id, v_row.hash;
END;
$$;

-- A text as jsonb; null where it is none.
CREATE FUNCTION jsonb_or_null(p_text text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN p_text::jsonb;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END;
$$;

-- Checks at most p_limit rows after p_after_id; the caller goes on from last_id and last_hash until
-- no row is left. first_broken_id is the first id that is missing, out of place, or whose contents,
-- predecessor or hash are not what they should be.
--
-- p_after_hash is the hash of row p_after_id, where the caller has checked that row before.
CREATE FUNCTION verify_audit(p_after_id bigint, p_after_hash bytea, p_limit integer)
RETURNS TABLE (rows bigint, last_id bigint, last_hash bytea, first_broken_id bigint)
LANGUAGE sql STABLE
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
    WITH page AS MATERIALIZED (
        SELECT a.*, row_number() OVER (ORDER BY a.id) AS place
        FROM admin_action_audit a
        WHERE a.id > p_after_id
        ORDER BY a.id
        LIMIT p_limit
    ), checked AS (
        SELECT
            p.id, p.hash, p_after_id + p.place AS expected_id,
            p.id = p_after_id + p.place
            AND p.prev_hash = coalesce(lag(p.hash) OVER (ORDER BY p.id), p_after_hash)
            AND p.hash = sha256(p.prev_hash || convert_to(p.canonical, 'UTF8'))
            AND jsonb_or_null(p.canonical) IS NOT DISTINCT FROM audit_contents(
                (SELECT a FROM admin_action_audit a WHERE a.id = p.id)
            ) AS is_intact
        FROM page p
    )
    SELECT
        count(*),
        max(c.id),
        (SELECT l.hash FROM checked l ORDER BY l.id DESC LIMIT 1),
        min(c.expected_id) FILTER (WHERE NOT c.is_intact)
    FROM checked c
$$;
