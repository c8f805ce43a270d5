-- Groups and direct channels: who is in them, and what their logs say of it.
--
-- Every function locks in the order of the house: user rows, then the channel's row, whose lock makes
-- membership, ownership and the log change together and one after the other. Each answers with a
-- verdict, and changes nothing unless the verdict says so.

-- One direct channel a pair, by construction.
ALTER TABLE chat_channels
    ADD COLUMN direct_low bigint,            -- direct only: the smaller user id of the two
    ADD COLUMN direct_high bigint,
    ADD CONSTRAINT chat_channels_direct_pair CHECK (
        (kind = 'direct') = (direct_low IS NOT NULL AND direct_high IS NOT NULL)
        AND direct_low < direct_high
    );

CREATE UNIQUE INDEX chat_channels_one_direct_a_pair ON chat_channels (direct_low, direct_high)
    WHERE kind = 'direct';

-- A user's channels are listed without reading everybody's.
CREATE INDEX chat_channels_of_everybody ON chat_channels (id) WHERE kind = 'global';

-- An operator who erases is named in the audit trail, not in the log.
ALTER TABLE chat_messages
    ALTER COLUMN sender_id DROP NOT NULL,
    ADD CONSTRAINT chat_messages_sender_known CHECK (sender_id IS NOT NULL OR kind = 'deleted');

