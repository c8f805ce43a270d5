-- What operators do to sessions and users. Each function does the act and appends its audit row, in
-- one transaction: there is no way to the one without the other. Services and the scripts in
-- db/sql/ops call the same functions.

-- Sorts like the versions do: 1.2 equals 1.2.0; missing or unreadable counts as 0.
CREATE FUNCTION version_key(p_version text) RETURNS bigint[]
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN p_version ~ '^[0-9]{1,18}(\.[0-9]{1,18}){0,7}$'
    THEN string_to_array(regexp_replace(p_version, '^0+(\.0+)*$|(\.0+)+$', ''), '.')::bigint[]
    ELSE '{}' END;

-- One-time tokens with which somebody sets a new password.
CREATE TABLE password_resets (
    token_hash bytea PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    CONSTRAINT password_resets_one_a_user UNIQUE (user_id)
);

-- Refuses an act without somebody who answers for it.
CREATE FUNCTION require_actor(p_actor text, p_reason text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF coalesce(btrim(p_actor), '') = '' OR coalesce(btrim(p_reason), '') = '' THEN
        RAISE EXCEPTION 'nothing was done: an actor and a reason are needed'
            USING HINT = 'in psql: -v actor=your-name -v reason=''incident 42''';
    END IF;
END;
$$;

-- One act on one user. No row where there is no such user.
--
-- disable   sockets close with account_disabled, sessions are dead while it lasts
-- enable    and the sessions of before do not come back with it
-- unlock    lockouts and failures of the account are forgotten: logging in and writing
-- mute      for p_seconds; 0 ends it
-- reset     p_password_hash, which nobody knows the password of, replaces the old one at once;
--           p_token_hash is what sets a new one, for p_seconds; an earlier token is dead
-- admin     p_flag says whether the user is one
CREATE FUNCTION act_on_user(
    p_action text,
    p_user_id bigint,
    p_actor text,
    p_reason text,
    p_request_id text,
    p_ip inet,
    p_seconds integer DEFAULT NULL,
    p_limit_key text DEFAULT NULL,
    p_password_hash text DEFAULT NULL,
    p_token_hash bytea DEFAULT NULL,
    p_flag boolean DEFAULT NULL
) RETURNS TABLE (until timestamptz, audit_id bigint, audit_hash bytea)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_until timestamptz := clock_timestamp() + make_interval(secs => p_seconds);
    v_noted bigint := last_statement_by_hand();
BEGIN
    PERFORM require_actor(p_actor, p_reason);
    -- No endpoint makes administrators, so whoever took over a service makes none either.
    IF p_action = 'admin' AND session_user IN ('gatehouse_api', 'gatehouse_gateway') THEN
        RAISE insufficient_privilege USING MESSAGE = 'only the owner makes administrators';
    END IF;
    -- As before every UPDATE of that column (0012_drains.sql), and before the user's row.
    IF p_action = 'admin' THEN
        PERFORM pg_advisory_xact_lock_shared(72013004);
    END IF;
    PERFORM u.id FROM users u WHERE u.id = p_user_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    CASE p_action
        WHEN 'disable' THEN
            UPDATE users SET disabled_at = clock_timestamp()
            WHERE id = p_user_id AND disabled_at IS NULL;
        WHEN 'enable' THEN
            UPDATE user_sessions
            SET revoked_at = clock_timestamp(), revoked_reason = 'account_was_disabled'
            WHERE id IN (
                SELECT s.id FROM user_sessions s
                JOIN users u ON u.id = s.user_id
                WHERE u.id = p_user_id AND u.disabled_at IS NOT NULL AND s.revoked_at IS NULL
                ORDER BY s.id
                FOR NO KEY UPDATE OF s
            );
            UPDATE users SET disabled_at = NULL WHERE id = p_user_id;
        WHEN 'unlock' THEN
            UPDATE rate_limits r
            SET locked_until = NULL, locked_at = NULL, lockouts = 0,
                failures = array_fill(0, ARRAY[11]), reserved = array_fill(0, ARRAY[11])
            WHERE r.key IN (
                SELECT l.key FROM rate_limits l
                WHERE l.key IN (p_limit_key, 'chat:account:' || p_user_id)
                   OR starts_with(l.key, p_limit_key || '@')
                ORDER BY l.key
                FOR UPDATE
            );
        WHEN 'mute' THEN
            UPDATE users SET muted_until = CASE WHEN p_seconds > 0 THEN v_until END
            WHERE id = p_user_id;
        WHEN 'reset' THEN
            UPDATE users SET password_hash = p_password_hash WHERE id = p_user_id;
            INSERT INTO password_resets (token_hash, user_id, expires_at)
            VALUES (p_token_hash, p_user_id, v_until)
            ON CONFLICT (user_id) DO UPDATE
            SET token_hash = excluded.token_hash, created_at = excluded.created_at,
                expires_at = excluded.expires_at;
        WHEN 'admin' THEN
            UPDATE users SET is_admin = p_flag WHERE id = p_user_id;
    END CASE;
    PERFORM forget_statements_by_hand(v_noted);
    RETURN QUERY
    SELECT v_until, a.id, a.hash
    FROM append_audit(
        p_actor, 'user.' || p_action, p_request_id, p_ip, p_user_id, p_reason,
        jsonb_strip_nulls(jsonb_build_object(
            'seconds', p_seconds, 'until', v_until, 'is_admin', p_flag
        ))
    ) a;
END;
$$;

-- Spends a reset token: sets the password, ends all sessions. Null where it is none any more.
CREATE FUNCTION redeem_password_reset(p_token_hash bytea, p_password_hash text) RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_user_id bigint;
BEGIN
    -- The user's row first, as everywhere; the token's deletion decides who of several gets it.
    PERFORM u.id FROM users u
    JOIN password_resets p ON p.user_id = u.id
    WHERE p.token_hash = p_token_hash
    FOR NO KEY UPDATE OF u;
    DELETE FROM password_resets p USING users u
    WHERE p.token_hash = p_token_hash AND p.expires_at > clock_timestamp()
      AND u.id = p.user_id AND u.disabled_at IS NULL
    RETURNING p.user_id INTO v_user_id;
    IF v_user_id IS NULL THEN
        RETURN NULL;
    END IF;
    UPDATE users SET password_hash = p_password_hash WHERE id = v_user_id;
    UPDATE user_sessions SET revoked_at = clock_timestamp(), revoked_reason = 'password_reset'
    WHERE id IN (
        SELECT s.id FROM user_sessions s
        WHERE s.user_id = v_user_id AND s.revoked_at IS NULL
        ORDER BY s.id
        FOR NO KEY UPDATE
    );
    RETURN v_user_id;
END;
$$;

-- An operator erases a message. Verdicts as erase_message; only what was erased is an act.
CREATE FUNCTION erase_message_as(
    p_actor text, p_reason text, p_request_id text, p_ip inet, p_channel_id bigint, p_seq bigint
) RETURNS TABLE (verdict text, audit_id bigint, audit_hash bytea)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_verdict text := erase_message(NULL, p_channel_id, p_seq, p_request_id);
BEGIN
    IF v_verdict <> 'erased' THEN
        RETURN QUERY SELECT v_verdict, NULL::bigint, NULL::bytea;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT v_verdict, a.id, a.hash
    FROM append_audit(
        p_actor, 'message.erase', p_request_id, p_ip, NULL, p_reason,
        jsonb_build_object('channel_id', p_channel_id, 'seq', p_seq)
    ) a;
END;
$$;

-- TRUNCATE has no rows to show: the gateways look at everything.
CREATE FUNCTION on_truncated() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    PERFORM pg_notify('gatehouse_sessions', '*');
    RETURN NULL;
END;
$$;

CREATE TRIGGER sessions_truncated AFTER TRUNCATE ON user_sessions
    FOR EACH STATEMENT EXECUTE FUNCTION on_truncated();
CREATE TRIGGER users_truncated AFTER TRUNCATE ON users
    FOR EACH STATEMENT EXECUTE FUNCTION on_truncated();

-- A user by id or e-mail address, for the scripts in db/sql/ops.
CREATE FUNCTION find_user_for_psql(p_user text) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_id bigint;
BEGIN
    SELECT u.id INTO v_id FROM users u
    WHERE u.id::text = p_user OR u.email = p_user
       OR u.email_key = lower(normalize(p_user, NFKC));
    IF v_id IS NULL THEN
        RAISE EXCEPTION 'nothing was done: there is no user "%"', p_user
            USING HINT = 'in psql: -v user=7, or -v user=ann@example.org';
    END IF;
    RETURN v_id;
END;
$$;
