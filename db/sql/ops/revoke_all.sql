-- Ends every session. Sockets close on all instances within moments; everybody logs in again.
--   psql -v actor=ann -v reason='incident 42' [-v dry_run=1] -f db/sql/ops/revoke_all.sql
\ir begin.psql
SELECT matched, revoked, audit_id, encode(audit_hash, 'hex') AS audit_hash
FROM revoke_sessions(:'actor', :'reason', NULL, inet_client_addr(), :'dry_run', p_all => true);
COMMIT;
