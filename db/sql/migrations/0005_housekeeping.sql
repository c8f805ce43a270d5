-- Housekeeping: what is of no use to anybody any more goes, a bounded step at a time.
--
-- Each function is one step in one short transaction: it takes at most p_limit rows, passes over
-- rows that somebody holds and so waits for nobody, whatever locks it has already; nothing can
-- deadlock with it, and nothing waits for it longer than for one step. Of all the gateways one does
-- a step at a time: the others get null. Ages are arguments, and the database's clock decides; below
-- a least age nothing goes, so that a stolen gateway cannot use these to wipe its traces away.
--
-- = ANY (ARRAY(...)), where IN would do: an IN may be planned so that its LIMIT is applied again and
-- again.

-- Sessions are found by their absolute end, which never changes: a touch of last_seen_at does not
-- have to maintain this.
CREATE INDEX user_sessions_by_expiry ON user_sessions (expires_at);

CREATE FUNCTION is_housekeeper() RETURNS boolean
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_try_advisory_xact_lock(72013003)
$$;

-- Spent or not: what expired p_age_seconds ago.
CREATE FUNCTION forget_tickets(p_age_seconds integer, p_limit integer) RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_count bigint;
BEGIN
    IF NOT is_housekeeper() THEN
        RETURN NULL;
    END IF;
    DELETE FROM ws_tickets WHERE ticket_hash = ANY (ARRAY(
        SELECT t.ticket_hash FROM ws_tickets t
        WHERE t.expires_at < clock_timestamp() - make_interval(secs => greatest(p_age_seconds, 0))
        ORDER BY t.expires_at
        LIMIT p_limit
        FOR UPDATE SKIP LOCKED
    ));
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END;
$$;

-- A nonce, together with the spent token, gives its successor: it goes when the grace is over.
CREATE FUNCTION forget_nonces(p_grace_seconds integer, p_limit integer) RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_count bigint;
BEGIN
    IF NOT is_housekeeper() THEN
        RETURN NULL;
    END IF;
    UPDATE refresh_tokens SET successor_nonce = NULL WHERE token_hash = ANY (ARRAY(
        SELECT t.token_hash FROM refresh_tokens t
        WHERE t.successor_nonce IS NOT NULL
          AND t.spent_at < clock_timestamp() - make_interval(secs => greatest(p_grace_seconds, 0))
        ORDER BY t.spent_at
        LIMIT p_limit
        FOR UPDATE SKIP LOCKED
    ));
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END;
$$;

-- Refresh tokens, spent ones too, of sessions that ended p_age_days ago. Before that a spent token
-- that comes again must be known for what it is.
CREATE FUNCTION forget_refresh_tokens(p_age_days integer, p_limit integer) RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_count bigint;
BEGIN
    IF NOT is_housekeeper() THEN
        RETURN NULL;
    END IF;
    DELETE FROM refresh_tokens WHERE token_hash = ANY (ARRAY(
        SELECT t.token_hash
        FROM user_sessions s JOIN refresh_tokens t ON t.session_id = s.id
        WHERE s.expires_at < clock_timestamp() - make_interval(days => greatest(p_age_days, 1))
        ORDER BY s.expires_at
        LIMIT p_limit
        FOR UPDATE OF t SKIP LOCKED
    ));
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END;
$$;

-- The same sessions, once nothing hangs on them: a step stays as small as it looks.
CREATE FUNCTION forget_sessions(p_age_days integer, p_limit integer) RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_count bigint;
BEGIN
    IF NOT is_housekeeper() THEN
        RETURN NULL;
    END IF;
    DELETE FROM user_sessions WHERE id = ANY (ARRAY(
        SELECT s.id FROM user_sessions s
        WHERE s.expires_at < clock_timestamp() - make_interval(days => greatest(p_age_days, 1))
          AND NOT EXISTS (SELECT FROM refresh_tokens t WHERE t.session_id = s.id)
          AND NOT EXISTS (SELECT FROM ws_tickets t WHERE t.session_id = s.id)
        ORDER BY s.expires_at
        LIMIT p_limit
        FOR UPDATE SKIP LOCKED
    ));
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END;
$$;

