-- What the metrics are read from.

-- What a gateway process says of itself with its heartbeat: wsgateway/stats.py.
ALTER TABLE gateway_instances ADD COLUMN stats jsonb NOT NULL DEFAULT '{}';

-- The seq of a channel's first entry at or after a time, or last_seq + 1 where there is none.
-- created_at never runs backwards within a channel, so halving finds it in some twenty probes of
-- the primary key, however long the log is: there need be no index on time, which every write would
-- have to maintain. What retention has taken is older than anything that is left.
CREATE FUNCTION first_seq_since(
    p_channel_id bigint, p_last_seq bigint, p_since timestamptz
) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_low bigint := 1;
    v_high bigint := p_last_seq + 1;
    v_middle bigint;
    v_created_at timestamptz;
BEGIN
    WHILE v_low < v_high LOOP
        v_middle := v_low + (v_high - v_low) / 2;
        SELECT m.created_at INTO v_created_at FROM chat_messages m
        WHERE m.channel_id = p_channel_id AND m.seq = v_middle;
        IF FOUND AND v_created_at >= p_since THEN
            v_high := v_middle;
        ELSE
            v_low := v_middle + 1;
        END IF;
    END LOOP;
    RETURN v_low;
END;
$$;
