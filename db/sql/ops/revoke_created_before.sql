-- Ends every session that began before a time: the moment when the leak was closed, say.
--   psql -v actor=ann -v reason='incident 42' -v before='2026-11-24 03:00+00' [-v dry_run=1] \
--        -f db/sql/ops/revoke_created_before.sql
\ir begin.psql
\if :{?before} \else \set before '' \endif
SELECT matched, revoked, audit_id, encode(audit_hash, 'hex') AS audit_hash
FROM revoke_sessions(
    :'actor', :'reason', NULL, inet_client_addr(), :'dry_run', p_created_before => :'before'
);
COMMIT;
