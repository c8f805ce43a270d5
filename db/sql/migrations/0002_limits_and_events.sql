-- Limits that all instances share, and the security events that remember what they did.

-- One row a subject. Counts lie in eleven slices, the newest last: the current tenth of the window
-- and the ten before it. Their sum covers the window and up to a tenth more, so in no window is
-- there ever more than the maximum, whatever its edges, and the row stays small however wide the
-- limit is.
CREATE TABLE rate_limits (
    key text PRIMARY KEY,                    -- rules/limit_subjects.py makes them
    window_seconds integer NOT NULL,
    slice bigint NOT NULL,                   -- number of the newest slice since the epoch
    reserved integer[] NOT NULL,             -- under way, or simply counted
    failures integer[] NOT NULL,
    locked_until timestamptz,
    locked_at timestamptz,
    lockouts integer NOT NULL DEFAULT 0,     -- in a row, each within a day of the one before
    noted_at timestamptz,                    -- when a refusal was last written down as an event
    touched_at timestamptz NOT NULL
);

-- Gateways read which addresses are locked out; housekeeping finds what nobody touches any more.
CREATE INDEX rate_limits_locked ON rate_limits (locked_until) WHERE locked_until IS NOT NULL;
CREATE INDEX rate_limits_by_touch ON rate_limits (touched_at);

CREATE TABLE security_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    event text NOT NULL,                     -- OWASP logging vocabulary
    request_id text,
    user_id bigint,                          -- no foreign key: evidence outlives the account
    session_id bigint,
    ip inet,
    details jsonb NOT NULL DEFAULT '{}'
);

CREATE INDEX security_events_by_request ON security_events (request_id);
CREATE INDEX security_events_by_user ON security_events (user_id, id);
CREATE INDEX security_events_by_event ON security_events (event, id);
CREATE INDEX security_events_by_time ON security_events (created_at);

-- Counts moved on by some slices: the oldest fall out, zeros come in.
--
-- The functions with RETURN are bound to what they call when they are made, so they need no
-- search_path of their own and can be expanded where they are called.
CREATE FUNCTION shifted_slices(p_counts integer[], p_by bigint) RETURNS integer[]
LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN p_by <= 0 THEN p_counts
    WHEN p_by >= 11 THEN array_fill(0, ARRAY[11])
    ELSE p_counts[p_by + 1 : 11] || array_fill(0, ARRAY[p_by::integer])
END;

-- Not as an aggregate: a subquery could not be expanded.
CREATE FUNCTION sum_of_slices(p_counts integer[]) RETURNS bigint
LANGUAGE sql IMMUTABLE
RETURN p_counts[1]::bigint + p_counts[2] + p_counts[3] + p_counts[4] + p_counts[5] + p_counts[6]
    + p_counts[7] + p_counts[8] + p_counts[9] + p_counts[10] + p_counts[11];

-- Locks the rows of these subjects in key order, making those that are missing. Whatever touches
-- limits begins with it, so two of them never deadlock.
CREATE FUNCTION lock_limit_rows(p_keys text[], p_window_seconds integer) RETURNS void
LANGUAGE plpgsql -- which keeps its plan; one in plain SQL is planned at each call before 18
SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    INSERT INTO rate_limits AS r
        (key, window_seconds, slice, reserved, failures, touched_at)
    SELECT k, p_window_seconds, 0, array_fill(0, ARRAY[11]), array_fill(0, ARRAY[11]),
           clock_timestamp()
    FROM unnest(p_keys) AS k
    ORDER BY k
    -- Locks the row also where it writes nothing; to the minute is enough for housekeeping.
    ON CONFLICT (key) DO UPDATE SET touched_at = excluded.touched_at
    WHERE r.touched_at < excluded.touched_at - interval '1 minute';
END;
$$;