-- Wakes every gateway: "read the members of these channels again", whoever changed them.
CREATE FUNCTION notify_members(p_channel_ids bigint[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_payload text := array_to_string(p_channel_ids, ' ');
BEGIN
    IF v_payload <> '' THEN
        PERFORM pg_notify(
            'gatehouse_members',
            CASE WHEN octet_length(v_payload) < 7900 THEN v_payload ELSE '*' END
        );
    END IF;
END;
$$;

-- Who joins may read at once without anybody being told; who goes, or is moved, must be cut off.
CREATE FUNCTION on_members_gone() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    PERFORM notify_members(ARRAY(SELECT DISTINCT o.channel_id FROM old_rows o ORDER BY 1));
    RETURN NULL;
END;
$$;

CREATE TRIGGER members_updated AFTER UPDATE ON chat_members
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION on_members_gone();

CREATE TRIGGER members_deleted AFTER DELETE ON chat_members
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION on_members_gone();

-- Puts one entry that is no message into the log of a channel whose row is locked.
CREATE FUNCTION append_entry(
    p_channel_id bigint, p_kind text, p_user_id bigint, p_target_seq bigint, p_request_id text
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_seq bigint;
    v_stamp timestamptz;
BEGIN
    UPDATE chat_channels c
    SET last_seq = c.last_seq + 1, last_entry_at = greatest(clock_timestamp(), c.last_entry_at)
    WHERE c.id = p_channel_id
    RETURNING c.last_seq, c.last_entry_at INTO v_seq, v_stamp;
    INSERT INTO chat_messages
        (channel_id, seq, kind, sender_id, target_seq, request_id, created_at)
    VALUES (p_channel_id, v_seq, p_kind, p_user_id, p_target_seq, p_request_id, v_stamp);
    PERFORM notify_log(ARRAY[p_channel_id], v_stamp);
END;
$$;

-- A group whose log begins with its owner's joining.
CREATE FUNCTION create_group(p_owner_id bigint, p_name text, p_request_id text) RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_id bigint;
BEGIN
    INSERT INTO chat_channels (kind, name, created_by) VALUES ('group', p_name, p_owner_id)
    RETURNING id INTO v_id;
    INSERT INTO chat_members (channel_id, user_id, role) VALUES (v_id, p_owner_id, 'owner');
    PERFORM append_entry(v_id, 'joined', p_owner_id, NULL, p_request_id);
    RETURN v_id;
END;
$$;

-- The one channel of two people; no row where the other is not there. However many ask at once, the
-- unique index lets one of them make it, and the others wait for it and then find it.
CREATE FUNCTION open_direct(p_user_id bigint, p_other_id bigint)
RETURNS TABLE (channel_id bigint, created boolean)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_low bigint := least(p_user_id, p_other_id);
    v_high bigint := greatest(p_user_id, p_other_id);
    v_id bigint;
BEGIN
    PERFORM u.id FROM users u
    WHERE u.id IN (v_low, v_high) AND u.disabled_at IS NULL
    ORDER BY u.id
    FOR KEY SHARE;
    IF NOT EXISTS (
        SELECT FROM users u WHERE u.id = p_other_id AND u.disabled_at IS NULL
    ) THEN
        RETURN;
    END IF;
    INSERT INTO chat_channels (kind, created_by, direct_low, direct_high)
    VALUES ('direct', p_user_id, v_low, v_high)
    ON CONFLICT (direct_low, direct_high) WHERE kind = 'direct' DO NOTHING
    RETURNING id INTO v_id;
    IF v_id IS NULL THEN
        RETURN QUERY SELECT c.id, false FROM chat_channels c
        WHERE c.kind = 'direct' AND c.direct_low = v_low AND c.direct_high = v_high;
        RETURN;
    END IF;
    INSERT INTO chat_members (channel_id, user_id) VALUES (v_id, v_low), (v_id, v_high);
    RETURN QUERY SELECT v_id, true;
END;
$$;

-- What somebody is to a channel, its row locked: null where he may not see it.
CREATE FUNCTION lock_channel_as(p_user_id bigint, p_channel_id bigint)
RETURNS TABLE (kind text, role text)
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM c.id FROM chat_channels c WHERE c.id = p_channel_id FOR NO KEY UPDATE;
    RETURN QUERY
        SELECT c.kind, m.role
        FROM chat_channels c
        LEFT JOIN chat_members m ON m.channel_id = c.id AND m.user_id = p_user_id
        WHERE c.id = p_channel_id AND (c.kind = 'global' OR m.role IS NOT NULL);
END;
$$;

-- Verdicts: added, already, not_found (the channel), no_such_user, forbidden, full.
CREATE FUNCTION add_member(
    p_actor_id bigint, p_channel_id bigint, p_user_id bigint, p_most integer, p_request_id text
) RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_kind text;
    v_role text;
BEGIN
    -- The user's row comes before the channel's, as everywhere; it must not go meanwhile.
    PERFORM u.id FROM users u WHERE u.id = p_user_id FOR KEY SHARE;
    SELECT l.kind, l.role INTO v_kind, v_role FROM lock_channel_as(p_actor_id, p_channel_id) l;
    IF NOT FOUND THEN
        RETURN 'not_found';
    ELSIF v_kind <> 'group' OR v_role <> 'owner' THEN
        RETURN 'forbidden';
    ELSIF NOT EXISTS (
        SELECT FROM users u WHERE u.id = p_user_id AND u.disabled_at IS NULL
    ) THEN
        RETURN 'no_such_user';
    ELSIF EXISTS (
        SELECT FROM chat_members m WHERE m.channel_id = p_channel_id AND m.user_id = p_user_id
    ) THEN
        RETURN 'already';
    ELSIF (SELECT count(*) FROM chat_members m WHERE m.channel_id = p_channel_id) >= p_most THEN
        RETURN 'full';
    END IF;
    INSERT INTO chat_members (channel_id, user_id) VALUES (p_channel_id, p_user_id);
    PERFORM append_entry(p_channel_id, 'joined', p_user_id, NULL, p_request_id);
    RETURN 'added';
END;
$$;

-- Taking somebody out, or leaving. Verdicts: removed, not_found (the channel, or no such member),
-- forbidden. Whoever has been there longest inherits from an owner who leaves.
CREATE FUNCTION remove_member(
    p_actor_id bigint, p_channel_id bigint, p_user_id bigint, p_request_id text
) RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_kind text;
    v_role text;
    v_removed_role text;
BEGIN
    SELECT l.kind, l.role INTO v_kind, v_role FROM lock_channel_as(p_actor_id, p_channel_id) l;
    IF NOT FOUND THEN
        RETURN 'not_found';
    ELSIF v_kind <> 'group' OR (p_actor_id <> p_user_id AND v_role <> 'owner') THEN
        RETURN 'forbidden';
    END IF;
    DELETE FROM chat_members m
    WHERE m.channel_id = p_channel_id AND m.user_id = p_user_id
    RETURNING m.role INTO v_removed_role;
    IF NOT FOUND THEN
        RETURN 'not_found';
    END IF;
    IF v_removed_role = 'owner' THEN
        UPDATE chat_members SET role = 'owner'
        WHERE channel_id = p_channel_id AND user_id = (
            SELECT m.user_id FROM chat_members m
            WHERE m.channel_id = p_channel_id
            ORDER BY m.joined_at, m.user_id
            LIMIT 1
        );
    END IF;
    PERFORM append_entry(p_channel_id, 'left', p_user_id, NULL, p_request_id);
    RETURN 'removed';
END;
$$;

-- Erases the content of a message and says so in the log, once however often it is asked. Without an
-- actor it is an operator who asks. Verdicts: erased, already, not_found, forbidden.
CREATE FUNCTION erase_message(
    p_actor_id bigint, p_channel_id bigint, p_seq bigint, p_request_id text
) RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_role text;
    v_sender_id bigint;
    v_content text;
BEGIN
    IF p_actor_id IS NULL THEN
        PERFORM c.id FROM chat_channels c WHERE c.id = p_channel_id FOR NO KEY UPDATE;
    ELSE
        SELECT l.role INTO v_role FROM lock_channel_as(p_actor_id, p_channel_id) l;
    END IF;
    IF NOT FOUND THEN
        RETURN 'not_found';
    END IF;
    SELECT e.sender_id, e.content INTO v_sender_id, v_content
    FROM chat_messages e
    WHERE e.channel_id = p_channel_id AND e.seq = p_seq AND e.kind = 'message';
    IF NOT FOUND THEN
        RETURN 'not_found';
    ELSIF p_actor_id <> v_sender_id AND v_role IS DISTINCT FROM 'owner' THEN
        RETURN 'forbidden';
    ELSIF v_content IS NULL THEN
        RETURN 'already';
    END IF;
    UPDATE chat_messages SET content = NULL WHERE channel_id = p_channel_id AND seq = p_seq;
    PERFORM append_entry(p_channel_id, 'deleted', p_actor_id, p_seq, p_request_id);
    RETURN 'erased';
END;
$$;
