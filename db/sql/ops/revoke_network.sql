-- Ends every session that was opened from an address or a network. Where it was refreshed or used from
-- later is not written down with it: GET /ops/security-events knows more.
--   psql -v actor=ann -v reason='incident 42' -v network=198.51.100.0/24 [-v dry_run=1] \
--        -f db/sql/ops/revoke_network.sql
\ir begin.psql
\if :{?network} \else \set network '' \endif
SELECT matched, revoked, audit_id, encode(audit_hash, 'hex') AS audit_hash
FROM revoke_sessions(
    :'actor', :'reason', NULL, inet_client_addr(), :'dry_run', p_network => :'network'
);
COMMIT;
