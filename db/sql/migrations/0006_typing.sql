-- Typing: the one notification that is the data itself, for it may be lost.

-- Passes on who of these types where, "channel:user channel:user": only members of the channel,
-- with a session that lives, who are not muted. Nothing is written; at most 100 pairs of numbers
-- stay below the 8000 bytes of a payload.
CREATE FUNCTION notify_typing(p_session_ids bigint[], p_channel_ids bigint[]) RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_payload text;
BEGIN
    SELECT string_agg(DISTINCT i.channel_id || ':' || s.user_id, ' ') INTO v_payload
    FROM unnest(p_session_ids, p_channel_ids) AS i (session_id, channel_id)
    JOIN live_sessions s ON s.session_id = i.session_id
    JOIN chat_channels c ON c.id = i.channel_id
    WHERE (s.muted_until > clock_timestamp()) IS NOT TRUE
      AND (c.kind = 'global' OR EXISTS (
          SELECT FROM chat_members m WHERE m.channel_id = c.id AND m.user_id = s.user_id
      ));
    IF octet_length(v_payload) < 7900 THEN
        PERFORM pg_notify('gatehouse_typing', v_payload);
    END IF;
END;
$$;
