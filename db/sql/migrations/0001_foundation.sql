-- People, their sessions and tokens, the tickets for the socket, and the chat log.
-- Times are timestamptz by the database's clock; only hashes of tokens and tickets are stored.

-- Whatever a later migration creates is closed until roles.sql opens it.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

CREATE TABLE users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text NOT NULL,                     -- as it was given at registration
    email_key text NOT NULL,                 -- NFKC and case-folded: what makes two addresses one
    password_hash text NOT NULL,
    display_name text NOT NULL,
    is_admin boolean NOT NULL DEFAULT false,
    disabled_at timestamptz,
    muted_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT users_email_key_unique UNIQUE (email_key)
);

CREATE INDEX users_by_display_name ON users (display_name);

CREATE TABLE user_sessions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,         -- absolute end
    idle_expires_at timestamptz NOT NULL,    -- moves along with last_seen_at
    revoked_at timestamptz,
    revoked_reason text,
    ip inet,
    user_agent text,
    client_version text,                     -- the latest that login, refresh or ticket named
    client_content_version text,
    drain_event_id bigint,
    drain_deadline_at timestamptz,
    -- Set when its drain has completed, and never taken back: from then on no clock, however wrong,
    -- lets the session back in. It is not revoked_at: a drained session may come back once through
    -- its refresh token, and whatever revokes sessions must be able to end that too, down to a plain
    -- UPDATE ... WHERE revoked_at IS NULL.
    drained_at timestamptz
);

-- A user's sessions are listed, counted and ended together.
CREATE INDEX user_sessions_by_user ON user_sessions (user_id, id);

-- The one definition of "this session lives". Every query that cares joins this view, so a timer
-- that fails to fire can never keep somebody in.
CREATE VIEW live_sessions AS
SELECT
    s.id AS session_id,
    s.user_id,
    s.created_at,
    s.last_seen_at,
    s.expires_at,
    s.idle_expires_at,
    s.ip,
    s.user_agent,
    s.client_version,
    s.client_content_version,
    s.drain_event_id,
    s.drain_deadline_at,
    u.email,
    u.display_name,
    u.is_admin,
    u.muted_until
FROM user_sessions s
JOIN users u ON u.id = s.user_id
WHERE s.revoked_at IS NULL
  AND s.expires_at > clock_timestamp()
  AND s.idle_expires_at > clock_timestamp()
  AND u.disabled_at IS NULL
  AND s.drained_at IS NULL
  AND (s.drain_deadline_at IS NULL OR s.drain_deadline_at > clock_timestamp());

CREATE TABLE refresh_tokens (
    token_hash bytea PRIMARY KEY,
    session_id bigint NOT NULL REFERENCES user_sessions ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    spent_at timestamptz,
    successor_nonce bytea,                   -- erased when the grace is over
    successor_hash bytea,
    CONSTRAINT refresh_tokens_spent_has_successor
        CHECK ((spent_at IS NULL) = (successor_hash IS NULL))
);

CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);

-- Housekeeping erases nonces whose grace is over; there are few at any time.
CREATE INDEX refresh_tokens_with_nonce ON refresh_tokens (spent_at)
    WHERE successor_nonce IS NOT NULL;

CREATE TABLE ws_tickets (
    ticket_hash bytea PRIMARY KEY,
    session_id bigint NOT NULL REFERENCES user_sessions ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    consumed_at timestamptz,
    request_id text NOT NULL,
    client_version text,
    client_content_version text
);

CREATE INDEX ws_tickets_by_session ON ws_tickets (session_id);
CREATE INDEX ws_tickets_by_expiry ON ws_tickets (expires_at);

CREATE TABLE chat_channels (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,                      -- global: everybody; group, direct: its members
    name text,
    created_by bigint REFERENCES users ON DELETE SET NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seq bigint NOT NULL DEFAULT 0,      -- taken from here, under this row's lock: no gaps
    last_entry_at timestamptz,               -- so that created_at never runs backwards in a channel
    CONSTRAINT chat_channels_kind CHECK (kind IN ('global', 'group', 'direct'))
);

