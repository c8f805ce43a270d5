-- Ends every session that was opened, refreshed or used last from an address or a network.
--   psql -v actor=ann -v reason='incident 42' -v network=198.51.100.0/24 [-v dry_run=1] \
--        -f db/sql/ops/revoke_network.sql
\ir begin.psql
\if :{?network} \else \set network '' \endif
SELECT matched, revoked, audit_id, encode(audit_hash, 'hex') AS audit_hash
FROM revoke_sessions(
    :'actor', :'reason', NULL, inet_client_addr(), :'dry_run', p_network => :'network'
);
COMMIT;
