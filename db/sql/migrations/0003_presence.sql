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

-- Spends those of the presented tickets that are good, each at most once, whoever else presents
-- them at this moment, and writes down the connections that they open.
--
-- First every account is locked, in the order of the lock keys: two instances that admit sockets
-- of one account count one after the other, and two that were given the same tickets cannot
-- deadlock over them. The UPDATE then decides by the tickets' latest version. Of a ticket that
-- stands in the batch more than once, the first place gets it. Last, accounts with more sockets
-- than they may have lose their oldest ones; whoever serves those is told by a notification, and
-- finds out by its sweep should that get lost.
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
    now timestamptz
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    v_user_ids bigint[] := ARRAY(
        SELECT DISTINCT s.user_id
        FROM ws_tickets t JOIN user_sessions s ON s.id = t.session_id
        WHERE t.ticket_hash = ANY (p_ticket_hashes)
    );
    v_replaced text;
BEGIN
    -- Not in the order of the accounts, for lock keys may collide.
    PERFORM pg_advisory_xact_lock(72013002, k.key)
    FROM (SELECT DISTINCT hashint8(u) AS key FROM unnest(v_user_ids) AS u ORDER BY 1) k;

    RETURN QUERY
    WITH presented AS (
        SELECT DISTINCT ON (p.ticket_hash) p.ticket_hash, p.ip, p.position
        FROM unnest(p_ticket_hashes, p_ips) WITH ORDINALITY AS p (ticket_hash, ip, position)
        ORDER BY p.ticket_hash, p.position
    ), spent AS (
        UPDATE ws_tickets t
        SET consumed_at = clock_timestamp()
        FROM presented p, live_sessions s
        WHERE t.ticket_hash = p.ticket_hash
          AND s.session_id = t.session_id
          AND t.consumed_at IS NULL
          AND t.expires_at > clock_timestamp()
        RETURNING
            p.position, p.ip, s.session_id, s.user_id, s.display_name, s.is_admin,
            t.request_id, t.client_version, t.client_content_version
    ), numbered AS (
        -- The id is drawn here, so that the row that is returned knows its connection.
        SELECT spent.*, nextval('gateway_connections_id_seq') AS connection_id
        FROM spent
    ), opened AS (
        INSERT INTO gateway_connections (id, instance_id, session_id, user_id, ip)
        OVERRIDING SYSTEM VALUE
        SELECT n.connection_id, p_instance_id, n.session_id, n.user_id, n.ip
        FROM numbered n
    )
    SELECT
        n.position, n.connection_id, n.session_id, n.user_id, n.display_name, n.is_admin,
        n.request_id, n.client_version, n.client_content_version, clock_timestamp()
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
        INSERT INTO gateway_instances (id) VALUES (p_instance_id);
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