CREATE TABLE chat_members (
    channel_id bigint NOT NULL REFERENCES chat_channels ON DELETE CASCADE,
    user_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    role text NOT NULL DEFAULT 'member',
    joined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (channel_id, user_id),
    CONSTRAINT chat_members_role CHECK (role IN ('owner', 'member'))
);

CREATE INDEX chat_members_by_user ON chat_members (user_id, channel_id);

-- A channel's ordered log. It has no foreign keys: rows come only from append_messages and its
-- like, which have the channel locked and the sender read; a check a row would halve the writes.
CREATE TABLE chat_messages (
    channel_id bigint NOT NULL,
    seq bigint NOT NULL,
    kind text NOT NULL DEFAULT 'message',
    sender_id bigint NOT NULL,               -- who wrote, deleted, joined or left
    content text,                            -- messages only; null once erased
    client_msg_id uuid,                      -- messages only
    target_seq bigint,                       -- deleted only: the entry that was erased
    request_id text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (channel_id, seq),
    CONSTRAINT chat_messages_kind CHECK (kind IN ('message', 'deleted', 'joined', 'left')),
    CONSTRAINT chat_messages_client_msg_id_for_messages
        CHECK ((client_msg_id IS NOT NULL) = (kind = 'message')),
    CONSTRAINT chat_messages_target_for_deleted
        CHECK ((target_seq IS NOT NULL) = (kind = 'deleted'))
);

-- A repeated send is found here, however late it comes.
CREATE UNIQUE INDEX chat_messages_once ON chat_messages (sender_id, channel_id, client_msg_id)
    WHERE client_msg_id IS NOT NULL;

-- Everybody may read and write channel 1.
INSERT INTO chat_channels (kind, name) VALUES ('global', 'Global');

-- Wakes every gateway: "read these sessions again". It fires for whoever changes what decides
-- whether a session lives, a service or a person with psql; a touched last_seen_at wakes nobody.
CREATE FUNCTION notify_sessions(p_session_ids bigint[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_payload text := array_to_string(p_session_ids, ' ');
BEGIN
    IF v_payload <> '' THEN
        PERFORM pg_notify(
            'gatehouse_sessions',
            CASE WHEN octet_length(v_payload) < 7900 THEN v_payload ELSE '*' END
        );
    END IF;
END;
$$;

-- The plan that a connection made for its first statement, of one row or none, serves all that come
-- after, of every row there is too: so the two tables of a statement are never joined by a nested
-- loop, here and in other triggers.
CREATE FUNCTION on_sessions_updated() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET enable_nestloop = off
AS $$
BEGIN
    PERFORM notify_sessions(ARRAY(
        SELECT n.id FROM new_rows n JOIN old_rows o USING (id)
        WHERE (n.revoked_at, n.expires_at, n.drain_deadline_at)
            IS DISTINCT FROM (o.revoked_at, o.expires_at, o.drain_deadline_at)
           OR n.idle_expires_at < o.idle_expires_at
        ORDER BY n.id
    ));
    RETURN NULL;
END;
$$;

CREATE FUNCTION on_sessions_deleted() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    PERFORM notify_sessions(ARRAY(SELECT o.id FROM old_rows o ORDER BY o.id));
    RETURN NULL;
END;
$$;

CREATE FUNCTION on_users_updated() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET enable_nestloop = off
AS $$
DECLARE
    -- By itself, so that the sessions are looked up by their index.
    v_user_ids bigint[] := ARRAY(
        SELECT n.id FROM new_rows n JOIN old_rows o USING (id)
        WHERE n.disabled_at IS DISTINCT FROM o.disabled_at
    );
BEGIN
    PERFORM notify_sessions(ARRAY(
        SELECT s.id FROM user_sessions s
        WHERE s.user_id = ANY (v_user_ids) AND s.revoked_at IS NULL
        ORDER BY s.id
    ));
    RETURN NULL;
END;
$$;

CREATE TRIGGER sessions_updated AFTER UPDATE ON user_sessions
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION on_sessions_updated();

CREATE TRIGGER sessions_deleted AFTER DELETE ON user_sessions
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION on_sessions_deleted();

CREATE TRIGGER users_updated AFTER UPDATE ON users
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION on_users_updated();
