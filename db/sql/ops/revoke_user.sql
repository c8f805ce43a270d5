-- Ends every session of one user, by id or by e-mail address.
--   psql -v actor=ann -v reason='incident 42' -v user=7 [-v dry_run=1] -f db/sql/ops/revoke_user.sql
\ir begin.psql
\if :{?user} \else \set user '' \endif
SELECT matched, revoked, audit_id, encode(audit_hash, 'hex') AS audit_hash
FROM revoke_sessions(
    :'actor', :'reason', NULL, inet_client_addr(), :'dry_run',
    p_user_id => find_user_for_psql(:'user')
);
COMMIT;