-- Brings the slices of locked rows up to date and says what time it is.
--
-- A clock that jumped back leaves the newest slice where it is. A window of another length than
-- before puts what was counted into the newest slice: too strict for one window, never too loose.
CREATE FUNCTION refresh_limits(p_keys text[], p_window_seconds integer) RETURNS timestamptz
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_slice bigint := floor(extract(epoch FROM v_now) * 10 / p_window_seconds);
BEGIN
    UPDATE rate_limits r
    SET reserved = CASE
            WHEN r.window_seconds = p_window_seconds
                THEN shifted_slices(r.reserved, v_slice - r.slice)
            ELSE array_fill(0, ARRAY[10]) || sum_of_slices(r.reserved)::integer END,
        failures = CASE
            WHEN r.window_seconds = p_window_seconds
                THEN shifted_slices(r.failures, v_slice - r.slice)
            ELSE array_fill(0, ARRAY[10]) || sum_of_slices(r.failures)::integer END,
        slice = CASE
            WHEN r.window_seconds = p_window_seconds THEN greatest(v_slice, r.slice)
            ELSE v_slice END,
        window_seconds = p_window_seconds
    WHERE r.key = ANY (p_keys)
      AND (r.slice < v_slice OR r.window_seconds <> p_window_seconds);
    RETURN v_now;
END;
$$;

CREATE FUNCTION lock_limits(p_keys text[], p_window_seconds integer) RETURNS timestamptz
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    PERFORM lock_limit_rows(p_keys, p_window_seconds);
    RETURN refresh_limits(p_keys, p_window_seconds);
END;
$$;

-- Which lockout in a row the next one would be: within a day of the one before it goes on counting.
CREATE FUNCTION next_lockout(p_limit rate_limits, p_now timestamptz) RETURNS integer
LANGUAGE sql STABLE
RETURN CASE WHEN p_limit.locked_at > p_now - interval '1 day' THEN p_limit.lockouts + 1 ELSE 1 END;

-- Each further lockout in a row is twice as long as the one before, up to the longest.
CREATE FUNCTION lockout_length(
    p_in_a_row integer, p_first_seconds integer, p_max_seconds integer
) RETURNS integer
LANGUAGE sql IMMUTABLE
RETURN least(p_max_seconds, p_first_seconds * 2::numeric ^ least(p_in_a_row - 1, 30))::integer;

-- Seconds until a subject may go on: its lockout, or how long until enough slices have fallen out.
CREATE FUNCTION seconds_until_free(
    p_limit rate_limits, p_maximum integer, p_now timestamptz
) RETURNS integer
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_excess bigint := sum_of_slices(p_limit.reserved) + sum_of_slices(p_limit.failures)
        - p_maximum + 1;
    v_slice_seconds numeric := p_limit.window_seconds / 10.0;
    v_free_at numeric;
BEGIN
    IF p_limit.locked_until > p_now THEN
        RETURN greatest(1, ceil(extract(epoch FROM p_limit.locked_until - p_now)));
    END IF;
    FOR i IN 1..11 LOOP
        v_excess := v_excess - p_limit.reserved[i] - p_limit.failures[i];
        IF v_excess <= 0 THEN
            -- Slice i falls out when i more slices have begun.
            v_free_at := (p_limit.slice + i) * v_slice_seconds;
            RETURN greatest(1, ceil(v_free_at - extract(epoch FROM p_now)));
        END IF;
    END LOOP;
    RETURN greatest(1, p_limit.window_seconds);
END;
$$;

-- Counts one more for each subject if all of them have room; if one has none, counts for none.
--
-- p_settled: what is counted will be settled as a failure or vanish (a login), so that reservations
-- alone hold back for a moment only; otherwise it counts for good (a registration).
-- `slice` is to be given back to settle_attempt. `note` is true at most once a minute for a
-- subject that refuses: then the refusal is worth an event.
--
-- Somebody who is locked out is refused before rows are made for what else is asked about: else a
-- stranger could fill the table, an e-mail a row.
CREATE FUNCTION reserve_attempt(
    p_keys text[], p_maxima integer[], p_window_seconds integer, p_settled boolean
) RETURNS TABLE (allowed boolean, retry_after_seconds integer, slice bigint, note boolean)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_refusing text[];
    v_seconds integer;
    v_noted bigint;
