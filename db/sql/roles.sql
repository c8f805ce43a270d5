-- The rights of the two services: what each uses and nothing else, down to the columns, which
-- tests/db/test_rights_are_used.py holds against the services' statements; when it is red it prints
-- the lines that belong here. The owner of the schema runs
-- the migrations; no service ever connects as the owner.
--
-- `python -m db.migrate` runs this file after the migrations, every time, so that the rights keep
-- step with the tables; it runs in psql just as well. The roles have no password until somebody
-- sets one: \password gatehouse_api

DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['gatehouse_api', 'gatehouse_gateway'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I LOGIN', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;  -- another database of this cluster was migrated at the same moment
            END;
        END IF;
    END LOOP;
END;
$$;

-- Start from nothing, so that a right which is dropped here is dropped there.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, gatehouse_api, gatehouse_gateway;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM PUBLIC, gatehouse_api, gatehouse_gateway;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC, gatehouse_api, gatehouse_gateway;
GRANT USAGE ON SCHEMA public TO gatehouse_api, gatehouse_gateway;

GRANT SELECT (version, name, checksum, incompatible) ON schema_migrations
    TO gatehouse_api, gatehouse_gateway;

-- The API: accounts, sessions, tokens, tickets; it reads the log and appends through functions.
GRANT SELECT (id, email, email_key, password_hash, display_name, is_admin, created_at, disabled_at,
              muted_until) ON users TO gatehouse_api;
GRANT INSERT (email, email_key, password_hash, display_name) ON users TO gatehouse_api;
GRANT UPDATE (password_hash, display_name) ON users TO gatehouse_api;
GRANT SELECT (session_id, user_id, created_at, last_seen_at, expires_at, ip, user_agent,
              client_version, client_content_version, email, display_name, is_admin,
              drain_event_id) ON live_sessions TO gatehouse_api;
GRANT SELECT (id, user_id, created_at, last_seen_at, expires_at, revoked_at, ip, client_version,
              client_content_version, drain_deadline_at) ON user_sessions TO gatehouse_api;
GRANT INSERT (user_id, expires_at, idle_expires_at, ip, user_agent, client_version,
              client_content_version) ON user_sessions TO gatehouse_api;
GRANT UPDATE (last_seen_at, idle_expires_at, revoked_at, revoked_reason) ON user_sessions
    TO gatehouse_api;
GRANT SELECT (token_hash, session_id, spent_at, successor_nonce, successor_hash) ON refresh_tokens
    TO gatehouse_api;
GRANT INSERT (token_hash, session_id) ON refresh_tokens TO gatehouse_api;
GRANT UPDATE (spent_at, successor_nonce, successor_hash) ON refresh_tokens TO gatehouse_api;
GRANT SELECT (created_at, expires_at, consumed_at) ON ws_tickets TO gatehouse_api;
GRANT INSERT (ticket_hash, session_id, expires_at, request_id, client_version,
              client_content_version) ON ws_tickets TO gatehouse_api;
GRANT SELECT (id, kind, name, created_at, last_seq, direct_low, direct_high) ON chat_channels
    TO gatehouse_api;
GRANT SELECT (channel_id, user_id, role, joined_at) ON chat_members TO gatehouse_api;
GRANT EXECUTE ON FUNCTION append_messages, create_group, open_direct, add_member, remove_member,
    erase_message TO gatehouse_api;

-- The gateway: spends tickets, reads the log, appends through the same function.
GRANT SELECT (session_id) ON live_sessions TO gatehouse_gateway;
GRANT SELECT (id, display_name, disabled_at, is_admin) ON users TO gatehouse_gateway;
GRANT SELECT (id, user_id, last_seen_at, revoked_at, revoked_reason, drain_deadline_at,
              drained_at) ON user_sessions TO gatehouse_gateway;
GRANT UPDATE (last_seen_at, idle_expires_at) ON user_sessions TO gatehouse_gateway;
GRANT SELECT (ticket_hash) ON ws_tickets TO gatehouse_gateway;
GRANT EXECUTE ON FUNCTION redeem_tickets, report_presence TO gatehouse_gateway;
GRANT SELECT (id), DELETE ON gateway_connections TO gatehouse_gateway;
GRANT SELECT (id), UPDATE (stats), DELETE ON gateway_instances TO gatehouse_gateway;
GRANT SELECT (id, kind, last_seq) ON chat_channels TO gatehouse_gateway;
GRANT SELECT (channel_id, user_id) ON chat_members TO gatehouse_gateway;
GRANT EXECUTE ON FUNCTION append_messages, notify_typing TO gatehouse_gateway;

-- The log is read by both.
GRANT SELECT (channel_id, seq, kind, sender_id, content, client_msg_id, target_seq, created_at)
    ON chat_messages TO gatehouse_api, gatehouse_gateway;

-- Whatever is old goes through functions that decide what that is.
GRANT EXECUTE ON FUNCTION forget_tickets, forget_nonces, forget_refresh_tokens, forget_sessions,
    forget_limits, forget_security_events, forget_messages TO gatehouse_gateway;

-- The audit trail is read, and appended to through one function; nobody changes it.
GRANT SELECT (id, created_at, actor, action, request_id, ip, user_id, reason, details, canonical,
              prev_hash, hash) ON admin_action_audit TO gatehouse_api;
GRANT SELECT (id, hash) ON admin_action_audit_head TO gatehouse_api;
GRANT SELECT (id, created_at, event, request_id, user_id, session_id, ip, details)
    ON security_events TO gatehouse_api;
GRANT EXECUTE ON FUNCTION append_audit, verify_audit TO gatehouse_api;

-- Operators' acts come with their audit rows; the functions see to that.
GRANT EXECUTE ON FUNCTION revoke_sessions, act_on_user, erase_message_as, redeem_password_reset
    TO gatehouse_api;
GRANT SELECT (token_hash, expires_at) ON password_resets TO gatehouse_api;
GRANT SELECT (key, locked_until, lockouts) ON rate_limits TO gatehouse_api;

-- The metrics.
GRANT SELECT (id, heartbeat_at, stats) ON gateway_instances TO gatehouse_api;
GRANT SELECT (last_entry_at) ON chat_channels TO gatehouse_api;
GRANT EXECUTE ON FUNCTION first_seq_since TO gatehouse_api;

-- Releases: everybody reads what is in force; the API changes it through functions.
GRANT SELECT (is_policy, release_id, latest_version, min_supported_version, latest_content_version,
              min_supported_content_version, enforce_after, floor_version, floor_content_version,
              update_url, notes, activated_at) ON release_policy TO gatehouse_api;
GRANT SELECT (latest_version, min_supported_version, latest_content_version,
              min_supported_content_version, enforce_after, floor_version, floor_content_version,
              update_url) ON release_policy TO gatehouse_gateway;
GRANT SELECT (id, created_at, action, actor, reason, request_id, previous_id, restored_id, policy,
              drain_id) ON release_records TO gatehouse_api;
GRANT EXECUTE ON FUNCTION hold_release_policy, describe_outdated_sessions,
    activate_release_with_drain, roll_back_release TO gatehouse_api;

-- Drains go through functions, which enrol, decide and audit.
GRANT SELECT (id, status, reason, release_id, scope, started_at, deadline, grace_seconds)
    ON publish_drain_events TO gatehouse_api;
GRANT SELECT (drain_id, session_id, user_id, client_version, client_content_version, enrolled_at,
              notified_at, acked_at, closed_at, revoked_at, outcome)
    ON publish_drain_session_audit TO gatehouse_api;
GRANT SELECT (min_version, min_content_version) ON publish_drain_events TO gatehouse_api;
GRANT SELECT (session_id, user_id, drain_event_id, drain_deadline_at) ON drained_sessions
    TO gatehouse_api;
GRANT EXECUTE ON FUNCTION note_client_version, start_drain_by_policy, cancel_drain, drain_counts,
    is_outdated, version_key TO gatehouse_api;
GRANT SELECT (id, status, reason, deadline) ON publish_drain_events TO gatehouse_gateway;
GRANT SELECT (drain_event_id) ON user_sessions TO gatehouse_gateway;
GRANT EXECUTE ON FUNCTION note_drain_receipts, finish_drain TO gatehouse_gateway;

-- Limits are touched through functions alone; events are written and never changed.
GRANT EXECUTE ON FUNCTION reserve_attempt TO gatehouse_api;
GRANT EXECUTE ON FUNCTION settle_attempt TO gatehouse_api;
GRANT EXECUTE ON FUNCTION count_failure TO gatehouse_gateway;
GRANT INSERT (event, request_id, user_id, session_id, ip, details) ON security_events
    TO gatehouse_api, gatehouse_gateway;
GRANT SELECT (key, locked_until) ON rate_limits TO gatehouse_gateway;
