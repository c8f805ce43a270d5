-- Who is connected where, so that an account's sockets are counted over all instances.

CREATE TABLE gateway_instances (
    id text PRIMARY KEY,                     -- "<host>-<random>", a new one for every process
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE gateway_connections (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance_id text NOT NULL REFERENCES gateway_instances ON DELETE CASCADE,
    session_id bigint NOT NULL,              -- no foreign keys: a row lives as long as its socket
    user_id bigint NOT NULL,
    ip inet,
    connected_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX gateway_connections_by_instance ON gateway_connections (instance_id);
CREATE INDEX gateway_connections_by_user ON gateway_connections (user_id, id);

-- The sockets that count: those of instances that were heard of lately.
CREATE VIEW present_connections AS
SELECT c.id, c.instance_id, c.session_id, c.user_id, c.ip, c.connected_at
FROM gateway_connections c
JOIN gateway_instances i ON i.id = c.instance_id
WHERE i.heartbeat_at > clock_timestamp() - interval '15 seconds';

-- What a gateway says of itself every few seconds: it lives, and these are its sockets. Rows of
-- sockets that are gone are dropped; the answer names the sockets whose row is gone, because a
-- newer connection took their place. An instance that was taken for dead, and so has no row any
-- more, writes itself and its sockets down again.
CREATE FUNCTION report_presence(
    p_instance_id text, p_connection_ids bigint[], p_session_ids bigint[], p_user_ids bigint[],
    p_newest_id bigint
) RETURNS TABLE (connection_id bigint)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    -- Whoever was killed never said goodbye. Long after it stopped counting: an instance that was
    -- only slow has written itself down again by then.
    DELETE FROM gateway_instances
    WHERE id IN (
        SELECT i.id FROM gateway_instances i
        WHERE i.heartbeat_at < clock_timestamp() - interval '5 minutes' AND i.id <> p_instance_id
        FOR UPDATE SKIP LOCKED
    );

    UPDATE gateway_instances SET heartbeat_at = clock_timestamp() WHERE id = p_instance_id;
    IF NOT FOUND THEN
        -- Two of its connections may be the first at once.
        INSERT INTO gateway_instances (id) VALUES (p_instance_id) ON CONFLICT DO NOTHING;
        INSERT INTO gateway_connections (id, instance_id, session_id, user_id)
        OVERRIDING SYSTEM VALUE
        SELECT c.id, p_instance_id, c.session_id, c.user_id
        FROM unnest(p_connection_ids, p_session_ids, p_user_ids) AS c (id, session_id, user_id)
        ON CONFLICT DO NOTHING;
        RETURN;
    END IF;

    -- Up to the newest that it knows: a younger row belongs to a socket that is just being opened.
    DELETE FROM gateway_connections c
    WHERE c.instance_id = p_instance_id
      AND c.id <= p_newest_id
      AND c.id <> ALL (p_connection_ids);

    RETURN QUERY
        SELECT mine.id FROM unnest(p_connection_ids) AS mine (id)
        WHERE NOT EXISTS (SELECT FROM gateway_connections c WHERE c.id = mine.id);
END;
$$;