BEGIN
    SELECT array_agg(r.key), max(seconds_until_free(r, 0, v_now))
    INTO v_refusing, v_seconds
    FROM rate_limits r
    WHERE r.key = ANY (p_keys) AND r.locked_until > v_now;

    IF v_refusing IS NULL THEN
        v_now := lock_limits(p_keys, p_window_seconds);
        SELECT array_agg(r.key),
               max(CASE WHEN p_settled AND (r.locked_until > v_now) IS NOT TRUE THEN 1
                   ELSE seconds_until_free(r, wanted.maximum, v_now) END)
        INTO v_refusing, v_seconds
        FROM unnest(p_keys, p_maxima) AS wanted (key, maximum)
        JOIN rate_limits r ON r.key = wanted.key
        WHERE r.locked_until > v_now
           OR sum_of_slices(r.reserved) + sum_of_slices(r.failures) >= wanted.maximum;
    END IF;

    IF v_refusing IS NOT NULL THEN
        UPDATE rate_limits r SET noted_at = v_now
        WHERE r.key = ANY (v_refusing)
          AND (r.noted_at IS NULL OR r.noted_at < v_now - interval '1 minute');
        GET DIAGNOSTICS v_noted = ROW_COUNT;
        RETURN QUERY SELECT false, v_seconds, NULL::bigint, v_noted > 0;
        RETURN;
    END IF;

    UPDATE rate_limits r SET reserved[11] = r.reserved[11] + 1 WHERE r.key = ANY (p_keys);
    RETURN QUERY
        SELECT true, NULL::integer, max(r.slice), false FROM rate_limits r WHERE r.key = ANY (p_keys);
END;
$$;

-- Turns a reservation into what it came to: 'failure', 'success' or 'release' (nothing was tried).
--
-- Failures that reach the maximum lock the subject out; each further lockout within a day is twice
-- as long, up to the longest. A success clears the failures of the subjects in p_clear_keys.
-- Returns the subjects that this has locked, with the seconds. Gateways are woken where an address is
-- among them, and only then: commits that notify queue for one another.
CREATE FUNCTION settle_attempt(
    p_keys text[],
    p_maxima integer[],
    p_window_seconds integer,
    p_slice bigint,
    p_outcome text,
    p_clear_keys text[],
    p_lockout_seconds integer,
    p_lockout_max_seconds integer
) RETURNS TABLE (key text, seconds integer)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz := lock_limits(p_keys, p_window_seconds);
BEGIN
    UPDATE rate_limits r
    SET reserved[11 - (r.slice - p_slice)] =
            greatest(0, r.reserved[11 - (r.slice - p_slice)] - 1)
    WHERE r.key = ANY (p_keys) AND r.slice - p_slice BETWEEN 0 AND 10;

    IF p_outcome = 'success' THEN
        UPDATE rate_limits r SET failures = array_fill(0, ARRAY[11])
        WHERE r.key = ANY (p_clear_keys);
    ELSIF p_outcome = 'failure' THEN
        UPDATE rate_limits r SET failures[11] = r.failures[11] + 1 WHERE r.key = ANY (p_keys);
        RETURN QUERY
        UPDATE rate_limits r
        SET lockouts = counted.lockouts,
            locked_at = v_now,
            locked_until = v_now + make_interval(secs => counted.seconds),
            failures = array_fill(0, ARRAY[11])
        FROM (
            SELECT
                l.key,
                next_lockout(l, v_now) AS lockouts,
                lockout_length(
                    next_lockout(l, v_now), p_lockout_seconds, p_lockout_max_seconds
                ) AS seconds
            FROM unnest(p_keys, p_maxima) AS wanted (key, maximum)
            JOIN rate_limits l ON l.key = wanted.key
            WHERE sum_of_slices(l.failures) >= wanted.maximum
        ) counted
        WHERE r.key = counted.key
        RETURNING r.key, counted.seconds;
        PERFORM pg_notify('gatehouse_lockouts', '')
        FROM rate_limits r
        WHERE r.key = ANY (p_keys) AND r.key LIKE 'login:ip:%' AND r.locked_at = v_now;
    END IF;
END;
$$;

-- A failure that nothing was reserved for. It is all that a gateway may say of attempts: whoever has
-- taken one over clears nobody's failures with it.
CREATE FUNCTION count_failure(
    p_keys text[],
    p_maxima integer[],
    p_window_seconds integer,
    p_lockout_seconds integer,
    p_lockout_max_seconds integer
) RETURNS TABLE (key text, seconds integer)
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT s.key, s.seconds
    FROM settle_attempt(
        p_keys, p_maxima, p_window_seconds, NULL, 'failure', '{}', p_lockout_seconds,
        p_lockout_max_seconds
    ) s
$$;
