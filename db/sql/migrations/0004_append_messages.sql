-- The write path of the chat, with its limits: one function, called once a batch in autocommit, so
-- that no client runs while its locks are held.

-- Wakes every gateway: "these channels have grown since". The payload is a hint, never the data;
-- one that would not fit becomes '*', look at everything.
CREATE FUNCTION notify_log(p_channel_ids bigint[], p_since timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_payload text;
BEGIN
    SELECT string_agg(c.id || ':' || c.last_seq, ' ' ORDER BY c.id) INTO v_payload
    FROM chat_channels c
    WHERE c.id = ANY (p_channel_ids) AND c.last_entry_at >= p_since;
    IF v_payload IS NOT NULL THEN
        PERFORM pg_notify(
            'gatehouse_log', CASE WHEN octet_length(v_payload) < 7900 THEN v_payload ELSE '*' END
        );
    END IF;
END;
$$;

-- Appends a batch of messages, one row of the answer a message, in one transaction.
--
-- First the limit rows are locked in key order, then the channel rows in id order; only then are the
-- time taken and the facts read, in statements of their own with fresh snapshots. Verdicts fall in
-- this order: session, membership, repeat, mute, lockout, limit. A repeat costs nothing, whatever
-- the limits say, and gives the first one's seq; the same id with other content is a conflict. An
-- erased message can no longer be compared, so its repeat counts as the same.
--
-- An account that goes on after its limit is locked out, each time within a day for twice as long;
-- an address is refused but never locked, for neighbours share it.
CREATE FUNCTION append_messages(
    p_session_ids bigint[],
    p_channel_ids bigint[],
    p_client_msg_ids uuid[],
    p_contents text[],
    p_request_ids text[],
    p_address_keys text[],
    p_window_seconds integer,
    p_max_per_account integer,
    p_max_per_address integer,
    p_lockout_seconds integer,
    p_lockout_max_seconds integer
) RETURNS TABLE (
    "position" bigint,          -- 1-based, of the message in the arrays
    verdict text,               -- stored, repeat, conflict, session_ended, not_found, muted,
                                -- locked_out_now (the first that went on after the account's
                                -- limit), locked_out, address_full
    seq bigint,                 -- stored and repeat
    created_at timestamptz,     -- stored and repeat
    sender_id bigint,
    sender_name text,
    retry_after_seconds integer -- muted and the last three
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    v_keys text[] := ARRAY(
        SELECT DISTINCT 'chat:account:' || s.user_id
        FROM user_sessions s WHERE s.id = ANY (p_session_ids)
        UNION
        SELECT unnest(p_address_keys)
    );
    v_size integer := cardinality(p_session_ids);
    v_now timestamptz;
BEGIN
    PERFORM lock_limit_rows(v_keys, p_window_seconds);
    PERFORM c.id FROM chat_channels c
    WHERE c.id = ANY (p_channel_ids)
    ORDER BY c.id
    FOR NO KEY UPDATE;
    -- After the locks: a transaction that waited must neither stamp its messages with an older time
    -- than those it waited for, nor count them into an older slice.
    v_now := refresh_limits(v_keys, p_window_seconds);

    RETURN QUERY
    WITH facts AS (
        SELECT
            i.position, i.channel_id, i.client_msg_id, i.content, i.request_id, i.address_key,
            s.user_id, s.display_name, s.muted_until,
            account.locked_until,
            account.room AS account_room,
            address.room AS address_room,
            -- Both only where the batch may use up the room: they take time.
            CASE WHEN account.room < v_size THEN
                lockout_length(
                    next_lockout(account.row, v_now), p_lockout_seconds, p_lockout_max_seconds
                )
            END AS lockout_seconds,
            CASE WHEN address.room < v_size THEN
                seconds_until_free(address.row, p_max_per_address, v_now)
            END AS address_wait,
            c.last_seq,
            greatest(v_now, c.last_entry_at) AS stamp,
            -- Not EXISTS, which may be answered by reading all members into a hash table first.
            c.kind = 'global' OR (
                SELECT true FROM chat_members m
                WHERE m.channel_id = i.channel_id AND m.user_id = s.user_id
            ) AS may_write,
            earlier.seq AS earlier_seq,
            earlier.content AS earlier_content,
            earlier.created_at AS earlier_created_at,
            first_value(i.position) OVER same AS first_position,
            first_value(i.content) OVER same AS first_content
        FROM unnest(
            p_session_ids, p_channel_ids, p_client_msg_ids, p_contents, p_request_ids,
            p_address_keys
        ) WITH ORDINALITY AS i (
            session_id, channel_id, client_msg_id, content, request_id, address_key, position
        )
        -- OFFSET 0 keeps each of these an index probe a message. As joins they would be planned by
        -- the size that the tables had when this connection first came here: all messages of a room
        -- read for each batch, until statistics come.
        LEFT JOIN LATERAL (
            SELECT l.user_id, l.display_name, l.muted_until
            FROM live_sessions l WHERE l.session_id = i.session_id
            OFFSET 0
        ) s ON true
        LEFT JOIN LATERAL (
            SELECT r AS row, r.locked_until, p_max_per_account - sum_of_slices(r.reserved) AS room
            FROM rate_limits r WHERE r.key = 'chat:account:' || s.user_id
            OFFSET 0
        ) account ON true
        LEFT JOIN LATERAL (
            SELECT r AS row, p_max_per_address - sum_of_slices(r.reserved) AS room
            FROM rate_limits r WHERE r.key = i.address_key
            OFFSET 0
        ) address ON true
        LEFT JOIN LATERAL (
            SELECT ch.kind, ch.last_seq, ch.last_entry_at
            FROM chat_channels ch WHERE ch.id = i.channel_id
            OFFSET 0
        ) c ON true
        LEFT JOIN LATERAL (
            SELECT e.seq, e.content, e.created_at
            FROM chat_messages e
            WHERE e.sender_id = s.user_id
              AND e.channel_id = i.channel_id
              AND e.client_msg_id = i.client_msg_id
            OFFSET 0
        ) earlier ON true
        WINDOW same AS (
            PARTITION BY s.user_id, i.channel_id, i.client_msg_id ORDER BY i.position
        )
    ), sifted AS (
        -- null: nothing speaks against it but perhaps a limit.
        SELECT
            f.*,
            CASE
                WHEN f.user_id IS NULL THEN 'session_ended'
                WHEN f.may_write IS NOT TRUE THEN 'not_found'
                WHEN f.earlier_seq IS NOT NULL AND f.earlier_content IS DISTINCT FROM f.content
                    AND f.earlier_content IS NOT NULL THEN 'conflict'
                WHEN f.earlier_seq IS NOT NULL THEN 'repeat'
                WHEN f.muted_until > v_now THEN 'muted'
                WHEN f.position <> f.first_position AND f.content <> f.first_content
                    THEN 'conflict'
                WHEN f.position <> f.first_position THEN 'same as the first'
                WHEN f.locked_until > v_now THEN 'locked_out'
            END AS objection
        FROM facts f
    ), placed AS (
        SELECT
            x.position, x.address_key, x.address_room,
            row_number() OVER (PARTITION BY x.user_id ORDER BY x.position)
                - greatest(x.account_room, 0) AS beyond_account
        FROM sifted x WHERE x.objection IS NULL
    ), within_address AS (
        SELECT w.position
        FROM (
            SELECT
                p.*,
                row_number() OVER (PARTITION BY p.address_key ORDER BY p.position) AS place
            FROM placed p WHERE p.beyond_account <= 0
        ) w
        WHERE w.place <= w.address_room
    ), decided AS (
        SELECT
            s.*,
            CASE
                WHEN s.objection IS NOT NULL THEN s.objection
                WHEN wh.position IS NOT NULL THEN 'stored'
                WHEN p.beyond_account <= 0 THEN 'address_full'
                WHEN p.beyond_account = 1 THEN 'locked_out_now'
                ELSE 'locked_out'
            END AS decision
        FROM sifted s
        LEFT JOIN placed p USING (position)
        LEFT JOIN within_address wh USING (position)
    ), numbered AS (
        SELECT
            d.position, d.channel_id, d.stamp,
            d.last_seq + row_number() OVER (PARTITION BY d.channel_id ORDER BY d.position) AS seq
        FROM decided d
        WHERE d.decision = 'stored'
    ), stored AS (
        INSERT INTO chat_messages
            (channel_id, seq, sender_id, content, client_msg_id, request_id, created_at)
        SELECT n.channel_id, n.seq, d.user_id, d.content, d.client_msg_id, d.request_id, n.stamp
        FROM numbered n JOIN decided d USING (position)
        ORDER BY n.channel_id, n.seq
    ), moved AS (
        UPDATE chat_channels c
        SET last_seq = n.last_seq, last_entry_at = n.stamp
        FROM (
            SELECT channel_id, max(seq) AS last_seq, max(stamp) AS stamp
            FROM numbered GROUP BY channel_id
        ) n
        WHERE c.id = n.channel_id
    ), counted AS (
        UPDATE rate_limits r
        SET reserved[11] = r.reserved[11] + n.accepted,
            lockouts = CASE WHEN n.went_on THEN next_lockout(r, v_now) ELSE r.lockouts END,
            locked_at = CASE WHEN n.went_on THEN v_now ELSE r.locked_at END,
            locked_until = CASE WHEN n.went_on
                THEN v_now + make_interval(secs => n.lockout_seconds) ELSE r.locked_until END
        FROM (
            SELECT
                'chat:account:' || d.user_id AS key,
                count(*) FILTER (WHERE d.decision = 'stored')::integer AS accepted,
                bool_or(d.decision = 'locked_out_now') AS went_on,
                max(d.lockout_seconds) AS lockout_seconds
            FROM decided d WHERE d.user_id IS NOT NULL GROUP BY d.user_id
            UNION ALL
            SELECT
                d.address_key,
                count(*) FILTER (WHERE d.decision = 'stored')::integer,
                false,
                NULL
            FROM decided d GROUP BY d.address_key
        ) n
        WHERE r.key = n.key AND (n.accepted > 0 OR n.went_on)
    )
    SELECT
        d.position,
        CASE
            WHEN d.decision <> 'same as the first' THEN d.decision
            WHEN f.decision = 'stored' THEN 'repeat'
            WHEN f.decision = 'locked_out_now' THEN 'locked_out'
            ELSE f.decision
        END,
        coalesce(d.earlier_seq, n.seq),
        coalesce(d.earlier_created_at, n.stamp),
        d.user_id,
        d.display_name,
        CASE
            WHEN d.decision = 'muted'
                THEN greatest(1, ceil(extract(epoch FROM d.muted_until - v_now)))::integer
            WHEN f.objection = 'locked_out'
                THEN greatest(1, ceil(extract(epoch FROM d.locked_until - v_now)))::integer
            WHEN f.decision IN ('locked_out_now', 'locked_out') THEN d.lockout_seconds
            WHEN f.decision = 'address_full' THEN f.address_wait
        END
    FROM decided d
    -- What became of the first place decides about the same message's later places.
    JOIN decided f ON f.position = CASE
        WHEN d.decision = 'same as the first' THEN d.first_position ELSE d.position END
    LEFT JOIN numbered n ON n.position = f.position
    ORDER BY d.position;

    PERFORM notify_log(p_channel_ids, v_now);
END;
$$;
