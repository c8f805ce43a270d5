-- Ends every session of a client older than a version; a client that named none counts as 0.
--   psql -v actor=ann -v reason='incident 42' -v version=1.4 [-v dry_run=1] \
--        -f db/sql/ops/revoke_below_version.sql
\ir begin.psql
\if :{?version} \else \set version '' \endif
SELECT matched, revoked, audit_id, encode(audit_hash, 'hex') AS audit_hash
FROM revoke_sessions(
    :'actor', :'reason', NULL, inet_client_addr(), :'dry_run',
    -- What is no version would count as 0, and nothing is below that: better an error.
    p_version_below => substring(:'version' FROM '^([0-9]{1,18}(?:\.[0-9]{1,18}){0,7})$')
);
COMMIT;