-- Rows of subjects whose window has passed, and who have not been locked out for so long (a day or
-- more) that their next lockout would begin anew.
CREATE FUNCTION forget_limits(p_age_seconds integer, p_limit integer) RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_before timestamptz := clock_timestamp() - make_interval(secs => greatest(p_age_seconds, 86400));
    v_count bigint;
BEGIN
    IF NOT is_housekeeper() THEN
        RETURN NULL;
    END IF;
    DELETE FROM rate_limits WHERE key = ANY (ARRAY(
        SELECT r.key FROM rate_limits r
        WHERE r.touched_at < v_before
          AND r.touched_at < clock_timestamp() - make_interval(secs => r.window_seconds * 1.1)
          AND (r.locked_until IS NULL OR r.locked_until < v_before)
        ORDER BY r.touched_at
        LIMIT p_limit
        FOR UPDATE SKIP LOCKED
    ));
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END;
$$;

CREATE FUNCTION forget_security_events(p_age_days integer, p_limit integer) RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_count bigint;
BEGIN
    IF NOT is_housekeeper() THEN
        RETURN NULL;
    END IF;
    DELETE FROM security_events WHERE id = ANY (ARRAY(
        SELECT e.id FROM security_events e
        WHERE e.created_at < clock_timestamp() - make_interval(days => greatest(p_age_days, 1))
        ORDER BY e.created_at
        LIMIT p_limit
        FOR UPDATE SKIP LOCKED
    ));
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END;
$$;

-- The oldest entries of one channel: the first one after p_after_channel_id that has entries which
-- are too old. A step looks at a thousand channels; where none of them has any it answers the last of
-- them, of which nothing went. Null when somebody else is at it, no row at all when no channel is left.
--
-- Entries go from the beginning of the log and leave no hole: from one that somebody holds (it is
-- just being erased) the rest waits for the next time. last_seq stays with the channel's row, so a
-- channel that has lost all its entries goes on counting where it was.
CREATE FUNCTION forget_messages(
    p_age_days integer, p_after_channel_id bigint, p_limit integer
) RETURNS TABLE (channel_id bigint, forgotten bigint)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_before timestamptz := clock_timestamp() - make_interval(days => greatest(p_age_days, 1));
    v_last_id bigint;
    v_channel_id bigint;
    v_count bigint;
BEGIN
    IF NOT is_housekeeper() THEN
        RETURN QUERY SELECT NULL::bigint, NULL::bigint;
        RETURN;
    END IF;
    SELECT c.id INTO v_last_id FROM chat_channels c
    WHERE c.id > p_after_channel_id
    ORDER BY c.id
    OFFSET 999 LIMIT 1;
    SELECT c.id INTO v_channel_id
    FROM chat_channels c
    CROSS JOIN LATERAL (
        SELECT e.created_at FROM chat_messages e
        WHERE e.channel_id = c.id ORDER BY e.seq LIMIT 1
    ) oldest
    WHERE c.id > p_after_channel_id AND c.id <= coalesce(v_last_id, 9223372036854775807)
      AND oldest.created_at < v_before
    ORDER BY c.id
    LIMIT 1;
    IF v_channel_id IS NULL THEN
        RETURN QUERY SELECT v_last_id, 0::bigint WHERE v_last_id IS NOT NULL;
        RETURN;
    END IF;

    WITH oldest AS (
        SELECT e.seq, e.created_at FROM chat_messages e
        WHERE e.channel_id = v_channel_id
        ORDER BY e.seq
        LIMIT p_limit
    ), held AS (
        SELECT e.seq FROM chat_messages e
        WHERE e.channel_id = v_channel_id AND e.seq IN (SELECT o.seq FROM oldest o)
          AND e.created_at < v_before
        ORDER BY e.seq
        FOR UPDATE SKIP LOCKED
    ), stays AS (
        SELECT min(o.seq) AS seq FROM oldest o
        WHERE NOT EXISTS (SELECT FROM held h WHERE h.seq = o.seq)
    )
    DELETE FROM chat_messages e
    USING held h, stays s
    WHERE e.channel_id = v_channel_id AND e.seq = h.seq AND (s.seq IS NULL OR e.seq < s.seq);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN QUERY SELECT v_channel_id, v_count;
END;
$$;
