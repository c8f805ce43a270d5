-- The peers' own log. Its seq is a sequence's: no gapless order, no row that all writers lock. That is
-- the quickest way, and what most would do.
CREATE TABLE IF NOT EXISTS peer_messages (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel_id bigint NOT NULL,
    sender_id bigint NOT NULL,
    client_msg_id uuid NOT NULL,
    content text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (sender_id, channel_id, client_msg_id)
);
